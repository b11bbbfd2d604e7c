"""Which calls are aggregates, and what they give for no rows at all."""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import children, constant, function_name, operator, unwrap

# Built-in aggregates (manual, 9.21). All but the counting ones give NULL for no rows.
_COUNTING = frozenset(("count", "regr_count"))
_NULL_WHEN_EMPTY = frozenset(
    ("sum", "min", "max", "avg", "array_agg", "string_agg", "bool_and", "bool_or", "every",
     "bit_and", "bit_or", "bit_xor", "json_agg", "jsonb_agg", "json_object_agg", "any_value",
     "jsonb_object_agg", "xmlagg", "stddev", "stddev_pop", "stddev_samp", "variance", "var_pop",
     "var_samp", "corr", "covar_pop", "covar_samp", "regr_avgx", "regr_avgy", "regr_slope",
     "regr_intercept", "regr_r2", "regr_sxx", "regr_sxy", "regr_syy", "percentile_cont",
     "percentile_disc", "mode", "range_agg", "range_intersect_agg")
)  # fmt: skip
_STRICT_AROUND = frozenset(("round", "abs", "ceil", "ceiling", "floor", "trunc", "to_char"))
_MARKS = ("agg_star", "agg_filter", "agg_distinct", "agg_order", "agg_within_group")


def is_aggregate(kind: str, node: Node) -> bool:
    """Whether a node is a call of an aggregate, as far as its name or its syntax says."""
    if kind in ("JsonObjectAgg", "JsonArrayAgg", "GroupingFunc"):
        return True
    if kind != "FuncCall" or "over" in node:
        return False
    name = function_name(node)
    return name in _COUNTING or name in _NULL_WHEN_EMPTY or any(mark in node for mark in _MARKS)


def aggregates(wrapped: Node) -> Iterator[tuple[str, Node]]:
    """The aggregates of an expression that belong to its own query: not those of subqueries."""
    stack = [unwrap(wrapped)]
    while stack:
        kind, node = stack.pop()
        if is_aggregate(kind, node):
            yield kind, node
        elif kind != "SelectStmt":
            stack.extend(children(node))


def aggregates_all(select: Node) -> bool:
    """Whether a SELECT aggregates without GROUP BY: it returns one row whatever it reads."""
    if "groupClause" in select or "larg" in select:
        return False
    return "havingClause" in select or any(
        True for target in select.get("targetList", ()) for _ in aggregates(target)
    )


def value_of_none(wrapped: Node) -> str | None:
    """What an expression over aggregates gives when they have no rows to work on, as SQL.

    ``NULL``, ``0`` or the literal of a coalesce(); None where that cannot be told.
    """
    kind, node = unwrap(wrapped)
    if kind == "FuncCall" and is_aggregate(kind, node):
        name = function_name(node)
        if name in _COUNTING:
            return "0"
        return "NULL" if name in _NULL_WHEN_EMPTY else None
    if kind == "TypeCast":
        return "NULL" if value_of_none(node.get("arg", {})) == "NULL" else None
    if kind == "A_Expr" and node.get("kind", "AEXPR_OP") == "AEXPR_OP":
        if operator(node) not in ("+", "-", "*"):
            return None
        sides = (node.get("lexpr", {}), node.get("rexpr", {}))
        return "NULL" if any(value_of_none(s) == "NULL" for s in sides if s) else None
    if kind == "CoalesceExpr" and len(node.get("args", ())) == 2:
        first, second = node["args"]
        value = constant(second)
        plain = unwrap(second)[0] == "A_Const" and isinstance(value, int)
        return str(value) if plain and value_of_none(first) == "NULL" else None
    if kind == "FuncCall" and function_name(node) in _STRICT_AROUND:
        return "NULL" if value_of_none(node["args"][0]) == "NULL" else None
    return None
