"""A unique index is built on rows that are already there: a duplicate among them makes it fail.

Why: the build fails at the first duplicate; CONCURRENTLY it leaves an invalid index behind, which from then
    on refuses new duplicates all the same.
Fix: look for duplicates before, with the query given; and drop what a failed build has left.
Silent when: the same set created the table or one of the columns; a unique key of the table is among the
    columns, so that there can be none.
Source: PostgreSQL manual, CREATE INDEX, UNIQUE and "Building Indexes Concurrently".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding, Fix
from sqladvisor.migrate.context import MigrationContext, columns_sql
from sqladvisor.rule import rule
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import unwrap

SCHEMA = "CREATE TABLE users (id bigint PRIMARY KEY, email text, nick text);"
BAD = [
    "CREATE UNIQUE INDEX CONCURRENTLY ue ON users (email);",
    "CREATE UNIQUE INDEX CONCURRENTLY ue ON users (lower(email));",
    "CREATE UNIQUE INDEX CONCURRENTLY ue ON unknown (a, b);",
]
GOOD = [
    "CREATE INDEX CONCURRENTLY ue ON users (email);",
    "CREATE UNIQUE INDEX CONCURRENTLY ue ON users (email, id);",
    "CREATE TABLE t (a int); CREATE UNIQUE INDEX ON t (a);",
    "ALTER TABLE users ADD COLUMN code text;\nCREATE UNIQUE INDEX CONCURRENTLY uc ON users (code);",
]


@rule("IndexStmt", severity="info")
def check(node: Node, ctx: MigrationContext) -> Iterator[Finding]:
    table = ctx.table()
    if not node.get("unique") or not table.settled:
        return
    elements = [unwrap(e)[1] for e in node.get("indexParams", ())]
    columns = [str(e["name"]) for e in elements if "name" in e]
    if table.relation and table.relation.is_unique_on(columns):
        return
    if any(_adds(earlier, c, ctx) for earlier in ctx.before for c in columns):
        return
    fixes: list[Fix] = []
    if len(columns) == len(elements) and "whereClause" not in node:
        listed = columns_sql(columns)
        known = " AND ".join(f"{columns_sql([c])} IS NOT NULL" for c in columns)
        sql = (
            f"SELECT {listed}, count(*) FROM {table.sql} WHERE {known} GROUP BY {listed} "
            "HAVING count(*) > 1 LIMIT 10"
        )
        fixes = [Fix("look for duplicates before", sql, "advice")]
    yield ctx.finding(
        None,
        f"the index is not built if rows of {table.shown} are equal in ({', '.join(columns) or 'its key'})",
        table=table,
        fixes=fixes,
    )


def _adds(earlier: MigrationContext, column: str, ctx: MigrationContext) -> bool:
    tree = earlier.statement.tree
    return (
        earlier.statement.kind == "AlterTableStmt"
        and ctx.state.key(tree["relation"]) == ctx.table().key
        and any(
            unwrap(unwrap(c)[1].get("def", {}))[1].get("colname") == column
            for c in tree.get("cmds", ())
        )
    )
