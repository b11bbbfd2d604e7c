"""TRUNCATE removes all rows of a table, and with CASCADE those of every table that refers to it.

Why: it takes ACCESS EXCLUSIVE on each of these tables, fires no DELETE triggers, and transactions that see
    an older snapshot find the tables empty. A foreign key makes it fail, or with CASCADE it empties the
    referring tables too, which the statement does not name.
Fix: name every table that is to be emptied, without CASCADE; to remove some rows, DELETE in batches.
Silent when: the same set created the table, or it is temporary.
Source: PostgreSQL manual, TRUNCATE; squawk ban-truncate-cascade.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqladvisor.catalog.ddl_state import Key
from sqladvisor.finding import Finding, Fix, Severity
from sqladvisor.migrate.context import MigrationContext, Table, blocks
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
    cascades = node.get("behavior") == "DROP_CASCADE"
    keys = [t.key for t in named]
    reached: dict[Key, Key] = {}  # each with the table that it refers to
    for key in keys:  # grows while it is gone through
        for other, _ in foreign_keys_to(ctx, ctx.table(*key)):
            if other not in keys:
                keys.append(other)
                reached[other] = key
    used = [t for t in named if t.settled]
    for table in used:
        fails = ""
        if reached and not cascades:
            other, key = next(iter(reached.items()))
            fails = f"; it fails, for {shown(ctx, other)} refers to {shown(ctx, key)}"
        yield _emptied(ctx, table, fails, "error" if fails else None)
    for other, key in reached.items() if cascades and used else ():
        every = ", ".join(written(ctx, k) for k in keys)
        fix = ctx.sequence("if that is meant, name them", f"TRUNCATE {every}")
        why = f": CASCADE takes it along, for it refers to {shown(ctx, key)}"
        yield _emptied(ctx, ctx.table(*other), why, "error", [fix])


def _emptied(
    ctx: MigrationContext,
    table: Table,
    tail: str,
    severity: Severity | None,
    fixes: Sequence[Fix] = (),
) -> Finding:
    return ctx.finding(
        None,
        f"TRUNCATE empties {shown(ctx, table.key)} and {blocks('ACCESS EXCLUSIVE')}{tail}",
        table=table,
        lock="ACCESS EXCLUSIVE",
        severity=severity,
        fixes=fixes,
    )
