"""Comparisons of columns with constants, and what they narrow a query down to.

The shared ground of the rules that ask whether a predicate keeps an index from being used.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from sqladvisor.sql.resolve import Binding, FromItem, Resolver, Scope, columns_in
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import (
    conjuncts,
    is_pseudo_constant,
    operator,
    unwrap,
    walk,
)

FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "=", "<>": "<>"}
"""A comparison operator by the one that means the same with its sides exchanged."""

Narrowing = Literal["unique", "index", ""]


@dataclass(frozen=True, slots=True)
class Comparison:
    """``side operator values``: columns on one side, values fixed for the statement on the other.

    ``operator`` is as if ``side`` stood on the left: ``=``, ``<``, …, ``BETWEEN``, ``IN``,
    ``ANY`` (``side = ANY (values)``) or a pattern operator (``~~``, ``~~*``, ``~``, ``~*``).
    """

    wrapped: Node
    side: Node
    operator: str
    values: tuple[Node, ...]


def conditions(query: Node, scope: Scope) -> Iterator[Node]:
    """The AND-ed predicates of a query: those of WHERE, then those of its joins' ON."""
    yield from conjuncts(query.get("whereClause"))
    for join in scope.joins:
        yield from conjuncts(join.get("quals"))


def comparison(wrapped: Node) -> Comparison | None:
    """A predicate as a comparison with constants, None when it is anything else."""
    kind, node = unwrap(wrapped)
    if kind != "A_Expr":
        return None
    how, name = node.get("kind", "AEXPR_OP"), operator(node)
    left, right = node.get("lexpr", {}), node.get("rexpr", {})
    if how == "AEXPR_OP" and name in FLIPPED:
        if _fixed(right) and not is_pseudo_constant(left):
            return Comparison(wrapped, left, name, (right,))
        if _fixed(left) and not is_pseudo_constant(right):
            return Comparison(wrapped, right, FLIPPED[name], (left,))
        return None
    if how in ("AEXPR_IN", "AEXPR_BETWEEN"):
        items = tuple(unwrap(right)[1].get("items", ()))
        if name in ("=", "BETWEEN") and all(map(_fixed, items)) and not is_pseudo_constant(left):
            return Comparison(wrapped, left, "IN" if how == "AEXPR_IN" else name, items)
        return None
    if how == "AEXPR_OP_ANY" and name == "=" and _fixed(right) and not is_pseudo_constant(left):
        return Comparison(wrapped, left, "ANY", (right,))
    pattern = how in ("AEXPR_LIKE", "AEXPR_ILIKE", "AEXPR_SIMILAR") or name in ("~", "~*")
    if pattern and not name.startswith("!") and not is_pseudo_constant(left):
        return Comparison(wrapped, left, name, (right,))
    return None


def _fixed(wrapped: Node) -> bool:
    return bool(wrapped) and is_pseudo_constant(wrapped)


def only_column(wrapped: Node, resolver: Resolver) -> Binding | None:
    """What an expression's only column means; None when it has none, several, or a subquery."""
    found: Binding | None = None
    for kind, node in walk(*unwrap(wrapped)):
        if kind == "SubLink":
            return None
        if kind == "ColumnRef":
            binding = resolver.resolve(node)
            if binding is None:
                return None
            if found and (found.item is not binding.item or found.column != binding.column):
                return None
            found = binding
    return found


def narrowing(scope: Scope, query: Node, resolver: Resolver) -> dict[int, Narrowing]:
    """How each FROM item (by ``id``) is narrowed by equalities, given what is known of its keys.

    ``unique``: at most one row of it per row of what surrounds the query; ``index``: an index
    leads with a column that an equality fixes. Equalities with constants, with outer queries and
    with FROM items that are narrowed themselves count. Of an unknown table, a column named ``id``
    is taken as its key and any other as indexed.
    """
    equalities = list(_equalities(scope, query, resolver))
    result: dict[int, Narrowing] = {}
    changed = True
    while changed:
        changed = False
        for item in scope.items:
            if result.get(id(item)) == "unique":
                continue
            for level in ("unique", "index"):
                bound = {
                    column
                    for owner, column, others, exact in equalities
                    if owner is item
                    and (exact or level == "index")
                    and all(_at_least(result.get(id(o)), level) for o in others)
                }
                now = _narrowed_by(item, bound)
                if now == level and result.get(id(item)) != now:
                    result[id(item)] = "unique" if now == "unique" else "index"
                    changed = True
                    break
    return result


def is_system(item: FromItem) -> bool:
    """Whether a table is PostgreSQL's own: nobody can index it, or would want to."""
    if item.schema is not None:
        return item.schema in ("pg_catalog", "information_schema")
    return item.kind == "table" and item.relation is None and item.name.startswith("pg_")


def ranged(scope: Scope, query: Node, resolver: Resolver) -> set[int]:
    """The FROM items (by ``id``) of which a range with fixed bounds reads a part of an index."""
    result = set()
    for part in conditions(query, scope):
        c = comparison(part)
        kind, column = unwrap(c.side) if c else ("", {})
        if c is None or kind != "ColumnRef" or c.operator not in ("<", "<=", ">", ">=", "BETWEEN"):
            continue
        binding = resolver.resolve(column)
        if binding is None or binding.depth or binding.item.relation is None:
            continue
        indexes = binding.item.relation.indexes
        if any(i.valid and i.keys[:1] == (binding.column,) for i in indexes):
            result.add(id(binding.item))
    return result


def _at_least(have: Narrowing | None, level: str) -> bool:
    return have == "unique" or (have == "index" and level == "index")


def _narrowed_by(item: FromItem, bound: set[str]) -> Narrowing:
    relation = item.relation
    if not bound:
        return ""
    if relation is None:
        if item.kind != "table":
            return ""
        return "unique" if "id" in bound else "index"
    if relation.is_unique_on(bound, nullable=True):
        return "unique"
    leads = {index.keys[0] for index in relation.indexes if index.valid and index.keys}
    return "index" if bound & leads else ""


def _equalities(
    scope: Scope, query: Node, resolver: Resolver
) -> Iterator[tuple[FromItem, str, list[FromItem], bool]]:
    """(item, column, other items of this query on the other side, whether it fixes one value)."""
    for part in conditions(query, scope):
        kind, node = unwrap(part)
        if kind != "A_Expr" or operator(node) != "=":
            continue
        how = node.get("kind", "AEXPR_OP")
        left, right = node.get("lexpr", {}), node.get("rexpr", {})
        sides = [(left, right)]
        if how == "AEXPR_OP":
            sides.append((right, left))
        elif how not in ("AEXPR_IN", "AEXPR_OP_ANY"):
            continue
        for side, other in sides:
            column_kind, column = unwrap(side)
            binding = resolver.resolve(column) if column_kind == "ColumnRef" else None
            others = _items_in(other, resolver)
            if binding is None or binding.depth or others is None or binding.item in others:
                continue
            yield binding.item, binding.column, others, how == "AEXPR_OP"
    for join in scope.joins:
        for wrapped in join.get("usingClause", ()):
            name = str(wrapped["String"]["sval"])
            sharing = [i for i in scope.items if i.columns is None or name in i.columns]
            for item in sharing:
                for other_item in sharing:
                    if other_item is not item:
                        yield item, name, [other_item], True


def _items_in(wrapped: Node, resolver: Resolver) -> list[FromItem] | None:
    """The FROM items of the same query that an expression reads; None when it cannot be told."""
    found: list[FromItem] = []
    for column in columns_in(*unwrap(wrapped)):
        binding = resolver.resolve(column)
        if binding is None:
            return None
        if not binding.depth and binding.item not in found:
            found.append(binding.item)
    return found
