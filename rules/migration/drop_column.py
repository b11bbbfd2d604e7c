"""A column is dropped: its values are gone, and code that is still deployed fails on it.

Why: DROP COLUMN takes ACCESS EXCLUSIVE, for a moment; its indexes and constraints go with it. While a
    release rolls out, the old code still names the column, and an ORM reads the columns it learned at
    its start.
Fix: release code that no longer names the column first. A NOT NULL column without a default has to be
    made nullable before that, or the new code cannot insert.
Silent when: the same set created the table or added the column; IF EXISTS names a column that the known
    table does not have.
Source: PostgreSQL manual, ALTER TABLE, "DROP COLUMN"; squawk ban-drop-column; strong_migrations
    remove_column.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.catalog.ddl_text import mentions
from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext, Table, blocks
from sqladvisor.migrate.dependents import added_here
from sqladvisor.rule import rule
from sqladvisor.sql.quote import identifier
from sqladvisor.sql.statement import Node

SCHEMA = """CREATE TABLE users (id bigint PRIMARY KEY, email text NOT NULL, name text, age int DEFAULT 1);
CREATE INDEX users_lower ON users (lower(name));"""
BAD = [
    "ALTER TABLE users DROP COLUMN email;",
    "ALTER TABLE users ADD COLUMN x int, DROP COLUMN IF EXISTS name;",
    'ALTER TABLE other DROP "Column";',
]
GOOD = [
    "CREATE TABLE t (a int, b int); ALTER TABLE t DROP COLUMN b;",
    "ALTER TABLE users DROP COLUMN IF EXISTS never_there;",
    "ALTER TABLE users ADD COLUMN tmp int;\nALTER TABLE users DROP COLUMN tmp;",
    "ALTER TABLE users DROP CONSTRAINT users_pkey;",
    "ALTER TYPE pair DROP ATTRIBUTE a;",
]


@rule("AT_DropColumn", severity="warning")
def check(command: Node, ctx: MigrationContext) -> Iterator[Finding]:
    table, name = ctx.table(), str(command.get("name", ""))
    column = table.column(name)
    if not table.settled or added_here(ctx, table, name):
        return
    if column is None and table.relation is not None and command.get("missing_ok"):
        return
    along = _indexes(table, name)
    takes = f", and takes {', '.join(along)} along" if along else ""
    quoted = identifier(name)
    steps = [f"ALTER TABLE {table.sql} DROP COLUMN {quoted}"]
    description = "once no deployed code names it"
    if column is not None and column.not_null and not _filled(column):
        steps[:0] = [
            f"ALTER TABLE {table.sql} ALTER COLUMN {quoted} DROP NOT NULL",
            "-- release code that no longer names the column; then, in a later migration:",
        ]
        description = "let new code insert without it, then drop it"
    yield ctx.finding(
        None,
        f"DROP COLUMN {table.shown}.{name} {blocks('ACCESS EXCLUSIVE')}{takes}: code that is still "
        "deployed and names it fails",
        table=table,
        lock="ACCESS EXCLUSIVE",
        fixes=[ctx.sequence(description, "SET lock_timeout = '5s'", *steps)],
    )


def _filled(column: object) -> bool:
    return any(getattr(column, a) for a in ("default", "identity", "generated"))


def _indexes(table: Table, column: str) -> list[str]:
    relation = table.relation
    return [
        index.name
        for index in (relation.indexes if relation else ())
        if column in (*index.keys, *index.include)
        or any(mentions(text, column) for text in (*index.expressions, index.predicate or ""))
    ]
