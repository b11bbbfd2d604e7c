"""A schema is renamed, or a table moved to another one: names that say the schema are not found.

Why: code, functions, search_path settings and grants of default privileges name a schema by its name. The
    rename itself is short; ALTER TABLE … SET SCHEMA takes ACCESS EXCLUSIVE on its table. What runs
    at that moment with the old name fails.
Fix: keep the old name working: after SET SCHEMA, a view at the old place in the same transaction. For a
    whole schema, a new one with views, and code that is moved over to it.
Silent when: the same set created the schema or the table; the same migration makes a schema, view or table
    of the old name.
Source: PostgreSQL manual, ALTER SCHEMA; ALTER TABLE, "SET SCHEMA"; 5.10.3 "The Schema Search Path".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext, blocks
from sqladvisor.migrate.dependents import drops_and_makes_again
from sqladvisor.rule import rule
from sqladvisor.sql.quote import qualified
from sqladvisor.sql.statement import Node

SCHEMA = "CREATE TABLE users (id bigint PRIMARY KEY);"
BAD = [
    "ALTER SCHEMA app RENAME TO shop;",
    "ALTER TABLE users SET SCHEMA archive;",
]
GOOD = [
    "CREATE SCHEMA fresh; ALTER SCHEMA fresh RENAME TO shop;",
    "ALTER SCHEMA app RENAME TO app_old; CREATE SCHEMA app;",
    "CREATE TABLE t (a int); ALTER TABLE t SET SCHEMA archive;",
    "ALTER TABLE users SET SCHEMA archive; CREATE VIEW users AS SELECT * FROM archive.users;",
    "ALTER FUNCTION f() SET SCHEMA archive;",
]


@rule("RenameStmt", "AlterObjectSchemaStmt", severity="error")
def check(node: Node, ctx: MigrationContext) -> Iterator[Finding]:
    if node.get("renameType") == "OBJECT_SCHEMA":
        old, new = str(node.get("subname", "")), str(node.get("newname", ""))
        made = any(
            s.kind == "CreateSchemaStmt" and s.tree.get("schemaname") == old for s in ctx.after
        )
        if not made and not ctx.new_object("schema", old):
            message = (
                f"RENAME of schema {old} to {new}: code that is still deployed and says {old} fails"
            )
            yield ctx.finding(None, message)
    elif node.get("objectType") == "OBJECT_TABLE":
        table, new = ctx.table(), str(node.get("newschema", ""))
        makers = ("ViewStmt", "CreateStmt")
        if not table.settled or drops_and_makes_again(ctx, table.key[1], makers):
            return
        old_name = qualified(*table.key)
        yield ctx.finding(
            None,
            f"SET SCHEMA {new} on {table.shown} {blocks('ACCESS EXCLUSIVE')}, and code that is still "
            f"deployed does not find the table in {table.key[0]}",
            table=table,
            lock="ACCESS EXCLUSIVE",
            fixes=[
                ctx.sequence(
                    "keep it where it was as a view, until no code looks for it there",
                    "BEGIN",
                    "SET LOCAL lock_timeout = '5s'",
                    f"ALTER TABLE {table.sql} SET SCHEMA {qualified(None, new)}",
                    f"CREATE VIEW {old_name} AS SELECT * FROM {qualified(new, table.key[1])}",
                    "COMMIT",
                    changes_result="a view of the old name stays for now",
                )
            ],
        )
