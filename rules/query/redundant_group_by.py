"""GROUP BY lists columns that the primary key beside them determines already.

Why: where the whole primary key of a table is grouped by, each group holds one row of that table,
    and its other columns cannot split it further. PostgreSQL knows this: the columns may stand in
    SELECT, HAVING and ORDER BY without being grouped by. Listing them hides what one group is, and
    the list has to follow each change of the SELECT list. (The planner drops them itself, so they
    cost the reader, not the server.)
Fix: group by the key only. The groups, and what the query may select, are the same.
Silent when: the primary key is not in the list in full, or not known; only a unique constraint
    is there (PostgreSQL requires the primary key); GROUPING SETS, ROLLUP or CUBE.
Source: PostgreSQL manual, SELECT, "GROUP BY Clause" (functional dependency);
    check_functional_grouping() in src/backend/catalog/pg_constraint.c, and
    remove_useless_groupby_columns() in src/backend/optimizer/plan/initsplan.c.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.finding import Finding, Fix
from sqladvisor.rule import rule
from sqladvisor.sql.clauses import clauses, items, without
from sqladvisor.sql.quote import identifier
from sqladvisor.sql.resolve import Binding, FromItem
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import unwrap

SCHEMA = """
CREATE TABLE users (id bigint PRIMARY KEY, name text NOT NULL, email text NOT NULL UNIQUE,
    created_at timestamptz NOT NULL);
CREATE TABLE orders (id bigint PRIMARY KEY, user_id bigint REFERENCES users, total numeric,
    created_at timestamptz NOT NULL);
CREATE SCHEMA crm;
CREATE TABLE crm."Größe" (a integer, "B" integer, "Länge" text, PRIMARY KEY (a, "B"));
CREATE TABLE plain (id bigint NOT NULL, name text);
CREATE VIEW everyone AS SELECT * FROM users;
"""
BAD = [
    """SELECT u.name, u.email, COUNT(o.id) as order_count
       FROM users u
       LEFT JOIN orders o ON u.id = o.user_id
       GROUP BY u.id, u.name, u.email
       HAVING COUNT(o.id) > 5 ORDER BY order_count DESC LIMIT 10""",
    "SELECT u.id, u.name, count(*) FROM users u JOIN orders o ON o.user_id = u.id GROUP BY 1, 2",
    "SELECT u.id AS k, u.name AS n, count(*) FROM users u, orders o WHERE o.user_id = u.id GROUP BY k, n",
    """SELECT 'ä', g.a, g."Länge", count(*)
       FROM crm."Größe" g CROSS JOIN orders o GROUP BY (g."Länge"), g."B", g.a, o.total""",
    "WITH t AS (SELECT id, name, max(email) AS e FROM users GROUP BY name, id) SELECT e FROM t",
    """INSERT INTO plain SELECT users.id, users.name FROM users JOIN orders ON orders.user_id = users.id
       GROUP BY users.id, users.name HAVING sum(orders.total) > $1""",
    "SELECT o.id, o.total, u.id, u.name FROM orders o JOIN users u ON u.id = o.user_id GROUP BY o.id, u.id, o.total, u.name",
]
GOOD = [
    "SELECT u.name, count(*) FROM users u JOIN orders o ON o.user_id = u.id GROUP BY u.id",
    "SELECT u.email, u.name, count(*) FROM users u JOIN orders o ON o.user_id = u.id GROUP BY u.email, u.name",
    "SELECT u.id, o.total, count(*) FROM users u JOIN orders o ON o.user_id = u.id GROUP BY u.id, o.total",
    "SELECT id, name, count(*) FROM plain GROUP BY id, name",
    "SELECT id, name, count(*) FROM everyone GROUP BY id, name",
    "SELECT id, name, count(*) FROM users GROUP BY ROLLUP (id, name)",
    "SELECT id, name, count(*) FROM users GROUP BY GROUPING SETS ((id, name), ())",
    """SELECT a, "Länge", count(*) FROM crm."Größe" GROUP BY a, "Länge" """,
    "SELECT s.id, s.name, count(*) FROM (SELECT id, name FROM users) s GROUP BY s.id, s.name",
    "SELECT id % 10 AS id, name, count(*) FROM users GROUP BY 1, name",
    "SELECT date_trunc('day', created_at) AS day, count(*) FROM orders GROUP BY day",
    "SELECT (SELECT count(*) FROM orders o WHERE o.user_id = u.id GROUP BY u.id, u.name) FROM users u",
]


@rule("SelectStmt", severity="info", needs=("schema",))
def check(select: Node, ctx: Context) -> Iterator[Finding]:
    groups = select.get("groupClause", ())
    if len(groups) < 2 or any("GroupingSet" in g for g in groups):
        return
    bindings = [_binding(g, select, ctx) for g in groups]
    grouped: dict[int, set[str]] = {}
    for binding in bindings:
        if binding:
            grouped.setdefault(id(binding.item), set()).add(binding.column)
    redundant = {
        i
        for i, binding in enumerate(bindings)
        if binding and _determined(binding, grouped[id(binding.item)])
    }
    if not redundant:
        return
    place = clauses(select, ctx.spans).get("GROUP_P")
    places = items(place, ctx.spans, 2) if place else []
    if place is None or len(places) != len(groups):
        return
    edits = without(places, redundant)
    kept = ", ".join(_text(p, ctx) for i, p in enumerate(places) if i not in redundant)
    yield ctx.finding(
        place,
        _message([b for i, b in enumerate(bindings) if b and i in redundant]),
        fixes=[Fix(f"GROUP BY {kept}", ctx.edit(*edits))],
    )


def _binding(group: Node, select: Node, ctx: Context) -> Binding | None:
    """The column of this query that a GROUP BY element means, through ordinals and aliases."""
    kind, node = unwrap(group)
    if kind == "A_Const":
        outputs = ctx.resolver.outputs(select) or []
        position = node.get("ival", {}).get("ival", 0)
        if not 0 < position <= len(outputs):
            return None
        output = outputs[position - 1]
        if output.item:
            return Binding(output.item, output.column, 0, True)
        group = output.value or {}
    binding = ctx.binding(group)
    known = binding and binding.sure and not binding.depth and binding.definition
    return binding if known else None


def _determined(binding: Binding, grouped: set[str]) -> bool:
    relation = binding.item.relation
    key = set(relation.primary_key) if relation else set()
    return bool(key) and key <= grouped and binding.column not in key


def _message(redundant: list[Binding]) -> str:
    by_item: dict[int, tuple[FromItem, list[str]]] = {}
    for binding in redundant:
        columns = by_item.setdefault(id(binding.item), (binding.item, []))[1]
        if binding.column not in columns:
            columns.append(binding.column)
    parts = []
    for item, columns in by_item.values():
        assert item.relation
        key = ", ".join(f"{item.alias}.{identifier(c)}" for c in item.relation.primary_key)
        key = key if len(item.relation.primary_key) == 1 else f"({key})"
        given = ", ".join(f"{item.alias}.{identifier(c)}" for c in columns)
        verb, them = ("adds", "it") if len(columns) == 1 else ("add", "them")
        parts.append(f"{given} {verb} nothing to GROUP BY: the primary key {key} determines {them}")
    return "; ".join(parts)


def _text(place: tuple[int, int], ctx: Context) -> str:
    statement = ctx.statement
    return statement.text[statement.to_text(place[0]) : statement.to_text(place[1])]
