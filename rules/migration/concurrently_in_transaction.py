"""A statement that PostgreSQL refuses inside a transaction runs inside one: the migration fails.

Why: CREATE INDEX, DROP INDEX, REINDEX and DETACH PARTITION with CONCURRENTLY, VACUUM, CREATE DATABASE, ALTER
    SYSTEM and some others cannot run in a transaction block. Many runners open one around each file; and
    those that send a file as one message make PostgreSQL do so where it holds several statements.
Fix: the runner's mark for no transaction, and the statement in a file of its own where the runner sends
    files as one message.
Silent when: no transaction is open: the runner's own mark, autocommit, or COMMIT before it.
Source: PreventInTransactionBlock() in src/backend/access/transam/xact.c; PostgreSQL manual, 53.2.2.1
    "Multiple Statements in a Simple Query"; the runners' documentation.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding, Fix
from sqladvisor.migrate.context import MigrationContext
from sqladvisor.migrate.runner_names import no_transaction
from sqladvisor.rule import rule
from sqladvisor.sql.statement import Node

SCHEMA = "CREATE TABLE users (id bigint PRIMARY KEY, email text);"
_BUILD = "CREATE INDEX CONCURRENTLY i ON users (email);"
BAD = [
    f"BEGIN;\n{_BUILD}\nCOMMIT;",
    f"-- runner: goose\n-- +goose Up\n{_BUILD}\n",
    {"1_a.up.sql": f"-- runner: golang-migrate\nSELECT 1;\n{_BUILD}"},
    {"1_a.sql": f"-- migrate:up\n{_BUILD}\n-- migrate:down\nDROP INDEX CONCURRENTLY i;\n"},
    {"20240101000000_a/migration.sql": f"ALTER TABLE users ADD COLUMN a int;\n{_BUILD}"},
    "BEGIN; VACUUM users; COMMIT;",
    "BEGIN; ALTER TABLE p DETACH PARTITION q CONCURRENTLY; COMMIT;",
    "BEGIN; CREATE TABLE t (a int); CREATE INDEX CONCURRENTLY ON t (a); COMMIT;",
]
GOOD = [
    _BUILD,
    f"BEGIN; SELECT 1; COMMIT;\n{_BUILD}",
    f"-- runner: goose\n-- +goose NO TRANSACTION\n-- +goose Up\nSELECT 1;\n{_BUILD}\n",
    {"1_a.up.sql": f"-- runner: golang-migrate\n{_BUILD}"},
    {"1_a.sql": f"-- migrate:up transaction:false\n{_BUILD}\n-- migrate:down\nDROP INDEX i;\n"},
    {"20240101000000_a/migration.sql": _BUILD},
    {
        "V1__a.sql": f"{_BUILD}",
        "V2__b.sql": f"SELECT 1;\n{_BUILD}",
        "V2__b.sql.conf": "executeInTransaction=false\n",
    },
    {"1_a.sql": f"-- no-transaction\n-- runner: sqlx\n{_BUILD}"},
    {"1_a.sql": f"-- atlas:txmode none\n\n{_BUILD}\nSELECT 1;"},
]
_MARKS = {
    "goose": "-- +goose NO TRANSACTION",
    "dbmate": "-- migrate:up transaction:false, with the statement alone in it",
    "flyway": "executeInTransaction=false in a file named like it with .conf behind",
    "sqlx": "-- no-transaction on the first line, with the statement alone in the file",
    "diesel": "run_in_transaction = false in metadata.toml, with the statement alone in up.sql",
    "atlas": "-- atlas:txmode none",
    "golang-migrate": "the statement alone in a file",
    "prisma": "the statement alone in a migration",
    "supabase": "the statement alone in a file",
    "django": "atomic = False in the migration, and AddIndexConcurrently",
    "alembic": "with op.get_context().autocommit_block():",
    "drizzle": "drizzle runs all that is pending in one transaction: apply it by hand, outside",
    "node-pg-migrate": "pgm.noTransaction() in a JavaScript migration, or --no-transaction",
}


@rule(
    "IndexStmt", "DropStmt", "ReindexStmt", "VacuumStmt", "AlterTableStmt", "CreatedbStmt", "DropdbStmt",
    "AlterSystemStmt", "CreateTableSpaceStmt", "DropTableSpaceStmt", severity="error",
)  # fmt: skip
def check(node: Node, ctx: MigrationContext) -> Iterator[Finding]:
    if not ctx.transaction.inside or not no_transaction(ctx.statement):
        return
    runner = ctx.migrations.runner
    if ctx.transaction.by == "file":
        opened, mark = "a BEGIN above is still open", "COMMIT before it"
    elif runner in ("golang-migrate", "prisma", "supabase"):
        opened, mark = f"{runner} sends the file's statements as one", _MARKS[runner]
    else:
        opened, mark = f"{runner} opens one around the file", _MARKS.get(runner, "")
    words = " ".join(ctx.statement.text.split()[:3])
    fixes: list[Fix] = []
    if mark:
        fixes = [
            Fix(f"for {runner}: {mark}" if ctx.transaction.by == "runner" else mark, "", "advice")
        ]
    yield ctx.finding(
        None,
        f"PostgreSQL refuses this inside a transaction, and {opened}: {words} … fails",
        fixes=fixes,
    )
