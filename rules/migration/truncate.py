"""TRUNCATE removes all rows of a table, and with CASCADE those of every table that refers to it.

Why: it takes ACCESS EXCLUSIVE on each of these tables, fires no DELETE triggers, and transactions that see
    an older snapshot find the tables empty. A foreign key makes it fail, or with CASCADE it empties the
    referring tables too, which the statement does not name.
Fix: name every table that is to be emptied, without CASCADE; to remove some rows, DELETE in batches.
Silent when: the same set created the table, or it is temporary.
Source: PostgreSQL manual, TRUNCATE; squawk ban-truncate-cascade.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext, blocks
from sqladvisor.migrate.dependents import foreign_keys_to, shown, written
from sqladvisor.rule import rule
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import unwrap

SCHEMA = """CREATE TABLE users (id bigint PRIMARY KEY); CREATE TABLE logs (id bigint);
CREATE TABLE orders (id bigint PRIMARY KEY, user_id bigint REFERENCES users);
CREATE TABLE lines (order_id bigint REFERENCES orders);"""
BAD = [
    "TRUNCATE logs;",
    "TRUNCATE users CASCADE;",
    "TRUNCATE TABLE unknown, logs RESTART IDENTITY;",
]
GOOD = [
    "CREATE TABLE t (a int); TRUNCATE t;",
    "CREATE TEMP TABLE scratch (a int); TRUNCATE scratch;",
    "DELETE FROM logs WHERE id = 1;",
    "CREATE FUNCTION f() RETURNS void LANGUAGE sql AS 'TRUNCATE logs';",
]


@rule("TruncateStmt", severity="warning")
def check(node: Node, ctx: MigrationContext) -> Iterator[Finding]:
    named = [ctx.table(unwrap(item)[1]) for item in node.get("relations", ())]
    keys = [t.key for t in named]
    for table in named:
        if not table.settled:
            continue
        reached = list(keys)
        for key in reached:  # grows while it is gone through
            other = ctx.table(*key)
            reached += [k for k, _ in foreign_keys_to(ctx, other) if k not in reached]
        more = [k for k in reached if k not in keys]
        cascades = node.get("behavior") == "DROP_CASCADE"
        tail = ""
        fixes = []
        if more and cascades:
            tail = f", and with CASCADE those of {', '.join(shown(ctx, k) for k in more)}"
            every = ", ".join(written(ctx, k) for k in reached)
            fixes = [ctx.sequence("if that is meant, name them", f"TRUNCATE {every}")]
        elif more:
            tail = f"; it fails, for {shown(ctx, more[0])} refers to it"
        yield ctx.finding(
            None,
            f"TRUNCATE {table.shown} {blocks('ACCESS EXCLUSIVE')} and removes all its rows{tail}",
            table=table,
            lock="ACCESS EXCLUSIVE",
            severity="error" if more else None,
            fixes=fixes,
        )
        if cascades:
            return
