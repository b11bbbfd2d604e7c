"""A type or domain is dropped: code that is still deployed names it and fails.

Why: casts and parameters name types ($1::mood). DROP TYPE fails while a column uses it; with CASCADE it
    drops those columns.
Fix: release code that no longer names it, move the columns to another type, then drop it without CASCADE.
Silent when: the same set created it; the same migration makes a type of that name.
Source: PostgreSQL manual, DROP TYPE; DROP DOMAIN.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext
from sqladvisor.migrate.dependents import dropped_names, drops_and_makes_again, shown
from sqladvisor.rule import rule
from sqladvisor.sql.statement import Node

SCHEMA = "CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE TABLE users (id bigint, feels mood);"
BAD = [
    "DROP TYPE mood;",
    "DROP DOMAIN IF EXISTS app.email CASCADE;",
]
GOOD = [
    "CREATE TYPE t AS ENUM ('a'); DROP TYPE t;",
    "ALTER TYPE mood RENAME TO mood_old; CREATE TYPE mood AS ENUM ('a');\nDROP TYPE mood_old;",
    "DROP TYPE pair; CREATE TYPE pair AS (a int, b int);",
]


@rule("DropStmt", severity="warning")
def check(node: Node, ctx: MigrationContext) -> Iterator[Finding]:
    if node.get("removeType") not in ("OBJECT_TYPE", "OBJECT_DOMAIN"):
        return
    makers = (
        "CreateEnumStmt",
        "CompositeTypeStmt",
        "CreateDomainStmt",
        "DefineStmt",
        "CreateRangeStmt",
    )
    for schema, name in dropped_names(node):
        new = ctx.new_object("type", name) or ctx.new_object("domain", name)
        if new or drops_and_makes_again(ctx, name, makers) or _renamed_here(ctx, name):
            continue
        users = [
            f"{shown(ctx, key)}.{column.name}"
            for key, relation in ctx.state.builder.state.relations.items()
            for column in relation.columns
            if column.type == name
        ]
        named = f"{schema}.{name}" if schema else name
        cascades = node.get("behavior") == "DROP_CASCADE"
        effect = "code that is still deployed and names it fails"
        if users:
            effect = (
                f"drops {', '.join(users)} too" if cascades else f"fails: {', '.join(users)} use it"
            )
        yield ctx.finding(
            None, f"DROP of type {named}: {effect}", severity="error" if users else None
        )


def _renamed_here(ctx: MigrationContext, name: str) -> bool:
    """Whether the same migration gave it that name: the end of a replacement, whose start is told."""
    return any(
        c.statement.kind == "RenameStmt" and c.statement.tree.get("newname") == name
        for c in ctx.before
    )
