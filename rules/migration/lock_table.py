"""LOCK TABLE takes a lock that makes the application wait, for the rest of the transaction.

Why: a table locked SHARE or stronger is closed to writes (ACCESS EXCLUSIVE, the default: to reads too)
    until the transaction ends, whatever else it does meanwhile. Without NOWAIT or lock_timeout it also
    queues behind long transactions, and everybody queues behind it.
Fix: most schema changes take the locks they need; else the weakest mode that serves, with lock_timeout
    and as the last thing before COMMIT.
Silent when: the same set created the table, or it is temporary; the mode blocks no writes.
Source: PostgreSQL manual, LOCK; 13.3.1 "Table-Level Locks".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext, blocks
from sqladvisor.rule import rule
from sqladvisor.sql.statement import Node

SCHEMA = "CREATE TABLE users (id bigint PRIMARY KEY); CREATE TABLE orders (id bigint);"
BAD = [
    "BEGIN; LOCK TABLE users; COMMIT;",
    "BEGIN; LOCK TABLE users, orders IN SHARE MODE; COMMIT;",
]
GOOD = [
    "BEGIN; LOCK TABLE users IN SHARE UPDATE EXCLUSIVE MODE; COMMIT;",
    "BEGIN; CREATE TABLE t (a int); LOCK TABLE t; COMMIT;",
]


@rule("LockStmt", severity="warning")
def check(node: Node, ctx: MigrationContext) -> Iterator[Finding]:
    for lock, table in ctx.locks:
        if lock.strong and table.settled:
            yield ctx.finding(
                None,
                f"LOCK TABLE {table.shown} {blocks(lock.mode)} until the transaction ends",
                table=table,
                lock=lock.mode,
            )
