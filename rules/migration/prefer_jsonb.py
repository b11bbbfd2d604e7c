"""json keeps the text as it was sent, and is parsed anew for each look into it.

Why: json has no equality (DISTINCT, GROUP BY and UNION fail on it) and no index on its contents. jsonb is
    parsed once, compared, and indexed with GIN.
Fix: jsonb; json only where blanks, the order of keys or duplicate keys must come back as they were.
Silent when: it is jsonb; temporary tables; it is not selected (--select design).
Source: PostgreSQL manual, 8.14 "JSON Types"; squawk; pgrubic TP014.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext
from sqladvisor.migrate.defined import DEFINES, column_type, columns_defined, type_span, with_type
from sqladvisor.rule import rule
from sqladvisor.sql.statement import Node

BAD = [
    "CREATE TABLE events (id bigint PRIMARY KEY, payload json NOT NULL);",
    "ALTER TABLE events ADD COLUMN parts json[];",
]
GOOD = [
    "CREATE TABLE events (id bigint PRIMARY KEY, payload jsonb);",
    "CREATE TEMP TABLE scratch (a json);",
    "CREATE TABLE t (json text);",
]


@rule(*DEFINES, severity="info", opt_in="design")
def check(node: Node, ctx: MigrationContext) -> Iterator[Finding]:
    for name, column in columns_defined(node, ctx):
        if column_type(column).removesuffix("[]") == "json":
            yield ctx.finding(
                type_span(column, ctx),
                f"{name} is json: it has no equality and no index on its contents, and is parsed anew each "
                "time",
                fixes=[with_type(column, "jsonb", ctx, "parsed once")],
            )
