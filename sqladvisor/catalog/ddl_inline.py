"""SQL functions that PostgreSQL replaces by their body: then the body says how volatile a call is.

Only functions without arguments (inline_function(), clauses.c): one SELECT of one expression and of
nothing else, no SECURITY DEFINER, SET or STRICT. With arguments it depends on the call.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqladvisor.sql import libpg
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import function_name, unwrap, walk

_KEEPS_ITS_CALL = frozenset(("security", "set", "strict"))
_SELECT = frozenset(("targetList", "limitOption", "op"))
# Enough for the defaults that people write; of any other function nothing is known here.
_NOT_VOLATILE = frozenset(
    ("now", "transaction_timestamp", "statement_timestamp", "lower", "upper", "coalesce", "concat",
     "date_trunc", "timezone", "to_char", "md5", "make_interval", "make_date", "current_setting",
     "extract", "date_part", "round", "floor", "ceil", "abs", "length", "replace", "left", "right")
)  # fmt: skip


def inlined_not_volatile(node: Node) -> bool:
    """Whether calls of the function that a CREATE FUNCTION makes are replaced by what is not volatile."""
    options = {
        o.get("DefElem", {}).get("defname"): o.get("DefElem", {}) for o in node.get("options", ())
    }
    language = options.get("language", {}).get("arg", {}).get("String", {}).get("sval", "sql")
    if language.lower() != "sql" or node.get("parameters") or _KEEPS_ITS_CALL & set(options):
        return False
    if node.get("returnType", {}).get("setof"):
        return False
    expression = _expression(node, options.get("as", {}))
    return expression is not None and _calm(*expression)


def _expression(node: Node, written: Node) -> tuple[str, Node] | None:
    body = node.get("sql_body")
    if body is not None:
        kind, inner = unwrap(body)
        if kind == "ReturnStmt":
            return unwrap(inner.get("returnval", {}))
        return None  # BEGIN ATOMIC: the same, and rare
    items = written.get("arg", {}).get("List", {}).get("items", ())
    if len(items) != 1:
        return None
    try:
        parsed = libpg.parse(str(items[0].get("String", {}).get("sval", "")))
    except libpg.ParseProblem:
        return None
    if len(parsed) != 1 or parsed[0].kind != "SelectStmt" or not set(parsed[0].node) <= _SELECT:
        return None
    targets = parsed[0].node.get("targetList", ())
    return unwrap(targets[0].get("ResTarget", {}).get("val", {})) if len(targets) == 1 else None


def _calm(kind: str, node: Node) -> bool:
    below: Iterable[tuple[str, Node]] = walk(kind, node)
    return all(
        what not in ("SubLink", "ColumnRef")
        and (what != "FuncCall" or function_name(n) in _NOT_VOLATILE)
        for what, n in below
    )
