"""A key of type integer or smallint runs out, and is changed only by rewriting the table.

Why: integer ends at 2,147,483,647; sequences skip values (rollbacks, ON CONFLICT), so it comes sooner than the
    rows do. Then every insert fails. ALTER … TYPE bigint rewrites the table and its indexes under ACCESS
    EXCLUSIVE, and the columns that refer to it have to follow.
Fix: bigint from the start: 4 bytes a row, often lost to alignment anyway.
Silent when: the column is no primary key and fills from no sequence; temporary tables; it is not selected
    (--select design).
Source: PostgreSQL manual, 8.1.1 "Integer Types"; squawk prefer-bigint-over-int; splinter.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext
from sqladvisor.migrate.defined import (
    SERIALS,
    column_type,
    columns_defined,
    constraints_of,
    is_serial,
    type_span,
    with_type,
)
from sqladvisor.rule import rule
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import names

BAD = [
    "CREATE TABLE users (id integer PRIMARY KEY);",
    "CREATE TABLE users (id serial, name text, PRIMARY KEY (id));",
    "ALTER TABLE users ADD COLUMN n int GENERATED ALWAYS AS IDENTITY;",
]
GOOD = [
    "CREATE TABLE users (id bigint PRIMARY KEY, age integer);",
    "CREATE TABLE users (id bigserial PRIMARY KEY);",
    "CREATE TABLE pairs (a int, b int, PRIMARY KEY (a, b));",
    "CREATE TABLE users (id uuid PRIMARY KEY);",
    "CREATE TEMP TABLE scratch (id int PRIMARY KEY);",
]
_NARROW = ("integer", "smallint")


@rule("CreateStmt", "AT_AddColumn", severity="info", opt_in="design")
def check(node: Node, ctx: MigrationContext) -> Iterator[Finding]:
    keys = set()
    for wrapped in node.get("tableElts", ()):
        constraint = wrapped.get("Constraint", {})
        columns = names(constraint.get("keys"))
        if constraint.get("contype") == "CONSTR_PRIMARY" and len(columns) == 1:
            keys.add(columns[0])
    for name, column in columns_defined(node, ctx):
        own, serial = constraints_of(column), is_serial(column)
        written = (names(column["typeName"].get("names")) or ("",))[-1]
        type_ = SERIALS[written] if serial else column_type(column)
        key = name in keys or "CONSTR_PRIMARY" in own or "CONSTR_IDENTITY" in own or serial
        if not key or type_ not in _NARROW:
            continue
        limit = "2,147,483,647" if type_ == "integer" else "32,767"
        yield ctx.finding(
            type_span(column, ctx),
            f"{name} is a key of type {written if serial else type_}: inserts fail once it has reached {limit}",
            fixes=[
                with_type(column, "bigserial" if serial else "bigint", ctx, "bigint does not end")
            ],
        )
