"""Whether an UPDATE, DELETE or INSERT … SELECT goes through a whole table, and its parts as text."""

from __future__ import annotations

from sqladvisor.migrate.context import MigrationContext
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import conjuncts, constant, operator, unwrap

WRITES = ("UpdateStmt", "DeleteStmt", "InsertStmt")


def goes_through_all(kind: str, node: Node) -> bool:
    """Whether a statement may write as many rows as its table (or its source) has.

    Not where a condition holds a column to constants (``= 1``, IN, a range with both ends), or to a
    subquery with LIMIT: those are single rows and batches.
    """
    if kind == "InsertStmt":
        return _reads_tables(node.get("selectStmt", {}))
    return not _narrows(node.get("whereClause"))


def _reads_tables(wrapped: Node) -> bool:
    kind, select = unwrap(wrapped)
    if kind != "SelectStmt" or "valuesLists" in select:
        return False
    for side in ("larg", "rarg"):
        if side in select and _reads_tables({"SelectStmt": select[side]}):
            return True
    sources = [unwrap(item)[0] for item in select.get("fromClause", ())]
    reads = any(s in ("RangeVar", "JoinExpr", "RangeSubselect") for s in sources)
    return reads and "limitCount" not in select and not _narrows(select.get("whereClause"))


def _narrows(where: Node | None) -> bool:
    lower: set[str] = set()
    upper: set[str] = set()
    for part in conjuncts(where):
        kind, node = unwrap(part)
        if kind == "SubLink" and _limited(node):
            return True
        if kind != "A_Expr":
            continue
        left, right = node.get("lexpr", {}), node.get("rexpr", {})
        what, sign = node.get("kind", "AEXPR_OP"), operator(node)
        if unwrap(left)[0] != "ColumnRef":
            continue
        column = repr(unwrap(left)[1].get("fields"))
        if unwrap(right)[0] == "SubLink" and _limited(unwrap(right)[1]):
            return True
        if what == "AEXPR_IN" and sign == "=":
            return True
        if what == "AEXPR_BETWEEN":
            return True
        if what in ("AEXPR_OP", "AEXPR_OP_ANY") and _fixed(right):
            if sign == "=":
                return True
            if sign in ("<", "<="):
                upper.add(column)
            elif sign in (">", ">="):
                lower.add(column)
    return bool(lower & upper)


def _fixed(wrapped: Node) -> bool:
    kind, node = unwrap(wrapped)
    if kind == "TypeCast":
        return _fixed(node.get("arg", {}))
    return kind in ("ParamRef", "A_ArrayExpr", "FuncCall") or constant(wrapped) is not ...


def _limited(sublink: Node) -> bool:
    return "limitCount" in unwrap(sublink.get("subselect", {}))[1]


def assignments(ctx: MigrationContext) -> str:
    """The SET clause of an UPDATE, as written."""
    start = ctx.spans.keyword("SET")
    return _until(ctx, start, ("FROM", "WHERE", "RETURNING")) if start is not None else ""


def condition(ctx: MigrationContext) -> str:
    """The WHERE condition of an UPDATE or DELETE, as written; "" for none."""
    start = ctx.spans.keyword("WHERE")
    return _until(ctx, start, ("RETURNING",)) if start is not None else ""


def _until(ctx: MigrationContext, start: int, stops: tuple[str, ...]) -> str:
    tokens, depth, end = ctx.spans.tokens, 0, len(ctx.spans.tokens)
    for i in range(start + 1, len(tokens)):
        name = tokens[i][2]
        depth += (name == "ASCII_40") - (name == "ASCII_41")
        if depth == 0 and name in stops:
            end = i
            break
    if end <= start + 1:
        return ""
    return ctx.statement.sql[tokens[start + 1][0] : tokens[end - 1][1]]
