"""DISTINCT or GROUP BY that only takes back the duplicates a join has made.

Why: the join returns a row once for each partner, nothing of the partner is selected, and DISTINCT
    sorts or hashes all of it to have each row once again. EXISTS asks for the first partner only.
Fix: the join as EXISTS, without DISTINCT (GROUP BY); a LEFT JOIN that nothing reads left out.
Silent when: the output has no unique key of the table that is kept (DISTINCT then does more); it
    reads the joined tables, or aggregates; the join finds one partner at most; tables are small.
Source: PostgreSQL manual, 9.24.1 "EXISTS"; convert_EXISTS_sublink_to_join() in
    src/backend/optimizer/plan/subselect.c, which makes a semi-join of it.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.finding import Edit, Finding, Fix
from sqladvisor.rule import rule
from sqladvisor.sql.aggregates import aggregates
from sqladvisor.sql.clauses import Clauses, clauses
from sqladvisor.sql.functions import may_return_set
from sqladvisor.sql.joins import end_of_on, start_of_join
from sqladvisor.sql.resolve import FromItem, Scope, columns_in
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import conjuncts, constant, names, operator, unwrap, walk
from sqladvisor.sql.volatility import volatile

SCHEMA = """
CREATE TABLE users (id bigint PRIMARY KEY, name text NOT NULL, email text NOT NULL UNIQUE, city text);
CREATE TABLE orders (id bigint PRIMARY KEY, user_id bigint REFERENCES users, total numeric,
    "Größe" int);
CREATE TABLE items (id bigint PRIMARY KEY, order_id bigint REFERENCES orders, sku text);
"""
BAD = [
    "SELECT DISTINCT u.id, u.name FROM users u JOIN orders o ON o.user_id = u.id WHERE o.total > 890",
    """SELECT DISTINCT
       u.email, 'ä' AS x
FROM users u
JOIN orders o ON o.user_id = u.id
JOIN items i ON i.order_id = o.id
WHERE u.city = 'Köln' AND i.sku = $1
ORDER BY u.email
LIMIT 10""",
    'SELECT u.id, upper(u.name) FROM users u INNER JOIN orders o ON (o.user_id = u.id AND o."Größe" > 3) GROUP BY u.id',
    "SELECT DISTINCT u.* FROM users u JOIN orders o ON o.user_id = u.id",
    "SELECT DISTINCT u.id FROM users u LEFT JOIN orders o ON o.user_id = u.id WHERE u.city = 'Oslo'",
    "INSERT INTO items (id) SELECT DISTINCT u.id FROM users u JOIN orders o ON o.user_id = u.id WHERE o.total > 5 OR o.total IS NULL",
    "SELECT DISTINCT u.id FROM users u, orders o WHERE o.user_id = u.id AND o.total > 5",
]
GOOD = [
    "SELECT DISTINCT u.city FROM users u JOIN orders o ON o.user_id = u.id",
    "SELECT DISTINCT u.id, o.total FROM users u JOIN orders o ON o.user_id = u.id",
    "SELECT DISTINCT o.id FROM orders o JOIN users u ON u.id = o.user_id WHERE u.city = 'x'",
    "SELECT u.id, count(*) FROM users u JOIN orders o ON o.user_id = u.id GROUP BY u.id",
    "SELECT u.id FROM users u JOIN orders o ON o.user_id = u.id GROUP BY u.id HAVING count(*) > 2",
    "SELECT u.id FROM users u JOIN orders o ON o.user_id = u.id GROUP BY u.id ORDER BY max(o.total)",
    "SELECT DISTINCT u.id FROM users u WHERE EXISTS (SELECT 1 FROM orders o WHERE o.user_id = u.id)",
    "SELECT DISTINCT ON (u.id) u.id, u.name FROM users u JOIN orders o ON o.user_id = u.id ORDER BY u.id, o.total",
    "SELECT DISTINCT u.id, (SELECT max(sku) FROM items i WHERE i.order_id = o.id) FROM users u JOIN orders o ON o.user_id = u.id",
    "SELECT count(DISTINCT u.id) FROM users u JOIN orders o ON o.user_id = u.id",
    "SELECT DISTINCT u.id, row_number() OVER (ORDER BY u.id) FROM users u JOIN orders o ON o.user_id = u.id",
    "SELECT DISTINCT * FROM users u JOIN orders o ON o.user_id = u.id",
    "SELECT u.id FROM users u JOIN orders o ON o.user_id = u.id GROUP BY ROLLUP (u.id)",
]


@rule(
    "SelectStmt",
    severity="warning",
    needs=("schema",),
    # Rows of the joined table for each row kept: below it DISTINCT costs about what EXISTS does.
    thresholds={"fanout": 10},
)
def check(select: Node, ctx: Context) -> Iterator[Finding]:
    distinct = select.get("distinctClause") == [{}]
    if not distinct and not _groups_plainly(select):
        return
    if (distinct and "groupClause" in select) or "havingClause" in select:
        return
    scope = ctx.scope(select)
    if len(scope.items) < 2 or any("alias" in j or j.get("isNatural") for j in scope.joins):
        return
    if any("usingClause" in j for j in scope.joins) or volatile("SelectStmt", select, ctx.catalog):
        return
    kept = _kept(select, scope, ctx)
    if kept is None:
        return
    joined = [i for i in scope.items if i is not kept]
    partner = _multiplies(select, scope, kept, joined, ctx)
    if partner is None:
        return
    word = "DISTINCT" if distinct else "GROUP BY"
    rows = ctx.rows(partner), ctx.rows(kept)
    fanout = rows[0] / rows[1] if rows[0] and rows[1] else None
    many = fanout is not None and fanout >= ctx.threshold("fanout")
    key = ", ".join(_key(kept) or ())
    yield ctx.finding(
        _place(select, distinct, ctx),
        f"{word} takes back what the join made: {kept.name} ({key}) is unique, but comes once for "
        f"each row of {partner.name}, of which nothing is selected",
        severity="warning" if many else "info",
        figures={} if fanout is None else {"rows_per_row": round(fanout, 1)},
        fixes=_fixes(select, scope, kept, partner, distinct, ctx),
    )


def _groups_plainly(select: Node) -> bool:
    """GROUP BY of columns, with no aggregate anywhere."""
    groups = select.get("groupClause", ())
    if not groups or any(unwrap(g)[0] not in ("ColumnRef", "A_Const") for g in groups):
        return False
    parts = [*select.get("targetList", ()), *select.get("sortClause", ())]
    return not any(True for part in parts for _ in aggregates(part))


def _key(item: FromItem) -> tuple[str, ...]:
    return item.relation.primary_key if item.relation else ()


def _kept(select: Node, scope: Scope, ctx: Context) -> FromItem | None:
    """The one table that the output reads, where it has its unique key: its first in FROM."""
    first = scope.items[0]
    if first.kind != "table" or first.relation is None or first.nulled_by or not _key(first):
        return None
    columns: set[str] = set()
    outputs = ctx.resolver.outputs(select)
    grouped = "groupClause" in select
    for output in outputs or ():
        if output.item is not None:
            if output.item is not first:
                return None
            columns.add(output.column)
            continue
        value = output.value or {}
        if may_return_set(value, ctx.catalog) or any("over" in n for _, n in walk(*unwrap(value))):
            return None
        for column in columns_in(*unwrap(value)):
            binding = ctx.resolve(column)
            if binding is None or (not binding.depth and binding.item is not first):
                return None
            if binding.depth and _reads(value, scope, first, ctx):
                return None
        bare = ctx.binding(value)
        if bare is not None and not grouped:
            columns.add(bare.column)
    for wrapped in select.get("groupClause", ()):
        bare = ctx.binding(wrapped)
        if bare is None and "A_Const" in wrapped:
            place = constant(wrapped)
            if outputs and isinstance(place, int):
                bare = ctx.binding(outputs[place - 1].value or {})
        if bare is None or bare.item is not first:
            return None
        columns.add(bare.column)
    for wrapped in select.get("sortClause", ()):
        if _reads(wrapped, scope, first, ctx):
            return None
    return first if outputs and first.relation.is_unique_on(columns) else None


def _reads(wrapped: Node, scope: Scope, first: FromItem, ctx: Context) -> bool:
    """Whether an expression reads one of the joined tables, in subqueries too."""
    others = [i for i in scope.items if i is not first]
    for column in columns_in(*unwrap(wrapped)):
        binding = ctx.resolve(column)
        if binding is not None and binding.item in others:
            return True
        if binding is None and any(i.alias in names(column.get("fields")) for i in others):
            return True
    return False


def _multiplies(
    select: Node, scope: Scope, kept: FromItem, joined: list[FromItem], ctx: Context
) -> FromItem | None:
    """The first joined table, where several of its rows may match one of the table kept."""
    partner = joined[0]
    if partner.kind != "table" or partner.relation is None or ctx.small(partner):
        return None
    bound = set()
    parts = conjuncts(select.get("whereClause"))
    for join in scope.joins:
        parts += conjuncts(join.get("quals"))
    linked = False
    for part in parts:
        kind, node = unwrap(part)
        if kind != "A_Expr" or operator(node) != "=" or node.get("kind", "AEXPR_OP") != "AEXPR_OP":
            continue
        one, other = ctx.binding(node.get("lexpr", {})), ctx.binding(node.get("rexpr", {}))
        for side, opposite in ((one, other), (other, one)):
            if side is None or side.item is not partner:
                continue
            if opposite is None or opposite.item not in joined:
                bound.add(side.column)
        linked = linked or (
            one is not None and other is not None and {one.item, other.item} == {partner, kept}
        )
    return partner if linked and not partner.relation.is_unique_on(bound, nullable=True) else None


def _place(select: Node, distinct: bool, ctx: Context) -> tuple[int, int] | Node:
    tokens = ctx.spans.tokens
    if distinct:
        first = ctx.spans.token_at(select["targetList"][0]["ResTarget"].get("location", 0))
        return tokens[first - 1][0], tokens[first - 1][1]
    group: Node = select["groupClause"][0]
    return group


# -- the rewrite ------------------------------------------------------------------------------------


def _fixes(
    select: Node, scope: Scope, kept: FromItem, partner: FromItem, distinct: bool, ctx: Context
) -> list[Fix]:
    places = clauses(select, ctx.spans)
    positional = any(p.text in ("?", "%s") for p in ctx.statement.placeholders)
    if "FROM" not in places or "lockingClause" in select or positional:
        return []
    edits = _without_distinct(select, distinct, places, ctx)
    if not edits:
        return []
    if partner.nulled_by:
        body = _left_out(select, scope, kept, places, ctx)
        return (
            [Fix("leave out the join that nothing reads", ctx.edit(*edits, *body))] if body else []
        )
    body = _exists(select, scope, kept, partner, places, ctx)
    if not body:
        return []
    return [Fix("ask whether there is a partner, with EXISTS", ctx.edit(*edits, *body))]


def _without_distinct(select: Node, distinct: bool, places: Clauses, ctx: Context) -> list[Edit]:
    tokens = ctx.spans.tokens
    if distinct:
        first = ctx.spans.token_at(select["targetList"][0]["ResTarget"].get("location", 0))
        if tokens[first - 1][2] != "DISTINCT":
            return []
        return [Edit(tokens[first - 1][0], tokens[first][0], "")]
    if "GROUP_P" not in places:
        return []
    start, end = places["GROUP_P"]
    return [Edit(tokens[ctx.spans.token_at(start) - 1][1], end, "")]


def _left_out(
    select: Node, scope: Scope, kept: FromItem, places: Clauses, ctx: Context
) -> list[Edit]:
    """FROM without its LEFT JOINs, where WHERE does not read them."""
    if any(j.get("jointype") != "JOIN_LEFT" for j in scope.joins) or len(select["fromClause"]) > 1:
        return []
    where = select.get("whereClause")
    if where and _reads(where, scope, kept, ctx):
        return []
    span = ctx.spans.of("RangeVar", kept.node)
    return [Edit(span[1], places["FROM"][1], "")] if span else []


def _exists(
    select: Node,
    scope: Scope,
    kept: FromItem,
    partner: FromItem,
    places: Clauses,
    ctx: Context,
) -> list[Edit]:
    """The joined tables moved into an EXISTS, with the conditions that read them."""
    entries = select["fromClause"]
    sql = ctx.statement.sql
    table = ctx.spans.of("RangeVar", kept.node)
    other = ctx.spans.of("RangeVar", partner.node)
    if table is None or other is None:
        return []
    if len(entries) == 1:
        join = next((j for j in scope.joins if unwrap(j["rarg"])[1] is partner.node), None)
        if join is None or join.get("jointype") != "JOIN_INNER" or "quals" not in join:
            return []
        if unwrap(join["larg"])[1] is not kept.node:
            return []
        end, start = end_of_on(join, ctx), start_of_join(partner, ctx)
        if end is None or start is None:
            return []
        source = _text(other[0], other[1], ctx) + _text(end, places["FROM"][1], ctx)
        conditions = [_enclosed(join["quals"], ctx)]
        cut = (table[1], places["FROM"][1])
    else:
        if unwrap(entries[0])[1] is not kept.node:
            return []
        source = _text(other[0], places["FROM"][1], ctx)
        conditions = []
        cut = (table[1], places["FROM"][1])
    stay: list[str] = []
    for part in conjuncts(select.get("whereClause")):
        text = _enclosed(part, ctx)
        (conditions if _reads(part, scope, kept, ctx) else stay).append(text)
    if not all(conditions) or not all(stay):
        return []
    broken = "\n" in sql[places["FROM"][0] : max(e for _, e in places.values())]
    separator = "\n" if broken else " "
    if not any(mark in source for mark in ("'", '"', "--", "/*")):
        source = " ".join(source.split())
    exists = f"EXISTS (SELECT 1 FROM {source} WHERE {' AND '.join(conditions)})"
    where = f"{separator}WHERE " + " AND ".join([*stay, exists])
    stop = places["WHERE"][1] if "WHERE" in places else cut[1]
    return [Edit(cut[0], stop, where)]


def _text(start: int, end: int, ctx: Context) -> str:
    return ctx.statement.text[ctx.statement.to_text(start) : ctx.statement.to_text(end)]


def _enclosed(part: Node, ctx: Context) -> str:
    text = ctx.text(part)
    bare = unwrap(part)[1].get("boolop") == "OR_EXPR"
    return f"({text})" if bare and text else text
