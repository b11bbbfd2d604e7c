"""A query of a partitioned table says nothing of its partition key: every partition is read.

Why: PostgreSQL leaves partitions out (prunes them) only by conditions on the partition key.
    Without one it plans, locks and searches all of them, however few hold the rows; the cost grows
    with each partition that is added.
Fix: a condition on the key, if only a wide one: a range of time around what is looked for. Nobody
    but you knows which.
Silent when: any condition names the key (joins on it count: partitions are then left out while the
    query runs); there are no conditions on the table at all (a report on the whole of it is meant);
    the newest rows are read in the key's order with a LIMIT; it is a subquery or view whose reader
    may add the condition; the table is known to be small, or its key is an expression. Info where
    an index finds the rows in each partition.
Source: PostgreSQL manual, 5.12.4 "Partition Pruning".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.finding import Finding
from sqladvisor.rule import rule
from sqladvisor.sql.comparisons import conditions, narrowing, ranged
from sqladvisor.sql.resolve import FromItem, Scope, columns_in
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import names, unwrap

SCHEMA = """
CREATE TABLE events (id bigint, user_id bigint, kind text, "Größe" int, at timestamptz NOT NULL,
    PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE INDEX ON events (user_id);
CREATE TABLE events_2024 PARTITION OF events FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE events_2025 PARTITION OF events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE parts (region text, n int) PARTITION BY LIST (lower(region));
CREATE TABLE users (id bigint PRIMARY KEY, name text, at timestamptz);
"""
BAD = [
    "SELECT count(*) FROM events WHERE kind = 'click'",
    "SELECT * FROM public.events AS e WHERE e.user_id = $1",
    """SELECT u.name, e.kind
       FROM users u
       JOIN events e ON e.user_id = u.id
       WHERE u.name = 'é' AND e."Größe" > 5""",
    "UPDATE events SET kind = 'x' WHERE id = 5",
    "DELETE FROM events e USING users u WHERE u.id = e.user_id AND u.name = 'x'",
    "SELECT * FROM users u WHERE EXISTS (SELECT 1 FROM events e WHERE e.user_id = u.id)",
]
GOOD = [
    "SELECT count(*) FROM events WHERE kind = 'click' AND at >= now() - interval '1 day'",
    "SELECT * FROM events WHERE user_id = $1 AND at BETWEEN $2 AND $3",
    "SELECT count(*) FROM events",
    "SELECT kind, count(*) FROM events GROUP BY kind",
    "SELECT * FROM users u JOIN events e ON e.user_id = u.id AND e.at = u.at WHERE u.id = 5",
    "SELECT * FROM events_2024 WHERE kind = 'x'",
    "SELECT * FROM users JOIN events USING (at) WHERE kind = 'x'",
    "SELECT * FROM events WHERE kind = 'click' ORDER BY at DESC LIMIT 50",
    "SELECT * FROM (SELECT * FROM events WHERE kind = 'x') s WHERE s.at > $1",
    "WITH clicks AS (SELECT * FROM events WHERE kind = 'click') SELECT * FROM clicks WHERE at > $1",
    "CREATE VIEW clicks AS SELECT * FROM events WHERE kind = 'click'",
    "SELECT n FROM parts WHERE n = 5",
    "SELECT name FROM users WHERE id = 5",
    "INSERT INTO events (id, at) VALUES (1, now())",
    "SELECT * FROM events WHERE date(at) = '2024-01-01'",
    "SELECT * FROM events e WHERE e.kind = 'x' AND (e.at > $1 OR e.user_id = 5)",
]

_BORDERS = frozenset(("RangeSubselect", "CommonTableExpr", "ViewStmt", "CreateTableAsStmt",
                      "RuleStmt"))  # fmt: skip


@rule("SelectStmt", "UpdateStmt", "DeleteStmt", severity="warning", needs=("schema",))
def check(query: Node, ctx: Context) -> Iterator[Finding]:
    if "whereClause" not in query and "fromClause" not in query:
        return
    kind = "UpdateStmt" if "relation" in query else "SelectStmt"
    scope = ctx.scope(query, kind)
    partitioned = [i for i in scope.items if _partitioned(i, ctx)]
    if not partitioned or any(k in _BORDERS for k, _ in ctx.tree.ancestors(query)):
        return
    named = _conditioned(query, scope, ctx)
    narrowed = narrowing(scope, query, ctx.resolver)
    in_range = ranged(scope, query, ctx.resolver)
    for item in partitioned:
        relation = item.relation
        columns = named.get(id(item))
        if relation is None or columns is None or columns & set(relation.partition_key):
            continue
        if _joined_by(scope) & {*relation.partition_key, ""}:
            continue
        if "limitCount" in query and _ordered_by_key(query, item, ctx):
            continue
        found = narrowed.get(id(item)) or id(item) in in_range
        keys = ", ".join(relation.partition_key)
        yield ctx.finding(
            {"RangeVar": item.node},
            f"no condition on {keys}, by which {item.name} is partitioned: every partition is "
            + ("searched by its index" if found else "read"),
            severity="info" if found else "warning",
        )


def _partitioned(item: FromItem, ctx: Context) -> bool:
    relation = item.relation
    return (
        item.kind == "table"
        and relation is not None
        and relation.kind == "partitioned"
        and bool(relation.partition_key)
        and not ctx.small(item)
    )


def _conditioned(query: Node, scope: Scope, ctx: Context) -> dict[int, set[str]]:
    """The columns of each FROM item (by ``id``) that some condition names, however it does."""
    result: dict[int, set[str]] = {}
    for part in conditions(query, scope):
        for column in columns_in(*unwrap(part)):
            binding = ctx.resolve(column)
            if binding is not None:
                result.setdefault(id(binding.item), set()).add(binding.column)
    return result


def _joined_by(scope: Scope) -> set[str]:
    """The columns that joins compare by USING; "" for NATURAL, which may mean any."""
    result = {name for join in scope.joins for name in names(join.get("usingClause"))}
    return result | {""} if any(join.get("isNatural") for join in scope.joins) else result


def _ordered_by_key(query: Node, item: FromItem, ctx: Context) -> bool:
    """Whether the first rows in the key's order are asked for: partitions are read in turn."""
    for sort in query.get("sortClause", ())[:1]:
        value = unwrap(sort)[1].get("node", {})
        binding = ctx.binding(value)
        relation = item.relation
        if binding and relation and binding.item is item:
            return binding.column == relation.partition_key[0]
    return False
