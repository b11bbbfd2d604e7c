"""A condition that another condition of the same clause already says.

Why: it is evaluated for each row, counted as a filter of its own where the planner cannot see the
    repetition (fewer rows are expected than come), and it hides which of the two was meant.
Fix: the statement without it.
Silent when: either one says something that the other does not; NULLs, types or collation could
    make a difference; the two are in different clauses, or about different tables.
Source: PostgreSQL manual, 68.1 "Row Estimation Examples" (selectivities of AND-ed clauses are
    multiplied); addRangeClause() in src/backend/optimizer/path/clausesel.c.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.finding import Edit, Finding, Fix
from sqladvisor.rule import rule
from sqladvisor.sql.expressions import shape
from sqladvisor.sql.ranges import contradiction, implied, limits
from sqladvisor.sql.resolve import columns_in
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import conjuncts, is_pseudo_constant, unwrap
from sqladvisor.sql.volatility import volatile

SCHEMA = """
CREATE TABLE users (id bigint PRIMARY KEY, name text NOT NULL, city text);
CREATE TABLE orders (id bigint PRIMARY KEY, user_id bigint REFERENCES users, total numeric,
    "Größe" int, status text, day date);
"""
BAD = [
    "SELECT id FROM orders WHERE status = 'paid' AND total > 5 AND status = 'paid'",
    "SELECT id FROM orders o WHERE o.total > 5 AND o.total > 3",
    """SELECT 'ä' FROM orders
       WHERE status IN ('paid', 'new')
         AND status = 'paid'""",
    """SELECT o.id FROM orders o JOIN users u ON u.id = o.user_id AND u.id = o.user_id""",
    'DELETE FROM orders WHERE "Größe" = 7 AND "Größe" > 0 AND user_id = $1',
    "SELECT o.id FROM orders o, users u WHERE u.id = o.user_id AND u.city = 'x' AND o.user_id = u.id",
    "UPDATE orders SET total = 0 WHERE user_id = $1 AND user_id = $1",
    "SELECT id FROM users WHERE name IS NOT NULL AND city = 'x'",
    "SELECT id FROM orders WHERE day >= '2024-01-01' AND day < '2024-02-01' AND day < '2024-03-01'",
]
GOOD = [
    "SELECT id FROM orders WHERE total > 5 AND total < 30",
    "SELECT id FROM orders WHERE status = 'paid' OR status = 'paid'",
    "SELECT a.id FROM orders a JOIN orders b ON b.id = a.id WHERE a.total > 5 AND b.total > 5",
    "SELECT id FROM orders WHERE random() < 0.5 AND random() < 0.5",
    "SELECT o.id FROM users u LEFT JOIN orders o ON o.user_id = u.id WHERE o.id IS NOT NULL AND u.name = 'x'",
    "SELECT u.id FROM users u LEFT JOIN users r ON r.id = u.id WHERE r.name IS NOT NULL",
    "SELECT id FROM orders WHERE total BETWEEN 5 AND 30 AND total > 7",
    "SELECT id FROM orders WHERE status = 'a' AND EXISTS (SELECT 1 FROM orders x WHERE x.status = 'a')",
    "SELECT id FROM orders WHERE total > $1 AND total > $2",
    "SELECT id FROM orders WHERE name > 'b' AND name > 'a'",
    "SELECT id FROM orders WHERE user_id = ? AND user_id = ?",
    "SELECT id FROM orders WHERE city IS NOT NULL AND total > 5",
    "SELECT id FROM orders WHERE total > 50 AND total < 20 AND total > 10",
    "SELECT o.id FROM orders o JOIN users u ON u.id = o.user_id AND u.city = 'x' WHERE u.city = 'x'",
]


@rule("SelectStmt", "UpdateStmt", "DeleteStmt", severity="info")
def check(query: Node, ctx: Context) -> Iterator[Finding]:
    where = query.get("whereClause")
    clauses = [conjuncts(where)] if where else []
    if "fromClause" in query:
        kind = "UpdateStmt" if "relation" in query else "SelectStmt"
        clauses += [conjuncts(j["quals"]) for j in ctx.scope(query, kind).joins if "quals" in j]
    for parts in clauses:
        yield from _clause(parts, not where or parts is not clauses[0], ctx)


def _clause(parts: list[Node], on: bool, ctx: Context) -> Iterator[Finding]:
    said: set[int] = set()
    first: dict[object, Node] = {}
    for part in parts if len(parts) > 1 else ():
        meaning = _meaning(part, ctx)
        if meaning is None:
            continue
        if meaning in first:
            said.add(id(part))
            yield _finding(part, f"{ctx.text(part)} is said twice", ctx)
        else:
            first[meaning] = part
    if len(parts) > 1:
        for found in limits(parts, ctx.resolver):
            if len(found.limits) < 2 or contradiction(found):
                continue
            for one, by in implied(found):
                if id(one.part) in said or one.operator == "not null":
                    continue
                said.add(id(one.part))
                text = f"{ctx.text(one.part)} follows from {ctx.text(by.part)}"
                yield _finding(one.part, text, ctx)
    for part in parts:
        if not on and id(part) not in said and (column := _never_null(part, ctx)):
            yield _finding(part, f"{ctx.text(part)} is always true: {column} is NOT NULL", ctx)


def _meaning(part: Node, ctx: Context) -> object | None:
    """A key that is equal for conditions that say the same; None where that cannot be told."""
    kind, node = unwrap(part)
    if kind == "SubLink" or is_pseudo_constant(part) or volatile(kind, node, ctx.catalog):
        return None
    if ctx.positional(part):
        return None
    items = []
    for column in columns_in(kind, node):
        binding = ctx.resolve(column)
        if binding is None:
            return None
        items.append((id(binding.item), binding.column))
    if kind == "A_Expr" and node.get("kind", "AEXPR_OP") == "AEXPR_OP" and len(items) == 2:
        bare = all(unwrap(node.get(s, {}))[0] == "ColumnRef" for s in ("lexpr", "rexpr"))
        if bare and node["name"][-1]["String"]["sval"] == "=":
            return "=", *sorted(items)
    return shape(part), tuple(items)


def _never_null(part: Node, ctx: Context) -> str:
    """``table.column`` of an IS NOT NULL that a constraint makes true for every row."""
    kind, node = unwrap(part)
    if kind != "NullTest" or node.get("nulltesttype") != "IS_NOT_NULL":
        return ""
    binding = ctx.binding(node.get("arg", {}))
    definition = binding.definition if binding else None
    if binding is None or definition is None or not definition.not_null or binding.item.nulled_by:
        return ""
    relation = binding.item.relation
    if (
        binding.item.kind != "table"
        or not relation
        or relation.kind not in ("table", "partitioned")
    ):
        return ""
    return f"{binding.item.name}.{binding.column}"


def _finding(part: Node, message: str, ctx: Context) -> Finding:
    return ctx.finding(part, message, fixes=_without(part, ctx))


def _without(part: Node, ctx: Context) -> list[Fix]:
    """The statement without a condition and the AND before or after it."""
    span = ctx.span(part)
    if span is None or ctx.positional(part):
        return []
    tokens = ctx.spans.tokens
    first, last = ctx.spans.token_at(span[0]), ctx.spans.token_at(span[1] - 1)
    if first and tokens[first - 1][2] == "AND":
        start, end = tokens[first - 2][1], span[1]
    elif last + 1 < len(tokens) and tokens[last + 1][2] == "AND":
        start, end = span[0], tokens[last + 2][0]
    else:
        return []
    return [Fix("leave it out", ctx.edit(Edit(start, end, "")))]
