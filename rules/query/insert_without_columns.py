"""INSERT without a column list puts values into columns by their position in the table.

Why: the statement depends on the order of the table's columns and on none being dropped or added
    in between: on another copy of the schema the values land in other columns, or the INSERT
    fails. Values left out at the end become defaults without a word.
Fix: the columns that the values go to now.
Silent when: there is a list, DEFAULT VALUES, a table of one column, a temporary table, or a table
    that the schema does not have (the file makes it itself).
Source: PostgreSQL manual, INSERT: "The target column names can be listed in any order. If no list
    of column names is given at all, the default is all the columns of the table in their declared
    order; or the first N column names, if there are only N columns supplied".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.finding import Edit, Finding, Fix
from sqladvisor.rule import rule
from sqladvisor.sql.quote import identifier
from sqladvisor.sql.resolve import FromItem
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import names, unwrap

SCHEMA = """
CREATE TABLE payments (id bigint PRIMARY KEY, order_id bigint NOT NULL, "Währung" text, amount numeric);
CREATE TABLE one (x integer);
CREATE TEMPORARY TABLE scratch (a integer, b integer);
CREATE SCHEMA archive;
CREATE TABLE archive.payments (id bigint, order_id bigint, "Währung" text, amount numeric);
"""
BAD = [
    "INSERT INTO payments VALUES (2000001, 77, 'EUR', 19.90)",
    """INSERT INTO payments AS p VALUES ($1, $2, 'é'), ($3, $4, DEFAULT)
       ON CONFLICT (id) DO NOTHING""",
    "INSERT INTO archive.payments SELECT id, order_id FROM payments WHERE amount > 5",
    "WITH gone AS (DELETE FROM payments RETURNING *) INSERT INTO archive.payments SELECT * FROM gone",
    """MERGE INTO payments p USING one ON p.id = one.x
       WHEN MATCHED THEN DO NOTHING
       WHEN NOT MATCHED THEN INSERT VALUES (one.x, 5)""",
    "INSERT INTO archive.payments TABLE payments",
]
GOOD = [
    "INSERT INTO payments (id, order_id) VALUES (1, 2)",
    "INSERT INTO payments DEFAULT VALUES",
    "INSERT INTO one VALUES (1), (2)",
    "INSERT INTO scratch VALUES (1, 2)",
    "INSERT INTO loaded SELECT * FROM payments",
    "CREATE TABLE copy AS SELECT * FROM payments",
    "MERGE INTO payments p USING one ON p.id = one.x WHEN NOT MATCHED THEN INSERT (id) VALUES (one.x)",
    "MERGE INTO payments p USING one ON p.id = one.x WHEN NOT MATCHED THEN INSERT DEFAULT VALUES",
    "MERGE INTO payments p USING one ON p.id = one.x WHEN MATCHED THEN DELETE",
]


@rule("InsertStmt", "MergeStmt", severity="info")
def check(query: Node, ctx: Context) -> Iterator[Finding]:
    if "mergeWhenClauses" in query:
        item = ctx.scope(query, "MergeStmt").items[0]
        for wrapped in query["mergeWhenClauses"]:
            clause = unwrap(wrapped)[1]
            values = clause.get("values")
            if clause.get("commandType") == "CMD_INSERT" and values and "targetList" not in clause:
                yield from _finding(item, len(values), _before_values(values[0], ctx), ctx)
        return
    if "cols" in query or "selectStmt" not in query:
        return
    item = ctx.scope(query, "InsertStmt").items[0]
    source = unwrap(query["selectStmt"])[1]
    yield from _finding(item, _width(source, ctx), _after_target(query["relation"], ctx), ctx)


def _finding(
    item: FromItem, width: int | None, place: tuple[int, int] | None, ctx: Context
) -> Iterator[Finding]:
    relation = item.relation
    # A table that a known schema does not have is made by the file itself.
    if ctx.catalog and (relation is None or relation.temporary or len(relation.columns) < 2):
        return
    if item.schema == "pg_temp" or place is None:
        return
    columns = [c.name for c in relation.columns] if relation else []
    count = f"its {width} values go" if width and width > 1 else "the values go"
    known = bool(columns and width and width <= len(columns))
    named = ", ".join(map(identifier, columns[:width])) if known else ""
    rest = len(columns) - width if known and width else 0
    message = f"INSERT into {identifier(item.name)} without a column list: {count} by position"
    if rest:
        message += (
            f", and the last {rest} columns get defaults"
            if rest > 1
            else (f", and {identifier(columns[-1])} gets its default")
        )
    fixes = []
    if known:
        fixes.append(
            Fix(
                "name the columns",
                ctx.edit(Edit(place[1], place[1], f" ({named})")),
            )
        )
    yield ctx.finding(place, message, fixes=fixes)


def _width(source: Node, ctx: Context) -> int | None:
    """How many columns the inserted rows have; None when it is not known."""
    if "valuesLists" in source:
        items = unwrap(source["valuesLists"][0])[1].get("items", ())
        stars = [i for i in items if _is_star(i)]
        return None if stars else len(items)
    outputs = ctx.resolver.outputs(source)
    return None if outputs is None else len(outputs)


def _is_star(wrapped: Node) -> bool:
    kind, node = unwrap(wrapped)
    if kind == "A_Indirection":
        return "A_Star" in node.get("indirection", [{}])[-1]
    return kind == "ColumnRef" and names(node.get("fields"))[-1:] == ("*",)


def _after_target(target: Node, ctx: Context) -> tuple[int, int] | None:
    """The span of the target table with its alias: the column list comes after it."""
    if target.get("location", -1) < 0:
        return None
    tokens = ctx.spans.tokens
    first = last = ctx.spans.token_at(target["location"])
    while tokens[last + 1][2] == "ASCII_46":
        last += 2
    if "alias" in target:
        last += 2  # AS, which INSERT requires here, and the name
    return tokens[first][0], tokens[last][1]


def _before_values(first: Node, ctx: Context) -> tuple[int, int] | None:
    """The span of MERGE's INSERT keyword, found backwards from its first value."""
    span = ctx.span(first)
    if span is None:
        return None
    tokens = ctx.spans.tokens
    for i in range(ctx.spans.token_at(span[0]), -1, -1):
        if tokens[i][2] == "INSERT":
            return tokens[i][0], tokens[i][1]
    return None
