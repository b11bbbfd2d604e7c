"""An unlogged table is empty after a crash, and always on a standby.

Why: its changes are not in the WAL: crash recovery empties it, a standby that is promoted has none of its
    rows, and backups restored to a point in time do neither.
Fix: a logged table, where the rows must not be lost; unlogged for what can be made again.
Silent when: temporary tables; it is not selected (--select design).
Source: PostgreSQL manual, CREATE TABLE, "UNLOGGED".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext
from sqladvisor.rule import rule
from sqladvisor.sql.statement import Node

BAD = [
    "CREATE UNLOGGED TABLE cache (key text PRIMARY KEY, value jsonb);",
    "CREATE UNLOGGED TABLE app.staging AS SELECT 1 AS a;",
]
GOOD = [
    "CREATE TABLE cache (key text PRIMARY KEY);",
    "CREATE TEMP TABLE scratch (a int);",
]


@rule("CreateStmt", "CreateTableAsStmt", severity="info", opt_in="design")
def check(node: Node, ctx: MigrationContext) -> Iterator[Finding]:
    relation = node.get("relation") or node.get("into", {}).get("rel", {})
    if relation.get("relpersistence") == "u":
        yield ctx.finding(
            None,
            f"{relation.get('relname')} is unlogged: a crash empties it, and a standby never has its rows",
        )
