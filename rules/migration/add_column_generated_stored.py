"""A stored generated column is computed for every row: the table is rewritten under lock.

Why: ADD COLUMN … GENERATED ALWAYS AS (…) STORED takes ACCESS EXCLUSIVE while the table and all its
    indexes are written anew with the computed values.
Fix: 18 and later: VIRTUAL, which stores nothing. Otherwise a plain column, a trigger that fills it for
    new rows, and batches for the old ones; or an index on the expression if that is what it is for.
Silent when: the same set created the table, or it is temporary; the column is VIRTUAL.
Source: PostgreSQL manual, ALTER TABLE, Notes; 5.4 "Generated Columns"; squawk
    adding-generated-stored; strong_migrations.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext, blocks
from sqladvisor.migrate.steps import batches, named, type_sql
from sqladvisor.rule import rule
from sqladvisor.sql.quote import identifier
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import unwrap

SCHEMA = "CREATE TABLE users (id bigint PRIMARY KEY, email text);"
BAD = [
    "-- pg_version: 16\n"
    "ALTER TABLE users ADD COLUMN lower_email text GENERATED ALWAYS AS (lower(email)) STORED;",
    "ALTER TABLE users ADD COLUMN n int, ADD COLUMN size int GENERATED ALWAYS AS (length(email)) "
    "STORED;",
    "ALTER TABLE other ADD COLUMN a int GENERATED ALWAYS AS (1) STORED;",
]
GOOD = [
    "ALTER TABLE users ADD COLUMN lower_email text;",
    "CREATE TABLE t (a int); ALTER TABLE t ADD COLUMN b int GENERATED ALWAYS AS (a * 2) STORED;",
    "CREATE TABLE t (a int, b int GENERATED ALWAYS AS (a * 2) STORED);",
    "CREATE INDEX CONCURRENTLY users_lower_idx ON users (lower(email));",
]
VIRTUAL_SINCE = 18


@rule("AT_AddColumn", severity="error")
def check(command: Node, ctx: MigrationContext) -> Iterator[Finding]:
    table, column = ctx.table(), unwrap(command.get("def", {}))[1]
    if not table.settled:
        return
    for wrapped in column.get("constraints", ()):
        constraint = unwrap(wrapped)[1]
        if (
            constraint.get("contype") != "CONSTR_GENERATED"
            or constraint.get("generated_kind") == "v"
        ):
            continue
        name, type_ = str(column["colname"]), type_sql(column["typeName"])
        quoted, expression = identifier(name), _expression(constraint, ctx)
        if ctx.pg_version >= VIRTUAL_SINCE:
            fix = ctx.sequence(
                "compute it when it is read",
                f"ALTER TABLE {table.sql} ADD COLUMN {quoted} {type_} "
                f"GENERATED ALWAYS AS ({expression}) VIRTUAL",
            )
        else:
            sync = named(table.key[1], name, "sync")
            fix = ctx.sequence(
                "a column kept by a trigger, filled in batches outside a transaction",
                f"ALTER TABLE {table.sql} ADD COLUMN {quoted} {type_}",
                f"CREATE FUNCTION {sync}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                f"NEW.{quoted} := (SELECT {expression} FROM (SELECT NEW.*) AS row); RETURN NEW; END $$",
                f"CREATE TRIGGER {sync} BEFORE INSERT OR UPDATE ON {table.sql} "
                f"FOR EACH ROW EXECUTE FUNCTION {sync}()",
                batches(table, f"{quoted} = {expression}", f"{quoted} IS NULL"),
            )
        yield ctx.finding(
            constraint,
            f"{table.shown}.{name} is computed and stored for each row: ADD COLUMN "
            f"{blocks('ACCESS EXCLUSIVE')} while the table and its indexes are rewritten",
            table=table,
            lock="ACCESS EXCLUSIVE",
            work="rewrite",
            fixes=[fix],
        )


def _expression(constraint: Node, ctx: MigrationContext) -> str:
    tokens = ctx.spans.tokens
    first = ctx.spans.token_at(constraint.get("location", 0))
    while tokens[first][2] != "ASCII_40":
        first += 1
    depth, last = 1, first
    while depth:
        last += 1
        depth += (tokens[last][2] == "ASCII_40") - (tokens[last][2] == "ASCII_41")
    return ctx.statement.sql[tokens[first][1] : tokens[last][0]]
