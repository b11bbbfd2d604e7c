"""BEGIN or COMMIT in a file that its runner wraps, or a BEGIN that nothing ends.

Why: BEGIN inside the runner's transaction is only a warning, and the file's COMMIT then ends the runner's:
    what follows runs outside any, and what the runner writes down about it too. A BEGIN without COMMIT is
    rolled back when the session ends: the migration has done nothing.
Fix: leave transactions to the runner; or use its mark for none.
Silent when: the runner does not wrap the file; runners that send the file as one message, where BEGIN makes
    the implicit transaction an explicit one.
Source: PostgreSQL manual, BEGIN, Notes; COMMIT; 53.2.2.1; squawk transaction-nesting, ban-uncommitted-
    transaction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext
from sqladvisor.rule import MIGRATION, rule

BAD = [
    "-- runner: goose\n-- +goose Up\nBEGIN;\nSELECT 1;\nCOMMIT;\n",
    "-- runner: atlas\nSELECT 1;\nCOMMIT;\nSELECT 2;",
    "BEGIN;\nCREATE TABLE t (a int);",
]
GOOD = [
    "BEGIN;\nCREATE TABLE t (a int);\nCOMMIT;",
    "-- runner: goose\n-- +goose NO TRANSACTION\n-- +goose Up\nBEGIN;\nSELECT 1;\nCOMMIT;\n",
    {"1_a.up.sql": "-- runner: golang-migrate\nBEGIN;\nSELECT 1;\nCOMMIT;\n"},
    "CREATE PROCEDURE p() LANGUAGE plpgsql AS $$ BEGIN COMMIT; END $$;",
    "-- runner: goose\n-- +goose Up\nSAVEPOINT a;\nSELECT 1;\nRELEASE a;\n",
]
_ONE_MESSAGE = frozenset(
    ("golang-migrate", "prisma", "supabase", "alembic", "sqlx", "dbmate", "diesel")
)
_BEGIN = frozenset(("TRANS_STMT_BEGIN", "TRANS_STMT_START"))
_END = frozenset(("TRANS_STMT_COMMIT", "TRANS_STMT_ROLLBACK"))


@rule(MIGRATION, severity="error")
def check(contexts: Sequence[MigrationContext], first: MigrationContext) -> Iterator[Finding]:
    runner = first.migrations.runner
    if runner == "alembic":
        return  # its text opens one transaction over many migrations
    opened: MigrationContext | None = None
    for ctx in contexts:
        if ctx.statement.kind != "TransactionStmt":
            continue
        what = str(ctx.statement.tree.get("kind", "TRANS_STMT_BEGIN"))
        ctx.rule = first.rule
        if ctx.transaction.by == "runner":
            implicit = runner in _ONE_MESSAGE and (what in _BEGIN or opened is not None)
            if what in _BEGIN:
                opened = ctx
            elif what in _END:
                opened = None
            if (what in _BEGIN or what in _END) and not implicit:
                word = ctx.statement.text.split()[0].upper()
                does = (
                    "is in a transaction already"
                    if what in _BEGIN
                    else f"ends the transaction that {runner} has opened: what follows runs outside it"
                )
                yield ctx.finding(None, f"{word} {does}")
                return
        elif what in _BEGIN:
            opened = ctx
        elif what in _END or what == "TRANS_STMT_PREPARE":
            opened = None
    if opened is not None and opened.transaction.by == "file" and runner not in _ONE_MESSAGE:
        opened.rule = first.rule
        yield opened.finding(
            None,
            "this transaction is never committed: all of it is rolled back when the session ends",
        )
