"""A value is added at the end of an enum, where it sorts after all others.

Why: enum values compare and sort in the order in which they were declared, not by their text: ORDER BY,
    min(), max() and < see the new value last, and it cannot be moved later.
Fix: BEFORE or AFTER, where the order means something.
Silent when: BEFORE or AFTER is there; the same set created the type; it is not selected (--select design).
Source: PostgreSQL manual, 8.7.2 "Ordering"; ALTER TYPE, "ADD VALUE".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext
from sqladvisor.rule import rule
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import names

SCHEMA = "CREATE TYPE priority AS ENUM ('low', 'high');"
BAD = [
    "ALTER TYPE priority ADD VALUE 'medium';",
    "ALTER TYPE app.state ADD VALUE IF NOT EXISTS 'new';",
]
GOOD = [
    "ALTER TYPE priority ADD VALUE 'medium' BEFORE 'high';",
    "CREATE TYPE t AS ENUM ('a'); ALTER TYPE t ADD VALUE 'b';",
    "ALTER TYPE priority RENAME VALUE 'low' TO 'lowest';",
]


@rule("AlterEnumStmt", severity="info", opt_in="design")
def check(node: Node, ctx: MigrationContext) -> Iterator[Finding]:
    parts = names(node.get("typeName"))
    if node.get("oldVal") or node.get("newValNeighbor") or ctx.new_object("type", parts[-1]):
        return
    yield ctx.finding(
        None,
        f"{node.get('newVal')!r} sorts after all other values of {'.'.join(parts)}, and cannot be moved later",
    )
