"""Two migrations lock the same tables in opposite orders: run at once, they deadlock.

Why: one holds the first table and waits for the second, the other the reverse: PostgreSQL ends one of them
    after deadlock_timeout. It takes two deployments, or a retry, at the same time.
Fix: the same order everywhere; better a transaction for each table.
Silent when: the tables are new in the set; each transaction locks one table only.
Source: PostgreSQL manual, 13.3.4 "Deadlocks".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext
from sqladvisor.rule import MIGRATION_SET, rule

SCHEMA = "CREATE TABLE users (id bigint PRIMARY KEY); CREATE TABLE orders (id bigint);"
_UO = "BEGIN; ALTER TABLE users ADD COLUMN {0} int;\nALTER TABLE orders ADD COLUMN {0} int; COMMIT;"
_OU = "BEGIN; ALTER TABLE orders ADD COLUMN {0} int;\nALTER TABLE users ADD COLUMN {0} int; COMMIT;"
BAD = [
    {"1.sql": _UO.format("a"), "2.sql": _OU.format("b")},
    {"1.sql": _OU.format("a"), "2.sql": "SELECT 1;", "3.sql": _UO.format("b")},
]
GOOD = [
    {"1.sql": _UO.format("a"), "2.sql": _UO.format("b")},
    {
        "1.sql": _UO.format("a"),
        "2.sql": _OU.format("b").replace("BEGIN;", "").replace("COMMIT;", ""),
    },
    "CREATE TABLE n (a int);\n" + _UO.format("a").replace("orders", "n"),
]

Key = tuple[str, str]
MAX_TABLES = 50
"""Tables of one transaction that are compared: all pairs of them are."""


@rule(MIGRATION_SET, severity="info")
def check(contexts: Sequence[MigrationContext], first: MigrationContext) -> Iterator[Finding]:
    orders: dict[tuple[int, int], dict[Key, MigrationContext]] = {}
    for ctx in contexts:
        if ctx.transaction.inside:
            own = orders.setdefault((ctx.number, ctx.transaction.number), {})
            for lock, table in ctx.locks:
                if lock.strong and table.settled:
                    own.setdefault(table.key, ctx)
    seen: dict[tuple[Key, Key], MigrationContext] = {}
    told: set[frozenset[Key]] = set()
    for own in orders.values():
        keys = list(own)[:MAX_TABLES]
        for i, one in enumerate(keys):
            for two in keys[i + 1 :]:
                other = seen.get((two, one))
                if (
                    other is not None
                    and other.number != own[two].number
                    and frozenset((one, two)) not in told
                ):
                    told.add(frozenset((one, two)))
                    ctx = own[two]
                    ctx.rule = first.rule
                    yield ctx.finding(
                        None,
                        f"locks {one[1]}, then {two[1]}; {other.migration.name} locks them the other way "
                        f"round ({other.statement.path}:{other.statement.line}): at once, they deadlock",
                    )
                seen.setdefault((one, two), own[two])
