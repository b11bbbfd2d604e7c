"""SET NOT NULL reads the whole table while all access to it waits.

Why: ALTER COLUMN … SET NOT NULL takes ACCESS EXCLUSIVE and looks at every row for a null. A valid CHECK
    that the column is not null spares it the scan (since PostgreSQL 12).
Fix: 18 and later: ADD CONSTRAINT … NOT NULL … NOT VALID, then VALIDATE CONSTRAINT, which lets reads and
    writes go on. 12 to 17: a CHECK (… IS NOT NULL) NOT VALID, VALIDATE, SET NOT NULL, DROP CONSTRAINT.
Silent when: the same set created the table or the column's table is temporary; a validated CHECK
    proves it (12 and later); the column is NOT NULL already.
Source: PostgreSQL manual, ALTER TABLE, "SET/DROP NOT NULL"; release notes 12 and 18; strong_migrations;
    squawk adding-not-nullable-field.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext, blocks
from sqladvisor.migrate.steps import VALID_CHECK_SPARES_SCAN, not_null_steps
from sqladvisor.rule import rule
from sqladvisor.sql.statement import Node

SCHEMA = """CREATE TABLE users (id bigint PRIMARY KEY, email text, name text NOT NULL);
ALTER TABLE users ADD CONSTRAINT has_email CHECK (email IS NOT NULL) NOT VALID;
CREATE TABLE made (email text, CONSTRAINT c CHECK (email IS NOT NULL) NOT VALID);
"""
BAD = [
    "ALTER TABLE users ALTER COLUMN email SET NOT NULL;",
    "ALTER TABLE users ALTER COLUMN name SET DEFAULT '', ALTER COLUMN email SET NOT NULL;",
    "-- pg_version: 11\nALTER TABLE users VALIDATE CONSTRAINT has_email;\n"
    "ALTER TABLE users ALTER email SET NOT NULL;",
    "-- pg_version: 15\nALTER TABLE elsewhere ALTER COLUMN email SET NOT NULL;",
]
GOOD = [
    "ALTER TABLE made ALTER COLUMN email SET NOT NULL;",
    "ALTER TABLE users VALIDATE CONSTRAINT has_email;\n"
    "ALTER TABLE users ALTER COLUMN email SET NOT NULL;",
    {
        "1.sql": "ALTER TABLE users ADD CONSTRAINT c CHECK (email IS NOT NULL AND id > 0) NOT VALID;",
        "2.sql": "ALTER TABLE users VALIDATE CONSTRAINT c;",
        "3.sql": "ALTER TABLE users ALTER COLUMN email SET NOT NULL;",
    },
    "ALTER TABLE users ALTER COLUMN name SET NOT NULL;",
    "CREATE TABLE t (a int); ALTER TABLE t ALTER COLUMN a SET NOT NULL;",
    "ALTER TABLE users ADD CONSTRAINT n NOT NULL email NOT VALID;",
]


@rule("AT_SetNotNull", severity="error")
def check(command: Node, ctx: MigrationContext) -> Iterator[Finding]:
    table, name = ctx.table(), str(command["name"])
    column = table.column(name)
    if not table.settled or (column and column.not_null):
        return
    if ctx.pg_version >= VALID_CHECK_SPARES_SCAN and ctx.state.proves_not_null(table.key, name):
        return
    steps = not_null_steps(table, name, ctx.pg_version)
    yield ctx.finding(
        None,
        f"SET NOT NULL on {table.shown}.{name} {blocks('ACCESS EXCLUSIVE')} while all rows are read",
        table=table,
        lock="ACCESS EXCLUSIVE",
        work="scan",
        fixes=[ctx.sequence("validate in a transaction of its own", *steps)],
    )
