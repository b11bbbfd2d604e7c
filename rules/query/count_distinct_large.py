"""count(DISTINCT x) over a whole table sorts every value, in one process.

Why: an aggregate with DISTINCT is computed by sorting all its input: PostgreSQL neither hashes the
    values nor divides the work among parallel workers. A subquery with SELECT DISTINCT can do
    both. Over a unique key the DISTINCT does nothing but sort.
Fix: count the rows of a SELECT DISTINCT; or leave DISTINCT out where the values are unique.
Silent when: the rows are grouped, other aggregates are computed with it, the table is known to be
    small, or an equality on an index or key leaves few rows.
Source: PostgreSQL manual, 4.2.7 "Aggregate Expressions" and 15.4 "Parallel Safety";
    has_partial_agg in src/backend/optimizer/prep/prepagg.c (none for DISTINCT).
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.finding import Edit, Finding, Fix, Severity
from sqladvisor.rule import rule
from sqladvisor.sql.clauses import clauses
from sqladvisor.sql.comparisons import narrowing
from sqladvisor.sql.keys import Dependencies
from sqladvisor.sql.never_null import nullness
from sqladvisor.sql.quote import identifier
from sqladvisor.sql.resolve import Binding
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import column_name, function_name, unwrap

SCHEMA = """
CREATE TABLE users (id bigint PRIMARY KEY, email text UNIQUE);
CREATE TABLE events (id bigint PRIMARY KEY, user_id bigint REFERENCES users, "Gerät" text);
CREATE INDEX ON events (user_id);
"""
BAD = [
    "SELECT count(DISTINCT user_id) FROM events",
    """SELECT 'ö' || '',
              (SELECT COUNT(DISTINCT e."Gerät") AS n
               FROM public.events e JOIN users u ON u.id = e.user_id
               WHERE u.email LIKE $1) AS devices""",
    "SELECT count(DISTINCT id) AS events FROM events WHERE \"Gerät\" = 'x'",
    "SELECT count(distinct e.id) FROM events e LEFT JOIN users u ON u.id = e.user_id",
]
GOOD = [
    "SELECT count(user_id) FROM events",
    "SELECT count(DISTINCT user_id), count(*) FROM events",
    'SELECT "Gerät", count(DISTINCT user_id) FROM events GROUP BY 1',
    'SELECT count(DISTINCT "Gerät") FROM events WHERE user_id = 5',
    "SELECT count(DISTINCT g % 7) FROM generate_series(1, 1000) g",
    "SELECT count(DISTINCT lower(email)) FROM users WHERE id = 1",
    "SELECT count(*) FROM (SELECT DISTINCT user_id FROM events) x",
    "SELECT sum(DISTINCT user_id) FROM events",
    "SELECT count(DISTINCT e.user_id) FILTER (WHERE e.id > 5) FROM events e",
    'SELECT count(DISTINCT (user_id, "Gerät")) FROM events',
]

_MORE = frozenset(
    ("groupClause", "havingClause", "distinctClause", "larg", "windowClause", "sortClause",
     "lockingClause", "limitOffset", "limitCount")
)  # fmt: skip


@rule(
    "SelectStmt",
    severity="warning",
    # Rows. Sorting fewer takes less than about 100 ms.
    thresholds={"rows": 100_000},
)
def check(select: Node, ctx: Context) -> Iterator[Finding]:
    targets = select.get("targetList", ())
    if len(targets) != 1 or "fromClause" not in select or select.keys() & _MORE:
        return
    call = targets[0]["ResTarget"].get("val", {})
    binding = _counted(call, ctx)
    scope = ctx.scope(select)
    if binding is None or any(i.kind in ("function", "values") for i in scope.items):
        return
    rows = [i.rows for i in scope.items]
    if all(r is not None and r < ctx.threshold("rows") for r in rows):
        return
    narrowed = narrowing(scope, select, ctx.resolver)
    if any(narrowed.get(id(i)) for i in scope.items):
        return
    argument = unwrap(call)[1]["args"][0]
    column = ctx.text(argument)
    unique = Dependencies(select, ctx.resolver).rows_unique([(binding.item, binding.column)])
    known = any(r is not None and r >= ctx.threshold("rows") for r in rows)
    severity: Severity = "warning" if known and not _leads_index(binding) else "info"
    if unique and nullness(argument, ctx.resolver) == "never":
        message = f"DISTINCT in {ctx.text(call)} removes nothing: the values are distinct already"
        fixes = _without_distinct(call, column, ctx)
    else:
        message = f"{ctx.text(call)} sorts every {column} in one process, without hashing"
        fixes = _hashed(select, call, ctx)
    yield ctx.finding(call, message, severity=severity, fixes=fixes)


def _counted(wrapped: Node, ctx: Context) -> Binding | None:
    """The column of ``count(DISTINCT column)``."""
    kind, call = unwrap(wrapped)
    if kind != "FuncCall" or function_name(call) != "count" or not call.get("agg_distinct"):
        return None
    if call.keys() & {"agg_filter", "over"} or len(call.get("args", ())) != 1:
        return None
    binding = ctx.binding(call["args"][0])
    return binding if binding and not binding.depth else None


def _leads_index(binding: Binding) -> bool:
    """Whether an index can give the values in order: then nothing need be sorted (from 16 on)."""
    relation = binding.item.relation
    return relation is not None and any(
        i.valid and i.method == "btree" and i.keys[:1] == (binding.column,)
        for i in relation.indexes
    )


def _without_distinct(call: Node, column: str, ctx: Context) -> list[Fix]:
    span = ctx.span(call)
    return [Fix("drop DISTINCT", ctx.edit(Edit(*span, f"count({column})")))] if span else []


def _hashed(select: Node, call: Node, ctx: Context) -> list[Fix]:
    places, span = clauses(select, ctx.spans), ctx.span(call)
    if span is None or "FROM" not in places:
        return []
    statement = ctx.statement
    end = places.get("WHERE", places["FROM"])[1]
    source = statement.text[statement.to_text(places["FROM"][0]) : statement.to_text(end)]
    argument = unwrap(call)[1]["args"][0]
    column, name = ctx.text(argument), column_name(unwrap(argument)[1])[1]
    # count(column) leaves out the one NULL that DISTINCT keeps, as count(DISTINCT column) does.
    return [
        Fix(
            "count what SELECT DISTINCT gives: hashed, and in parallel where that pays",
            ctx.edit(
                Edit(*span, f"count({identifier(name)})"),
                Edit(
                    places["FROM"][0], end, f"FROM (SELECT DISTINCT {column} {source}) AS distinct_"
                ),
            ),
        )
    ]
