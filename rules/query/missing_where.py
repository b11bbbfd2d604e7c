"""UPDATE or DELETE without WHERE changes every row of the table.

Why: a forgotten WHERE is the classic way to lose a table's data. Where all rows are meant, UPDATE
    still writes a new version of each row, those that have the value already included, and DELETE
    leaves the table full of dead rows for VACUUM.
Fix: for UPDATE with constants, only the rows that do not have the values yet; for DELETE where
    the table is to be emptied, TRUNCATE.
Silent when: there is a WHERE (a constant one too: it says that all rows are meant), the rows come
    from a join (FROM, USING), the rows removed are returned or moved on (RETURNING), the table is
    temporary or called so (tmp, staging), not in the schema (the file makes it itself), or known
    to have one row.
Source: PostgreSQL manual, UPDATE and DELETE ("If this clause is omitted, all rows"), TRUNCATE
    ("Notes"), 24.1.2 "Recovering Disk Space".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.finding import Edit, Finding, Fix, Severity
from sqladvisor.rule import rule
from sqladvisor.sql.quote import identifier, qualified
from sqladvisor.sql.resolve import FromItem
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import constant

SCHEMA = """
CREATE TABLE users (id bigint PRIMARY KEY, newsletter boolean NOT NULL, "Größe" numeric, note json);
CREATE TABLE events (id bigint PRIMARY KEY, user_id bigint REFERENCES users);
CREATE TABLE hits (n integer);
CREATE TABLE staging_events (n integer);
CREATE TEMPORARY TABLE scratch (n integer);
CREATE SCHEMA audit;
CREATE TABLE audit."Änderung" (id integer);
"""
BAD = [
    "UPDATE users SET newsletter = false",
    """UPDATE users AS u
       SET newsletter = true, "Größe" = 1.5""",
    "UPDATE hits SET n = n + 1",
    "DELETE FROM events",
    'DELETE FROM audit."Änderung" AS a',
    "DELETE FROM users",
    "UPDATE users SET note = '{}' RETURNING id",
    "WITH gone AS (DELETE FROM events) SELECT 1",
]
GOOD = [
    "UPDATE users SET newsletter = false WHERE id = 5",
    "DELETE FROM events WHERE id = 5",
    "DELETE FROM events WHERE true",
    "DELETE FROM events e USING users u",
    "UPDATE users SET newsletter = false FROM events",
    "UPDATE scratch SET n = 1",
    "DELETE FROM pg_temp.work",
    "DELETE FROM loaded",
    "DELETE FROM staging_events",
    'WITH moved AS (DELETE FROM events RETURNING *) INSERT INTO audit."Änderung" SELECT id FROM moved',
    "DELETE FROM hits RETURNING n",
    "INSERT INTO hits (n) VALUES (1) ON CONFLICT DO NOTHING",
    "INSERT INTO users (id, newsletter) VALUES (1, true) ON CONFLICT (id) DO UPDATE SET newsletter = true",
    "DELETE FROM events WHERE CURRENT OF c",
]

# Types without an equality operator: IS DISTINCT FROM cannot compare them.
_INCOMPARABLE = frozenset(("json", "xml", "point", "polygon"))
# Words in the names of tables whose rows are there for a while only.
_PASSING = frozenset(("tmp", "temp", "temporary", "staging", "stage", "scratch"))


@rule("UpdateStmt", "DeleteStmt", severity="warning")
def check(query: Node, ctx: Context) -> Iterator[Finding]:
    update = "targetList" in query
    if query.keys() & {"whereClause", "fromClause", "usingClause"}:
        return
    item = ctx.scope(query, "UpdateStmt" if update else "DeleteStmt").items[0]
    relation = item.relation
    if item.schema == "pg_temp" or (ctx.catalog and (relation is None or relation.temporary)):
        return
    words = item.name.lower().split("_")
    if (item.rows is not None and item.rows <= 1) or not _PASSING.isdisjoint(words):
        return
    if not update and query.keys() & {"returningClause", "returningList"}:
        return
    rows = f"all {item.rows:,.0f} rows" if item.rows else "every row"
    name = qualified(item.schema, item.name)
    severity: Severity = "info" if ctx.small(item) else "warning"
    if update:
        message = f"UPDATE without WHERE writes a new version of {rows} of {name}"
    else:
        message = f"DELETE without WHERE removes {rows} of {name}"
    yield ctx.finding(
        None if "location" not in query["relation"] else {"RangeVar": query["relation"]},
        message,
        severity=severity,
        fixes=_only_others(query, item, ctx) if update else _truncate(query, item, ctx),
    )


def _only_others(query: Node, item: FromItem, ctx: Context) -> Iterator[Fix]:
    """UPDATE of the rows that do not have the constants yet."""
    relation = item.relation
    if relation is None or ctx.tree.parent(query)[0] or query.keys() & {"returningClause"}:
        return
    conditions, end = [], -1
    for wrapped in query["targetList"]:
        target = wrapped["ResTarget"]
        value, column = target.get("val", {}), relation.column(str(target.get("name")))
        span = ctx.span(value)
        known = constant(value)
        if column is None or span is None or known is ... or "indirection" in target:
            return
        if column.type in _INCOMPARABLE or column.generated:
            return
        name = identifier(column.name)
        if known is None:
            conditions.append(f"{name} IS NOT NULL")
        else:
            sign = "<>" if column.not_null else "IS DISTINCT FROM"
            conditions.append(f"{name} {sign} {ctx.text(value)}")
        end = max(end, span[1])
    yield Fix(
        "leave alone the rows that have it already",
        ctx.edit(Edit(end, end, f" WHERE {' OR '.join(conditions)}")),
        changes_result="rows that have it already are not written, and fire no trigger",
    )


def _truncate(query: Node, item: FromItem, ctx: Context) -> Iterator[Fix]:
    relation = item.relation
    if (
        relation is None
        or ctx.tree.parent(query)[0]
        or relation.kind
        not in (
            "table",
            "partitioned",
        )
    ):
        return
    # TRUNCATE of a table that a foreign key refers to is refused.
    for other in ctx.catalog.relations.values():
        for key in other.foreign_keys:
            if (key.target_schema, key.target) == (relation.schema, relation.name):
                return
    yield Fix(
        "if the table is to be emptied: TRUNCATE, which frees its space at once",
        f"TRUNCATE {qualified(item.schema, item.name)};",
        kind="ddl",
        changes_result="locks out readers, fires no row triggers",
    )
