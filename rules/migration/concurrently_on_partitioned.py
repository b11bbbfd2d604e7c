"""An index is built or dropped CONCURRENTLY on a partitioned table: PostgreSQL refuses it.

Why: CREATE INDEX CONCURRENTLY is not supported on partitioned tables, nor is DROP INDEX CONCURRENTLY on
    their indexes.
Fix: CREATE INDEX … ON ONLY the parent, CREATE INDEX CONCURRENTLY on each partition, ALTER INDEX … ATTACH
    PARTITION: the parent's index becomes valid with the last one.
Silent when: the table is not partitioned, or not known to be.
Source: PostgreSQL manual, CREATE INDEX, "Building Indexes Concurrently"; DROP INDEX, CONCURRENTLY.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext
from sqladvisor.rule import rule
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import names, unwrap

SCHEMA = """CREATE TABLE events (at date) PARTITION BY RANGE (at); CREATE INDEX events_at ON events (at);
CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');"""
BAD = [
    "CREATE INDEX CONCURRENTLY i ON events (at);",
    "DROP INDEX CONCURRENTLY events_at;",
    "CREATE TABLE t (a int) PARTITION BY HASH (a); CREATE INDEX CONCURRENTLY ON t (a);",
]
GOOD = [
    "CREATE INDEX CONCURRENTLY i ON events_1 (at);",
    "CREATE INDEX CONCURRENTLY i ON unknown (at);",
    "DROP INDEX CONCURRENTLY unknown_idx;",
]


@rule("IndexStmt", "DropStmt", severity="error")
def check(node: Node, ctx: MigrationContext) -> Iterator[Finding]:
    if not node.get("concurrent"):
        return
    if ctx.statement.kind == "IndexStmt":
        table = ctx.table()
        verb = "CREATE"
        if not table.partitioned:
            return
    else:
        parts = names(unwrap(node.get("objects", [{}])[0])[1].get("items"))
        key = ctx.state.index_table(parts[-2] if len(parts) > 1 else None, parts[-1])
        if node.get("removeType") != "OBJECT_INDEX" or key is None:
            return
        table = ctx.table(*key)
        verb = "DROP"
        if not table.partitioned:
            return
    yield ctx.finding(
        None,
        f"{verb} INDEX CONCURRENTLY fails: {table.shown} is partitioned",
        table=table,
    )
