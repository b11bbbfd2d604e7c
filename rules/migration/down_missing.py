"""A migration has no way back, where the others have one.

Why: a runner told to go back stops at it, or goes past it and leaves its changes in place, in the middle of
    an incident. An empty down part claims to have undone what it has not.
Fix: the statements that undo it, last first; where that is not possible, let the down part fail and say so
    (DO $$ BEGIN RAISE EXCEPTION 'cannot be undone'; END $$).
Silent when: no migration of the folder has a down part; it is a repeatable one; it has statements that undo
    something.
Source: the runners' own documentation (goose, dbmate, golang-migrate, sqlx).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext
from sqladvisor.rule import MIGRATION, rule

BAD = [
    {
        "001_a.up.sql": "CREATE TABLE a (id int);",
        "001_a.down.sql": "DROP TABLE a;",
        "002_b.up.sql": "CREATE TABLE b (id int);",
    },
    {
        "001_a.sql": "-- migrate:up\nCREATE TABLE a (id int);\n-- migrate:down\nDROP TABLE a;\n",
        "002_b.sql": "-- migrate:up\nCREATE TABLE b (id int);\n-- migrate:down\n",
    },
]
GOOD = [
    {
        "001_a.up.sql": "CREATE TABLE a (id int);",
        "001_a.down.sql": "DROP TABLE a;",
        "002_b.up.sql": "CREATE TABLE b (id int);",
        "002_b.down.sql": "DROP TABLE b;",
    },
    "CREATE TABLE a (id int);",
    {"V1__a.sql": "CREATE TABLE a (id int);", "V2__b.sql": "CREATE TABLE b (id int);"},
]


@rule(MIGRATION, severity="info")
def check(contexts: Sequence[MigrationContext], ctx: MigrationContext) -> Iterator[Finding]:
    migration = ctx.migration
    if migration.repeatable or migration.down or ctx.statement not in migration.up[:1]:
        return
    if not any(other.down for other in ctx.migrations.migrations):
        return
    what = "has no down part" if migration.down is None else "has an empty down part"
    yield ctx.finding(
        None,
        f"{migration.name or migration.version} {what}: going back leaves what it does in place",
    )
