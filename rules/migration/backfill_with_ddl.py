"""Rows are written in bulk in the transaction of a schema change: its lock is held until they are done.

Why: the lock of ALTER TABLE, DROP or CREATE INDEX lasts to the end of the transaction. An UPDATE over many
    rows behind it, in the same transaction, makes a lock of milliseconds one of minutes.
Fix: the schema change in one migration, the rows in another (in batches, outside a transaction).
Silent when: the schema change is of tables that are new in the set; the rows are few by their condition (a
    key, a range, LIMIT) or the written table is known to be small or is new and filled from VALUES; outside
    a transaction.
Source: PostgreSQL manual, 13.3.1; strong_migrations "backfilling data"; eugene E4.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext
from sqladvisor.migrate.locks import BLOCKS
from sqladvisor.migrate.writes import goes_through_all
from sqladvisor.rule import rule
from sqladvisor.sql.statement import Node

SCHEMA = "CREATE TABLE users (id bigint PRIMARY KEY, email text); CREATE TABLE log (a int, b text);"
BAD = [
    "BEGIN;\nALTER TABLE users ADD COLUMN low text;\nUPDATE users SET low = lower(email);\nCOMMIT;",
    "-- runner: goose\n-- +goose Up\nALTER TABLE users ADD COLUMN a int;\n"
    "DELETE FROM log WHERE b IS NULL;\n",
    "BEGIN; ALTER TABLE users ADD COLUMN a int;\nCREATE TABLE n AS SELECT 1 AS id;\n"
    "INSERT INTO n SELECT id FROM users;\nCOMMIT;",
]
GOOD = [
    "ALTER TABLE users ADD COLUMN low text;\nUPDATE users SET low = lower(email);",
    "BEGIN; ALTER TABLE users ADD COLUMN low text; UPDATE users SET low = 'a' WHERE id = 1; COMMIT;",
    "BEGIN; CREATE TABLE n (a int); INSERT INTO n VALUES (1), (2); COMMIT;",
    "BEGIN; UPDATE users SET email = lower(email); COMMIT;",
    "BEGIN; ALTER TABLE users ADD COLUMN a int; INSERT INTO log VALUES (1, 'x'); COMMIT;",
    "BEGIN; CREATE TABLE n (a int); ALTER TABLE n ADD b int; INSERT INTO n SELECT id FROM users; COMMIT;",
    "BEGIN; ALTER TABLE users ADD a int; UPDATE users SET a = 1 WHERE id >= 1 AND id < 1000; COMMIT;",
]


@rule("UpdateStmt", "DeleteStmt", "InsertStmt", severity="error")
def check(node: Node, ctx: MigrationContext) -> Iterator[Finding]:
    if not ctx.held or not goes_through_all(ctx.statement.kind, node):
        return
    table = ctx.table()
    if ctx.small(table) or (table.new and ctx.statement.kind != "InsertStmt"):
        return
    earlier, lock, locked = ctx.held[0]
    verb = ctx.statement.kind.removesuffix("Stmt").upper()
    yield ctx.finding(
        None,
        f"this {verb} runs while the transaction holds {lock.mode} on {locked.shown} (line "
        f"{earlier.statement.line}), which blocks {BLOCKS[lock.mode]} until it is done",
        table=locked,
        lock=lock.mode,
        notes=("put it into a migration of its own, outside this transaction",),
    )
