"""A view is dropped: code that is still deployed reads it and fails.

Why: DROP VIEW takes ACCESS EXCLUSIVE on the view, so it waits for queries that read it and others wait
    behind it. A materialized view's rows have to be computed anew if it is made again.
Fix: release code that no longer reads it first. To change its query: CREATE OR REPLACE VIEW, which keeps
    name, grants and dependents; columns can be added at its end.
Silent when: the same set created the view; the same migration makes a view or table of that name; IF EXISTS
    names a view that the starting schema does not have.
Source: PostgreSQL manual, DROP VIEW; CREATE VIEW, "OR REPLACE".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext, blocks
from sqladvisor.migrate.dependents import drops_and_makes_again
from sqladvisor.rule import rule
from sqladvisor.sql.statement import Node

SCHEMA = """CREATE TABLE users (id bigint PRIMARY KEY); CREATE VIEW adults AS SELECT id FROM users;
CREATE MATERIALIZED VIEW totals AS SELECT count(*) AS n FROM users;"""
BAD = [
    "DROP VIEW adults;",
    "DROP MATERIALIZED VIEW IF EXISTS totals;",
]
GOOD = [
    "CREATE VIEW v AS SELECT 1 AS a; DROP VIEW v;",
    "DROP VIEW adults; CREATE VIEW adults AS SELECT id, id AS key FROM users;",
    "DROP VIEW IF EXISTS never_there;",
    "CREATE OR REPLACE VIEW adults AS SELECT id FROM users WHERE id > 0;",
]


@rule("DropStmt", severity="warning")
def check(node: Node, ctx: MigrationContext) -> Iterator[Finding]:
    kind = str(node.get("removeType", ""))
    if kind not in ("OBJECT_VIEW", "OBJECT_MATVIEW"):
        return
    what = "DROP VIEW" if kind == "OBJECT_VIEW" else "DROP MATERIALIZED VIEW"
    for item in node.get("objects", ()):
        view = ctx.table_from(item)
        gone = view.relation is None and ctx.state.complete and node.get("missing_ok")
        if view.new or gone:
            continue
        if drops_and_makes_again(ctx, view.key[1], ("ViewStmt", "CreateTableAsStmt", "CreateStmt")):
            continue
        yield ctx.finding(
            None,
            f"{what} {view.shown} {blocks('ACCESS EXCLUSIVE')} of it, and code that is still deployed and "
            "reads it fails",
            table=view,
            lock="ACCESS EXCLUSIVE",
            fixes=[
                ctx.sequence(
                    "once no deployed code reads it",
                    "SET lock_timeout = '5s'",
                    f"{what} {view.sql}",
                )
            ],
        )
