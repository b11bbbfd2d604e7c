"""A value of an enum type is renamed: code that is still deployed writes the old one and fails.

Why: rows keep their value by number and show the new name at once. Code that compares with, or writes,
    the old text fails: it is no value of the type any more.
Fix: add the new value, release code that understands both, change the rows in batches, stop writing the
    old one. An enum value cannot be dropped: leave it unused.
Silent when: the same set created the type, or added the value.
Source: PostgreSQL manual, ALTER TYPE, "RENAME VALUE".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext
from sqladvisor.rule import rule
from sqladvisor.sql.quote import literal, qualified
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import names

SCHEMA = "CREATE TYPE mood AS ENUM ('sad', 'glad');"
BAD = [
    "ALTER TYPE mood RENAME VALUE 'glad' TO 'happy';",
    "ALTER TYPE app.state RENAME VALUE 'it''s' TO 'its';",
]
GOOD = [
    "CREATE TYPE t AS ENUM ('a'); ALTER TYPE t RENAME VALUE 'a' TO 'b';",
    "ALTER TYPE mood ADD VALUE 'happy';",
    "ALTER TYPE mood ADD VALUE 'hapy';\nALTER TYPE mood RENAME VALUE 'hapy' TO 'happy';",
]


@rule("AlterEnumStmt", severity="error")
def check(node: Node, ctx: MigrationContext) -> Iterator[Finding]:
    old, new = node.get("oldVal"), node.get("newVal")
    parts = names(node.get("typeName"))
    if not old or not new or ctx.new_object("type", parts[-1]):
        return
    if any(
        c.statement.kind == "AlterEnumStmt" and c.statement.tree.get("newVal") == old
        for c in ctx.before
    ):
        return
    type_ = qualified(parts[-2] if len(parts) > 1 else None, parts[-1])
    yield ctx.finding(
        None,
        f"{old!r} of {'.'.join(parts)} becomes {new!r} at once: code that is still deployed and writes or "
        f"compares {old!r} fails",
        fixes=[
            ctx.sequence(
                "add the new value; when all code understands it, change the rows in batches",
                f"ALTER TYPE {type_} ADD VALUE IF NOT EXISTS {literal(str(new))}",
                changes_result="the old value stays",
            )
        ],
    )
