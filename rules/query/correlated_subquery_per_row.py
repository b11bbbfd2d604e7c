"""A scalar subquery that reads the outer row is run again for each of the outer query's rows.

Why: PostgreSQL makes joins of EXISTS and IN, never of a scalar subquery: it is a nested loop that
    no other join method can replace. Without an index for it each run reads the whole table.
Fix: a LEFT JOIN with the subquery, aggregated once and grouped by what links it (count() of no rows
    is 0, which the rewrite keeps; every other aggregate of no rows is NULL, as after the join), or
    with the table itself where its unique key is looked up; and the index that makes a run cheap.
Silent when: the outer query has one row or few (a unique key, an aggregate, a small LIMIT before
    which the subquery need not run, a small table); the subquery's table is small; an index serves
    the subquery and the outer query is filtered; it reads no table, or is volatile;
    a count is only asked whether it is 0 (query/count-star-existence says EXISTS to that).
Source: PostgreSQL manual, 4.2.11 "Scalar Subqueries"; src/backend/optimizer/plan/subselect.c
    (convert_ANY_sublink_to_join, convert_EXISTS_sublink_to_join, and nothing for EXPR_SUBLINK).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sqladvisor.context import Context
from sqladvisor.finding import Edit, Finding, Fix, Severity
from sqladvisor.rule import rule
from sqladvisor.sql.aggregates import aggregates, aggregates_all, value_of_none
from sqladvisor.sql.clauses import clauses
from sqladvisor.sql.column_names import output_name
from sqladvisor.sql.comparisons import FLIPPED, comparison, conditions, narrowing
from sqladvisor.sql.datatypes import INTEGERS, STRINGS
from sqladvisor.sql.expressions import create_index
from sqladvisor.sql.links import is_few
from sqladvisor.sql.quote import identifier
from sqladvisor.sql.resolve import Binding, FromItem, Scope, columns_in
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import conjuncts, constant, names, operator, unwrap, walk
from sqladvisor.sql.volatility import volatile

SCHEMA = """
CREATE TABLE users (id bigint PRIMARY KEY, name text NOT NULL, city text, tags text[]);
CREATE TABLE orders (id bigint PRIMARY KEY, user_id bigint REFERENCES users, total numeric,
    status text, created_at timestamptz NOT NULL);
CREATE TABLE payments (id bigint PRIMARY KEY, order_id bigint NOT NULL, "Betrag" numeric);
CREATE INDEX ON payments (order_id);
CREATE TABLE visits (user_id bigint, seen timestamptz);
"""
BAD = [
    "SELECT u.id, u.name, (SELECT sum(o.total) FROM orders o WHERE o.user_id = u.id) AS spent FROM users u WHERE u.city = 'Gent'",
    """SELECT u.name, '€',
       (SELECT count(*) FROM orders o WHERE o.user_id = u.id AND o.status = 'paid')
       FROM users u ORDER BY u.name""",
    "SELECT o.id FROM orders o WHERE o.total > (SELECT avg(o2.total) FROM orders o2 WHERE o2.user_id = o.user_id)",
    "SELECT o.id, (SELECT u.name FROM users u WHERE u.id = o.user_id) FROM orders o",
    """SELECT o.id, (SELECT coalesce(sum(p."Betrag"), 0) FROM payments p WHERE p.order_id = o.id) AS paid FROM orders o""",
    "SELECT u.id FROM users u ORDER BY (SELECT max(v.seen) FROM visits v WHERE v.user_id = u.id) LIMIT 5",
    "WITH c AS MATERIALIZED (SELECT user_id, total FROM orders) SELECT u.id, (SELECT sum(total) FROM c WHERE c.user_id = u.id) FROM users u",
    "UPDATE users u SET city = (SELECT max(v.seen)::text FROM visits v WHERE v.user_id = u.id) WHERE u.name LIKE $1",
    "INSERT INTO visits SELECT u.id, (SELECT max(o.created_at) FROM orders o WHERE o.user_id = u.id) FROM users u",
    "SELECT u.id, (SELECT o.total FROM orders o WHERE o.user_id = u.id ORDER BY o.created_at DESC LIMIT 1) FROM users u",
]
GOOD = [
    "SELECT u.id, (SELECT max(total) FROM orders) FROM users u",
    "SELECT u.id, (SELECT sum(o.total) FROM orders o WHERE o.user_id = u.id) FROM users u WHERE u.id = $1",
    "SELECT u.id FROM users u WHERE EXISTS (SELECT 1 FROM orders o WHERE o.user_id = u.id)",
    "SELECT u.id FROM users u WHERE u.id IN (SELECT o.user_id FROM orders o WHERE o.user_id = u.id)",
    "SELECT u.id, (SELECT count(*) FROM unnest(u.tags) t) FROM users u",
    "SELECT o.id, (SELECT sum(p.\"Betrag\") FROM payments p WHERE p.order_id = o.id) FROM orders o WHERE o.created_at > now()",
    "SELECT u.id, (SELECT sum(o.total) FROM orders o WHERE o.user_id = u.id) FROM users u ORDER BY u.id LIMIT 20",
    "SELECT u.id, (SELECT random() FROM orders o WHERE o.user_id = u.id LIMIT 1) FROM users u",
    "SELECT u.id, s.n FROM users u LEFT JOIN (SELECT user_id, count(*) AS n FROM orders GROUP BY user_id) s ON s.user_id = u.id",
    "SELECT (SELECT u.name || u.city) FROM users u",
    "SELECT count(*), (SELECT max(o.total) FROM orders o WHERE o.user_id = max(u.id)) FROM users u",
    "SELECT o.id, (SELECT u.name FROM users u WHERE u.id = o.user_id) FROM orders o WHERE o.user_id = 5",
    "SELECT o.id, (SELECT u.name FROM users u WHERE u.id = o.user_id) FROM orders o ORDER BY o.id LIMIT $1",
    "SELECT u.id FROM users u WHERE (SELECT count(*) FROM orders o WHERE o.user_id = u.id) > 0",
    "UPDATE orders o SET total = (SELECT sum(p.\"Betrag\") FROM payments p WHERE p.order_id = o.id) WHERE o.id = $1",
]  # fmt: skip

_PAGE = 100


class _Correlated(NamedTuple):
    """A correlated scalar subquery and the query around it."""

    sublink: Node
    query: Node
    scope: Scope
    outer: Node
    outer_scope: Scope
    links: list[Binding]
    """The outer columns it reads."""


@rule(
    "SubLink",
    severity="warning",
    # Rows: a LIMIT up to which the runs are few enough not to matter: a page of a list.
    thresholds={"page_rows": _PAGE},
)
def check(sublink: Node, ctx: Context) -> Iterator[Finding]:
    if sublink.get("subLinkType") not in ("EXPR_SUBLINK", "ARRAY_SUBLINK"):
        return
    found = _correlated(sublink, ctx)
    if found is None or _few(found, ctx) or _asks_existence(found, ctx):
        return
    inner = _inner(found, ctx)
    if inner is None or ctx.small(inner) or volatile("SelectStmt", found.query, ctx.catalog):
        return
    column, access = _access(inner, found, ctx)
    filtered = any(comparison(part) for part in conditions(found.outer, found.outer_scope))
    rewrite = _rewrite(found, inner, ctx)
    driver = found.links[0].item
    several = len(found.outer_scope.items) > 1
    whose = "the outer query" if several else driver.name or driver.alias
    runs = f"the subquery runs once for each row of {whose}"
    notes: list[str] = []
    fixes = list(rewrite)
    severity: Severity = "info"
    if access == "none":
        severity = "warning"
        message = f"{runs}, and no index on {column or 'what links it'} serves it: each run reads {inner.name} in full"
        if column and inner.relation:
            fixes.append(
                Fix("index what each run looks up", create_index(inner, identifier(column)), "ddl")
            )
    elif filtered or not rewrite:
        return
    elif access == "unknown":
        message = f"{runs}: a nested loop over {inner.name or inner.alias} where one join would do"
        notes.append(
            f"what a run costs depends on the indexes of {inner.name}, which are not known"
        )
    else:
        message = f"{runs}: an index lookup in {inner.name} each time, where one join would do"
    yield ctx.finding({"SubLink": sublink}, message, severity=severity, fixes=fixes, notes=notes)


def _correlated(sublink: Node, ctx: Context) -> _Correlated | None:
    kind, query = unwrap(sublink.get("subselect", {}))
    outer_kind, outer = ctx.tree.query_of(sublink)
    if kind != "SelectStmt" or "fromClause" not in query:
        return None
    if outer_kind not in ("SelectStmt", "UpdateStmt", "DeleteStmt"):
        return None
    outer_scope = ctx.scope(outer, outer_kind)
    links = []
    for column in columns_in(kind, query):
        binding = ctx.resolve(column)
        if binding is not None and binding.item in outer_scope.items:
            links.append(binding)
    if not links:
        return None
    return _Correlated(sublink, query, ctx.scope(query), outer, outer_scope, links)


def _asks_existence(found: _Correlated, ctx: Context) -> bool:
    """Whether a count is only compared with nothing: EXISTS says that, and becomes a join."""
    kind, above = ctx.tree.parent(found.sublink)
    targets = found.query.get("targetList", ())
    if kind != "A_Expr" or len(targets) != 1:
        return False
    left = unwrap(above.get("lexpr", {}))[1] is found.sublink
    how = operator(above) if left else FLIPPED.get(operator(above), "")
    bound = constant(above.get("rexpr" if left else "lexpr", {}))
    call = unwrap(targets[0]["ResTarget"].get("val", {}))[1]
    existence = (how, bound) in ((">", 0), ("=", 0), ("<>", 0), (">=", 1), ("<", 1))
    return existence and names(call.get("funcname"))[-1:] == ("count",)


def _few(found: _Correlated, ctx: Context) -> bool:
    """Whether the outer query has so few rows that the runs do not count."""
    narrow = narrowing(found.outer_scope, found.outer, ctx.resolver)
    items = found.outer_scope.items
    if all(narrow.get(id(i)) == "unique" or is_few(i, ctx.resolver) or ctx.small(i) for i in items):
        return True
    where = next(
        (n for _, n in ctx.tree.ancestors(found.sublink) if ctx.tree.parent(n)[1] is found.outer),
        found.sublink,
    )
    in_targets = any(t.get("ResTarget") is where for t in found.outer.get("targetList", ()))
    if not in_targets or "cols" in found.outer:
        return False
    # Computed after LIMIT where nothing before it needs the value (make_sort_input_target).
    limit = constant(found.outer.get("limitCount", {}))
    page = isinstance(limit, int) and limit <= ctx.threshold("page_rows")
    parameter = unwrap(found.outer.get("limitCount", {}))[0] == "ParamRef"
    sorted_by = _sorted_by(where, found.outer)
    distinct = "distinctClause" in found.outer
    return aggregates_all(found.outer) or ((page or parameter) and not sorted_by and not distinct)


def _sorted_by(target: Node, query: Node) -> bool:
    """Whether ORDER BY names an output column, by name or number."""
    for wrapped in query.get("sortClause", ()):
        kind, node = unwrap(wrapped["SortBy"].get("node", {}))
        if kind == "ColumnRef" and names(node.get("fields")) == (target.get("name"),):
            return True
        place = constant({kind: node})
        if isinstance(place, int) and query["targetList"][place - 1 : place] == [
            {"ResTarget": target}
        ]:
            return True
    return False


def _inner(found: _Correlated, ctx: Context) -> FromItem | None:
    """The item of the subquery that the outer row selects rows of: the first that is linked."""
    for part in conditions(found.query, found.scope):
        bindings = [ctx.resolve(c) for c in columns_in(*unwrap(part))]
        if any(b is not None and b.item in found.outer_scope.items for b in bindings):
            for b in bindings:
                if b is not None and b.item in found.scope.items and b.item.kind != "function":
                    return b.item
    return None


def _access(inner: FromItem, found: _Correlated, ctx: Context) -> tuple[str, str]:
    """The column that links the subquery, and how it finds its rows: by ``index``, by reading all

    of the table (``none``), or ``unknown``."""
    bound = []
    for part in conditions(found.query, found.scope):
        kind, node = unwrap(part)
        if kind != "A_Expr" or operator(node) not in ("=", "<", ">", "<=", ">="):
            continue
        for side in ("lexpr", "rexpr"):
            binding = ctx.binding(node.get(side, {}))
            if binding is not None and binding.item is inner:
                bound.append((operator(node) != "=", binding.column))
    column = min(bound)[1] if bound else ""
    linked = _links_of(found, inner, ctx)
    if linked:
        column = linked[0]
    if inner.kind == "cte":
        return "", "none" if _materialized(inner, ctx) else "unknown"
    relation = inner.relation
    if relation is None or relation.kind not in ("table", "partitioned", "matview"):
        return column, "unknown"
    leads = {index.keys[0] for index in relation.indexes if index.valid and index.keys}
    if None in leads or any(name in leads for _, name in bound):
        return column, "index"
    return (column, "none") if column else ("", "unknown")


def _links_of(found: _Correlated, inner: FromItem, ctx: Context) -> list[str]:
    """The columns of an item that equalities with the outer row fix."""
    result = []
    for part in conditions(found.query, found.scope):
        pair = _equality(part, found, ctx)
        if pair is not None and pair[0].item is inner:
            result.append(pair[0].column)
    return result


def _materialized(item: FromItem, ctx: Context) -> bool:
    """Whether a CTE is computed once and then read row by row: it is named more than once, or

    said to be MATERIALIZED."""
    for cte in ctx.tree.of("CommonTableExpr"):
        if unwrap(cte.get("ctequery", {}))[1] is item.query:
            if cte.get("ctematerialized") == "CTEMaterializeAlways":
                return True
            readers = [t for t in ctx.tree.of("RangeVar") if t.get("relname") == cte["ctename"]]
            return len(readers) > 1 and cte.get("ctematerialized") != "CTEMaterializeNever"
    return False


def _equality(part: Node, found: _Correlated, ctx: Context) -> tuple[Binding, Binding] | None:
    """``inner column = outer column`` as bindings, in that order."""
    kind, node = unwrap(part)
    if kind != "A_Expr" or operator(node) != "=" or node.get("kind", "AEXPR_OP") != "AEXPR_OP":
        return None
    one, other = ctx.binding(node.get("lexpr", {})), ctx.binding(node.get("rexpr", {}))
    if one is None or other is None:
        return None
    if one.item in found.outer_scope.items:
        one, other = other, one
    if one.item in found.scope.items and other.item in found.outer_scope.items:
        return one, other
    return None


# -- the rewrite ------------------------------------------------------------------------------------


def _rewrite(found: _Correlated, inner: FromItem, ctx: Context) -> list[Fix]:
    """The outer query with a LEFT JOIN in the subquery's place; [] where that is not the same."""
    outer, query = found.outer, found.query
    if found.sublink.get("subLinkType") != "EXPR_SUBLINK" or "targetList" not in outer:
        return []
    if "relation" in outer or _groups(outer) or ctx.positional({"SubLink": found.sublink}):
        return []
    if any(k in query for k in ("distinctClause", "groupClause", "havingClause", "larg",
                                "sortClause", "limitCount", "limitOffset", "withClause",
                                "windowClause", "lockingClause")):  # fmt: skip
        return []
    if len(query.get("targetList", ())) != 1 or not _last_in_from(found):
        return []
    target = query["targetList"][0]["ResTarget"].get("val", {})
    if not all(
        (b := ctx.resolve(c)) is not None and b.sure and b.item in found.scope.items
        for c in columns_in(*unwrap(target))
        if names(c.get("fields")) != ("*",)
    ):
        return []
    if aggregates_all(query):
        join, value, taken = _aggregated(found, target, ctx)
    else:
        join, value, taken = _looked_up(found, inner, target, ctx)
    if not join or _would_clash(found, taken, ctx):
        return []
    return _joined(found, join, value, ctx)


def _groups(select: Node) -> bool:
    """Whether a SELECT groups, locks or expands ``*``: where a join changes what is said."""
    if any(k in select for k in ("groupClause", "havingClause", "lockingClause", "larg")):
        return True
    for wrapped in select.get("targetList", ()):
        value = wrapped["ResTarget"].get("val", {})
        kind, node = unwrap(value)
        if kind == "ColumnRef" and names(node.get("fields")) == ("*",):
            return True
        if any(True for _ in aggregates(value)):
            return True
    return False


def _last_in_from(found: _Correlated) -> bool:
    """Whether a join added behind FROM sees all the items that the subquery reads, and the

    subquery sees the join: it is not in FROM itself."""
    if any(n is found.sublink for w in found.outer["fromClause"] for _, n in walk(*unwrap(w))):
        return False
    last = {id(n) for _, n in walk(*unwrap(found.outer["fromClause"][-1]))}
    return all(id(b.item.node) in last and not b.item.hidden for b in found.links)


def _aggregated(
    found: _Correlated, target: Node, ctx: Context
) -> tuple[str, str, tuple[str, frozenset[str]]]:
    """The join with the aggregated subquery, the value's text, and the names that it adds."""
    nothing = "", "", ("", frozenset[str]())
    if any(k == "A_Expr" and operator(n) in ("/", "%") for k, n in walk(*unwrap(target))):
        return nothing  # could fail for a group that nobody asks for
    empty = value_of_none(target)
    pairs, rest = [], []
    for part in conjuncts(found.query.get("whereClause")):
        pair = _equality(part, found, ctx)
        if pair is not None and pair[0].sure and pair[1].sure and _same_type(*pair):
            pairs.append((part, pair))
        elif _reads_outside(part, found, ctx):
            return nothing
        else:
            rest.append(part)
    if empty is None or not pairs or any(_reads_outside(j, found, ctx) for j in _ons(found)):
        return nothing
    keys = [_side(part, pair[0], ctx) for part, pair in pairs]
    columns = [pair[0].column for _, pair in pairs]
    name = str(
        found.query["targetList"][0]["ResTarget"].get("name") or output_name(*unwrap(target))
    )
    name = name if name != "?column?" and name not in columns else "value"
    if len(set(columns)) < len(columns) or not all(keys) or name in columns:
        return nothing
    alias = f"{pairs[0][1][0].item.name}_by_{columns[0]}"
    places = clauses(found.query, ctx.spans)
    if "FROM" not in places:
        return nothing
    start, end = places["FROM"]
    source = _text(start, end, ctx)
    where = " AND ".join(_enclosed(part, ctx) for part in rest)
    body = f"SELECT {', '.join(keys)}, {ctx.text(target)} AS {identifier(name)} {source}"
    body += f" WHERE {where}" if where else ""
    on = " AND ".join(
        f"{identifier(alias)}.{identifier(pair[0].column)} = {_side(part, pair[1], ctx)}"
        for part, pair in pairs
    )
    join = f"LEFT JOIN ({body} GROUP BY {', '.join(keys)}) {identifier(alias)} ON {on}"
    value = f"{identifier(alias)}.{identifier(name)}"
    if empty != "NULL":
        value = f"coalesce({value}, {empty})"
    return join, value, (alias, frozenset((*columns, name)))


def _looked_up(
    found: _Correlated, inner: FromItem, target: Node, ctx: Context
) -> tuple[str, str, tuple[str, frozenset[str]]]:
    """The join with the table itself, where its unique key is fixed by the outer row."""
    nothing = "", "", ("", frozenset[str]())
    narrow = narrowing(found.scope, found.query, ctx.resolver)
    binding = ctx.binding(target)
    if (
        len(found.scope.items) != 1
        or inner.relation is None
        or inner.kind != "table"
        or narrow.get(id(inner)) != "unique"
        or binding is None
        or binding.item is not inner
    ):
        return nothing
    places = clauses(found.query, ctx.spans)
    if "FROM" not in places or "WHERE" not in places:
        return nothing
    table = _text(places["FROM"][0] + len("FROM"), places["FROM"][1], ctx).strip()
    condition = _text(places["WHERE"][0] + len("WHERE"), places["WHERE"][1], ctx).strip()
    columns = frozenset(c.name for c in inner.relation.columns)
    if any(
        names(c.get("fields"))[:-1] == () for c in columns_in("SelectStmt", found.query)
    ) and not _own_names(found, columns):
        return nothing
    value = f"{identifier(inner.alias)}.{identifier(binding.column)}"
    return f"LEFT JOIN {table} ON {condition}", value, (inner.alias, columns)


def _own_names(found: _Correlated, columns: frozenset[str]) -> bool:
    """Whether no outer item has a column called like one of the table to be joined."""
    return all(
        i.columns is not None and not columns & set(i.columns) for i in found.outer_scope.items
    )


def _ons(found: _Correlated) -> Iterator[Node]:
    for join in found.scope.joins:
        yield from conjuncts(join.get("quals"))


def _reads_outside(part: Node, found: _Correlated, ctx: Context) -> bool:
    """Whether an expression reads, or may read, anything but the subquery's own tables."""
    for column in columns_in(*unwrap(part)):
        binding = ctx.resolve(column)
        if binding is None:
            return True
        if binding.item in found.outer_scope.items or not binding.sure:
            return True
    return False


def _same_type(one: Binding, other: Binding) -> bool:
    """Whether equal values of one column cannot be different values of the other."""
    types = {d.type for d in (one.definition, other.definition) if d is not None}
    return len(types) < 2 or types <= INTEGERS or types <= STRINGS


def _side(part: Node, binding: Binding, ctx: Context) -> str:
    node = unwrap(part)[1]
    for side in ("lexpr", "rexpr"):
        wrapped = node.get(side, {})
        found = ctx.binding(wrapped)
        if found is not None and found.item is binding.item and found.column == binding.column:
            return ctx.text(wrapped)
    return ""


def _enclosed(part: Node, ctx: Context) -> str:
    text = ctx.text(part)
    bare = unwrap(part)[1].get("boolop") == "OR_EXPR" and not text.startswith("(")
    return f"({text})" if bare else text


def _text(start: int, end: int, ctx: Context) -> str:
    return ctx.statement.text[ctx.statement.to_text(start) : ctx.statement.to_text(end)]


def _would_clash(found: _Correlated, taken: tuple[str, frozenset[str]], ctx: Context) -> bool:
    """Whether the names that a join adds would change what another name in the query means."""
    alias, columns = taken
    inside = {id(n) for _, n in walk("SubLink", found.sublink)}
    for kind, node in walk("SelectStmt", found.outer):
        if id(node) in inside:
            continue
        if kind == "ColumnRef":
            fields = names(node.get("fields"))
            if len(fields) == 1 and (fields[0] in columns or fields[0] == alias):
                return True
        elif kind == "RangeVar":
            if node.get("alias", {}).get("aliasname", node.get("relname")) == alias:
                return True
        elif kind == "Alias" and node.get("aliasname") == alias:
            return True
        if kind == "JoinExpr" and (node.get("isNatural") or "usingClause" in node):
            return True
    return False


def _joined(found: _Correlated, join: str, value: str, ctx: Context) -> list[Fix]:
    span = ctx.span({"SubLink": found.sublink})
    places = clauses(found.outer, ctx.spans)
    if span is None or "FROM" not in places:
        return []
    kind, above = ctx.tree.parent(found.sublink)
    text = value
    if kind == "ResTarget" and not above.get("name"):
        name = output_name("SubLink", found.sublink)
        if name != "?column?" and not value.endswith(f".{identifier(name)}"):
            text = f"{value} AS {identifier(name)}"
    end = places["FROM"][1]
    lines = ctx.statement.sql[places["FROM"][0] : span[0]] + ctx.statement.sql[span[1] : end]
    separator = "\n" if "\n" in lines else " "
    return [
        Fix(
            "join the subquery once instead of running it for each row",
            ctx.edit(Edit(*span, text), Edit(end, end, separator + join)),
        )
    ]
