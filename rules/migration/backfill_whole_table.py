"""All rows of a table are updated or deleted in one statement.

Why: every row stays locked until the end, the old versions of all rows stay in the table and its indexes
    (it may double), the WAL comes in one burst that replicas lag behind, and an error at the end undoes
    all.
Fix: batches by key, each committed, outside a transaction. All rows to go: TRUNCATE, or DROP.
Silent when: the same set created the table, or it is temporary; the table is known to be small; a condition
    holds to a key, a value, a range or a LIMIT; DELETE without WHERE (migration/delete-without-where).
Source: PostgreSQL manual, 24.1 "Routine Vacuuming"; strong_migrations "backfilling data"; GitLab's batched
    background migrations.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding, Fix
from sqladvisor.migrate.context import MigrationContext, Table
from sqladvisor.migrate.steps import batches, keyed
from sqladvisor.migrate.writes import assignments, condition, goes_through_all
from sqladvisor.rule import rule
from sqladvisor.sql.statement import Node

SCHEMA = """CREATE TABLE users (id bigint PRIMARY KEY, email text, low text, active bool);
CREATE TABLE few (id int);"""
ROWS = {"few": 12}
BAD = [
    "UPDATE users SET low = lower(email);",
    "UPDATE users SET low = lower(email) WHERE low IS NULL;",
    "DELETE FROM users WHERE active IS NOT TRUE;",
    "UPDATE users u SET low = o.b FROM other o WHERE o.id = u.id;",
    "UPDATE unknown SET a = 1;",
]
GOOD = [
    "UPDATE users SET low = 'x' WHERE id = 4;",
    "UPDATE users SET low = 'x' WHERE id IN (1, 2, 3);",
    "UPDATE users SET low = 'x' WHERE id BETWEEN 1 AND 1000;",
    "UPDATE users SET low = 'x' WHERE id IN (SELECT id FROM users WHERE low IS NULL LIMIT 1000);",
    "UPDATE few SET id = id + 1;",
    "CREATE TABLE t (a int); INSERT INTO t VALUES (1); UPDATE t SET a = 2;",
    "CREATE FUNCTION f() RETURNS void LANGUAGE sql AS 'UPDATE users SET low = NULL';",
    "ALTER TABLE users ADD COLUMN a int DEFAULT 1;",
    "DELETE FROM users;",
]
MANY_ROWS = 1_000_000


@rule("UpdateStmt", "DeleteStmt", severity="warning", thresholds={"many_rows": MANY_ROWS})
def check(node: Node, ctx: MigrationContext) -> Iterator[Finding]:
    table = ctx.table()
    if ctx.statement.kind == "DeleteStmt" and not {"whereClause", "usingClause"} & node.keys():
        return
    if not table.settled or ctx.small(table) or not goes_through_all(ctx.statement.kind, node):
        return
    many = table.rows is not None and table.rows >= ctx.threshold("many_rows")
    verb = ctx.statement.kind.removesuffix("Stmt").upper()
    where = "where its condition holds" if "whereClause" in node else "there is"
    yield ctx.finding(
        None,
        f"one {verb} writes every row of {table.shown} {where}: they stay locked until its end, and the table "
        "grows by as many",
        table=table,
        severity="error" if many else None,
        fixes=_batched(node, table, ctx),
    )


def _batched(node: Node, table: Table, ctx: MigrationContext) -> list[Fix]:
    plain = (
        "alias" not in node["relation"]
        and not {"fromClause", "usingClause", "withClause", "returningClause", "returningList"}
        & node.keys()
    )
    if not plain:
        return []
    where = condition(ctx)
    if ctx.statement.kind == "DeleteStmt":
        if not where:
            return []
        sql = batches(table, "", where, delete=True)
    else:
        sql = batches(table, assignments(ctx), where)
    twice = "" if where or keyed(table) else "a row moved by an earlier batch may be updated twice"
    return [ctx.sequence("in batches, outside a transaction", sql, changes_result=twice)]
