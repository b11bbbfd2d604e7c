"""A column is renamed: code that is still deployed names the old one and fails.

Why: RENAME COLUMN takes ACCESS EXCLUSIVE, for a moment. Old and new code run side by side while a release
    rolls out; one of them names a column that is not there.
Fix: a second column that a trigger keeps equal, filled in batches; release code that uses it; then drop
    the old one.
Silent when: the same set created the table or added the column; it is a view's column.
Source: PostgreSQL manual, ALTER TABLE, "RENAME"; squawk renaming-column; strong_migrations rename_column.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding, Fix
from sqladvisor.migrate.context import MigrationContext, Table, blocks
from sqladvisor.migrate.dependents import added_here
from sqladvisor.migrate.steps import batches, named, sized
from sqladvisor.rule import rule
from sqladvisor.sql.quote import identifier
from sqladvisor.sql.statement import Node

SCHEMA = """CREATE TABLE users (id bigint PRIMARY KEY, mail varchar(200));
CREATE VIEW v AS SELECT id FROM users;"""
BAD = [
    "ALTER TABLE users RENAME COLUMN mail TO email;",
    'ALTER TABLE other RENAME "Old" TO new;',
]
GOOD = [
    "CREATE TABLE t (a int); ALTER TABLE t RENAME COLUMN a TO b;",
    "ALTER TABLE users ADD COLUMN x int;\nALTER TABLE users RENAME COLUMN x TO y;",
    "ALTER VIEW v RENAME COLUMN id TO key;",
    "ALTER TABLE users RENAME CONSTRAINT users_pkey TO users_key;",
    "ALTER TYPE pair RENAME ATTRIBUTE a TO b;",
]


@rule("RenameStmt", severity="error")
def check(node: Node, ctx: MigrationContext) -> Iterator[Finding]:
    if node.get("renameType") != "OBJECT_COLUMN" or node.get("relationType") != "OBJECT_TABLE":
        return
    table = ctx.table()
    old, new = str(node.get("subname", "")), str(node.get("newname", ""))
    if not table.settled or added_here(ctx, table, old):
        return
    yield ctx.finding(
        None,
        f"RENAME of {table.shown}.{old} to {new} {blocks('ACCESS EXCLUSIVE')}, and code that is still "
        f"deployed fails: it names {old}",
        table=table,
        lock="ACCESS EXCLUSIVE",
        fixes=_fix(ctx, table, old, new),
    )


def _fix(ctx: MigrationContext, table: Table, old: str, new: str) -> list[Fix]:
    column = table.column(old)
    if column is None or column.identity or column.generated:
        return []
    before, after = identifier(old), identifier(new)
    type_ = sized(column.type, ctx.modifiers(table, old) or ())
    sync = named(table.key[1], new, "sync")
    return [
        ctx.sequence(
            "a second column that a trigger keeps equal, filled in batches outside a transaction",
            f"ALTER TABLE {table.sql} ADD COLUMN {after} {type_}",
            f"CREATE FUNCTION {sync}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            f"IF TG_OP = 'UPDATE' AND NEW.{after} IS DISTINCT FROM OLD.{after} "
            f"OR TG_OP = 'INSERT' AND NEW.{after} IS NOT NULL THEN NEW.{before} := NEW.{after}; "
            f"ELSE NEW.{after} := NEW.{before}; END IF; RETURN NEW; END $$",
            f"CREATE TRIGGER {sync} BEFORE INSERT OR UPDATE ON {table.sql} "
            f"FOR EACH ROW EXECUTE FUNCTION {sync}()",
            batches(table, f"{after} = {before}", f"{after} IS DISTINCT FROM {before}"),
            "-- release code that uses the new column; then, in a later migration, drop the trigger, its "
            "function and the old column",
            changes_result="both columns stay for now",
        )
    ]
