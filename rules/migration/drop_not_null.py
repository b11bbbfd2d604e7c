"""A column may hold NULL from now on: code that relies on a value meets NULL.

Why: DROP NOT NULL takes ACCESS EXCLUSIVE, for a moment. It is quick and safe for the database; readers
    that never had to handle NULL (a non-optional field of a program, NOT IN, a sum in an application) do
    from the first such row on.
Fix: release readers that handle NULL first, then drop the constraint.
Silent when: the same set created the table; the column is known to allow NULL already; the column is
    dropped by the same migration.
Source: PostgreSQL manual, ALTER TABLE, "SET/DROP NOT NULL"; squawk ban-drop-not-null.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext, blocks
from sqladvisor.rule import rule
from sqladvisor.sql.statement import Node

SCHEMA = "CREATE TABLE users (id bigint PRIMARY KEY, email text NOT NULL, note text);"
BAD = [
    "ALTER TABLE users ALTER COLUMN email DROP NOT NULL;",
    "ALTER TABLE unknown ALTER a DROP NOT NULL;",
]
GOOD = [
    "ALTER TABLE users ALTER COLUMN note DROP NOT NULL;",
    "CREATE TABLE t (a int NOT NULL); ALTER TABLE t ALTER a DROP NOT NULL;",
    "ALTER TABLE users ALTER COLUMN email DROP NOT NULL;\nALTER TABLE users DROP COLUMN email;",
]


@rule("AT_DropNotNull", severity="info")
def check(command: Node, ctx: MigrationContext) -> Iterator[Finding]:
    table, name = ctx.table(), str(command.get("name", ""))
    column = table.column(name)
    if not table.settled or (column is not None and not column.not_null):
        return
    dropped = any(
        c.get("AlterTableCmd", {}).get("subtype") == "AT_DropColumn"
        and c["AlterTableCmd"].get("name") == name
        for s in ctx.after
        for c in s.tree.get("cmds", ())
    )
    if not dropped:
        yield ctx.finding(
            None,
            f"{table.shown}.{name} may be NULL from now on (DROP NOT NULL {blocks('ACCESS EXCLUSIVE')}, "
            "briefly): code that relies on a value has to handle that first",
            table=table,
            lock="ACCESS EXCLUSIVE",
        )
