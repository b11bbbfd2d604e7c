"""varchar(n) and char(n) build a limit into the type that is hard to change later.

Why: a wider limit is quick to set, a narrower one rewrites or scans the table, and views pin the type.
    text is stored the same way and as fast. char(n) pads with blanks, which comparisons then ignore.
Fix: text; where there is a real limit, a CHECK on length(), which can be replaced without a rewrite
    (NOT VALID, then VALIDATE).
Silent when: varchar without a limit; temporary tables; it is not selected (--select design).
Source: PostgreSQL manual, 8.3 "Character Types" (the tip); PostgreSQL wiki, "Don't Do This"; squawk
    prefer-text-field; pgrubic TP017.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext
from sqladvisor.migrate.defined import DEFINES, column_type, columns_defined, type_span, with_type
from sqladvisor.rule import rule
from sqladvisor.sql.statement import Node

BAD = [
    "CREATE TABLE users (id bigint PRIMARY KEY, email varchar(255) NOT NULL);",
    "ALTER TABLE users ADD COLUMN code character(3);",
    "ALTER TABLE users ALTER COLUMN email TYPE character varying (100);",
]
GOOD = [
    "CREATE TABLE users (id bigint PRIMARY KEY, email text, name varchar);",
    "CREATE TEMP TABLE scratch (a varchar(10));",
    "ALTER TABLE users ADD COLUMN n numeric(10,2);",
    "CREATE TABLE t (a text DEFAULT 'varchar(10)');",
]


@rule(*DEFINES, severity="info", opt_in="design")
def check(node: Node, ctx: MigrationContext) -> Iterator[Finding]:
    for name, column in columns_defined(node, ctx):
        type_ = column_type(column).removesuffix("[]")
        limited = type_ == "character varying" and column["typeName"].get("typmods")
        if not limited and type_ != "character":
            continue
        written = ctx.statement.sql[slice(*type_span(column, ctx))]
        yield ctx.finding(
            type_span(column, ctx),
            f"{name} is {written}: the limit is part of the type, and text with a CHECK can change it later",
            fixes=[with_type(column, "text", ctx, "text, with a CHECK if the limit is meant")],
        )
