"""A table joined a second time for the same row, or joined although nothing of it is used.

Why: the second join finds again the row that the first one found. A join along a foreign key that
    is never NULL keeps each row exactly once, so that a table of which nothing is read is read for
    nothing: PostgreSQL leaves out such LEFT JOINs by itself, never an inner one.
Fix: the query without the join, its columns taken from the first one.
Silent when: the two joins differ in any condition or in kind; no unique key makes it one row; the
    foreign key's columns can be NULL or are null-extended (the join then filters); rows are locked;
    ``*`` selects its columns; the table is small.
Source: PostgreSQL manual, 5.5.5 "Foreign Keys"; join_is_removable() in
    src/backend/optimizer/plan/analyzejoins.c (outer joins; since 18 self-joins on a unique key).
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.finding import Edit, Finding, Fix
from sqladvisor.rule import rule
from sqladvisor.sql.expressions import shape
from sqladvisor.sql.joins import end_of_on, start_of_join
from sqladvisor.sql.quote import identifier
from sqladvisor.sql.resolve import FromItem, Scope, columns_in
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import conjuncts, names, operator, unwrap, walk
from sqladvisor.sql.volatility import volatile

SCHEMA = """
CREATE TABLE users (id bigint PRIMARY KEY, name text NOT NULL, email text, referrer bigint);
CREATE TABLE orders (id bigint PRIMARY KEY, user_id bigint NOT NULL REFERENCES users,
    agent_id bigint REFERENCES users, total numeric, "Straße" text);
CREATE TABLE items (id bigint PRIMARY KEY, order_id bigint NOT NULL REFERENCES orders, sku text);
"""
BAD = [
    """SELECT o.id, u.name, v.email FROM orders o
       JOIN users u ON u.id = o.user_id
       JOIN users v ON v.id = o.user_id WHERE v.name = 'Zoë'""",
    "SELECT o.id, o.total FROM orders o JOIN users u ON u.id = o.user_id WHERE o.total > 5",
    "SELECT a.id, b.total FROM orders a JOIN orders b ON b.id = a.id",
    """SELECT o.id, u.name, "V".email FROM orders o LEFT JOIN users u ON u.id = o.agent_id
       LEFT JOIN users AS "V" ON (o.agent_id = "V".id) ORDER BY "V".name""",
    "SELECT i.sku, 'ü' FROM items i JOIN orders o ON o.id = i.order_id JOIN users u ON (u.id = o.user_id) WHERE o.\"Straße\" = $1",
    "SELECT i.sku FROM items AS i INNER JOIN orders ON orders.id = i.order_id",
    "SELECT o.id, u.name, (SELECT max(i.sku) FROM items i WHERE i.id = v.id) FROM orders o JOIN users u ON u.id = o.user_id JOIN users v ON v.id = o.user_id",
]
GOOD = [
    "SELECT o.id, u.name, a.name FROM orders o JOIN users u ON u.id = o.user_id JOIN users a ON a.id = o.agent_id",
    "SELECT o.id FROM orders o JOIN users u ON u.id = o.agent_id",
    "SELECT o.id FROM orders o JOIN users u ON u.id = o.user_id WHERE u.name = 'x'",
    "SELECT o.id FROM orders o JOIN users u ON u.id = o.user_id AND u.name = 'x'",
    "SELECT * FROM orders o JOIN users u ON u.id = o.user_id",
    "SELECT u.id FROM users u JOIN orders o ON o.user_id = u.id",
    "SELECT o.id FROM orders o JOIN users u ON u.id = o.user_id FOR UPDATE",
    "SELECT i.id FROM items i LEFT JOIN orders o ON o.id = i.order_id JOIN users u ON u.id = o.user_id",
    "SELECT u.id, a.total, b.total FROM users u JOIN orders a ON a.user_id = u.id JOIN orders b ON b.user_id = u.id",
    "SELECT u.name FROM users u JOIN users r ON r.id = u.referrer",
    "SELECT o.id, u.name, v.email FROM orders o LEFT JOIN users u ON u.id = o.user_id JOIN users v ON v.id = o.user_id AND v.name = 'x'",
    "SELECT o.id, u FROM orders o JOIN users u ON u.id = o.user_id",
    "SELECT o.id, count(*) FROM orders o JOIN items i ON i.order_id = o.id GROUP BY o.id",
    "SELECT o.id, x.n FROM orders o JOIN users u ON u.id = o.user_id, LATERAL (SELECT u.name AS n) x",
]


@rule("SelectStmt", severity="warning", needs=("schema",))
def check(select: Node, ctx: Context) -> Iterator[Finding]:
    if "fromClause" not in select or "lockingClause" in select:
        return
    scope = ctx.scope(select)
    if any("alias" in j or "usingClause" in j or j.get("isNatural") for j in scope.joins):
        return
    gone: set[int] = set()
    for join in scope.joins[::-1]:
        item = next((i for i in scope.items if i.node is unwrap(join["rarg"])[1]), None)
        kind = join.get("jointype", "JOIN_INNER")
        if item is None or not _plain(item) or kind not in ("JOIN_INNER", "JOIN_LEFT"):
            continue
        if "quals" not in join or ctx.small(item) or any(id(i) in gone for i in scope.items):
            continue
        first = _same_row(item, join, scope, ctx)
        if first is not None:
            gone.add(id(item))
            # Since 18 the planner finds inner self-joins on a unique key by itself.
            planned = kind == "JOIN_INNER" and (ctx.catalog.server_version or 0) >= 180_000
            yield ctx.finding(
                {"RangeVar": item.node},
                f"{item.alias} is the same row of {item.name} as {first.alias}"
                + (": the planner leaves it out" if planned else ": it is looked up twice"),
                severity="info" if planned else "warning",
                fixes=_merged(select, item, first, join, ctx),
            )
        elif kind == "JOIN_INNER" and (holder := _guaranteed(item, join, scope, ctx)):
            if _uses(select, item, join, ctx) != 0:
                continue
            gone.add(id(item))
            columns = ", ".join(_key_columns(item, join, ctx))
            yield ctx.finding(
                {"RangeVar": item.node},
                f"nothing of {item.name} is used, and the foreign key on {holder.name} ({columns}) "
                "gives each row exactly one partner: the join is made for nothing",
                fixes=_left_out(item, join, ctx),
            )


def _plain(item: FromItem) -> bool:
    relation = item.relation
    only = item.node.get("inh") is False
    return relation is not None and relation.kind in ("table", "partitioned") and not only


def _side(join: Node, item: FromItem, ctx: Context) -> object | None:
    """What ON says, with the item itself as ``self``: equal for two joins that find the same row."""
    said = set()
    for part in conjuncts(join.get("quals")):
        kind, node = unwrap(part)
        if volatile(kind, node, ctx.catalog) or any(k == "SubLink" for k, _ in walk(kind, node)):
            return None
        places: list[tuple[object, str]] = []
        for column in columns_in(kind, node):
            binding = ctx.resolve(column)
            if binding is None:
                return None
            places.append(("self" if binding.item is item else id(binding.item), binding.column))
        equal = kind == "A_Expr" and operator(node) == "=" and len(places) == 2
        bare = equal and all(unwrap(node.get(s, {}))[0] == "ColumnRef" for s in ("lexpr", "rexpr"))
        said.add(("=", frozenset(places)) if bare else (shape(part), tuple(places)))
    return frozenset(said)


def _same_row(item: FromItem, join: Node, scope: Scope, ctx: Context) -> FromItem | None:
    """An earlier item that is always the same row of the same table."""
    assert item.relation is not None
    pairs = _equalities(item, join, ctx)
    if not item.relation.is_unique_on(c for c, _, _ in pairs):
        return None
    said = _side(join, item, ctx)
    for first in scope.items[: scope.items.index(item)]:
        if first.relation is not item.relation or not _plain(first):
            continue
        # A self-join on the key: each row meets itself.
        own = {c for c, other, column in pairs if other is first and column == c}
        alone = len(own) == len(conjuncts(join.get("quals")))
        if item.relation.is_unique_on(own) and alone and not first.nulled_by and not item.nulled_by:
            return first
        other = next((j for j in scope.joins if unwrap(j["rarg"])[1] is first.node), None)
        if other is None or other.get("jointype") != join.get("jointype") or said is None:
            continue
        # A LEFT JOIN null-extends its own item first: what else does must be the same for both.
        inner = int(join.get("jointype") == "JOIN_LEFT")
        around = first.nulled_by[inner:] == item.nulled_by[inner:]
        if around and _side(other, first, ctx) == said:
            return first
    return None


def _equalities(item: FromItem, join: Node, ctx: Context) -> list[tuple[str, FromItem, str]]:
    """(column of the item, other item, its column) for each ``item.a = other.b`` of ON."""
    result = []
    for part in conjuncts(join.get("quals")):
        kind, node = unwrap(part)
        if kind != "A_Expr" or operator(node) != "=" or node.get("kind", "AEXPR_OP") != "AEXPR_OP":
            continue
        one, other = ctx.binding(node.get("lexpr", {})), ctx.binding(node.get("rexpr", {}))
        if one is None or other is None or one.depth or other.depth:
            continue
        if other.item is item:
            one, other = other, one
        if one.item is item and other.item is not item:
            result.append((one.column, other.item, other.column))
    return result


def _guaranteed(item: FromItem, join: Node, scope: Scope, ctx: Context) -> FromItem | None:
    """The item whose foreign key is all that ON says, and always has its one partner in the item."""
    pairs = _equalities(item, join, ctx)
    if len(pairs) != len(conjuncts(join["quals"])) or not pairs or item.nulled_by:
        return None
    holder = pairs[0][1]
    if holder.relation is None or holder.nulled_by or not _plain(holder) or item.relation is None:
        return None
    if any(other is not holder for _, other, _ in pairs):
        return None
    said = {(column, theirs) for theirs, _, column in pairs}
    for key in holder.relation.foreign_keys:
        target = (key.target_schema, key.target) == (item.relation.schema, item.relation.name)
        if not target or not key.validated or not key.target_columns:
            continue
        definitions = [holder.relation.column(c) for c in key.columns]
        never_null = all(d is not None and d.not_null for d in definitions)
        if never_null and said == set(zip(key.columns, key.target_columns, strict=True)):
            return holder
    return None


def _key_columns(item: FromItem, join: Node, ctx: Context) -> list[str]:
    return [column for _, _, column in _equalities(item, join, ctx)]


def _uses(select: Node, item: FromItem, join: Node, ctx: Context) -> int:
    """How often the query reads an item outside its own ON; -1 where that cannot be told."""
    own = {id(n) for _, n in walk(*unwrap(join["quals"]))}
    used = 0
    for kind, node in walk("SelectStmt", select):
        if kind != "ColumnRef" or id(node) in own:
            continue
        fields = names(node.get("fields"))
        binding = ctx.resolve(node)
        if binding is not None:
            used += binding.item is item
        elif fields[-1] == "*":
            if len(fields) == 1 and _own_star(node, select, ctx):
                return -1
            used += len(fields) > 1 and fields[-2] == item.alias
        elif item.alias in fields or item.columns is None or fields[-1] in item.columns:
            return -1
    return used


def _own_star(node: Node, select: Node, ctx: Context) -> bool:
    """Whether a bare ``*`` is in this query's own output."""
    return ctx.tree.query_of(node)[1] is select


# -- the rewrite ------------------------------------------------------------------------------------


def _cut(item: FromItem, join: Node, ctx: Context) -> Edit | None:
    start, end = start_of_join(item, ctx), end_of_on(join, ctx)
    if start is None or end is None:
        return None
    before = ctx.spans.tokens[ctx.spans.token_at(start) - 1][1]
    return Edit(before, end, "")


def _left_out(item: FromItem, join: Node, ctx: Context) -> list[Fix]:
    cut = _cut(item, join, ctx)
    if cut is None or ctx.positional(join["quals"]):
        return []
    return [Fix(f"leave {item.alias} out", ctx.edit(cut))]


def _merged(select: Node, item: FromItem, first: FromItem, join: Node, ctx: Context) -> list[Fix]:
    """The query with the first item in the second one's place."""
    cut = _cut(item, join, ctx)
    if cut is None or _uses(select, item, join, ctx) < 0 or ctx.positional(join["quals"]):
        return []
    own = {id(n) for _, n in walk(*unwrap(join["quals"]))}
    edits = [cut]
    for kind, node in walk("SelectStmt", select):
        if kind != "ColumnRef" or id(node) in own:
            continue
        fields = names(node.get("fields"))
        binding = ctx.resolve(node)
        ours = binding is not None and binding.item is item
        if not ours and not (len(fields) > 1 and fields[-1] == "*" and fields[-2] == item.alias):
            continue
        span = ctx.spans.of("ColumnRef", node)
        if span is None or len(fields) != 2 or fields[0] != item.alias:
            return []
        token = ctx.spans.tokens[ctx.spans.token_at(span[0])]
        edits.append(Edit(token[0], token[1], identifier(first.alias)))
    return [Fix(f"take {first.alias} in place of {item.alias}", ctx.edit(*edits))]
