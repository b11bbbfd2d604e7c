"""DISTINCT over rows that are distinct already, because a key is among them.

Why: where the SELECT list holds a unique key of what FROM gives, no two rows are equal. DISTINCT
    still sorts or hashes every row and every column of it to find that out: PostgreSQL does not
    remove it.
Fix: the same query without DISTINCT: the same rows.
Silent when: no key of each table is selected or fixed by the query (a join then repeats rows), a
    key may be NULL, a function in the SELECT list may return a set, one row is looked up by its
    key, or the tables are small.
Source: PostgreSQL manual, SELECT, "DISTINCT Clause"; create_distinct_paths() in
    src/backend/optimizer/plan/planner.c, which adds the step whatever the keys are.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.finding import Edit, Finding, Fix
from sqladvisor.rule import rule
from sqladvisor.sql.aggregates import aggregates_all
from sqladvisor.sql.comparisons import narrowing
from sqladvisor.sql.keys import unique_before_distinct
from sqladvisor.sql.quote import identifier
from sqladvisor.sql.resolve import FromItem
from sqladvisor.sql.statement import Node

SCHEMA = """
CREATE TABLE users (id bigint PRIMARY KEY, email text NOT NULL UNIQUE, nick text UNIQUE, city text);
CREATE TABLE orders (id bigint PRIMARY KEY, user_id bigint NOT NULL REFERENCES users, total numeric,
    tags text[]);
CREATE TABLE lines (order_id bigint REFERENCES orders, line integer, "Menge" integer,
    PRIMARY KEY (order_id, line));
CREATE TABLE heap (a integer, b integer);
"""
BAD = [
    "SELECT DISTINCT id, city FROM users",
    "SELECT DISTINCT u.email FROM public.users u WHERE u.city = 'Zürich' ORDER BY u.email",
    """SELECT DISTINCT o.id, u.email
       FROM orders o
       LEFT JOIN users u ON u.id = o.user_id AND u.city = $1""",
    'SELECT DISTINCT l.line, l."Menge" FROM lines l WHERE l.order_id = $1',
    "SELECT city, total FROM (SELECT 'ß', DISTINCT_.* FROM (SELECT DISTINCT * FROM users) DISTINCT_) x, orders",
    "WITH c AS (SELECT DISTINCT city, count(*) FROM users GROUP BY city) SELECT * FROM c",
    "SELECT DISTINCT ON (o.id) o.id, u.city FROM orders o JOIN users u ON u.id = o.user_id ORDER BY o.id",
    "INSERT INTO heap SELECT DISTINCT count(*), max(id) FROM orders",
]
GOOD = [
    "SELECT DISTINCT id, city FROM users WHERE id = $1",
    "SELECT DISTINCT city FROM users",
    "SELECT DISTINCT nick FROM users",
    "SELECT DISTINCT u.id, u.city FROM users u JOIN orders o ON o.user_id = u.id",
    "SELECT DISTINCT o.id FROM users u LEFT JOIN orders o ON o.user_id = u.id",
    "SELECT DISTINCT id, unnest(tags) FROM orders",
    "SELECT DISTINCT id, some_function(tags) FROM orders",
    "SELECT DISTINCT l.line FROM lines l",
    "SELECT DISTINCT u.id FROM users u, heap",
    "SELECT DISTINCT ON (user_id) id, user_id FROM orders ORDER BY user_id, id DESC",
    "SELECT DISTINCT lower(city), count(*) FROM users GROUP BY city",
    "SELECT id, city FROM users",
    "SELECT count(DISTINCT id) FROM orders",
    "SELECT DISTINCT u.id FROM users u FULL JOIN orders o ON o.user_id = u.id",
]


@rule("SelectStmt", severity="warning")
def check(select: Node, ctx: Context) -> Iterator[Finding]:
    distinct = select.get("distinctClause")
    if not distinct or "targetList" not in select:
        return
    items = ctx.scope(select).items
    if not items or all(ctx.small(i) for i in items):
        return
    places = None
    if distinct != [{}]:
        places = _places(distinct, select, ctx)
        if not places:
            return
    if not unique_before_distinct(select, ctx.resolver, places):
        return
    narrowed = narrowing(ctx.scope(select), select, ctx.resolver)
    if all(narrowed.get(id(i)) == "unique" for i in items):
        return
    span = _keyword(select, bool(places), ctx)
    if span is None:
        return
    following = next(t[0] for t in ctx.spans.tokens if t[0] >= span[1])
    yield ctx.finding(
        span,
        f"DISTINCT removes nothing: {_why(select, items, ctx)}",
        severity="info" if aggregates_all(select) or "groupClause" in select else None,
        fixes=[Fix("drop DISTINCT", ctx.edit(Edit(span[0], following, "")))],
    )


def _places(distinct: list[Node], select: Node, ctx: Context) -> set[int]:
    """The output columns that DISTINCT ON names; empty where it names something else."""
    outputs = ctx.resolver.outputs(select) or []
    found = set()
    for wrapped in distinct:
        binding = ctx.binding(wrapped)
        if binding is None or binding.depth:
            return set()
        for i, output in enumerate(outputs):
            other = ctx.binding(output.value) if output.value else None
            item, column = (other.item, other.column) if other else (output.item, output.column)
            if item is binding.item and column == binding.column:
                found.add(i)
                break
        else:
            return set()
    return found


def _keyword(select: Node, on: bool, ctx: Context) -> tuple[int, int] | None:
    """The span of DISTINCT, or of DISTINCT ON (…), before the target list."""
    tokens = ctx.spans.tokens
    first = ctx.spans.token_at(select["targetList"][0]["ResTarget"].get("location", 0))
    for i in range(first, -1, -1):
        if tokens[i][2] == "DISTINCT":
            last, depth = (i, 0) if not on else (i + 2, 1)
            while depth:
                last += 1
                depth += (tokens[last][2] == "ASCII_40") - (tokens[last][2] == "ASCII_41")
            return tokens[i][0], tokens[last][1]
        if tokens[i][2] == "SELECT":
            break
    return None


def _why(select: Node, items: list[FromItem], ctx: Context) -> str:
    if "groupClause" in select:
        return "GROUP BY leaves one row for each value of what is selected"
    if aggregates_all(select):
        return "an aggregate without GROUP BY gives one row"
    names = [identifier(i.alias) for i in items]
    if len(names) > 1:
        return f"what is selected identifies each row of {', '.join(names[:-1])} and {names[-1]}"
    outputs = ctx.resolver.outputs(select) or []
    plain = [ctx.binding(o.value) if o.value else None for o in outputs]
    have = {b.column for b in plain if b} | {o.column for o in outputs if o.item}
    for key in items[0].relation.unique_keys() if items[0].relation else ():
        if have.issuperset(key):
            columns = ", ".join(map(identifier, key))
            each = columns if len(key) == 1 else f"({columns})"
            return f"each row of {names[0]} has its own {each}"
    return f"what is selected identifies each row of {names[0]}"
