"""CREATE INDEX CONCURRENTLY IF NOT EXISTS takes an invalid index of a failed build for the one it wants.

Why: a concurrent build that fails (a duplicate, a timeout, a cancel) leaves its index behind, invalid: it
    slows writes and serves no query. Run again, IF NOT EXISTS finds the name taken and does nothing, and the
    migration counts as applied.
Fix: DROP INDEX CONCURRENTLY IF EXISTS before it, and no IF NOT EXISTS.
Silent when: the same migration drops the index first; without CONCURRENTLY, where a failed build leaves
    nothing.
Source: PostgreSQL manual, CREATE INDEX, "Building Indexes Concurrently" and "IF NOT EXISTS"; GitLab's
    migration helpers.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext
from sqladvisor.rule import rule
from sqladvisor.sql.quote import identifier, qualified
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import names, unwrap

SCHEMA = "CREATE TABLE users (id bigint PRIMARY KEY, email text);"
BAD = [
    "CREATE INDEX CONCURRENTLY IF NOT EXISTS ue ON users (email);",
    "DROP INDEX CONCURRENTLY IF EXISTS other;\n"
    "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS ue ON unknown (email);",
]
GOOD = [
    "DROP INDEX CONCURRENTLY IF EXISTS ue;\nCREATE INDEX CONCURRENTLY ue ON users (email);",
    "DROP INDEX CONCURRENTLY IF EXISTS ue;\nCREATE INDEX CONCURRENTLY IF NOT EXISTS ue ON users (email);",
    "CREATE TABLE t (a int); CREATE INDEX IF NOT EXISTS ta ON t (a);",
]


@rule("IndexStmt", severity="warning")
def check(node: Node, ctx: MigrationContext) -> Iterator[Finding]:
    if not (node.get("concurrent") and node.get("if_not_exists")):
        return
    name, table = str(node.get("idxname", "")), ctx.table()
    if table.new or any(_drops(earlier, name) for earlier in ctx.before):
        return
    sql = ctx.statement.sql
    tokens = ctx.spans.tokens
    at = next((i for i, t in enumerate(tokens) if t[2] == "IF_P"), None)
    built = sql
    if at is not None:
        built = sql[: tokens[at][0]] + sql[tokens[at + 2][1] :].lstrip()
    schema = node["relation"].get("schemaname")
    yield ctx.finding(
        None,
        f"if a build of {name} has failed before, IF NOT EXISTS keeps the invalid index it left and builds "
        "none",
        table=table,
        fixes=[
            ctx.sequence(
                "outside a transaction",
                f"DROP INDEX CONCURRENTLY IF EXISTS {qualified(schema, name) if schema else identifier(name)}",
                built,
            )
        ],
    )


def _drops(earlier: MigrationContext, name: str) -> bool:
    tree = earlier.statement.tree
    return tree.get("removeType") == "OBJECT_INDEX" and any(
        (names(unwrap(o)[1].get("items")) or ("",))[-1] == name for o in tree.get("objects", ())
    )
