"""CLUSTER or VACUUM FULL writes a whole table anew while all access to it waits.

Why: both hold ACCESS EXCLUSIVE while table and indexes are written anew; neither belongs into a
    migration, and VACUUM cannot run inside a transaction at all.
Fix: pg_repack or pg_squeeze do it online; plain VACUUM makes the space of dead rows free for new ones
    without blocking anybody.
Silent when: the same set created the table, or it is temporary.
Source: PostgreSQL manual, CLUSTER; VACUUM, "FULL"; 24.1.2 "Recovering Disk Space".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext, blocks
from sqladvisor.rule import rule
from sqladvisor.sql.statement import Node

SCHEMA = "CREATE TABLE users (id bigint PRIMARY KEY);"
BAD = [
    "CLUSTER users USING users_pkey;",
    "VACUUM FULL users;",
    "VACUUM (FULL, ANALYZE) users;",
    "VACUUM FULL;",
]
GOOD = [
    "VACUUM users;",
    "VACUUM (FULL false) users;",
    "ANALYZE users;",
    "CREATE TABLE t (a int PRIMARY KEY); CLUSTER t USING t_pkey;",
]


@rule("ClusterStmt", "VacuumStmt", severity="error")
def check(node: Node, ctx: MigrationContext) -> Iterator[Finding]:
    verb = "CLUSTER" if ctx.statement.kind == "ClusterStmt" else "VACUUM FULL"
    for lock, table in ctx.locks:
        if lock.mode != "ACCESS EXCLUSIVE" or not table.settled:
            continue
        steps = (
            []
            if verb == "CLUSTER"
            else [
                ctx.sequence(
                    "make the space free for new rows, while all goes on", f"VACUUM {table.sql}"
                )
            ]
        )
        yield ctx.finding(
            None,
            f"{verb} of {table.shown} {blocks('ACCESS EXCLUSIVE')} while table and indexes are rewritten",
            table=table,
            lock="ACCESS EXCLUSIVE",
            work="rewrite",
            fixes=steps,
        )
    if verb == "VACUUM FULL" and not ctx.locks and _full(node) and not node.get("rels"):
        yield ctx.finding(
            None,
            f"VACUUM FULL of the whole database {blocks('ACCESS EXCLUSIVE')} of one table after another",
            lock="ACCESS EXCLUSIVE",
            work="rewrite",
        )


def _full(node: Node) -> bool:
    options = [o.get("DefElem", {}) for o in node.get("options", ())]
    return any(o.get("defname") == "full" and "arg" not in o for o in options)
