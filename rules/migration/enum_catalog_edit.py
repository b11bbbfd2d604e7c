"""An enum value is removed by writing to pg_enum: rows and indexes that hold it become unreadable.

Why: ALTER TYPE has no DROP VALUE, so people delete the row of pg_enum. Rows that hold the value then fail
    with "invalid internal value for enum", and so does a b-tree whose inner pages hold it, even after the
    rows are gone.
Fix: a new type with the values that stay, and the column moved to it; or leave the value unused.
Silent when: pg_enum is only read.
Source: PostgreSQL manual, 8.7.4 "Implementation Details"; enum_out() in src/backend/utils/adt/enum.c.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext
from sqladvisor.rule import rule
from sqladvisor.sql.statement import Node

BAD = [
    "DELETE FROM pg_enum WHERE enumlabel = 'old' AND enumtypid = 'mood'::regtype;",
    "UPDATE pg_catalog.pg_enum SET enumsortorder = 3 WHERE enumlabel = 'x';",
]
GOOD = [
    "SELECT enumlabel FROM pg_enum;",
    "ALTER TYPE mood ADD VALUE 'new';",
    "DELETE FROM moods WHERE label = 'pg_enum';",
]


@rule("DeleteStmt", "UpdateStmt", "InsertStmt", severity="error")
def check(node: Node, ctx: MigrationContext) -> Iterator[Finding]:
    relation = node.get("relation", {})
    if relation.get("relname") != "pg_enum" or relation.get("schemaname") not in (
        None,
        "pg_catalog",
    ):
        return
    yield ctx.finding(
        None,
        'writes to pg_enum: rows and index pages that hold the value fail with "invalid internal value '
        'for enum"',
    )
