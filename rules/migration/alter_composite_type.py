"""An attribute of a composite type is changed with CASCADE: the tables of that type are rewritten.

Why: ALTER TYPE … ALTER ATTRIBUTE … TYPE … CASCADE (and ADD or DROP ATTRIBUTE) is applied to every table
    that was made OF the type, under ACCESS EXCLUSIVE. Columns of the type make it fail instead.
Fix: a new type, and tables moved to it one by one.
Silent when: the same set created the type; RESTRICT (the default), which refuses where tables use it.
Source: PostgreSQL manual, ALTER TYPE, "CASCADE".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext, blocks
from sqladvisor.rule import rule
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import unwrap

BAD = [
    "ALTER TYPE address ALTER ATTRIBUTE zip TYPE text CASCADE;",
    "ALTER TYPE address ADD ATTRIBUTE country text CASCADE;",
]
GOOD = [
    "ALTER TYPE address ALTER ATTRIBUTE zip TYPE text;",
    "CREATE TYPE a AS (x int); ALTER TYPE a ALTER ATTRIBUTE x TYPE bigint CASCADE;",
    "ALTER TYPE mood ADD VALUE 'fine';",
]


@rule("AlterTableStmt", severity="warning")
def check(node: Node, ctx: MigrationContext) -> Iterator[Finding]:
    name = str(node.get("relation", {}).get("relname", ""))
    if node.get("objtype") != "OBJECT_TYPE" or ctx.new_object("type", name):
        return
    commands = [unwrap(c)[1] for c in node.get("cmds", ())]
    if all(c.get("behavior") != "DROP_CASCADE" for c in commands):
        return
    yield ctx.finding(
        None,
        f"the change of type {name} goes on to every table made of it: it "
        f"{blocks('ACCESS EXCLUSIVE')} of each, and a new attribute type rewrites them",
        lock="ACCESS EXCLUSIVE",
        work="rewrite",
    )
