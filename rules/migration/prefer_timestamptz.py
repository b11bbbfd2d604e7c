"""timestamp without time zone stores what a clock showed, not when it was.

Why: the same value means another moment in each time zone; comparing it with now() depends on the session's
    TimeZone, and an hour happens twice a year. timestamptz takes the same 8 bytes and stores the moment.
Fix: timestamptz. For a column that exists: ALTER … TYPE timestamptz USING c AT TIME ZONE 'UTC', without a
    rewrite where the session's TimeZone is UTC (12 and later).
Silent when: it is date, time or timestamptz; temporary tables; it is not selected (--select design).
Source: PostgreSQL manual, 8.5.1.3 "Time Stamps"; PostgreSQL wiki, "Don't Do This"; squawk
    prefer-timestamptz.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext
from sqladvisor.migrate.defined import DEFINES, column_type, columns_defined, type_span, with_type
from sqladvisor.rule import rule
from sqladvisor.sql.datatypes import TIMESTAMP
from sqladvisor.sql.statement import Node

BAD = [
    "CREATE TABLE events (id bigint PRIMARY KEY, at timestamp NOT NULL DEFAULT now());",
    "ALTER TABLE events ADD COLUMN done timestamp(3) without time zone;",
]
GOOD = [
    "CREATE TABLE events (id bigint PRIMARY KEY, at timestamptz, day date, hour time);",
    "ALTER TABLE events ADD COLUMN done timestamp with time zone;",
    "CREATE TEMP TABLE scratch (a timestamp);",
]


@rule(*DEFINES, severity="info", opt_in="design")
def check(node: Node, ctx: MigrationContext) -> Iterator[Finding]:
    for name, column in columns_defined(node, ctx):
        if column_type(column).removesuffix("[]") != TIMESTAMP:
            continue
        yield ctx.finding(
            type_span(column, ctx),
            f"{name} is a timestamp without time zone: which moment it means depends on who reads it",
            fixes=[with_type(column, "timestamptz", ctx, "store the moment")],
        )
