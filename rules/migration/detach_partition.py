"""A partition is detached without CONCURRENTLY: the whole partitioned table is locked for it.

Why: DETACH PARTITION takes ACCESS EXCLUSIVE on the partitioned table and the partition. It is short, but it
    waits for every query on any of the partitions, and everybody else waits behind it.
Fix: DETACH PARTITION … CONCURRENTLY (14 and later), outside a transaction: SHARE UPDATE EXCLUSIVE on the
    partitioned table, reads and writes go on. It is not allowed while there is a DEFAULT partition; then
    with lock_timeout, and again where that strikes.
Silent when: the same set created the partitioned table; before PostgreSQL 14.
Source: PostgreSQL manual, ALTER TABLE, "DETACH PARTITION [ CONCURRENTLY | FINALIZE ]".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext
from sqladvisor.rule import rule
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import unwrap

SCHEMA = """CREATE TABLE logs (id bigint, at date) PARTITION BY RANGE (at);
CREATE TABLE logs_2020 PARTITION OF logs FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');"""
BAD = [
    "ALTER TABLE logs DETACH PARTITION logs_2020;",
    "CREATE TABLE rest PARTITION OF logs DEFAULT; ALTER TABLE logs DETACH PARTITION logs_2020;",
]
GOOD = [
    "ALTER TABLE logs DETACH PARTITION logs_2020 CONCURRENTLY;",
    "-- pg_version: 13\nALTER TABLE logs DETACH PARTITION logs_2020;",
    "CREATE TABLE m (a int) PARTITION BY LIST (a); CREATE TABLE m1 PARTITION OF m FOR VALUES IN (1);\n"
    "ALTER TABLE m DETACH PARTITION m1;",
    "ALTER TABLE logs DETACH PARTITION logs_2020 FINALIZE;",
]
CONCURRENTLY_SINCE = 14


@rule("AT_DetachPartition", severity="warning")
def check(command: Node, ctx: MigrationContext) -> Iterator[Finding]:
    definition = unwrap(command.get("def", {}))[1]
    table, partition = ctx.table(), ctx.table(definition.get("name", {}))
    if definition.get("concurrent") or not table.settled or ctx.pg_version < CONCURRENTLY_SINCE:
        return
    statement = f"ALTER TABLE {table.sql} DETACH PARTITION {partition.sql}"
    if table.key in ctx.state.default_partitions:
        fix = ctx.sequence(
            "with a DEFAULT partition CONCURRENTLY is not allowed: do not wait long, try again instead",
            "SET lock_timeout = '2s'",
            statement,
        )
    else:
        fix = ctx.sequence("outside a transaction", f"{statement} CONCURRENTLY")
    yield ctx.finding(
        None,
        f"DETACH PARTITION {partition.shown} takes ACCESS EXCLUSIVE on {table.shown}, which blocks reads and "
        "writes of all its partitions, and waits for the queries that run on any of them",
        table=table,
        lock="ACCESS EXCLUSIVE",
        fixes=[fix],
    )
