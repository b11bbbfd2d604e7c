"""A table is dropped: its rows are gone, and code that is still deployed fails on it.

Why: DROP TABLE takes ACCESS EXCLUSIVE on the table, and on the tables it refers to, queues behind their
    transactions and cannot be undone. While a release rolls out, the old code still reads the table.
Fix: release the code that no longer uses it first; then rename the table, which a rename undoes; drop it
    when nobody has missed it. With lock_timeout, so that it does not make others wait behind it.
Silent when: the same set created the table, or it is temporary; IF EXISTS names a table that the
    starting schema does not have; the same migration makes it anew; it is a partition (detaching and
    dropping those is how old rows go).
Source: PostgreSQL manual, DROP TABLE; 13.3.1 "Table-Level Locks"; squawk ban-drop-table;
    strong_migrations; eugene.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext, blocks
from sqladvisor.migrate.dependents import drops_and_makes_again, is_partition
from sqladvisor.migrate.steps import named
from sqladvisor.rule import rule
from sqladvisor.sql.statement import Node

SCHEMA = """CREATE TABLE users (id bigint PRIMARY KEY);
CREATE TABLE logs (id bigint, at date) PARTITION BY RANGE (at);
CREATE TABLE logs_2020 PARTITION OF logs FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');"""
BAD = [
    "DROP TABLE users;",
    "DROP TABLE IF EXISTS public.users;",
    'DROP TABLE "Old Orders";',
]
GOOD = [
    "CREATE TABLE t (a int); DROP TABLE t;",
    "CREATE TEMP TABLE scratch (a int); DROP TABLE scratch;",
    "DROP TABLE IF EXISTS never_there;",
    "DROP TABLE logs_2020;",
    "DROP TABLE users; CREATE TABLE users (id uuid);",
    "-- DROP TABLE users;\nSELECT 'DROP TABLE users';",
    "CREATE FUNCTION f() RETURNS void LANGUAGE sql AS 'DROP TABLE users';",
    "DROP INDEX users_pkey;",
]


@rule("DropStmt", severity="warning")
def check(node: Node, ctx: MigrationContext) -> Iterator[Finding]:
    if node.get("removeType") != "OBJECT_TABLE":
        return
    for item in node.get("objects", ()):
        table = ctx.table_from(item)
        gone = table.relation is None and ctx.state.complete and node.get("missing_ok")
        if not table.settled or gone or is_partition(ctx, table):
            continue
        if drops_and_makes_again(ctx, table.key[1], ("CreateStmt", "CreateTableAsStmt")):
            continue
        aside = named(table.key[1], "unused")
        yield ctx.finding(
            None,
            f"DROP TABLE {table.shown} {blocks('ACCESS EXCLUSIVE')}, and removes its rows for good: "
            "code that is still deployed fails on it",
            table=table,
            lock="ACCESS EXCLUSIVE",
            fixes=[
                ctx.sequence(
                    "once no deployed code uses it: put it aside, which can be undone",
                    "SET lock_timeout = '5s'",
                    f"ALTER TABLE {table.sql} RENAME TO {aside}",
                    "-- in a later migration: the same name, DROP TABLE",
                    changes_result="the table is kept under another name for now",
                )
            ],
        )
