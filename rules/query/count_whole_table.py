"""An exact count of all rows of a table reads the whole table, each time.

Why: PostgreSQL keeps no row count, since each transaction sees its own rows: count(*) without
    WHERE visits every row, or every entry of an index. The time grows with the table.
Fix: the estimate that VACUUM and ANALYZE keep, where the number is for a page or a chart.
Silent when: the table is known to be small, the query filters, groups, joins or computes anything
    else over the rows, or the table is not in the schema (a temporary one).
Source: PostgreSQL manual, 9.21 "Aggregate Functions" (the note on count(*)); 53.11 "pg_class".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.finding import Edit, Finding, Fix, Severity
from sqladvisor.rule import rule
from sqladvisor.sql.clauses import clauses
from sqladvisor.sql.quote import literal, qualified
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import constant, function_name, unwrap

SCHEMA = """
CREATE TABLE orders (id bigint PRIMARY KEY, note text, total numeric);
CREATE SCHEMA "Läden";
CREATE TABLE "Läden"."Kunden" (id integer PRIMARY KEY);
CREATE VIEW open_orders AS SELECT * FROM orders WHERE note IS NULL;
"""
BAD = [
    "SELECT count(*) FROM orders",
    'SELECT COUNT(1) AS "Zahl" FROM "Läden"."Kunden" k',
    "SELECT 'x', (SELECT count(*) FROM public.orders) AS n",
    """SELECT count(id)
       FROM orders""",
]
GOOD = [
    "SELECT count(*) FROM orders WHERE total > 5",
    "SELECT count(note) FROM orders",
    "SELECT count(*), sum(total) FROM orders",
    "SELECT note, count(*) FROM orders GROUP BY note",
    'SELECT count(*) FROM orders o, "Läden"."Kunden" k WHERE k.id = o.id',
    "SELECT count(*) FROM open_orders",
    "SELECT count(*) FROM staging_rows",
    "SELECT count(*) FROM (SELECT id FROM orders LIMIT 100) x",
    "SELECT count(*) FILTER (WHERE total > 5) FROM orders",
    "SELECT count(DISTINCT id) FROM orders",
    "SELECT count(*) > 0 FROM orders",
    "SELECT 10 * count(*) FROM orders TABLESAMPLE SYSTEM (10)",
    "WITH o AS (SELECT 1) SELECT count(*) FROM o",
    "SELECT count(*) FROM pg_class",
    'INSERT INTO "Läden"."Kunden" SELECT count(*) FROM orders',
]

_MORE = frozenset(
    ("whereClause", "groupClause", "havingClause", "distinctClause", "larg", "intoClause",
     "withClause")
)  # fmt: skip
_TABLES = ("table", "partitioned", "matview")


@rule(
    "SelectStmt",
    severity="info",
    # Rows. A count of fewer takes some 10 ms (an index-only scan reads about 10 million a second).
    # From the second on the count takes a second or more.
    thresholds={"rows": 100_000, "rows_warning": 10_000_000},
)
def check(select: Node, ctx: Context) -> Iterator[Finding]:
    targets, tables = select.get("targetList", ()), select.get("fromClause", ())
    if len(targets) != 1 or len(tables) != 1 or select.keys() & _MORE:
        return
    if "RangeVar" not in tables[0] or ctx.tree.parent(select)[0] == "InsertStmt":
        return
    call = targets[0]["ResTarget"].get("val", {})
    item = ctx.scope(select).items[0]
    if item.kind != "table" or item.schema in ("pg_catalog", "information_schema"):
        return
    relation = item.relation
    if ctx.catalog and (relation is None or relation.kind not in _TABLES):
        return
    if item.name.startswith("pg_") or not _counts_rows(call, ctx):
        return
    rows = ctx.rows(item)
    if rows is not None and rows < ctx.threshold("rows"):
        return
    severity: Severity = "warning" if rows and rows >= ctx.threshold("rows_warning") else "info"
    known = f"all {rows:,.0f} rows" if rows else "every row"
    table = qualified(item.schema, item.name)
    yield ctx.finding(
        call,
        f"{ctx.text(call)} reads {known} of {table} for an exact number",
        severity=severity,
        fixes=_fixes(select, call, table, ctx),
    )


def _counts_rows(wrapped: Node, ctx: Context) -> bool:
    kind, call = unwrap(wrapped)
    if kind != "FuncCall" or function_name(call) != "count":
        return False
    if call.keys() & {"agg_filter", "agg_distinct", "over"}:
        return False
    if call.get("agg_star"):
        return True
    args = call.get("args", ())
    if len(args) != 1:
        return False
    binding = ctx.binding(args[0])
    definition = binding.definition if binding else None
    return isinstance(constant(args[0]), int) or bool(definition and definition.not_null)


def _fixes(select: Node, call: Node, table: str, ctx: Context) -> list[Fix]:
    places, span = clauses(select, ctx.spans), ctx.span(call)
    if span is None or "FROM" not in places:
        return []
    name = "" if "name" in select["targetList"][0]["ResTarget"] else " AS count"
    return [
        Fix(
            "take the estimate of the last VACUUM or ANALYZE",
            ctx.edit(
                Edit(*span, f"reltuples::bigint{name}"),
                Edit(*places["FROM"], f"FROM pg_class WHERE oid = {literal(table)}::regclass"),
            ),
            changes_result="an estimate; -1 before the first VACUUM or ANALYZE",
        )
    ]
