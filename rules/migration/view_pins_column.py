"""A column that a view reads is dropped or changes its type: the statement fails.

Why: PostgreSQL keeps a view's dependency on each column. ALTER COLUMN … TYPE fails with "cannot alter type
    of a column used by a view or rule", DROP COLUMN with "cannot drop column … because other objects
    depend on it". A test database that lacks the view does not show it.
Fix: drop the view, change the column, make the view again, in one transaction; grants on the view have to
    be given again.
Silent when: the migration drops the view before; DROP … CASCADE (migration/drop-cascade tells that).
Source: PostgreSQL manual, 5.15 "Dependency Tracking"; ATPrepAlterColumnType() in
    src/backend/commands/tablecmds.c.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext
from sqladvisor.migrate.dependents import shown, views_on, written
from sqladvisor.rule import rule
from sqladvisor.sql.statement import Node

SCHEMA = """CREATE TABLE users (id bigint PRIMARY KEY, email varchar(100), name text, age int);
CREATE VIEW mails AS SELECT email FROM users WHERE age > 17;
CREATE VIEW everything AS SELECT u.* FROM users u;"""
BAD = [
    "ALTER TABLE users ALTER COLUMN email TYPE text;",
    "ALTER TABLE users DROP COLUMN age;",
    "DROP VIEW mails; ALTER TABLE users ALTER COLUMN name TYPE varchar(10);",
]
GOOD = [
    "DROP VIEW mails, everything; ALTER TABLE users ALTER COLUMN email TYPE text;",
    "ALTER TABLE users DROP COLUMN age CASCADE;",
    "DROP VIEW mails; DROP VIEW everything; ALTER TABLE users DROP COLUMN name;",
    "ALTER TABLE users ALTER COLUMN email SET DEFAULT '';",
    "CREATE TABLE t (email text); ALTER TABLE t DROP COLUMN email;",
]


@rule("AT_AlterColumnType", "AT_DropColumn", severity="error")
def check(command: Node, ctx: MigrationContext) -> Iterator[Finding]:
    table, name = ctx.table(), str(command.get("name", ""))
    if table.relation is None or command.get("behavior") == "DROP_CASCADE":
        return
    views = views_on(ctx, table, name)
    if not views:
        return
    dropping = command["subtype"] == "AT_DropColumn"
    verb = "DROP COLUMN" if dropping else "ALTER COLUMN … TYPE"
    told = ", ".join(shown(ctx, (v.schema, v.name)) for v in views)
    steps = ["BEGIN"]
    for view in reversed(views):
        steps.append(f"DROP {_kind(view.kind)} {written(ctx, (view.schema, view.name))}")
    steps.append(ctx.statement.sql)
    for view in views if not dropping else ():
        made = f"CREATE {_kind(view.kind)} {written(ctx, (view.schema, view.name))}"
        steps.append(f"{made} AS {(view.definition or '').rstrip('; ')}")
    steps += ["-- make the views again, without the column"] * dropping
    yield ctx.finding(
        None,
        f"{verb} of {table.shown}.{name} fails: {told} {'read' if len(views) > 1 else 'reads'} it",
        fixes=[
            ctx.sequence("drop the views and make them again, in one transaction", *steps, "COMMIT")
        ],
    )


def _kind(kind: str) -> str:
    return "MATERIALIZED VIEW" if kind == "matview" else "VIEW"
