"""A value added to an enum is used in the same transaction: PostgreSQL refuses it.

Why: a new enum value can be used only after the transaction that added it has committed ("unsafe use of new
    value"). Before PostgreSQL 12 ALTER TYPE … ADD VALUE is refused in a transaction block altogether.
Fix: ALTER TYPE … ADD VALUE in a migration of its own.
Silent when: the type was created in the same transaction; it is used after COMMIT; outside a transaction.
Source: PostgreSQL manual, ALTER TYPE, Notes; release notes 12.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext
from sqladvisor.rule import MIGRATION, rule
from sqladvisor.sql.tree import names, walk

SCHEMA = "CREATE TYPE mood AS ENUM ('sad'); CREATE TABLE users (id bigint PRIMARY KEY, m mood);"
BAD = [
    "BEGIN; ALTER TYPE mood ADD VALUE 'fine';\nUPDATE users SET m = 'fine' WHERE id = 1; COMMIT;",
    "-- runner: goose\n-- +goose Up\nALTER TYPE mood ADD VALUE IF NOT EXISTS 'fine' AFTER 'sad';\n"
    "ALTER TABLE users ALTER COLUMN m SET DEFAULT 'fine';\n",
    "-- pg_version: 11\nBEGIN; ALTER TYPE mood ADD VALUE 'fine'; COMMIT;",
]
GOOD = [
    "ALTER TYPE mood ADD VALUE 'fine';\nUPDATE users SET m = 'fine' WHERE id = 1;",
    "BEGIN; ALTER TYPE mood ADD VALUE 'fine'; COMMIT;",
    "BEGIN; CREATE TYPE t AS ENUM ('a'); ALTER TYPE t ADD VALUE 'b'; CREATE TABLE x (c t DEFAULT 'b'); COMMIT;",
    "BEGIN; ALTER TYPE mood ADD VALUE 'fine'; COMMIT; BEGIN; SELECT 'fine'::mood; COMMIT;",
]
IN_TRANSACTION_SINCE = 12


@rule(MIGRATION, severity="error")
def check(contexts: Sequence[MigrationContext], first: MigrationContext) -> Iterator[Finding]:
    added: dict[int, dict[str, str]] = {}
    created: set[tuple[int, str]] = set()
    for ctx in contexts:
        number, tree = ctx.transaction.number, ctx.statement.tree
        if not number:
            continue
        ctx.rule = first.rule
        type_ = (
            names(tree.get("typeName") if isinstance(tree.get("typeName"), list) else None) or ("",)
        )[-1]
        if ctx.statement.kind == "CreateEnumStmt":
            created.add((number, type_))
        elif (
            ctx.statement.kind == "AlterEnumStmt" and tree.get("newVal") and not tree.get("oldVal")
        ):
            if (number, type_) in created:
                continue
            added.setdefault(number, {})[str(tree["newVal"])] = type_
            if ctx.pg_version < IN_TRANSACTION_SINCE:
                yield ctx.finding(
                    None,
                    f"before PostgreSQL {IN_TRANSACTION_SINCE} ALTER TYPE … ADD VALUE is refused inside a "
                    "transaction",
                )
        elif added.get(number):
            for kind, node in walk(ctx.statement.kind, tree):
                value = node.get("sval", {}).get("sval") if kind == "A_Const" else None
                if value in added[number]:
                    yield ctx.finding(
                        node,
                        f"'{value}' of {added[number][value]} was added in this transaction: PostgreSQL "
                        "refuses its use before COMMIT",
                    )
                    break
