"""How the FROM items of a query hang together, and which of them are one row at most."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqladvisor.sql.aggregates import aggregates_all
from sqladvisor.sql.comparisons import conditions, narrowing
from sqladvisor.sql.resolve import FromItem, Resolver, Scope
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import constant, is_pseudo_constant, names, operator, unwrap, walk

FEW_ROWS = 100
"""A LIMIT up to which a subquery counts as a handful of rows that somebody chose to pair."""

# Columns whose equal value in two tables says nothing about their rows belonging together.
_MARKERS = frozenset(
    ("status", "state", "type", "kind", "active", "deleted", "enabled", "lang", "language",
     "locale", "currency", "visible", "published", "archived")
)  # fmt: skip

# Names of tables that by custom have one row, read by naming them beside any other.
_SINGLE_ROW_TABLES = frozenset(
    ("dual", "config", "configuration", "settings", "setting", "params", "parameters", "constants",
     "globals", "system_config", "app_config", "app_settings", "site_settings")
)  # fmt: skip


class _Groups:
    """Disjoint sets of things by identity."""

    def __init__(self) -> None:
        self._above: dict[object, object] = {}

    def find(self, key: object) -> object:
        while (above := self._above.get(key, key)) != key:
            key = above
        return key

    def join(self, keys: Iterable[object]) -> None:
        first, *rest = [self.find(k) for k in keys] or [None]
        for key in rest:
            self._above[key] = first


def unlinked(
    query: Node, scope: Scope, resolver: Resolver, extra: Sequence[Node] = ()
) -> list[list[FromItem]]:
    """The FROM items that can have many rows, in groups that no condition links to one another.

    ``extra``: conditions beside WHERE and ON (MERGE's). One group: all is linked. ``[]`` where it
    cannot be told. A condition links all items that it mentions, whatever it says about them; so
    do an outer query's row and a constant that fixes a column of the same name.
    """
    if len(scope.items) < 2 or any("alias" in join for join in scope.joins):
        return []
    groups = _Groups()
    for part in (*conditions(query, scope), *extra):
        mentioned = _mentioned(part, scope, resolver)
        if mentioned is None:
            return []
        groups.join(mentioned)
        if pinned := _pinned(part, resolver):
            groups.join(pinned)
        if constant(part) is False:
            return []  # nothing is paired: FULL JOIN … ON false puts one below the other
    for join in scope.joins:
        if join.get("usingClause") or join.get("isNatural"):
            below = {id(n) for _, n in walk("JoinExpr", join)}
            groups.join(id(i) for i in scope.items if id(i.node) in below)
    for item in scope.items:
        if item.kind == "function" or item.lateral:
            mentioned = _mentioned({"RangeItem": item.node}, scope, resolver)
            if mentioned is None:
                return []
            groups.join([id(item), *mentioned])
    narrow = narrowing(scope, query, resolver)
    apart: dict[object, list[FromItem]] = {}
    for item in scope.items:
        if narrow.get(id(item)) != "unique" and not is_few(item, resolver):
            apart.setdefault(groups.find(id(item)), []).append(item)
    return list(apart.values())


def _mentioned(wrapped: Node, scope: Scope, resolver: Resolver) -> list[int] | None:
    """Identities of the FROM items that an expression reads, of outer queries' too."""
    found = []
    own = {id(i) for i in scope.items}
    for kind, node in walk(*unwrap(wrapped)):
        if kind != "ColumnRef":
            continue
        fields = names(node.get("fields"))
        binding = resolver.resolve(node)
        if binding is not None:
            item = binding.item
        else:
            whole = scope.item(fields[0]) if fields and len(fields) < 3 else None
            if whole is None or (len(fields) == 2 and fields[1] != "*"):
                if fields == ("*",):
                    continue  # count(*) of a subquery
                return None
            item = whole
        if id(item) in own or binding is None or _is_outside(item, scope):
            found.append(id(item))
    return found


def _is_outside(item: FromItem, scope: Scope) -> bool:
    above = scope.parent
    while above is not None:
        if item in above.items:
            return True
        above = above.parent
    return False


def _pinned(part: Node, resolver: Resolver) -> list[object]:
    """The item of ``column = constant`` and a key that the same column and constant elsewhere share."""
    kind, node = unwrap(part)
    if kind != "A_Expr" or operator(node) != "=" or node.get("kind", "AEXPR_OP") != "AEXPR_OP":
        return []
    for side, other in (("lexpr", "rexpr"), ("rexpr", "lexpr")):
        column_kind, column = unwrap(node.get(side, {}))
        value = node.get(other, {})
        if column_kind != "ColumnRef" or not value or not is_pseudo_constant(value):
            continue
        binding = resolver.resolve(column)
        if binding is None or binding.column in _MARKERS or isinstance(constant(value), bool):
            return []
        name = "id" if binding.column.lower().endswith("id") else binding.column
        return [id(binding.item), ("pinned", name, _value_key(value))]
    return []


def _value_key(value: Node) -> str:
    literal = constant(value)
    if literal is not ...:
        return str(literal)
    return repr([(k, n.get("number"), n.get("op")) for k, n in walk(*unwrap(value))])


def is_few(item: FromItem, resolver: Resolver) -> bool:
    """Whether a FROM item is one row at most, or a handful that was put there on purpose.

    Functions, VALUES, tables of settings, aggregates without GROUP BY, a LIMIT of a few rows, a subquery by unique key,
    the rows that a modifying CTE returns.
    """
    if item.kind in ("function", "values"):
        return True
    if item.kind == "table":
        one = item.rows is not None and item.rows <= 1
        return one or (item.rows is None and item.name in _SINGLE_ROW_TABLES)
    return item.query is not None and _few_rows(item.query, resolver, 0)


def _few_rows(query: Node, resolver: Resolver, depth: int) -> bool:
    if depth > 20:
        return False
    if "larg" in query:
        return _few_rows(query["larg"], resolver, depth + 1) and _few_rows(
            query["rarg"], resolver, depth + 1
        )
    if "relation" in query or "fromClause" not in query:
        return True  # VALUES, a modifying statement, or a SELECT of no table
    limit = constant(query.get("limitCount", {}))
    if isinstance(limit, int) and limit <= FEW_ROWS:
        return True
    if aggregates_all(query):
        return True
    scope = resolver.scope(query)
    narrow = narrowing(scope, query, resolver)
    return all(
        narrow.get(id(i)) == "unique"
        or i.kind in ("function", "values")
        or (
            i.query is not None and i.query is not query and _few_rows(i.query, resolver, depth + 1)
        )
        for i in scope.items
    )
