"""A new column's default has to be computed per row: the table is rewritten under lock.

Why: ADD COLUMN takes ACCESS EXCLUSIVE. A default that is the same for all rows is stored once, in the
    catalog (since PostgreSQL 11); a volatile one (gen_random_uuid(), clock_timestamp(), nextval) is
    computed for each row, which writes the table and all its indexes anew. Before 11 any default does.
Fix: add the column without a default, set the default (it is for new rows then), fill the old rows in
    batches.
Silent when: the same set created the table, or it is temporary; the default is constant or stable
    (now(), current_user: one value for the whole statement) on 11 and later.
Source: PostgreSQL manual, ALTER TABLE, Notes ("volatile DEFAULT"); release notes 11; squawk
    adding-field-with-default; strong_migrations.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext, blocks
from sqladvisor.migrate.steps import batches, default_text, not_null_steps, type_sql
from sqladvisor.rule import rule
from sqladvisor.sql.quote import identifier
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import constant, unwrap
from sqladvisor.sql.volatility import volatile

SCHEMA = "CREATE TABLE users (id bigint PRIMARY KEY, email text);"
BAD = [
    "ALTER TABLE users ADD COLUMN token uuid DEFAULT gen_random_uuid();",
    "ALTER TABLE users ADD COLUMN note text, ADD COLUMN at timestamptz NOT NULL DEFAULT "
    "clock_timestamp();",
    "-- pg_version: 10\nALTER TABLE users ADD COLUMN active boolean DEFAULT true;",
    "CREATE SEQUENCE s; ALTER TABLE public.users ADD n bigint DEFAULT nextval('s');",
    "CREATE FUNCTION roll() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 4; END';"
    "ALTER TABLE users ADD COLUMN n int DEFAULT roll();",
]
GOOD = [
    "ALTER TABLE users ADD COLUMN active boolean NOT NULL DEFAULT true;",
    "ALTER TABLE users ADD COLUMN at timestamptz DEFAULT now();",
    "ALTER TABLE users ADD COLUMN token uuid;\n"
    "ALTER TABLE users ALTER COLUMN token SET DEFAULT gen_random_uuid();",
    "CREATE TABLE t (id int); ALTER TABLE t ADD COLUMN token uuid DEFAULT gen_random_uuid();",
    "-- pg_version: 10\nALTER TABLE users ADD COLUMN active boolean DEFAULT NULL;",
    "CREATE FUNCTION four() RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 4';"
    "ALTER TABLE users ADD COLUMN n int DEFAULT four();",
]
STORED_DEFAULTS = 11


@rule("AT_AddColumn", severity="error")
def check(command: Node, ctx: MigrationContext) -> Iterator[Finding]:
    table, column = ctx.table(), unwrap(command.get("def", {}))[1]
    if not table.settled:
        return
    for wrapped in column.get("constraints", ()):
        constraint = unwrap(wrapped)[1]
        if constraint.get("contype") != "CONSTR_DEFAULT":
            continue
        raw = constraint.get("raw_expr", {})
        computed = volatile(*unwrap(raw), ctx.functions)
        if not computed and (ctx.pg_version >= STORED_DEFAULTS or constant(raw) is None):
            return
        name, expression = str(column["colname"]), default_text(ctx, column)
        quoted = identifier(name)
        last: list[str] = []
        if any(unwrap(c)[1].get("contype") == "CONSTR_NOTNULL" for c in column["constraints"]):
            last = not_null_steps(table, name, ctx.pg_version)
        why = (
            "is computed for each row"
            if computed
            else f"is written to each row before {STORED_DEFAULTS}"
        )
        yield ctx.finding(
            constraint,
            f"the default of {table.shown}.{name} {why}: ADD COLUMN {blocks('ACCESS EXCLUSIVE')} "
            "while the table and its indexes are rewritten",
            table=table,
            lock="ACCESS EXCLUSIVE",
            work="rewrite",
            fixes=[
                ctx.sequence(
                    "add it empty, then fill it in batches outside a transaction",
                    f"ALTER TABLE {table.sql} ADD COLUMN {quoted} {type_sql(column['typeName'])}",
                    f"ALTER TABLE {table.sql} ALTER COLUMN {quoted} SET DEFAULT {expression}",
                    batches(table, f"{quoted} = {expression}", f"{quoted} IS NULL"),
                    *last,
                )
            ],
        )
