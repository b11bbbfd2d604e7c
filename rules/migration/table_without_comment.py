"""A table is created without a comment that says what its rows are.

Why: who meets the table in psql, in a diagram or in a catalog of data has only its name.
Fix: COMMENT ON TABLE, in the same migration.
Silent when: the set comments on it, or drops it; partitions and temporary tables; it is not selected
    (--select design).
Source: PostgreSQL manual, COMMENT.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.catalog.ddl_state import Key
from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext
from sqladvisor.migrate.defined import created_tables
from sqladvisor.rule import MIGRATION_SET, rule
from sqladvisor.sql.tree import names, unwrap

BAD = [
    "CREATE TABLE users (id bigint PRIMARY KEY);",
    "CREATE TABLE a (id int); COMMENT ON COLUMN a.id IS 'x'; COMMENT ON TABLE a IS NULL;",
]
GOOD = [
    "CREATE TABLE users (id bigint PRIMARY KEY); COMMENT ON TABLE users IS 'Who may log in.';",
    {"1.sql": "CREATE TABLE a (id int);", "2.sql": "COMMENT ON TABLE public.a IS 'Rows of a.';"},
    "CREATE TABLE a (id int); DROP TABLE a;",
    "CREATE TEMP TABLE scratch (a int);",
]


@rule(MIGRATION_SET, severity="info", opt_in="design")
def check(contexts: list[MigrationContext], ctx: MigrationContext) -> Iterator[Finding]:
    commented: set[Key] = set()
    for own in contexts:
        node = own.statement.tree
        if own.statement.kind == "CommentStmt" and node.get("objtype") == "OBJECT_TABLE":
            parts = names(unwrap(node["object"])[1].get("items"))
            if parts and node.get("comment"):
                schema = parts[-2] if len(parts) > 1 else None
                commented.add(own.state.key({"schemaname": schema, "relname": parts[-1]}))
    for own in created_tables(contexts):
        table = own.table()
        if table.key not in commented and table.key in own.state.builder.state.relations:
            own.rule = ctx.rule
            yield own.finding(
                own.name_span(own.statement.tree["relation"]),
                f"{table.shown} has no comment that says what its rows are",
            )
