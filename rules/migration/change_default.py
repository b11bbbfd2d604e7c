"""A default that inserts rely on is dropped or replaced.

Why: an INSERT that leaves the column out takes the default. Without one, a NOT NULL column makes it fail;
    with another one, old code writes values it does not expect. The lock, ACCESS EXCLUSIVE, is short; rows
    that are there keep their values.
Fix: release code that names the column in its inserts first, then drop the default.
Silent when: the same set created the table; the column can be NULL, or is not known; the default stays the
    same or there was none; a default is only replaced by another expression (info where it is known).
Source: PostgreSQL manual, ALTER TABLE, "SET/DROP DEFAULT".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext, blocks
from sqladvisor.migrate.dependents import added_here
from sqladvisor.rule import rule
from sqladvisor.sql.quote import identifier
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import constant

SCHEMA = """CREATE TABLE users (id bigint PRIMARY KEY, active boolean NOT NULL DEFAULT true,
    note text DEFAULT 'none', at timestamptz NOT NULL);"""
BAD = [
    "ALTER TABLE users ALTER COLUMN active DROP DEFAULT;",
    "ALTER TABLE users ALTER active SET DEFAULT false;",
    "ALTER TABLE users ALTER active SET DEFAULT NULL;",
]
GOOD = [
    "ALTER TABLE users ALTER COLUMN note DROP DEFAULT;",
    "ALTER TABLE users ALTER COLUMN at SET DEFAULT now();",
    "ALTER TABLE users ALTER COLUMN active SET DEFAULT true;",
    "ALTER TABLE unknown ALTER COLUMN a DROP DEFAULT;",
    "CREATE TABLE t (a int NOT NULL DEFAULT 1); ALTER TABLE t ALTER a DROP DEFAULT;",
    "ALTER TABLE users ADD COLUMN n int NOT NULL DEFAULT 0;\n"
    "ALTER TABLE users ALTER COLUMN n DROP DEFAULT;",
]


@rule("AT_ColumnDefault", severity="warning")
def check(command: Node, ctx: MigrationContext) -> Iterator[Finding]:
    table, name = ctx.table(), str(command.get("name", ""))
    column = table.column(name)
    if not table.settled or column is None or column.default is None:
        return
    place = f"{table.shown}.{name}"
    dropped = (
        "def" not in command or constant(command["def"]) is None
    )  # SET DEFAULT NULL is as much
    new = "" if dropped else ctx.text(command["def"])
    if new:
        if new.strip().lower() != column.default.strip().lower():
            message = f"the default of {place} changes from {column.default} to {new}: code that is still "
            yield ctx.finding(
                None, message + "deployed and leaves it out writes the new one", severity="info"
            )
        return
    # A default for the rows that are there, taken away at once: the common way to add a column.
    if not column.not_null or added_here(ctx, table, name):
        return
    quoted = identifier(name)
    yield ctx.finding(
        None,
        f"{place} is NOT NULL and loses its default ({blocks('ACCESS EXCLUSIVE')}, briefly): each INSERT "
        "that leaves it out fails",
        table=table,
        lock="ACCESS EXCLUSIVE",
        fixes=[
            ctx.sequence(
                "once every INSERT of deployed code names the column",
                "SET lock_timeout = '5s'",
                f"ALTER TABLE {table.sql} ALTER COLUMN {quoted} DROP DEFAULT",
            )
        ],
    )
