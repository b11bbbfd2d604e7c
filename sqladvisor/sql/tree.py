"""The raw parse tree of one statement, indexed in a single pass.

Rules subscribe to node types; the engine walks each tree once and hands every node of a type to
the rules that asked for it. Nodes are libpg_query's own JSON dictionaries: no objects are built.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import EllipsisType

from sqladvisor.sql.statement import Node

# Fields whose child is written without its one-key wrapper, and the type that child has.
_BARE = {
    "larg": "SelectStmt",
    "rarg": "SelectStmt",
    "relation": "RangeVar",
    "view": "RangeVar",
    "rel": "RangeVar",
    "pktable": "RangeVar",
    "withClause": "WithClause",
    "alias": "Alias",
    "typeName": "TypeName",
    "intoClause": "IntoClause",
    "into": "IntoClause",
    "onConflictClause": "OnConflictClause",
    "infer": "InferClause",
    "over": "WindowDef",
    "collClause": "CollateClause",
    "returningClause": "ReturningClause",
}
_QUERY_KINDS = frozenset(("SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"))


def unwrap(wrapped: Node) -> tuple[str, Node]:
    """``{"ColumnRef": {...}}`` as ``("ColumnRef", {...})``; an empty wrapper as ``("", {})``."""
    for kind, node in wrapped.items():
        return kind, node if isinstance(node, dict) else {}
    return "", {}


def children(node: Node) -> Iterator[tuple[str, Node]]:
    """The child nodes of a node, in the order of the text where libpg_query keeps it."""
    for field, value in node.items():
        if type(value) is dict:
            if len(value) == 1:
                kind = next(iter(value))
                child = value[kind]
                if kind[0].isupper() and type(child) is dict:
                    yield kind, child
                    continue
            yield _BARE.get(field, field), value
        elif type(value) is list:
            for item in value:
                if type(item) is dict and item:
                    kind = next(iter(item))
                    child = item[kind]
                    if type(child) is dict:
                        yield kind, child


def walk(kind: str, node: Node) -> Iterator[tuple[str, Node]]:
    """The node and all nodes below it, parents first."""
    stack = [(kind, node)]
    while stack:
        item = stack.pop()
        yield item
        stack.extend(reversed(list(children(item[1]))))


class Tree:
    """The nodes of one statement by type, each with its parent. Built once, read by all rules."""

    __slots__ = ("_parents", "by_kind", "kind", "root")

    def __init__(self, kind: str, root: Node) -> None:
        self.kind = kind
        self.root = root
        self.by_kind: dict[str, list[Node]] = {}
        self._parents: dict[int, tuple[str, Node]] = {}
        by_kind, parents = self.by_kind, self._parents
        stack = [(kind, root)]
        while stack:
            parent = stack.pop()
            by_kind.setdefault(parent[0], []).append(parent[1])
            below = list(children(parent[1]))
            for child in below:
                parents[id(child[1])] = parent
            stack.extend(reversed(below))

    def of(self, *kinds: str) -> Iterator[Node]:
        """All nodes of these types, in tree order within each type."""
        for kind in kinds:
            yield from self.by_kind.get(kind, ())

    def parent(self, node: Node) -> tuple[str, Node]:
        """Type and node of the parent; ``("", {})`` for the root."""
        return self._parents.get(id(node), ("", {}))

    def ancestors(self, node: Node) -> Iterator[tuple[str, Node]]:
        """From the parent up to the root."""
        kind, above = self.parent(node)
        while kind:
            yield kind, above
            kind, above = self.parent(above)

    def query_of(self, node: Node) -> tuple[str, Node]:
        """The nearest query (SELECT, INSERT, UPDATE, DELETE, MERGE) that holds the node."""
        for kind, above in self.ancestors(node):
            if kind in _QUERY_KINDS:
                return kind, above
        return "", {}


def names(items: list[Node] | None) -> tuple[str, ...]:
    """The strings of a list of String nodes (``funcname``, ``fields``, ``names``); ``*`` as "*"."""
    result = []
    for item in items or ():
        if "String" in item:
            result.append(str(item["String"].get("sval", "")))
        elif "A_Star" in item:
            result.append("*")
    return tuple(result)


def function_name(call: Node) -> str:
    """The bare name of a FuncCall, lower case as the parser leaves it; ``pg_catalog.`` dropped."""
    parts = names(call.get("funcname"))
    return parts[-1] if parts else ""


def operator(expression: Node) -> str:
    """The operator of an A_Expr (``=``, ``~~``)."""
    parts = names(expression.get("name"))
    return parts[-1] if parts else ""


def column_name(column: Node) -> tuple[str | None, str]:
    """``(qualifier, column)`` of a ColumnRef; the qualifier is the last part before the column."""
    parts = names(column.get("fields"))
    if not parts:
        return None, ""
    return (parts[-2] if len(parts) > 1 else None), parts[-1]


def conjuncts(wrapped: Node | None) -> list[Node]:
    """The AND-ed parts of a condition, each still wrapped; ``[]`` for none."""
    result: list[Node] = []
    stack = [wrapped] if wrapped else []
    while stack:
        part = stack.pop()
        kind, node = unwrap(part)
        if kind == "BoolExpr" and node.get("boolop") == "AND_EXPR":
            stack.extend(reversed(node.get("args", ())))
        else:
            result.append(part)
    return result


def constant(wrapped: Node) -> str | int | float | bool | EllipsisType | None:
    """The value of a literal (through casts and a sign), ``None`` for NULL, ``...`` otherwise."""
    kind, node = unwrap(wrapped)
    if kind == "TypeCast":
        return constant(node.get("arg", {}))
    if kind == "A_Expr" and operator(node) == "-" and "lexpr" not in node:
        value = constant(node.get("rexpr", {}))
        return -value if isinstance(value, int | float) else ...
    if kind != "A_Const":
        return ...
    if node.get("isnull"):
        return None
    if "ival" in node:
        return int(node["ival"].get("ival", 0))
    if "fval" in node:
        text = str(node["fval"].get("fval", "0"))
        return int(text) if text.isdigit() else float(text)
    if "boolval" in node:
        return bool(node["boolval"].get("boolval", False))
    if "sval" in node:
        return str(node["sval"].get("sval", ""))
    if "bsval" in node:
        return str(node["bsval"].get("bsval", ""))
    return ...


def is_literal(wrapped: Node) -> bool:
    """A literal, possibly cast or signed; not NULL."""
    return constant(wrapped) is not ... and constant(wrapped) is not None


# Functions whose value is fixed within a statement: usable as an index search key.
_STABLE_CLOCKS = frozenset(
    ("now", "current_timestamp", "transaction_timestamp", "statement_timestamp", "to_timestamp",
     "make_interval", "make_date", "make_timestamptz", "date_trunc", "current_setting", "to_date",
     "date", "timestamptz", "timestamp", "lower", "upper", "concat", "round", "abs", "array_agg")
)  # fmt: skip


def is_pseudo_constant(wrapped: Node) -> bool:
    """Whether an expression has one value per execution: literals, ``$n``, now(), arithmetic on them.

    What PostgreSQL calls a pseudoconstant (src/backend/optimizer/util/clauses.c): no columns, no
    volatile functions, no subqueries.
    """
    for kind, node in walk(*unwrap(wrapped)):
        if kind in ("ColumnRef", "SubLink", "CurrentOfExpr"):
            return False
        if kind == "FuncCall" and function_name(node) not in _STABLE_CLOCKS:
            return False
    return True
