"""What identifies a row: of a query's FROM clause, and of its result.

Columns determine others through unique keys, equalities and constants. All answers are sound, not
complete: "not unique" where it cannot be told. Without a catalog no table has a key.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqladvisor.sql.aggregates import aggregates_all
from sqladvisor.sql.functions import may_return_set
from sqladvisor.sql.resolve import Binding, FromItem, Resolver, Scope
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import (
    conjuncts,
    constant,
    is_pseudo_constant,
    names,
    operator,
    unwrap,
    walk,
)

if TYPE_CHECKING:
    from sqladvisor.catalog.model import Relation

MAX_DEPTH = 6
"""Subqueries within subqueries that are looked into: each level may be asked several questions."""

ColumnOf = tuple[FromItem, str]
"""A column of a FROM item. Items are compared by identity."""


@dataclass(slots=True)
class _Match:
    """An outer join's partner: which of its columns ON fixes, given rows of other items."""

    item: FromItem
    bound: set[str] = field(default_factory=set)
    others: set[FromItem] = field(default_factory=set)


class Dependencies:
    """The functional dependencies between the columns of one SELECT's FROM clause."""

    def __init__(self, select: Node, resolver: Resolver, depth: int = 0) -> None:
        self.resolver = resolver
        self._depth = depth
        self._unique: dict[tuple[FromItem, frozenset[str]], bool] = {}
        self.scope: Scope = resolver.scope(select)
        self._equal: list[tuple[ColumnOf, ColumnOf]] = []
        self._fixed: set[ColumnOf] = set()
        self._matches: list[_Match] = []
        for part in conjuncts(select.get("whereClause")):
            self._read(part)
        for join in self.scope.joins:
            self._read_join(join)
        self._not_null = self._fixed | {column for pair in self._equal for column in pair}

    def determined(self, known: Iterable[ColumnOf]) -> tuple[set[ColumnOf], set[FromItem]]:
        """What follows from known columns: further columns, and the items whose whole row does."""
        columns, items = {*known, *self._fixed}, set[FromItem]()

        def has(column: ColumnOf) -> bool:
            return column in columns or column[0] in items

        changed = True
        while changed:
            changed = False
            for one, other in self._equal:
                if has(one) != has(other):
                    columns |= {one, other}
                    changed = True
            for place, item in enumerate(self.scope.items):
                if item in items or (
                    item.lateral and not items.issuperset(self.scope.items[:place])
                ):
                    continue
                have = {name for owner, name in columns if owner is item}
                if self._identifies(item, have, items):
                    items.add(item)
                    changed = True
        return columns, items

    def rows_unique(self, known: Iterable[ColumnOf]) -> bool:
        """Whether two rows of FROM that agree on the known columns are the same row."""
        return self.determined(known)[1].issuperset(self.scope.items)

    def row_key(self, known: Iterable[ColumnOf] = ()) -> list[ColumnOf] | None:
        """The columns that, with those known, identify a row of FROM; as few keys as possible.

        None where a table without a key, or something else than a table, would be needed.
        """
        given = list(known)
        if self.rows_unique(given):
            return []
        keys = {
            item: [(item, c) for c in key]
            for item in self.scope.items
            if item.relation and (key := _shortest_key(item.relation))
        }
        for columns in keys.values():
            if self.rows_unique(given + columns):
                return columns
        result: list[ColumnOf] = []
        for item, columns in keys.items():
            if item not in self.determined(given + result)[1]:
                result += columns
                if self.rows_unique(given + result):
                    return result
        return None

    def binding(self, wrapped: Node) -> Binding | None:
        """What a plain column of this very query means."""
        kind, node = unwrap(wrapped)
        found = self.resolver.resolve(node) if kind == "ColumnRef" else None
        return found if found and found.sure and not found.depth else None

    def _identifies(self, item: FromItem, have: set[str], items: set[FromItem]) -> bool:
        if item.kind in ("subquery", "cte", "values") and item.query is not None:
            asked = item, frozenset(have)
            if asked not in self._unique:
                places = {i for i, name in enumerate(item.columns or ()) if name in have}
                self._unique[asked] = is_unique(item.query, self.resolver, places, self._depth + 1)
            return self._unique[asked]
        if item.relation is None:
            return False
        for match in self._matches:
            if (
                match.item is item
                and match.others <= items
                and item.relation.is_unique_on(match.bound | have, nullable=True)
                and all(c in match.bound or self._never_null(item, c) for c in match.bound | have)
            ):
                return True
        usable = {c for c in have if self._never_null(item, c)}
        return item.relation.is_unique_on(usable, nullable=True)

    def _never_null(self, item: FromItem, name: str) -> bool:
        column = item.relation.column(name) if item.relation else None
        return bool(column and column.not_null) or (item, name) in self._not_null

    def _read(self, part: Node, within: tuple[Node, ...] = ()) -> None:
        """An equality that holds for every row (``within``: or whose sides are both NULL)."""
        kind, node = unwrap(part)
        if kind != "A_Expr" or operator(node) != "=" or node.get("kind", "AEXPR_OP") != "AEXPR_OP":
            return
        left, right = node.get("lexpr", {}), node.get("rexpr", {})
        one, other = self.binding(left), self.binding(right)
        if one and other:
            if one.item is not other.item and (
                not within or one.item.nulled_by == other.item.nulled_by
            ):
                self._equal.append(((one.item, one.column), (other.item, other.column)))
        elif one and self._constant(right):
            if not within or not one.item.nulled_by:
                self._fixed.add((one.item, one.column))
        elif other and self._constant(left) and (not within or not other.item.nulled_by):
            self._fixed.add((other.item, other.column))

    def _constant(self, wrapped: Node) -> bool:
        """Whether an expression has one value while this query runs once."""
        kind, node = unwrap(wrapped)
        if kind == "ColumnRef":
            found = self.resolver.resolve(node)
            return found is not None and found.depth > 0
        return bool(kind) and is_pseudo_constant(wrapped)

    def _read_join(self, join: Node) -> None:
        left, right = self._below(join, "larg"), self._below(join, "rarg")
        shared = names(join.get("usingClause"))
        if join.get("isNatural"):
            if any(i.columns is None for i in left + right):
                return
            shared = tuple(
                dict.fromkeys(
                    c
                    for i in left
                    for c in i.columns or ()
                    for j in right
                    if c in (j.columns or ())
                )
            )
        pairs = []
        for name in shared:
            owners = [
                [i for i in side if i.columns is not None and name in i.columns]
                for side in (left, right)
            ]
            if all(len(o) == 1 for o in owners):
                pairs.append(((owners[0][0], name), (owners[1][0], name)))
        jointype = join.get("jointype")
        if jointype == "JOIN_INNER":
            for one, other in pairs:
                if one[0].nulled_by == other[0].nulled_by:
                    self._equal.append((one, other))
            for part in conjuncts(join.get("quals")):
                self._read(part, (join,))
        elif jointype in ("JOIN_LEFT", "JOIN_RIGHT"):
            partner = right if jointype == "JOIN_LEFT" else left
            if len(partner) == 1:
                self._matches.append(self._match(join, partner[0], pairs))

    def _match(self, join: Node, item: FromItem, pairs: list[tuple[ColumnOf, ColumnOf]]) -> _Match:
        match = _Match(item)
        for pair in pairs:
            for owner, name in pair:
                if owner is item:
                    match.bound.add(name)
                else:
                    match.others.add(owner)
        quals = join.get("quals")
        for kind, node in walk(*unwrap(quals)) if quals else ():
            if kind == "ColumnRef":
                found = self.resolver.resolve(node)
                if found is None:
                    return _Match(item)
                if not found.depth and found.item is not item:
                    match.others.add(found.item)
        for part in conjuncts(quals):
            kind, node = unwrap(part)
            if (
                kind != "A_Expr"
                or operator(node) != "="
                or node.get("kind", "AEXPR_OP") != "AEXPR_OP"
            ):
                continue
            sides = node.get("lexpr", {}), node.get("rexpr", {})
            for side, opposite in (sides, sides[::-1]):
                found = self.binding(side)
                if found and found.item is item and self._reads_no(item, opposite):
                    match.bound.add(found.column)
        return match

    def _reads_no(self, item: FromItem, wrapped: Node) -> bool:
        """Whether an expression's value is fixed by rows of other items alone."""
        kind, node = unwrap(wrapped)
        if kind == "ColumnRef":
            found = self.resolver.resolve(node)
            return found is not None and found.item is not item
        return self._constant(wrapped)

    def _below(self, join: Node, side: str) -> list[FromItem]:
        inside = {id(node) for _, node in walk(*unwrap(join.get(side, {})))}
        return [i for i in self.scope.items if id(i.node) in inside]


def _shortest_key(relation: Relation) -> tuple[str, ...]:
    """The primary key, or the shortest unique key without NULLs; () if there is none."""
    return relation.primary_key or min(relation.unique_keys(), key=len, default=())


def is_unique(
    query: Node, resolver: Resolver, places: set[int] | None = None, depth: int = 0
) -> bool:
    """Whether no two rows of a query's result agree on the output columns at ``places``.

    ``places`` None: on all of them. DISTINCT, grouping, keys and single rows count.
    """
    if depth > MAX_DEPTH or not query.keys() & {"targetList", "valuesLists", "larg"}:
        return False
    if query.get("op", "SETOP_NONE") != "SETOP_NONE":
        outputs = resolver.outputs(query)
        return not query.get("all") and (
            places is None or (outputs is not None and len(places) >= len(outputs))
        )
    if "valuesLists" in query:
        return len(query["valuesLists"]) == 1
    if "relation" in query:
        return False  # a modifying statement with RETURNING
    limit = constant(query["limitCount"]) if "limitCount" in query else ...
    if limit in (0, 1):
        return True
    outputs = resolver.outputs(query)
    distinct = query.get("distinctClause")
    if distinct == [{}] and (places is None or (outputs and len(places) >= len(outputs))):
        return True
    return unique_before_distinct(query, resolver, places, depth)


def unique_before_distinct(
    select: Node, resolver: Resolver, places: set[int] | None = None, depth: int = 0
) -> bool:
    """As ``is_unique``, of a plain SELECT without its own DISTINCT and LIMIT."""
    targets = [t.get("ResTarget", {}).get("val", {}) for t in select.get("targetList", ())]
    if any(may_return_set(t, resolver.catalog) for t in targets):
        return False
    outputs = resolver.outputs(select)
    if aggregates_all(select) or not (select.keys() & {"fromClause", "groupClause"}):
        return True
    if outputs is None:
        return False
    dependencies = Dependencies(select, resolver, depth)
    taken = set(range(len(outputs))) if places is None else places
    known: list[ColumnOf] = []
    for i in taken:
        output = outputs[i]
        if output.item:
            known.append((output.item, output.column))
        elif output.value and (found := dependencies.binding(output.value)):
            known.append((found.item, found.column))
    if "groupClause" not in select:
        return dependencies.rows_unique(known)
    columns, items = dependencies.determined(known)
    for group in select["groupClause"]:
        kind, node = unwrap(group)
        if kind == "A_Const":
            place = node.get("ival", {}).get("ival", 0) - 1
            if place in taken:
                continue
            group = (outputs[place].value if 0 <= place < len(outputs) else None) or {}
        found = dependencies.binding(group)
        if found is None or not ((found.item, found.column) in columns or found.item in items):
            return False
    return True
