"""CREATE INDEX CONCURRENTLY that fails leaves an invalid index: running it again stops there.

Why: a deadlock, a duplicate, a cancelled or lost session ends it halfway. The half-built index stays: it
    serves no query, slows every write, and has taken the name.
Fix: DROP INDEX CONCURRENTLY IF EXISTS before it: the second run clears up after the first.
Silent when: the migration drops an index of that name before; IF NOT EXISTS (migration/invalid-index-hidden
    speaks of that); the same set created the table; the index has no name (it gets another one then); the
    statement stands in a transaction, where it cannot run at all.
Source: PostgreSQL manual, CREATE INDEX, "Building Indexes Concurrently"; strong_migrations.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext
from sqladvisor.migrate.dependents import dropped_names
from sqladvisor.rule import rule
from sqladvisor.sql.quote import qualified
from sqladvisor.sql.statement import Node

SCHEMA = "CREATE TABLE users (id bigint PRIMARY KEY, email text);"
BAD = [
    "CREATE INDEX CONCURRENTLY users_email ON users (email);",
    'CREATE UNIQUE INDEX CONCURRENTLY "Mail" ON public.users (email);',
]
GOOD = [
    "DROP INDEX CONCURRENTLY IF EXISTS users_email;\n"
    "CREATE INDEX CONCURRENTLY users_email ON users (email);",
    "CREATE INDEX CONCURRENTLY IF NOT EXISTS users_email ON users (email);",
    "CREATE TABLE t (a int); CREATE INDEX CONCURRENTLY i ON t (a);",
    "CREATE INDEX users_email ON users (email);",
    "CREATE INDEX CONCURRENTLY ON users (email);",
]


@rule("IndexStmt", severity="info")
def check(node: Node, ctx: MigrationContext) -> Iterator[Finding]:
    name = str(node.get("idxname", ""))
    if not node.get("concurrent") or not name or node.get("if_not_exists"):
        return
    table = ctx.table()
    if not table.settled:
        return
    cleared = any(
        c.statement.kind == "DropStmt"
        and any(dropped == name for _, dropped in dropped_names(c.statement.tree))
        for c in ctx.before
    )
    if cleared or ctx.transaction.inside:
        return
    schema = table.key[0] if table.qualified else None
    yield ctx.finding(
        None,
        f"if it fails halfway, {name} stays behind invalid: it slows writes to {table.shown}, and running "
        "this again stops at its name",
        table=table,
        fixes=[
            ctx.sequence(
                "clear up after a failed run first",
                f"DROP INDEX CONCURRENTLY IF EXISTS {qualified(schema, name)}",
                ctx.statement.sql,
            )
        ],
    )
