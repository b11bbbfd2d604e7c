"""A HAVING condition without an aggregate belongs in WHERE.

Why: HAVING says what a group must be like once it is made; a condition on the grouped columns
    alone says which rows are wanted, and hides among the conditions on groups. (The planner moves
    it to WHERE itself where it can, so it mostly costs the reader, not the server.)
Fix: the condition in WHERE: the same groups of the same rows.
Silent when: the condition has an aggregate, a subquery, a volatile or an unknown function; there
    is no GROUP BY (HAVING then filters the one row of the whole table); GROUPING SETS, ROLLUP or
    CUBE make the columns of a group NULL.
Source: PostgreSQL manual, 7.2.3 "The GROUP BY and HAVING Clauses"; subquery_planner() in
    src/backend/optimizer/plan/planner.c, "In some cases we may want to transfer a HAVING clause
    into WHERE".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.finding import Edit, Finding, Fix
from sqladvisor.rule import rule
from sqladvisor.sql.clauses import and_where, clauses
from sqladvisor.sql.functions import calls, is_scalar
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import conjuncts, unwrap, walk
from sqladvisor.sql.volatility import volatile

SCHEMA = """
CREATE TABLE products (id bigint PRIMARY KEY, name text, category text, "Preis" numeric);
CREATE FUNCTION most(numeric) RETURNS numeric LANGUAGE sql AS 'SELECT $1';
"""
BAD = [
    "SELECT category, count(*) FROM products GROUP BY category HAVING category <> 'pets'",
    """SELECT p.category, 'ø', avg(p."Preis")
       FROM public.products AS p
       WHERE p.name = 'a' OR p.name = 'b'
       GROUP BY p.category, p."Preis"
       HAVING p."Preis" > 5
          AND count(*) > 3 AND (p.category = 'x' OR p.category = 'y')
       ORDER BY 1""",
    "SELECT id, name, max(\"Preis\") FROM products GROUP BY id HAVING name LIKE 'a%' AND lower(name) <> $1",
    "WITH t AS (SELECT category FROM products GROUP BY 1 HAVING category IS NOT NULL LIMIT 5) SELECT * FROM t",
    "INSERT INTO products (category) SELECT category FROM products GROUP BY category HAVING category IN ('a', 'b')",
]
GOOD = [
    "SELECT category, count(*) FROM products GROUP BY category HAVING count(*) > 5",
    "SELECT category FROM products WHERE category <> 'pets' GROUP BY category",
    "SELECT category FROM products GROUP BY category HAVING max(\"Preis\") > 5 OR category = 'x'",
    "SELECT count(*) FROM products HAVING true",
    "SELECT category FROM products GROUP BY ROLLUP (category) HAVING category IS NULL",
    "SELECT category FROM products GROUP BY category HAVING random() < 0.5",
    'SELECT category FROM products GROUP BY category, "Preis" HAVING most("Preis") > 5',
    "SELECT category FROM products GROUP BY category HAVING some_aggregate(category) > 5",
    "SELECT category FROM products GROUP BY category HAVING category IN (SELECT name FROM products)",
    "SELECT category FROM products GROUP BY GROUPING SETS ((category), ()) HAVING GROUPING(category) = 0",
    "SELECT category FROM products GROUP BY category HAVING bool_and(name = category)",
    "SELECT category FROM products GROUP BY category HAVING $1 AND count(*) > 1",
]

# What an expression may consist of: anything else may be an aggregate, or not fit in WHERE.
_NOT_PLAIN = frozenset(
    ("SubLink", "GroupingFunc", "JsonObjectAgg", "JsonArrayAgg", "JsonAggConstructor", "XmlExpr")
)


@rule("SelectStmt", severity="info")
def check(select: Node, ctx: Context) -> Iterator[Finding]:
    groups = select.get("groupClause")
    if "havingClause" not in select or not groups or any("GroupingSet" in g for g in groups):
        return
    parts = conjuncts(select["havingClause"])
    moved = [part for part in parts if _about_rows(part, ctx)]
    if not moved:
        return
    text = ctx.text(moved[0])
    yield ctx.finding(
        moved[0],
        f"{' '.join(text.split())} has no aggregate: it says which rows to group, "
        "which WHERE is for",
        fixes=_fixes(select, parts, moved, ctx),
    )


def _about_rows(part: Node, ctx: Context) -> bool:
    kinds = {kind for kind, _ in walk(*unwrap(part))}
    return (
        "ColumnRef" in kinds
        and not kinds & _NOT_PLAIN
        and all(is_scalar(call, ctx.catalog) for call in calls(part))
        and not volatile(*unwrap(part), ctx.catalog)
    )


def _fixes(select: Node, parts: list[Node], moved: list[Node], ctx: Context) -> list[Fix]:
    places = clauses(select, ctx.spans)
    having, texts = places.get("HAVING"), {id(p): _enclosed(p, ctx) for p in parts}
    if having is None or "FROM" not in places or not all(texts.values()):
        return []
    if any(ctx.positional(p) for p in parts):
        return []
    kept = [texts[id(p)] for p in parts if not any(p is m for m in moved)]
    before = max(t[1] for t in ctx.spans.tokens if t[1] <= having[0])
    rest = Edit(*having, f"HAVING {' AND '.join(kept)}") if kept else Edit(before, having[1], "")
    added = and_where(select, places, " AND ".join(texts[id(m)] for m in moved))
    return [Fix("move it to WHERE", ctx.edit(*added, rest))] if added else []


def _enclosed(part: Node, ctx: Context) -> str:
    """A condition's text, safe to stand beside AND."""
    text = ctx.text(part)
    bare = unwrap(part)[1].get("boolop") == "OR_EXPR"
    return f"({text})" if bare and text and not _in_parentheses(text) else text


def _in_parentheses(text: str) -> bool:
    """Whether the first parenthesis closes with the last character."""
    depth = 0
    for i, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if not depth:
            return i == len(text) - 1
    return False
