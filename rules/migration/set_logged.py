"""A table is made LOGGED or UNLOGGED: it is rewritten while all access to it waits.

Why: SET LOGGED and SET UNLOGGED take ACCESS EXCLUSIVE and write the table and all its indexes anew, for
    LOGGED into the WAL as well. An unlogged table is empty after a crash, and on every standby.
Fix: decide before there are rows; else copy in batches into a table made the other way, and rename.
Silent when: the same set created the table, or it is temporary.
Source: PostgreSQL manual, ALTER TABLE, "SET { LOGGED | UNLOGGED }"; CREATE TABLE, UNLOGGED.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext, blocks
from sqladvisor.rule import rule
from sqladvisor.sql.statement import Node

SCHEMA = "CREATE TABLE users (id bigint PRIMARY KEY);"
BAD = ["ALTER TABLE users SET UNLOGGED;", "ALTER TABLE other SET LOGGED;"]
GOOD = [
    "CREATE UNLOGGED TABLE t (a int); ALTER TABLE t SET LOGGED;",
    "ALTER TABLE users SET (fillfactor = 90);",
]


@rule("AT_SetLogged", "AT_SetUnLogged", severity="error")
def check(command: Node, ctx: MigrationContext) -> Iterator[Finding]:
    table = ctx.table()
    if not table.settled:
        return
    logged = command["subtype"] == "AT_SetLogged"
    loses = "" if logged else "; its rows are lost in a crash from then on, and standbys see none"
    yield ctx.finding(
        None,
        f"SET {'LOGGED' if logged else 'UNLOGGED'} on {table.shown} {blocks('ACCESS EXCLUSIVE')} while "
        f"the table and its indexes are rewritten{loses}",
        table=table,
        lock="ACCESS EXCLUSIVE",
        work="rewrite",
    )
