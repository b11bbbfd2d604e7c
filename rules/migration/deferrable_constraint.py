"""A unique constraint is DEFERRABLE: foreign keys cannot refer to it, ON CONFLICT cannot use it.

Why: a deferrable unique or primary key constraint is checked at the end of the statement or transaction.
    The planner then does not trust it to be unique, INSERT … ON CONFLICT fails on it, and no foreign key
    may refer to its columns.
Fix: NOT DEFERRABLE, the default, unless keys are swapped within a statement.
Silent when: the constraint is a foreign key, which may well be deferrable; the same set created the table.
Source: PostgreSQL manual, CREATE TABLE, "DEFERRABLE" and Compatibility; INSERT, ON CONFLICT.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext
from sqladvisor.rule import rule
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import unwrap

SCHEMA = (
    "CREATE TABLE users (id bigint PRIMARY KEY, place int); CREATE UNIQUE INDEX i ON users (place);"
)
BAD = [
    "ALTER TABLE users ADD CONSTRAINT u UNIQUE (place) DEFERRABLE INITIALLY DEFERRED;",
    "ALTER TABLE users ADD CONSTRAINT u UNIQUE USING INDEX i DEFERRABLE;",
]
GOOD = [
    "ALTER TABLE users ADD CONSTRAINT u UNIQUE USING INDEX i;",
    "ALTER TABLE users ADD CONSTRAINT f FOREIGN KEY (place) REFERENCES other DEFERRABLE;",
    "CREATE TABLE t (a int UNIQUE DEFERRABLE);",
]


@rule("AT_AddConstraint", severity="info")
def check(command: Node, ctx: MigrationContext) -> Iterator[Finding]:
    table, constraint = ctx.table(), unwrap(command.get("def", {}))[1]
    unique = constraint.get("contype") in ("CONSTR_UNIQUE", "CONSTR_PRIMARY")
    if table.settled and unique and constraint.get("deferrable"):
        yield ctx.finding(
            constraint,
            f"a DEFERRABLE unique constraint on {table.shown} cannot be the target of a foreign key or of ON "
            "CONFLICT, and the planner does not take its columns for unique",
            table=table,
        )
