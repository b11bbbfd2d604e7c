"""UNION removes duplicates that its branches cannot have.

Why: UNION sorts or hashes every row and every column of all branches to find equal rows. Where
    the branches differ by a constant, or read different rows of one table by its key, there are
    none: PostgreSQL does the work all the same.
Fix: UNION ALL: the same rows, returned as they come.
Silent when: two branches could give the same row, one branch could give a row twice (UNION removes
    those too), the UNION is the recursive one of a WITH RECURSIVE, each branch finds one row by
    its key, or the tables are small.
Source: PostgreSQL manual, 7.4 "Combining Queries"; generate_union_paths() in
    src/backend/optimizer/prep/prepunion.c.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from sqladvisor.context import Context
from sqladvisor.finding import Edit, Finding, Fix
from sqladvisor.rule import rule
from sqladvisor.sql.comparisons import narrowing
from sqladvisor.sql.datatypes import INTEGERS, STRINGS
from sqladvisor.sql.keys import is_unique
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import conjuncts, constant, operator, unwrap

SCHEMA = """
CREATE TABLE orders (id bigint PRIMARY KEY, user_id bigint, status text, "Größe" integer,
    paid boolean, day date);
CREATE TABLE invoices (id bigint PRIMARY KEY, status text);
"""
BAD = [
    """SELECT id, user_id FROM orders WHERE status = 'pending'
       UNION
       SELECT id, user_id FROM orders WHERE status = 'paid'""",
    "SELECT 'o' AS kind, id FROM orders UNION SELECT 'i', id FROM invoices ORDER BY 2",
    """SELECT 'ä', status, count(*) FROM orders GROUP BY status UNION
       SELECT 'ö', status, count(*) FROM invoices GROUP BY status""",
    "SELECT * FROM (SELECT id, 1 AS n FROM orders UNION DISTINCT SELECT id, 2 FROM orders) x",
    """(SELECT o.id FROM orders o WHERE o."Größe" IN (1, 2)) UNION
       (SELECT p.id FROM public.orders p WHERE p."Größe" = 3 AND p.paid)
       UNION SELECT id FROM orders WHERE "Größe" = 4""",
    "SELECT id FROM orders WHERE paid UNION SELECT id FROM orders WHERE NOT paid",
    "SELECT id FROM orders WHERE status IS NULL UNION SELECT id FROM orders WHERE status IS NOT NULL",
    "SELECT id, status FROM orders WHERE status = 'a' UNION SELECT id, status FROM invoices WHERE status = 'b'",
]
GOOD = [
    "SELECT id FROM orders WHERE paid IS NOT NULL UNION SELECT id FROM orders WHERE NOT paid",
    "SELECT id FROM orders UNION SELECT id FROM invoices",
    "SELECT id FROM orders WHERE status = 'a' UNION SELECT id FROM orders WHERE user_id = 5",
    "SELECT user_id FROM orders WHERE status = 'a' UNION SELECT user_id FROM orders WHERE status = 'b'",
    "SELECT 'a', user_id FROM orders UNION SELECT 'b', user_id FROM orders",
    "SELECT id FROM orders WHERE status = 'a' UNION ALL SELECT id FROM orders WHERE status = 'b'",
    "SELECT id FROM orders WHERE status = 'a' UNION SELECT id FROM orders WHERE status = 'a'",
    "SELECT id FROM orders WHERE status = 'a' UNION SELECT id FROM invoices WHERE status = 'b'",
    "SELECT id FROM orders WHERE day = '2024-1-1' UNION SELECT id FROM orders WHERE day = '2024-01-01'",
    'SELECT id FROM orders WHERE "Größe" = 1 UNION SELECT id FROM orders WHERE "Größe" = \'01\'',
    """WITH RECURSIVE t AS (SELECT 1 AS level, id FROM orders WHERE id = 1
       UNION SELECT 2, id FROM invoices) SELECT * FROM t""",
    "SELECT 'a', id FROM orders WHERE id = 1 UNION SELECT 'b', id FROM invoices WHERE id = 1",
    "SELECT id FROM orders WHERE status = $1 UNION SELECT id FROM orders WHERE status = $2",
    "SELECT 'x' AS k, id FROM orders UNION SELECT 'X', id FROM orders INTERSECT SELECT 'x', id FROM invoices",
    "SELECT id FROM orders WHERE status = 'a' OR paid UNION SELECT id FROM orders WHERE status = 'b'",
]

_COMPARED = STRINGS | INTEGERS
Values = frozenset[object]


@rule("SelectStmt", severity="warning")
def check(select: Node, ctx: Context) -> Iterator[Finding]:
    if select.get("op") != "SETOP_UNION" or _within_union(select, ctx) or _recursive(select, ctx):
        return
    branches = list(_branches(select))
    unions = [s for s in _unions(select) if not s.get("all")]
    if not unions or any(b is None for b in branches):
        return
    plain = [b for b in branches if b is not None]
    if not all(is_unique(b, ctx.resolver) for b in plain) or not _costs(plain, ctx):
        return
    reasons = [_apart(one, other, ctx) for one, other in combinations(plain, 2)]
    if not all(reasons):
        return
    places = [_keyword(u, ctx) for u in unions]
    known = sorted(p for p in places if p)
    if len(known) < len(places):
        return
    yield ctx.finding(
        known[0],
        f"UNION compares all rows of its {len(plain)} branches, which have no row in common: "
        f"{reasons[0]}",
        fixes=[Fix("UNION ALL", ctx.edit(*(Edit(*p, "UNION ALL") for p in known)))],
    )


def _within_union(select: Node, ctx: Context) -> bool:
    kind, above = ctx.tree.parent(select)
    inside = above.get("larg") is select or above.get("rarg") is select
    return kind == "SelectStmt" and inside and above.get("op") == "SETOP_UNION"


def _recursive(select: Node, ctx: Context) -> bool:
    kind, _ = ctx.tree.parent(select)
    return kind == "CommonTableExpr" and any(
        above.get("recursive") for k, above in ctx.tree.ancestors(select) if k == "WithClause"
    )


def _branches(select: Node) -> Iterator[Node | None]:
    """The plain SELECTs of a chain of UNIONs; None for anything that is not one."""
    if select.get("op", "SETOP_NONE") == "SETOP_NONE":
        yield select if select.get("targetList") else None
    elif select["op"] != "SETOP_UNION":
        yield None
    else:
        for side in (select["larg"], select["rarg"]):
            if side.get("op") == "SETOP_UNION" and "limitCount" in side:
                yield None
            else:
                yield from _branches(side)


def _unions(select: Node) -> Iterator[Node]:
    if select.get("op") == "SETOP_UNION":
        yield select
        yield from _unions(select["larg"])
        yield from _unions(select["rarg"])


def _costs(branches: list[Node], ctx: Context) -> bool:
    """Whether the branches can have more than a few rows to compare."""
    for branch in branches:
        scope = ctx.scope(branch)
        narrowed = narrowing(scope, branch, ctx.resolver)
        if any(not ctx.small(i) and narrowed.get(id(i)) != "unique" for i in scope.items):
            return True
    return False


def _keyword(union: Node, ctx: Context) -> tuple[int, int] | None:
    """The span of UNION [DISTINCT] before a union's right side."""
    right = union["rarg"]
    while right.get("larg"):
        right = right["larg"]
    targets = right.get("targetList")
    if not targets or targets[0]["ResTarget"].get("location", -1) < 0:
        return None
    tokens = ctx.spans.tokens
    i = ctx.spans.token_at(targets[0]["ResTarget"]["location"])
    while i >= 0 and tokens[i][2] != "UNION":
        i -= 1
    if i < 0:
        return None
    return tokens[i][0], tokens[i + (tokens[i + 1][2] == "DISTINCT")][1]


# -- what keeps two branches apart --------------------------------------------------------------


def _apart(one: Node, other: Node, ctx: Context) -> str:
    """Why no row of one branch equals a row of the other; "" where it cannot be told."""
    outputs = ctx.resolver.outputs(one), ctx.resolver.outputs(other)
    if not outputs[0] or not outputs[1] or len(outputs[0]) != len(outputs[1]):
        return ""
    fixed = _fixed(one, ctx), _fixed(other, ctx)
    for number, (left, right) in enumerate(zip(outputs[0], outputs[1], strict=True), 1):
        if left.value and right.value:
            values = _literal(left.value), _literal(right.value)
            if None not in values and _differ(*(frozenset((v,)) for v in values)):
                name = left.name if left.name != "?column?" else f"column {number}"
                here, there = ctx.text(left.value), ctx.text(right.value)
                return f"{name} is {here} in one, {there} in the other"
        names = [_column(o.value, ctx) if o.value else o.column for o in (left, right)]
        found = [f.get(n) for f, n in zip(fixed, names, strict=True)]
        if found[0] and found[1] and _differ(found[0][0], found[1][0]):
            return f"{found[0][1]} in one, {found[1][1]} in the other"
    if not _same_key(one, other, ctx):
        return ""
    for name in fixed[0].keys() & fixed[1].keys():
        left_values, right_values = fixed[0][name], fixed[1][name]
        if _differ(left_values[0], right_values[0]):
            return f"{left_values[1]} in one, {right_values[1]} in the other, of the same table"
    return ""


def _literal(wrapped: Node) -> object:
    """A bare string or number."""
    value = constant(wrapped) if unwrap(wrapped)[0] == "A_Const" else None
    return value if isinstance(value, str | int) and not isinstance(value, bool) else None


def _differ(one: Values, other: Values) -> bool:
    """Whether values can be told apart whatever the collation: not by case or blanks alone."""
    for null, values in ((one, other), (other, one)):
        if null == {None}:
            return None not in values
    if ... in one | other or None in one | other:
        return False
    plain = [{v.strip().casefold() if isinstance(v, str) else v for v in s} for s in (one, other)]
    return not plain[0] & plain[1] and len({type(v) for s in plain for v in s}) == 1


def _column(wrapped: Node, ctx: Context) -> str:
    binding = ctx.binding(wrapped)
    return binding.column if binding and not binding.depth else ""


def _fixed(branch: Node, ctx: Context) -> dict[str, tuple[Values, str]]:
    """The values WHERE leaves to columns of a one-table branch, and the predicate's text.

    ``None`` stands for NULL, ``...`` for anything else.
    """
    result: dict[str, tuple[Values, str]] = {}
    if len(ctx.scope(branch).items) != 1:
        return result
    for part in conjuncts(branch.get("whereClause")):
        kind, node = unwrap(part)
        column, values = _leaves(kind, node, ctx)
        if column and values:
            result.setdefault(column, (values, " ".join(ctx.text(part).split())))
    return result


def _leaves(kind: str, node: Node, ctx: Context) -> tuple[str, Values]:
    if kind == "NullTest":
        is_null = node.get("nulltesttype", "IS_NULL") == "IS_NULL"
        return _column(node.get("arg", {}), ctx), frozenset((None if is_null else ...,))
    if kind == "ColumnRef":
        return _column({"ColumnRef": node}, ctx), frozenset((True,))
    if kind == "BoolExpr" and node.get("boolop") == "NOT_EXPR":
        return _column(node["args"][0], ctx), frozenset((False,))
    if kind != "A_Expr" or operator(node) != "=":
        return "", frozenset()
    how, left, right = node.get("kind", "AEXPR_OP"), node.get("lexpr", {}), node.get("rexpr", {})
    if how not in ("AEXPR_OP", "AEXPR_IN"):
        return "", frozenset()
    items = [right] if how == "AEXPR_OP" else unwrap(right)[1].get("items", [])
    values = [_literal(i) for i in items]
    binding = ctx.binding(left)
    definition = binding.definition if binding and not binding.depth else None
    if definition is None or None in values or definition.type not in _COMPARED:
        return "", frozenset()
    wanted = str if definition.type in STRINGS else int
    if not all(isinstance(v, wanted) for v in values):
        return "", frozenset()
    return definition.name, frozenset(values)


def _same_key(one: Node, other: Node, ctx: Context) -> bool:
    """Whether both branches read one table, the same, and select its key at the same places."""
    items = [ctx.scope(b).items for b in (one, other)]
    if any(len(i) != 1 for i in items):
        return False
    relation = items[0][0].relation
    if relation is None or items[1][0].relation is not relation:
        return False
    pairs = {
        _column(a.value, ctx) if a.value else a.column
        for a, b in zip(
            ctx.resolver.outputs(one) or (), ctx.resolver.outputs(other) or (), strict=True
        )
        if (_column(a.value, ctx) if a.value else a.column)
        == (_column(b.value, ctx) if b.value else b.column)
    }
    return relation.is_unique_on(pairs)
