"""DELETE without WHERE removes every row of a table that is in use.

Why: nothing brings the rows back after COMMIT. Each row is locked and its removal written to the WAL, its
    foreign keys are looked up one by one; the space comes back only after vacuum.
Fix: the condition that was meant; for all rows of a table nobody uses, TRUNCATE by name; for many rows,
    batches.
Silent when: the same set created the table, or it is temporary; USING or WHERE is there. An UPDATE of all
    rows is a backfill, which other rules judge.
Source: PostgreSQL manual, DELETE; TRUNCATE.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext
from sqladvisor.rule import rule
from sqladvisor.sql.statement import Node

SCHEMA = "CREATE TABLE users (id bigint PRIMARY KEY);"
BAD = [
    "DELETE FROM users;",
    "BEGIN; DELETE FROM public.unknown RETURNING *; COMMIT;",
]
GOOD = [
    "DELETE FROM users WHERE id = 1;",
    "CREATE TABLE t (a int); DELETE FROM t;",
    "CREATE TEMP TABLE scratch (a int); DELETE FROM scratch;",
    "DELETE FROM users USING banned;",
    "CREATE FUNCTION f() RETURNS void LANGUAGE sql AS 'DELETE FROM users';",
    "UPDATE users SET id = id;",
]


@rule("DeleteStmt", severity="error")
def check(node: Node, ctx: MigrationContext) -> Iterator[Finding]:
    table = ctx.table()
    if "whereClause" in node or "usingClause" in node or not table.settled or table.rows == 0:
        return
    yield ctx.finding(
        None,
        f"DELETE without WHERE removes every row of {table.shown} (ROW EXCLUSIVE: writers of the same rows "
        "wait until the transaction ends)",
        table=table,
    )
