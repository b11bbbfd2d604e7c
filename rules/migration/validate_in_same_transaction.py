"""A constraint is validated in the transaction that added it: the lock of the ADD is held meanwhile.

Why: NOT VALID is short so that its strong lock is; VALIDATE CONSTRAINT in the same transaction reads the
    whole table while the lock of ADD CONSTRAINT (ACCESS EXCLUSIVE, for foreign keys SHARE ROW EXCLUSIVE on
    both tables) is still held. Nothing is won over adding it checked.
Fix: VALIDATE CONSTRAINT in a migration, or a transaction, of its own.
Silent when: the same set created the table; the validation runs after COMMIT, or in a later file; the
    runner does not wrap the file.
Source: PostgreSQL manual, ALTER TABLE, Notes; 13.3.1 "Table-Level Locks" (locks last to the end of the
    transaction); strong_migrations.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext
from sqladvisor.migrate.locks import BLOCKS, Mode
from sqladvisor.rule import rule
from sqladvisor.sql.quote import identifier
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import unwrap

SCHEMA = """CREATE TABLE users (id bigint PRIMARY KEY);
CREATE TABLE orders (id bigint PRIMARY KEY, total numeric, user_id bigint);"""
_ADD = "ALTER TABLE orders ADD CONSTRAINT c CHECK (total >= 0) NOT VALID;"
_VALIDATE = "ALTER TABLE orders VALIDATE CONSTRAINT c;"
BAD = [
    f"BEGIN; {_ADD}\n{_VALIDATE} COMMIT;",
    f"-- runner: goose\n-- +goose Up\n{_ADD}\n{_VALIDATE}\n",
    "ALTER TABLE orders ADD CONSTRAINT f FOREIGN KEY (user_id) REFERENCES users NOT VALID,\n"
    "  VALIDATE CONSTRAINT f;",
]
GOOD = [
    f"{_ADD}\n{_VALIDATE}",
    {"1.sql": f"BEGIN; {_ADD} COMMIT;", "2.sql": f"BEGIN; {_VALIDATE} COMMIT;"},
    f"-- runner: goose\n-- +goose NO TRANSACTION\n-- +goose Up\n{_ADD}\n{_VALIDATE}\n",
    f"BEGIN; {_ADD} COMMIT;\nBEGIN; {_VALIDATE} COMMIT;",
    "BEGIN; CREATE TABLE t (a int);\nALTER TABLE t ADD CONSTRAINT c CHECK (a > 0) NOT VALID;\n"
    "ALTER TABLE t VALIDATE CONSTRAINT c; COMMIT;",
]


@rule("AT_ValidateConstraint", severity="error")
def check(command: Node, ctx: MigrationContext) -> Iterator[Finding]:
    table, name = ctx.table(), str(command.get("name", ""))
    if not table.settled:
        return
    for earlier in (*ctx.together, ctx):
        mode = _adds(earlier, name, table.key, ctx)
        if mode is None:
            continue
        yield ctx.finding(
            None,
            f"VALIDATE CONSTRAINT {name} reads all of {table.shown} while the {mode} of its ADD "
            f"CONSTRAINT is still held, which blocks {BLOCKS[mode]}",
            table=table,
            lock=mode,
            work="scan",
            fixes=[
                ctx.sequence(
                    "in a transaction of its own, after COMMIT",
                    f"ALTER TABLE {table.sql} VALIDATE CONSTRAINT {identifier(name)}",
                )
            ],
        )
        return


def _adds(
    earlier: MigrationContext, name: str, key: tuple[str, str], ctx: MigrationContext
) -> Mode | None:
    """The lock under which a statement adds the constraint, None if it does not."""
    tree = earlier.statement.tree
    if earlier.statement.kind != "AlterTableStmt" or ctx.state.key(tree["relation"]) != key:
        return None
    for wrapped in tree.get("cmds", ()):
        command = unwrap(wrapped)[1]
        constraint = unwrap(command.get("def", {}))[1]
        if command.get("subtype") == "AT_AddConstraint" and constraint.get("conname") == name:
            foreign = constraint.get("contype") == "CONSTR_FOREIGN"
            return "SHARE ROW EXCLUSIVE" if foreign else "ACCESS EXCLUSIVE"
    return None
