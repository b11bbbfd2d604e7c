"""Whether an expression of a query can be NULL, as far as the catalog and the query prove it."""

from __future__ import annotations

from typing import Literal

from sqladvisor.sql.nulls import rejects_null
from sqladvisor.sql.resolve import Binding, FromItem, Resolver, Scope
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import conjuncts, constant, function_name, operator, unwrap

Nullness = Literal["never", "possible", "unknown"]
"""``never``: proven not to be NULL; ``possible``: a column that may hold NULL by the catalog;

``unknown``: neither can be told."""

# Built-in functions that give no NULL for arguments that are not NULL (pg_proc).
FAITHFUL = frozenset(
    ("lower", "upper", "btrim", "ltrim", "rtrim", "length", "char_length", "date", "date_trunc",
     "abs", "round", "floor", "ceil", "ceiling", "trunc", "md5", "to_char", "initcap", "replace")
)  # fmt: skip
_ALWAYS = frozenset(("count", "now", "row_number", "rank", "dense_rank", "concat", "random"))
_ARITHMETIC = frozenset(("+", "-", "*", "/", "%", "||", "=", "<>", "<", "<=", ">", ">="))
_MAX_DEPTH = 8


def nullness(wrapped: Node, resolver: Resolver, depth: int = 0) -> Nullness:
    """Whether an expression can be NULL in the rows that its query's FROM and WHERE let through."""
    kind, node = unwrap(wrapped)
    if depth > _MAX_DEPTH:
        return "unknown"
    if kind == "ColumnRef":
        return _column(node, resolver, depth)
    if kind == "A_Const":
        return "unknown" if constant(wrapped) is None else "never"
    if kind in ("TypeCast", "CollateClause"):
        return nullness(node.get("arg", {}), resolver, depth)
    if kind == "CoalesceExpr":
        parts = [nullness(a, resolver, depth) for a in node.get("args", ())]
        return "never" if "never" in parts else "unknown"
    if kind == "A_Expr":
        plain = node.get("kind", "AEXPR_OP") == "AEXPR_OP" and operator(node) in _ARITHMETIC
        sides = [node[side] for side in ("lexpr", "rexpr") if side in node]
        return _all([nullness(s, resolver, depth) for s in sides]) if plain else "unknown"
    if kind == "FuncCall":
        if function_name(node) in _ALWAYS:
            return "never"
        if function_name(node) in FAITHFUL:
            return _all([nullness(a, resolver, depth) for a in node.get("args", ())])
    return "unknown"


def _all(parts: list[Nullness]) -> Nullness:
    if "possible" in parts:
        return "possible"
    return "unknown" if "unknown" in parts else "never"


def _column(column: Node, resolver: Resolver, depth: int) -> Nullness:
    binding, scope = resolver.resolve(column), resolver.scope_of(column)
    for _ in range(binding.depth if binding else 0):
        scope = scope.parent if scope else None
    if binding is None or scope is None:
        return "unknown"
    passed = _stands_after_where(column, scope.query, resolver)
    return _bound(binding, scope, passed, resolver, depth)


def _bound(
    binding: Binding, scope: Scope, passed: bool, resolver: Resolver, depth: int
) -> Nullness:
    """``passed``: whether only rows that the query's WHERE let through count."""
    item = binding.item

    def is_column(other: Node) -> bool:
        found = resolver.resolve(other)
        return found is not None and found.item is item and found.column == binding.column

    def is_item(other: Node) -> bool:
        found = resolver.resolve(other)
        return found is not None and found.item is item

    if passed:
        where = conjuncts(scope.query.get("whereClause"))
        if any(rejects_null(part, is_column) for part in where):
            return "never"
        if item.nullable and any(rejects_null(part, is_item) for part in where):
            return _stored(binding, item, resolver, depth)
        # The ON of an inner join holds for an item that no outer join null-extends.
        joined = [
            part
            for join in scope.joins
            if join.get("jointype", "JOIN_INNER") == "JOIN_INNER"
            for part in conjuncts(join.get("quals"))
        ]
        if not item.nullable and any(rejects_null(part, is_column) for part in joined):
            return "never"
    if item.nullable:
        return "possible" if binding.sure else "unknown"
    return _stored(binding, item, resolver, depth)


def _stands_after_where(column: Node, query: Node, resolver: Resolver) -> bool:
    """Whether a column is read in the rows that passed the WHERE of the query it belongs to."""
    child = column
    for _, above in resolver.tree.ancestors(column):
        if above is query:
            return not any(
                unwrap(entry)[1] is child
                for entry in (*query.get("fromClause", ()), query.get("whereClause", {}))
            )
        child = above
    return False


def _stored(binding: Binding, item: FromItem, resolver: Resolver, depth: int) -> Nullness:
    definition = binding.definition
    if definition is not None and item.relation is not None:
        if definition.not_null:
            return "never"
        if item.relation.kind in ("view", "matview"):
            return "unknown"
        says = {f"{binding.column} is not null", f'"{binding.column}" is not null'}
        if any(c.lower().strip("() ") in says for c in item.relation.checks):
            return "never"
        return "possible"
    query = item.query
    if item.kind == "function" and function_of(item) == "generate_series":
        return "never"
    if query is None or item.kind not in ("subquery", "cte"):
        return "unknown"
    if binding.column not in (item.columns or ()):
        return "unknown"
    return output_nullness(query, (item.columns or ()).index(binding.column), resolver, depth + 1)


def function_of(item: FromItem) -> str:
    """The name of the one function of a function in FROM, "" where there are several."""
    functions = item.node.get("functions", ())
    if len(functions) != 1:
        return ""
    first = unwrap(functions[0])[1].get("items", ({},))[0]
    return function_name(unwrap(first)[1])


def output_nullness(query: Node, position: int, resolver: Resolver, depth: int = 0) -> Nullness:
    """Whether an output column of a query, by its position from 0, can be NULL."""
    if depth > _MAX_DEPTH:
        return "unknown"
    if query.get("larg"):
        sides: list[Nullness] = [
            output_nullness(query[side], position, resolver, depth + 1) for side in ("larg", "rarg")
        ]
        if query.get("op") == "SETOP_UNION":
            return _all(sides)
        # What INTERSECT or EXCEPT gives is a row of the left side.
        return "never" if sides[0] == "never" else "unknown"
    if "valuesLists" in query:
        rows = [unwrap(row)[1].get("items", ()) for row in query["valuesLists"]]
        return _all([nullness(r[position], resolver, depth) for r in rows if position < len(r)])
    if _has_grouping_sets(query):
        return "unknown"
    outputs = resolver.outputs(query) if "targetList" in query else None
    if outputs is None or position >= len(outputs):
        return "unknown"
    found = outputs[position]
    if found.value is not None:
        return nullness(found.value, resolver, depth)
    if found.item is None:
        return "unknown"
    binding = Binding(found.item, found.column, 0, True)
    return _bound(binding, resolver.scope(query), True, resolver, depth)


def _has_grouping_sets(query: Node) -> bool:
    """ROLLUP, CUBE and GROUPING SETS put NULL into the columns they sum over."""
    return any("GroupingSet" in g for g in query.get("groupClause", ()))
