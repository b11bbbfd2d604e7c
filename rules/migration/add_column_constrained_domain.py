"""A column of a domain with constraints is added: the table is rewritten under lock.

Why: ADD COLUMN of a domain that has a CHECK or NOT NULL tests the default in every row, and PostgreSQL
    writes the table and its indexes anew for that while it holds ACCESS EXCLUSIVE.
Fix: a column of the base type, with a CHECK … NOT VALID of the table, validated later.
Silent when: the same set created the table; the domain has no constraint, or is not known.
Source: ATExecAddColumn() in src/backend/commands/tablecmds.c ("If the new column is of a domain type with
    constraints, we must rewrite"); PostgreSQL manual, ALTER TABLE, Notes.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding, Fix
from sqladvisor.migrate.context import MigrationContext, blocks
from sqladvisor.rule import rule
from sqladvisor.sql.quote import identifier
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import names, unwrap

SCHEMA = """CREATE DOMAIN email AS text CHECK (VALUE ~ '@'); CREATE DOMAIN label AS text;
CREATE TABLE users (id bigint PRIMARY KEY);"""
BAD = [
    "ALTER TABLE users ADD COLUMN mail email;",
    "CREATE DOMAIN code AS int NOT NULL; ALTER TABLE users ADD COLUMN c code DEFAULT 1;",
]
GOOD = [
    "ALTER TABLE users ADD COLUMN tag label;",
    "CREATE TABLE t (a int); ALTER TABLE t ADD COLUMN mail email;",
    "ALTER TABLE users ADD COLUMN x unknown_type;",
]


@rule("AT_AddColumn", severity="error")
def check(command: Node, ctx: MigrationContext) -> Iterator[Finding]:
    table, column = ctx.table(), unwrap(command.get("def", {}))[1]
    type_ = (names(column.get("typeName", {}).get("names")) or ("",))[-1]
    if not table.settled or type_ not in ctx.state.constrained_domains:
        return
    name = str(column["colname"])
    base = ctx.state.builder.state.domains.get(identifier(type_))
    fixes: list[Fix] = []
    if base:
        sql = f"ALTER TABLE {table.sql} ADD COLUMN {identifier(name)} {base}"
        fixes = [
            ctx.sequence(
                "the base type, and the condition as a CHECK … NOT VALID of the table", sql
            )
        ]
    yield ctx.finding(
        column,
        f"{table.shown}.{name} is of domain {type_}, which has a constraint: ADD COLUMN "
        f"{blocks('ACCESS EXCLUSIVE')} while the table and its indexes are rewritten",
        table=table,
        lock="ACCESS EXCLUSIVE",
        work="rewrite",
        fixes=fixes,
    )
