"""An index has more than three columns: seldom does a query use what stands behind the third.

Why: each column makes every entry longer and every change of it a write to the index; a condition on the
    fourth column narrows little once three have matched.
Fix: the columns that narrow most; what is only read goes to INCLUDE.
Silent when: the index is unique (its columns are what must be unique); the same set created the table.
Source: Bytebase index.key-number-limit; PostgreSQL manual, 11.3 ("indexes with more than three columns are
    unlikely to be helpful").
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext
from sqladvisor.rule import rule
from sqladvisor.sql.statement import Node

SCHEMA = "CREATE TABLE t (a int, b int, c int, d int, e int);"
BAD = [
    "CREATE INDEX CONCURRENTLY ON t (a, b, c, d);",
    "CREATE INDEX CONCURRENTLY ON unknown (a, b, c, d, e);",
]
GOOD = [
    "CREATE INDEX CONCURRENTLY ON t (a, b, c) INCLUDE (d);",
    "CREATE UNIQUE INDEX CONCURRENTLY ON t (a, b, c, d);",
    "CREATE TABLE n (a int, b int, c int, d int); CREATE INDEX ON n (a, b, c, d);",
]


@rule("IndexStmt", severity="info", thresholds={"max_columns": 3})
def check(node: Node, ctx: MigrationContext) -> Iterator[Finding]:
    table, count = ctx.table(), len(node.get("indexParams", ()))
    if table.settled and not node.get("unique") and count > ctx.threshold("max_columns"):
        yield ctx.finding(
            None,
            f"an index of {count} columns on {table.shown}: those behind the third are seldom of use",
            table=table,
        )
