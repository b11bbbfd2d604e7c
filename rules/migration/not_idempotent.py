"""A migration outside a transaction stops at what it did before, when it is run again.

Why: without a transaction each statement is committed by itself. When a later one fails, the earlier ones
    stay; the runner tries the whole file again, and that stops at the first thing that exists already (or
    is gone already).
Fix: IF NOT EXISTS and IF EXISTS, or one statement to a file, or a transaction where the statements
    allow one.
Silent when: a transaction is around the statements; there is one statement only, or only the last could
    fail this way; the statements say IF [NOT] EXISTS or OR REPLACE; nobody knows how the files are run
    (plain files without CONCURRENTLY).
Source: PostgreSQL manual, CREATE TABLE, "IF NOT EXISTS"; squawk prefer-robust-stmts; eugene.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext
from sqladvisor.rule import MIGRATION, rule
from sqladvisor.sql.statement import Node, Statement
from sqladvisor.sql.tree import unwrap

SCHEMA = "CREATE TABLE users (id bigint PRIMARY KEY);"
BAD = [
    "CREATE TABLE logs (id bigint);\nCREATE INDEX CONCURRENTLY IF NOT EXISTS i ON users (id);",
    {
        "001_a.sql": "-- +goose Up\n-- +goose NO TRANSACTION\nALTER TABLE users ADD COLUMN a int;\n"
        "DROP TABLE old;\nSELECT 1;\n-- +goose Down\nSELECT 1;\n"
    },
]
GOOD = [
    "BEGIN; CREATE TABLE logs (id bigint); CREATE INDEX j ON logs (id); COMMIT;\n"
    "CREATE INDEX CONCURRENTLY i ON users (id);",
    "CREATE TABLE IF NOT EXISTS logs (id bigint);\nCREATE INDEX CONCURRENTLY i ON users (id);",
    "CREATE INDEX CONCURRENTLY i ON users (id);",
    "CREATE TABLE logs (id bigint); CREATE TABLE more (id bigint);",
    {
        "001_a.sql": "-- +goose Up\nCREATE TABLE a (id int);\nCREATE TABLE b (id int);\n"
        "-- +goose Down\nDROP TABLE a;\nDROP TABLE b;\n"
    },
    {
        "001_a.sql": "-- +goose Up\n-- +goose NO TRANSACTION\nDROP TABLE old;\n-- +goose Down\nSELECT 1;\n"
    },
]
_CREATES = frozenset(
    ("CreateStmt", "IndexStmt", "CreateSeqStmt", "CreateSchemaStmt", "CreateExtensionStmt",
     "CreateTableAsStmt", "CreateEnumStmt", "CompositeTypeStmt", "CreateDomainStmt", "CreateTrigStmt",
     "CreatePolicyStmt", "ViewStmt", "CreateFunctionStmt")
)  # fmt: skip


@rule(MIGRATION, severity="info")
def check(contexts: Sequence[MigrationContext], ctx: MigrationContext) -> Iterator[Finding]:
    if ctx.migrations.runner == "plain" and not any(_concurrent(c.statement) for c in contexts):
        return
    fragile = [c for c in contexts[:-1] if not c.transaction.inside and _stops(c.statement)]
    if not fragile:
        return
    first = fragile[0]
    first.rule = ctx.rule
    more = f", and {len(fragile) - 1} more like it" if len(fragile) > 1 else ""
    yield first.finding(
        None,
        "outside a transaction: once a later statement has failed, running the file again stops here"
        f"{more} (IF [NOT] EXISTS lets it go on)",
    )


def _concurrent(statement: Statement) -> bool:
    return statement.kind in ("IndexStmt", "DropStmt") and bool(statement.tree.get("concurrent"))


def _stops(statement: Statement) -> bool:
    """Whether a statement fails when its effect is there already."""
    kind, node = statement.kind, statement.tree
    if node.get("relation", {}).get("relpersistence") == "t":
        return False
    if kind in _CREATES:
        return not (node.get("if_not_exists") or node.get("replace"))
    if kind == "DropStmt":
        return not node.get("missing_ok")
    if kind == "AlterTableStmt":
        return any(_command_stops(unwrap(c)[1]) for c in node.get("cmds", ()))
    return kind == "RenameStmt"


def _command_stops(command: Node) -> bool:
    if command.get("subtype") in ("AT_AddColumn", "AT_DropColumn", "AT_DropConstraint"):
        return not command.get("missing_ok")
    return command.get("subtype") == "AT_AddConstraint"
