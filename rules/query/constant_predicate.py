"""A condition that is the same for every row: always true, or true for none.

Why: contradictory conditions return nothing, whatever the tables hold; a condition that no row
    fails filters nothing, most often an OR between two <> that was meant as AND. Both are mistakes
    that no error message tells of.
Fix: none is written: what was meant, the query does not say. A harmless 1 = 1 can be left out.
Silent when: parameters take part; the values could be equal in the column's type; the column is on
    the null-extended side of an outer join (IS NULL then finds the rows without a partner).
Source: PostgreSQL manual, 9.2 "Comparison Functions and Operators"; predicate_refuted_by() in
    src/backend/optimizer/util/predtest.c, which the planner applies to CHECK constraints only
    where constraint_exclusion says so.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.finding import Finding, Severity
from sqladvisor.rule import rule
from sqladvisor.sql.comparisons import FLIPPED
from sqladvisor.sql.ranges import Limits, contradiction, differ, limits, order
from sqladvisor.sql.resolve import Binding
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import conjuncts, constant, names, operator, unwrap, walk

SCHEMA = """
CREATE TABLE products (id bigint PRIMARY KEY, name text NOT NULL, price numeric, "Größe" int,
    status text NOT NULL CHECK (status IN ('new', 'sold', 'gone')), category varchar(20), day date,
    active boolean, kind citext, born timestamptz);
CREATE TABLE orders (id bigint PRIMARY KEY, product_id bigint REFERENCES products, note text);
"""
BAD = [
    "SELECT id, name FROM products WHERE price > 50 AND price < 20",
    "SELECT id FROM products p WHERE p.status = 'new' AND p.name LIKE 'x%' AND p.status = 'sold'",
    """SELECT 'ü', id FROM products
       WHERE "Größe" BETWEEN 10 AND 5""",
    "SELECT id FROM products WHERE category <> 'garden' OR category <> 'pets'",
    "SELECT id FROM products WHERE id = 7 OR 1 = 1",
    "SELECT id FROM products WHERE price IS NULL AND price > 5",
    "SELECT id FROM products WHERE name IS NULL",
    "DELETE FROM products WHERE status = 'solt'",
    "UPDATE products SET price = 0 WHERE day >= '2024-02-01' AND day < '2024-01-01'",
    "SELECT id FROM products WHERE 1=1 AND price > 5",
    "SELECT id FROM products WHERE price > 5 OR price < 10",
    "SELECT o.id FROM orders o JOIN products p ON p.id = o.product_id AND p.id IN (1, 2) AND p.id = 3",
    "SELECT id FROM products WHERE price <> price",
]
GOOD = [
    "SELECT id FROM products WHERE price > 20 AND price < 50",
    "SELECT id FROM products WHERE price >= 20 AND price <= 20",
    "SELECT id FROM products WHERE category <> 'garden' AND category <> 'pets'",
    "SELECT id FROM products WHERE kind = 'a' AND kind = 'A'",
    "SELECT id FROM products WHERE price > $1 AND price < $2",
    "SELECT a.id FROM products a JOIN products b ON a.id = b.id WHERE a.price > 50 AND b.price < 20",
    "SELECT o.id FROM orders o LEFT JOIN products p ON p.id = o.product_id WHERE p.name IS NULL",
    "SELECT o.id FROM orders o WHERE EXISTS (SELECT 1 FROM products p WHERE p.id = 1) AND o.id = 2",
    "SELECT o.id FROM orders o LEFT JOIN LATERAL (SELECT 1) x ON true",
    "SELECT id FROM products WHERE active = 't' AND active = 'true'",
    "SELECT id FROM products WHERE price < 20 OR price > 50",
    "SELECT id FROM products WHERE status = 'new' OR status = 'sold'",
    "SELECT id FROM products WHERE $1 OR price > 5",
    "SELECT id FROM products WHERE price IS NULL OR price > 5",
    "SELECT id FROM products WHERE born > '2024-01-01' AND born < '2024-1-5'",
    "SELECT id FROM products WHERE name > 'b' AND name < 'a'",
    "SELECT count(*) FILTER (WHERE status = 'new'), count(*) FILTER (WHERE status = 'sold') FROM products",
    "SELECT id FROM products WHERE (status = 'new' AND price > 5) OR (status = 'sold' AND price < 3)",
    "SELECT x.id FROM (SELECT id, price FROM products WHERE price > 50) x WHERE x.price > 20",
]


@rule("SelectStmt", "UpdateStmt", "DeleteStmt", severity="error")
def check(query: Node, ctx: Context) -> Iterator[Finding]:
    where = query.get("whereClause")
    clauses = [conjuncts(where)] if where else []
    if "fromClause" in query or "usingClause" in query:
        kind = "SelectStmt" if "relation" not in query else _kind(query)
        joins = ctx.scope(query, kind).joins
        clauses += [conjuncts(j["quals"]) for j in joins if "quals" in j]
    for parts in clauses:
        on = not where or parts is not clauses[0]
        for part in parts:
            yield from _single(part, on, ctx)
        if len(parts) > 1 or _is_between(parts):
            for found in limits(parts, ctx.resolver):
                yield from _contradicting(found, on, ctx)
        if not on:
            for part in parts:
                yield from _impossible(part, ctx)


def _kind(query: Node) -> str:
    return "UpdateStmt" if "targetList" in query else "DeleteStmt"


def _is_between(parts: list[Node]) -> bool:
    return any("BETWEEN" in str(unwrap(p)[1].get("kind", "")) for p in parts)


def _nothing(on: bool) -> str:
    return "no rows match" if on else "no row passes"


def _contradicting(found: Limits, on: bool, ctx: Context) -> Iterator[Finding]:
    pair = contradiction(found)
    if pair is None:
        return
    one, other = pair
    if one.part is other.part:
        message = (
            f"{ctx.text(one.part)} is empty, its bounds are the wrong way round: {_nothing(on)}"
        )
    else:
        message = (
            f"{ctx.text(one.part)} and {ctx.text(other.part)} are never both true: {_nothing(on)}"
        )
    yield ctx.finding(other.part, message)


def _single(part: Node, on: bool, ctx: Context) -> Iterator[Finding]:
    """A condition that is constant by itself."""
    kind, node = unwrap(part)
    if kind == "BoolExpr" and node.get("boolop") == "OR_EXPR":
        yield from _either(part, node, ctx)
        return
    value = _truth(part)
    if value is not None:
        if on:
            return
        says = "filters nothing" if value else "lets no row through"
        yield ctx.finding(part, f"{ctx.text(part)} {says}", severity="info")
        return
    same = _same_sides(node, ctx) if kind == "A_Expr" else None
    if same:
        text = ctx.text(part)
        if operator(node) in ("<>", "<", ">"):
            yield ctx.finding(part, f"{text} compares a column with itself: {_nothing(on)}")
        elif operator(node) in ("=", "<=", ">="):
            name = ctx.text(node["lexpr"])
            yield ctx.finding(
                part,
                f"{text} compares a column with itself: it only means {name} IS NOT NULL",
                severity="info",
            )


def _truth(part: Node) -> bool | None:
    """The value of a comparison of literals, or of a boolean literal; None for all else."""
    value = constant(part)
    if isinstance(value, bool):
        return value
    kind, node = unwrap(part)
    if kind != "A_Expr" or node.get("kind", "AEXPR_OP") != "AEXPR_OP":
        return None
    if operator(node) not in FLIPPED:
        return None
    left, right = constant(node.get("lexpr", {})), constant(node.get("rexpr", {}))
    if left is ... or right is ... or left is None or right is None:
        return None
    found = order(left, right)
    if found is None:
        text = isinstance(left, str) and isinstance(right, str)
        return operator(node) == "<>" if text and operator(node) in ("=", "<>") else None
    return {
        "=": found == 0,
        "<>": found != 0,
        "<": found < 0,
        "<=": found <= 0,
        ">": found > 0,
        ">=": found >= 0,
    }[operator(node)]


def _same_sides(node: Node, ctx: Context) -> bool:
    one, other = ctx.binding(node.get("lexpr", {})), ctx.binding(node.get("rexpr", {}))
    if one is None or other is None or node.get("kind", "AEXPR_OP") != "AEXPR_OP":
        return False
    return one.item is other.item and one.column == other.column and one.sure and other.sure


def _either(part: Node, node: Node, ctx: Context) -> Iterator[Finding]:
    """An OR that every row, or every row with a value, passes."""
    arms = node["args"]
    for arm in arms:
        if _truth(arm) is True:
            yield ctx.finding(
                part,
                f"{ctx.text(arm)} is always true: the whole OR filters nothing",
                severity="warning",
            )
            return
    found = limits(arms, ctx.resolver)
    if len(found) != 1 or len(found[0].limits) != len(arms):
        return
    column = found[0]
    for place, one in enumerate(column.limits):
        for other in column.limits[place + 1 :]:
            ops = {one.operator, other.operator}
            pair = ops == {"<>"} and differ(one.values[0], other.values[0], column.text_like)
            if not pair and one.operator[0] in "<>" and other.operator[0] in "<>":
                low, high = (one, other) if one.operator[0] == ">" else (other, one)
                if low.operator in (">", ">=") and high.operator in ("<", "<="):
                    pair = order(low.values[0], high.values[0]) == -1
            if pair:
                yield ctx.finding(
                    part,
                    f"every value passes {ctx.text(one.part)} OR {ctx.text(other.part)}: it filters "
                    "nothing but NULL, AND may be meant",
                    severity="warning",
                )
                return


def _impossible(part: Node, ctx: Context) -> Iterator[Finding]:
    """A condition that the schema's constraints let no row meet."""
    kind, node = unwrap(part)
    severity: Severity = "warning"
    if kind == "NullTest" and node.get("nulltesttype", "IS_NULL") == "IS_NULL":
        binding = ctx.binding(node.get("arg", {}))
        if binding is not None and _never_null(binding):
            yield ctx.finding(
                part,
                f"{ctx.text(part)} is never true: {binding.item.name}.{binding.column} is NOT NULL",
                severity=severity,
            )
        return
    for found in limits([part], ctx.resolver):
        if found.limits[0].operator != "=" or unwrap(part)[0] != "A_Expr":
            continue
        allowed = _allowed(found.binding, ctx)
        values = found.limits[0].values
        left = unwrap(part)[1].get("lexpr", {})
        if not allowed or ctx.binding(left) is None or found.binding.item.nulled_by:
            continue
        if all(isinstance(v, str) and v not in allowed for v in values):
            listed = ", ".join(repr(v) for v in allowed[:8]) + (", …" if len(allowed) > 8 else "")
            yield ctx.finding(
                part,
                f"{ctx.text(part)} is never true: a CHECK allows {found.binding.column} only {listed}",
                severity=severity,
            )


def _never_null(binding: Binding) -> bool:
    item, definition = binding.item, binding.definition
    if item.kind != "table" or item.nulled_by or definition is None or not item.relation:
        return False
    return definition.not_null and item.relation.kind in ("table", "partitioned")


def _allowed(binding: Binding, ctx: Context) -> tuple[str, ...]:
    """The strings that a CHECK of a plain list allows a column; () where there is none."""
    from sqladvisor.sql import libpg

    relation, definition = binding.item.relation, binding.definition
    if relation is None or definition is None or binding.item.kind != "table":
        return ()
    if definition.type not in ("text", "character varying") or definition.collation:
        return ()
    for check in relation.checks:
        if binding.column not in check:
            continue
        try:
            parsed = libpg.parse(f"SELECT 1 WHERE {check}")[0]
        except libpg.ParseProblem:
            continue
        parts = conjuncts(parsed[3].get("whereClause"))
        kind, node = unwrap(parts[0]) if len(parts) == 1 else ("", {})
        how = node.get("kind", "")
        if kind != "A_Expr" or operator(node) != "=" or how not in ("AEXPR_IN", "AEXPR_OP_ANY"):
            continue
        columns = [n for k, n in walk(kind, node) if k == "ColumnRef"]
        calls = [n for k, n in walk(kind, node) if k in ("FuncCall", "A_Expr")]
        if (
            len(columns) != 1
            or len(calls) != 1
            or names(columns[0]["fields"])[-1] != binding.column
        ):
            continue
        values = [
            str(n["sval"].get("sval", ""))
            for k, n in walk(*unwrap(node["rexpr"]))
            if k == "A_Const" and "sval" in n
        ]
        if values:
            return tuple(values)
    return ()
