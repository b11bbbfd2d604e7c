"""A table is renamed: code that is still deployed looks for the old name and fails.

Why: RENAME takes ACCESS EXCLUSIVE, for a moment. Old and new code run side by side while a release rolls
    out; one of them does not find its table.
Fix: a view of the old name in the same transaction. A view of one table's columns can be read and
    written like the table; drop it when the old code is gone.
Silent when: the same set created the table; the same migration puts a view or another table in the old
    name's place (as when tables are swapped); it is a partition, which code does not name.
Source: PostgreSQL manual, ALTER TABLE, "RENAME"; CREATE VIEW, "Updatable Views"; squawk renaming-table;
    strong_migrations rename_table.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext, blocks
from sqladvisor.migrate.dependents import drops_and_makes_again, is_partition
from sqladvisor.rule import rule
from sqladvisor.sql.quote import identifier, qualified
from sqladvisor.sql.statement import Node

SCHEMA = """CREATE TABLE users (id bigint PRIMARY KEY, email text); CREATE TABLE users_new (id bigint);
CREATE VIEW adults AS SELECT id FROM users;"""
BAD = [
    "ALTER TABLE users RENAME TO accounts;",
    'ALTER TABLE IF EXISTS public."Orders" RENAME TO orders;',
]
GOOD = [
    "ALTER TABLE users RENAME TO accounts; CREATE VIEW users AS SELECT * FROM accounts;",
    "ALTER TABLE users RENAME TO users_old; ALTER TABLE users_new RENAME TO users;",
    "CREATE TABLE t (a int); ALTER TABLE t RENAME TO u;",
    "ALTER INDEX users_pkey RENAME TO users_key;",
    "ALTER TABLE users RENAME CONSTRAINT users_pkey TO users_key;",
    "ALTER VIEW adults RENAME TO grown_ups;",
    "ALTER SEQUENCE s RENAME TO t;",
]


@rule("RenameStmt", severity="error")
def check(node: Node, ctx: MigrationContext) -> Iterator[Finding]:
    if node.get("renameType") != "OBJECT_TABLE":
        return
    table, new = ctx.table(), str(node.get("newname", ""))
    old = table.key[1]
    if not table.settled or is_partition(ctx, table):
        return
    makers = ("ViewStmt", "CreateStmt", "CreateTableAsStmt")
    back = any(s.kind == "RenameStmt" and s.tree.get("newname") == old for s in ctx.after)
    swapped = any(
        c.statement.kind == "RenameStmt" and c.statement.tree["relation"].get("relname") == new
        for c in ctx.before
        if "relation" in c.statement.tree
    )
    if back or swapped or drops_and_makes_again(ctx, old, makers):
        return
    schema = table.key[0] if table.qualified else None
    yield ctx.finding(
        None,
        f"RENAME of {table.shown} to {new} {blocks('ACCESS EXCLUSIVE')}, and code that is still deployed "
        f"fails: it looks for {old}",
        table=table,
        lock="ACCESS EXCLUSIVE",
        fixes=[
            ctx.sequence(
                "keep the old name as a view, which can be read and written, until no code uses it",
                "BEGIN",
                "SET LOCAL lock_timeout = '5s'",
                f"ALTER TABLE {table.sql} RENAME TO {identifier(new)}",
                f"CREATE VIEW {table.sql} AS SELECT * FROM {qualified(schema, new)}",
                "COMMIT",
                changes_result="a view of the old name stays for now",
            )
        ],
    )
