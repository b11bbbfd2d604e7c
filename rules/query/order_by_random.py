"""ORDER BY random() reads and sorts every row to return a few of them.

Why: each matching row gets a random number and all of them are sorted by it: the work grows with
    the table, however small the LIMIT. No index can help.
Fix: TABLESAMPLE, which reads a random part of the pages and no more; or the rows that follow a
    random value of the primary key, found through its index.
Silent when: there is no LIMIT (a shuffle of all rows is what was asked for), the table is small,
    the rows are sampled or limited already, come from a function or VALUES, or an equality on an
    index or key leaves few of them.
Source: PostgreSQL manual, SELECT, "TABLESAMPLE sampling_method"; 9.3 "Random Functions".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.finding import Edit, Finding, Fix
from sqladvisor.rule import rule
from sqladvisor.sql.clauses import and_where, clauses
from sqladvisor.sql.comparisons import narrowing
from sqladvisor.sql.datatypes import INTEGERS
from sqladvisor.sql.quote import identifier, qualified
from sqladvisor.sql.resolve import FromItem
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import constant, function_name, unwrap

SCHEMA = """
CREATE TABLE products (id bigint PRIMARY KEY, name text, category text, price numeric);
CREATE INDEX ON products (category);
CREATE SCHEMA "Märkte";
CREATE TABLE "Märkte"."Preis" ("Nr" integer PRIMARY KEY, preis numeric);
CREATE TABLE quotes (id uuid PRIMARY KEY, text text);
"""
BAD = [
    "SELECT id, name, price FROM products ORDER BY random() LIMIT 3",
    """SELECT p."Nr"
       FROM "Märkte"."Preis" AS p
       WHERE p.preis > 'NaN' OR p.preis < 3
       ORDER BY RANDOM()
       LIMIT 1""",
    "SELECT * FROM quotes ORDER BY gen_random_uuid() FETCH FIRST ROW ONLY",
    "SELECT a.id FROM products a JOIN quotes q ON q.text = a.name ORDER BY pg_catalog.random() LIMIT $1",
    "WITH pick AS (SELECT *, random() AS r FROM products ORDER BY r LIMIT 5) SELECT * FROM pick",
]
GOOD = [
    "SELECT id FROM products ORDER BY random()",
    "SELECT id FROM products TABLESAMPLE SYSTEM (1) ORDER BY random() LIMIT 3",
    "SELECT id FROM products WHERE category = 'garden' ORDER BY random() LIMIT 3",
    "SELECT g FROM generate_series(1, 1000) g ORDER BY random() LIMIT 3",
    "SELECT * FROM (SELECT id FROM products ORDER BY price LIMIT 100) top ORDER BY random() LIMIT 3",
    "SELECT random() FROM products ORDER BY id LIMIT 3",
    "SELECT x FROM (VALUES (1), (2)) v (x) ORDER BY random() LIMIT 1",
    "SELECT id FROM products ORDER BY price, random() LIMIT 10",
    "SELECT id, row_number() OVER (ORDER BY random()) FROM products LIMIT 10",
]

_RANDOM = frozenset(("random", "gen_random_uuid", "uuid_generate_v4", "uuidv4"))
MIN_SAMPLE_ROWS = 1_000
"""Rows a page sample should hold: with fewer, the few pages read may have none at all."""
SAMPLE_FACTOR = 20
"""Sampled rows per row wanted, so that those returned come from many pages."""
MAX_SAMPLE_PERCENT = 25


@rule("SelectStmt", severity="warning")
def check(select: Node, ctx: Context) -> Iterator[Finding]:
    sort = select.get("sortClause")
    count = constant(select["limitCount"]) if "limitCount" in select else None
    if not sort or count is None or "larg" in select or "fromClause" not in select:
        return
    function = _random(sort[0]["SortBy"]["node"], select, ctx)
    if not function:
        return
    scope = ctx.scope(select)
    narrowed = narrowing(scope, select, ctx.resolver)
    if any("RangeTableSample" in f for f in select["fromClause"]) or any(
        narrowed.get(id(i)) for i in scope.items
    ):
        return
    tables = [i for i in scope.items if _many(i)]
    if not tables or all(ctx.small(i) for i in tables):
        return
    where = " that match" if "whereClause" in select else ""
    names = " and ".join(dict.fromkeys(identifier(i.name or i.alias) for i in tables))
    rows = tables[0].rows if len(tables) == 1 else None
    known = f"all {rows:,.0f}" if rows and not where else "all"
    wanted = f"{count}" if isinstance(count, int) else "a few"
    yield ctx.finding(
        clauses(select, ctx.spans).get("ORDER") or sort[0]["SortBy"]["node"],
        f"ORDER BY {function}() reads and sorts {known} rows of {names}{where} to return {wanted}",
        fixes=_fixes(select, tables, count, ctx) if len(scope.items) == 1 else [],
    )


def _random(wrapped: Node, select: Node, ctx: Context) -> str:
    """The function when a sort key is a call of a random function, by alias or ordinal too."""
    kind, node = unwrap(wrapped)
    if kind in ("ColumnRef", "A_Const"):
        outputs = ctx.resolver.outputs(select) or []
        if kind == "A_Const":
            place = int(node.get("ival", {}).get("ival", 0)) - 1
            meant = outputs[place : place + 1] if place >= 0 else []
        else:
            fields = node.get("fields", ())
            name = fields[0].get("String", {}).get("sval") if len(fields) == 1 else None
            meant = [o for o in outputs if o.name == name and o.value is not None]
        if not meant or meant[0].value is None:
            return ""
        kind, node = unwrap(meant[0].value)
    name = function_name(node) if kind == "FuncCall" else ""
    return name if name in _RANDOM and not node.get("args") else ""


def _many(item: FromItem) -> bool:
    """Whether a FROM item may have many rows."""
    if item.kind == "table":
        return item.relation is None or item.relation.kind != "view"
    return item.kind in ("cte", "subquery") and not (item.query or {}).keys() & {"limitCount"}


def _fixes(select: Node, tables: list[FromItem], count: object, ctx: Context) -> list[Fix]:
    item = tables[0]
    relation = item.relation
    if relation is None or select.keys() & {"groupClause", "distinctClause", "windowClause"}:
        return []
    return [*_sample(select, item, count, ctx), *_by_key(select, item, count, ctx)]


def _sample(select: Node, item: FromItem, count: object, ctx: Context) -> Iterator[Fix]:
    """TABLESAMPLE over as many pages as the rows wanted need, where the table's size is known."""
    if not item.rows or not isinstance(count, int) or "whereClause" in select:
        return
    if not item.relation or item.relation.kind not in ("table", "partitioned", "matview"):
        return
    percent = 100 * max(MIN_SAMPLE_ROWS, SAMPLE_FACTOR * count) / item.rows
    place = clauses(select, ctx.spans).get("FROM")
    if percent > MAX_SAMPLE_PERCENT or place is None:
        return
    yield Fix(
        f"sample {percent:.2g} % of the pages first",
        ctx.edit(Edit(place[1], place[1], f" TABLESAMPLE SYSTEM ({float(f'{percent:.2g}'):g})")),
        changes_result="rows of a few random pages: those stored together are picked together",
    )


def _by_key(select: Node, item: FromItem, count: object, ctx: Context) -> Iterator[Fix]:
    """The rows from a random place of an integer primary key on."""
    relation = item.relation
    assert relation
    key = relation.primary_key
    column = relation.column(key[0]) if len(key) == 1 else None
    places = clauses(select, ctx.spans)
    if column is None or column.type not in INTEGERS or not places.keys() >= {"FROM", "ORDER"}:
        return
    name = identifier(column.name)
    table = qualified(item.schema, item.name)
    start = f"(SELECT floor(random() * (max({name}) + 1))::{column.type} FROM {table})"
    yield Fix(
        "start at a random key" if count == 1 else "take the rows that follow a random key",
        ctx.edit(
            *and_where(select, places, f"{name} >= {start}"),
            Edit(*places["ORDER"], f"ORDER BY {name}"),
        ),
        changes_result=_difference(count, "whereClause" in select),
    )


def _difference(count: object, filtered: bool) -> str:
    if count != 1:
        return "neighbours by key; fewer rows when the place is near the end"
    often = "a row after a gap in the keys is picked more often"
    return f"{often}; none when no match follows" if filtered else often
