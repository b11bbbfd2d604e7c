"""A constraint is dropped that foreign keys of other tables rest on, or that keeps rows unique.

Why: a foreign key needs the unique constraint of the columns it refers to. DROP CONSTRAINT of that fails,
    or with CASCADE drops the foreign keys too, and nothing says so. ON CONFLICT (columns) fails at run
    time once no unique constraint matches.
Fix: drop the foreign keys by name, on purpose, first; or add the new key before the old one goes and
    move the foreign keys to it.
Silent when: the same set created the table; the constraint is unknown, or no known foreign key refers to
    its columns.
Source: PostgreSQL manual, ALTER TABLE, "DROP CONSTRAINT"; 5.15 "Dependency Tracking".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext
from sqladvisor.rule import rule
from sqladvisor.sql.quote import identifier, qualified
from sqladvisor.sql.statement import Node

SCHEMA = """CREATE TABLE users (id bigint PRIMARY KEY, email text CONSTRAINT users_email UNIQUE);
CREATE TABLE orders (user_id bigint CONSTRAINT orders_user REFERENCES users, total int
    CONSTRAINT positive CHECK (total > 0));
"""
BAD = [
    "ALTER TABLE users DROP CONSTRAINT users_pkey CASCADE;",
    "ALTER TABLE users DROP CONSTRAINT users_pkey;",
]
GOOD = [
    "ALTER TABLE orders DROP CONSTRAINT orders_user;\nALTER TABLE users DROP CONSTRAINT users_pkey;",
    "ALTER TABLE orders DROP CONSTRAINT positive;",
    "ALTER TABLE users DROP CONSTRAINT users_email;",
    "ALTER TABLE users DROP CONSTRAINT IF EXISTS unknown;",
]


@rule("AT_DropConstraint", severity="error")
def check(command: Node, ctx: MigrationContext) -> Iterator[Finding]:
    table, name = ctx.table(), str(command.get("name", ""))
    if not table.settled or table.relation is None:
        return
    index = next((i for i in table.relation.indexes if i.name == name and i.unique), None)
    if index is None:
        return
    columns = tuple(k for k in index.keys if k)
    resting = [
        (key, foreign)
        for key, relation in ctx.state.builder.state.relations.items()
        for foreign in relation.foreign_keys
        if (foreign.target_schema, foreign.target) == table.key
        and (
            set(foreign.target_columns) == set(columns)
            or (index.primary and not foreign.target_columns)
        )
    ]
    if not resting:
        return
    cascades = command.get("behavior") == "DROP_CASCADE"
    shown = ", ".join(f"{foreign.name} of {key[1]}" for key, foreign in resting)
    consequence = f"drops {shown} too" if cascades else f"fails: {shown} rests on it"
    home = ctx.state.builder.home
    steps = [
        f"ALTER TABLE {qualified(None if key[0] in home else key[0], key[1])} DROP CONSTRAINT {identifier(f.name)}"
        for key, f in resting
    ]
    yield ctx.finding(
        None,
        f"DROP CONSTRAINT {name} of {table.shown} {consequence}",
        table=table,
        fixes=[
            ctx.sequence(
                "if that is meant, say it",
                *steps,
                f"ALTER TABLE {table.sql} DROP CONSTRAINT {identifier(name)}",
                changes_result="the foreign keys are gone",
            )
        ],
    )
