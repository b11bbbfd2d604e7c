"""An EXCLUDE constraint builds its index while all access to the table waits.

Why: ADD CONSTRAINT … EXCLUDE takes ACCESS EXCLUSIVE until its index is built and every row was compared.
    It has neither NOT VALID nor USING INDEX: there is no short form.
Fix: add it to a table that is made anew and filled in batches; or accept the time in a maintenance window,
    with a lock_timeout. A range key of a primary key or unique constraint (WITHOUT OVERLAPS, 18 and
    later) has the same cost.
Silent when: the same set created the table, or it is temporary.
Source: PostgreSQL manual, ALTER TABLE; CREATE TABLE, "EXCLUDE"; strong_migrations
    "adding an exclusion constraint".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext, blocks
from sqladvisor.rule import rule
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import unwrap

SCHEMA = "CREATE TABLE stays (room int, during tsrange);"
BAD = [
    "ALTER TABLE stays ADD CONSTRAINT no_overlap EXCLUDE USING gist (room WITH =, during WITH &&);",
    "ALTER TABLE unknown ADD EXCLUDE (a WITH =);",
]
GOOD = [
    "CREATE TABLE t (during tsrange, EXCLUDE USING gist (during WITH &&));",
    "CREATE TABLE t (during tsrange); ALTER TABLE t ADD EXCLUDE USING gist (during WITH &&);",
]


@rule("AT_AddConstraint", severity="error")
def check(command: Node, ctx: MigrationContext) -> Iterator[Finding]:
    table, constraint = ctx.table(), unwrap(command.get("def", {}))[1]
    if table.settled and constraint.get("contype") == "CONSTR_EXCLUSION":
        yield ctx.finding(
            constraint,
            f"ADD EXCLUDE on {table.shown} {blocks('ACCESS EXCLUSIVE')} until its index is built; there is "
            "no form that does not",
            table=table,
            lock="ACCESS EXCLUSIVE",
            work="build",
        )
