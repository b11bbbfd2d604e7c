"""A NOT NULL column without a default is added: that fails where the table has a row.

Why: the rows that are there would hold NULL in it. ADD COLUMN reads the table under ACCESS EXCLUSIVE to
    find the first such row, and fails. It passes on the empty table of a test database.
Fix: with a default, which since PostgreSQL 11 is stored once, not in each row; or nullable first, filled
    in batches, then SET NOT NULL by way of a validated CHECK.
Silent when: the same set created the table, or it is known to be empty; there is a default, an identity, a
    serial or a generated expression; it is of a domain, which may have a default of its own.
Source: PostgreSQL manual, ALTER TABLE, "ADD COLUMN"; squawk adding-required-field; strong_migrations.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext, blocks
from sqladvisor.migrate.steps import named, type_sql
from sqladvisor.rule import rule
from sqladvisor.sql.quote import identifier
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import constant, names, unwrap

SCHEMA = "CREATE TABLE users (id bigint PRIMARY KEY); CREATE TABLE empty (id bigint);"
ROWS = {"empty": 0}
BAD = [
    "ALTER TABLE users ADD COLUMN email text NOT NULL;",
    "ALTER TABLE users ADD COLUMN email text NOT NULL DEFAULT NULL;",
    "ALTER TABLE other ADD n int, ADD m numeric(10,2) NOT NULL;",
]
GOOD = [
    "ALTER TABLE users ADD COLUMN email text NOT NULL DEFAULT '';",
    "ALTER TABLE users ADD COLUMN email text;",
    "ALTER TABLE users ADD COLUMN n bigint NOT NULL GENERATED ALWAYS AS IDENTITY;",
    "ALTER TABLE users ADD COLUMN n bigserial NOT NULL;",
    "ALTER TABLE users ADD COLUMN n bigint NOT NULL GENERATED ALWAYS AS (id * 2) STORED;",
    "CREATE TABLE t (a int); ALTER TABLE t ADD COLUMN b int NOT NULL;",
    "ALTER TABLE empty ADD COLUMN b int NOT NULL;",
    "CREATE DOMAIN flag AS boolean DEFAULT false; ALTER TABLE users ADD COLUMN f flag NOT NULL;",
]
_SERIALS = ("serial", "bigserial", "smallserial", "serial4", "serial8", "serial2")
_FILLS = ("CONSTR_IDENTITY", "CONSTR_GENERATED")


@rule("AT_AddColumn", severity="error")
def check(command: Node, ctx: MigrationContext) -> Iterator[Finding]:
    table, column = ctx.table(), unwrap(command.get("def", {}))[1]
    constraints = {
        str(c.get("contype")): c for c in (unwrap(w)[1] for w in column.get("constraints", ()))
    }
    required = constraints.get("CONSTR_NOTNULL") or constraints.get("CONSTR_PRIMARY")
    if not table.settled or table.rows == 0 or required is None:
        return
    type_ = (names(column["typeName"].get("names")) or ("",))[-1]
    default = constraints.get("CONSTR_DEFAULT")
    filled = default is not None and constant(default.get("raw_expr", {})) is not None
    domain = identifier(type_) in ctx.state.builder.state.domains
    if filled or domain or type_ in _SERIALS or any(f in constraints for f in _FILLS):
        return
    name = str(column["colname"])
    quoted, check_name = identifier(name), named(table.key[1], name, "not_null")
    yield ctx.finding(
        column,
        f"{table.shown}.{name} is NOT NULL without a default: ADD COLUMN "
        f"{blocks('ACCESS EXCLUSIVE')}, and fails where {table.shown} has a row",
        table=table,
        lock="ACCESS EXCLUSIVE",
        work="scan",
        fixes=[
            ctx.sequence(
                "add it without, fill the rows, then prove it and say it",
                f"ALTER TABLE {table.sql} ADD COLUMN {quoted} {type_sql(column['typeName'])}",
                "-- fill the rows in batches; then, in a later migration:",
                f"ALTER TABLE {table.sql} ADD CONSTRAINT {check_name} CHECK ({quoted} IS NOT NULL) NOT VALID",
                f"ALTER TABLE {table.sql} VALIDATE CONSTRAINT {check_name}",
                f"ALTER TABLE {table.sql} ALTER COLUMN {quoted} SET NOT NULL",
                f"ALTER TABLE {table.sql} DROP CONSTRAINT {check_name}",
            )
        ],
    )
