"""Tables in FROM that no condition links: every row of one is paired with every row of the other.

Why: without a condition between them PostgreSQL returns the product: a thousand rows and a million
    make a billion. Mostly a join condition was forgotten, or one table too many is named; DISTINCT
    or GROUP BY then hide the wrong result, not its cost.
Fix: the missing join condition, where exactly one foreign key between the tables says what it is.
Silent when: the tables are linked by other tables, by USING or NATURAL, by any condition that
    mentions both, or by the same constant or outer row for the same column; a side is one row (a
    unique key, an aggregate, LIMIT 1) or a handful (VALUES, a function); the product is known to be
    small; CROSS JOIN is written out between a table and distinct or grouped rows. Only info where
    CROSS JOIN is written out, or equalities choose the rows of both sides.
Source: PostgreSQL manual, 7.2.1.1 "Joined Tables" and 2.6 "Joins Between Tables".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.finding import Edit, Finding, Fix
from sqladvisor.rule import rule
from sqladvisor.sql.clauses import and_where, clauses
from sqladvisor.sql.comparisons import comparison, conditions
from sqladvisor.sql.links import unlinked
from sqladvisor.sql.quote import identifier
from sqladvisor.sql.resolve import FromItem, Scope
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import constant, unwrap, walk

SCHEMA = """
CREATE TABLE users (id bigint PRIMARY KEY, name text NOT NULL, city text, tags text[]);
CREATE TABLE orders (id bigint PRIMARY KEY, user_id bigint REFERENCES users, total numeric,
    created_at timestamptz NOT NULL);
CREATE TABLE order_items (id bigint PRIMARY KEY, order_id bigint REFERENCES orders, sku text);
CREATE TABLE "Städte" (id int PRIMARY KEY, "Name" text);
CREATE SCHEMA crm;
CREATE TABLE crm.notes (id int PRIMARY KEY, body text);
"""
BAD = [
    "SELECT u.name, o.total FROM users u, orders o WHERE u.city = 'Oslo' AND o.total > 100",
    """SELECT u.name, i.sku FROM users u
       JOIN orders o ON o.user_id = u.id, order_items i WHERE u.city = 'Gent'""",
    "SELECT count(*) FROM users u JOIN orders o ON true",
    "SELECT count(*) FROM users u JOIN orders o ON o.total > 5",
    "SELECT u.name FROM users u LEFT JOIN orders o ON o.created_at > now() WHERE u.city = 'Oslo'",
    """SELECT u.name, '€', s."Name" FROM users u, "Städte" s WHERE u.city = 'Köln'""",
    "WITH late AS (SELECT * FROM orders WHERE total > 5) SELECT * FROM users u, late WHERE u.id > $1",
    "INSERT INTO crm.notes SELECT u.id, n.body FROM users u, crm.notes n WHERE n.body LIKE 'a%'",
    "SELECT name FROM users u WHERE EXISTS (SELECT 1 FROM orders o, order_items i WHERE o.user_id = u.id)",
    "SELECT u.id FROM users u CROSS JOIN orders o",
    "SELECT a.id, b.id FROM orders a, orders b WHERE a.user_id = 5 AND b.user_id = 6",
]
GOOD = [
    "SELECT u.name, o.total FROM users u, orders o WHERE u.id = o.user_id",
    """SELECT u.name, i.sku FROM users u, order_items i, orders o
       WHERE o.user_id = u.id AND i.order_id = o.id""",
    "SELECT * FROM users JOIN orders USING (id)",
    "SELECT * FROM users NATURAL JOIN orders",
    "SELECT u.name, t FROM users u, unnest(u.tags) t",
    "SELECT u.name, d FROM users u CROSS JOIN generate_series(1, 5) d",
    "SELECT u.id, l.total FROM users u CROSS JOIN LATERAL (SELECT total FROM orders o WHERE o.user_id = u.id LIMIT 3) l",
    "SELECT u.id, l.total FROM users u LEFT JOIN LATERAL (SELECT total FROM orders o WHERE o.user_id = u.id) l ON true",
    "SELECT o.total / s.all_of_it FROM orders o, (SELECT sum(total) AS all_of_it FROM orders) s",
    "SELECT o.id, v.x FROM orders o CROSS JOIN (VALUES (1), (2)) v(x)",
    "SELECT u.name, o.total FROM users u, orders o WHERE u.id = 5 AND o.created_at > now()",
    "SELECT u.name, o.total FROM users u, orders o WHERE u.id = $1 AND o.user_id = $1",
    "SELECT o.id FROM orders o CROSS JOIN (SELECT max(created_at) AS m FROM orders) x WHERE o.created_at = x.m",
    "SELECT a.id FROM users a, users b WHERE a.city < b.city",
    "SELECT a.id FROM users a JOIN orders o ON EXISTS (SELECT 1 FROM order_items i WHERE i.order_id = o.id AND i.id = a.id)",
    "SELECT d.d, u.city FROM generate_series(1, 9) d(d) CROSS JOIN (SELECT DISTINCT city FROM users) u",
    "SELECT d, u.city FROM (SELECT DISTINCT created_at::date d FROM orders) x CROSS JOIN (SELECT city FROM users GROUP BY 1) u",
    "SELECT * FROM users u FULL JOIN orders o ON false",
    "WITH new AS (INSERT INTO users VALUES (1, 'a') RETURNING id) INSERT INTO orders SELECT n.id, u.id FROM new n, users u",
    "SELECT u.name FROM users u WHERE EXISTS (SELECT 1 FROM orders o, order_items i WHERE o.user_id = u.id AND i.id = u.id)",
    "SELECT u FROM users u, orders o WHERE some_match(u, o)",
    "SELECT o.id, s.rate FROM orders o, settings s WHERE o.total > 5",
]

_TINY_PRODUCT = 1_000_000


@rule(
    "SelectStmt",
    severity="warning",
    # Rows: at about a microsecond each a product up to this size takes a second at the worst.
    thresholds={"product_rows": _TINY_PRODUCT},
)
def check(select: Node, ctx: Context) -> Iterator[Finding]:
    if "fromClause" not in select:
        return
    scope = ctx.scope(select)
    apart = unlinked(select, scope, ctx.resolver)
    if len(apart) < 2:
        return
    first = apart[0]
    for group in apart[1:]:
        one, other = _pair(first, group)
        rows = [ctx.rows(i) for i in (one, other)]
        product = None if None in rows else (rows[0] or 0) * (rows[1] or 0)
        small = product is not None and product < ctx.threshold("product_rows")
        written = _cross_join(other, scope) is not None
        if (small and len(apart) == 2) or (written and (_distinct(one) or _distinct(other))):
            continue
        sizes = f" (of {rows[0]:,.0f} and {rows[1]:,.0f})" if product is not None else ""
        link = _foreign_key(first, group)
        yield ctx.finding(
            _place(other),
            f"no condition links {other.alias} to {one.alias}: each row taken of {_name(one)} is "
            f"paired with each one of {_name(other)}{sizes}",
            severity="info"
            if written or small or _perhaps_one(one, other, select, scope, ctx)
            else "warning",
            fixes=_fixes(link, other, select, scope, ctx) if link else (),
            figures={} if product is None else {"product_rows": product},
            notes=() if product is not None else ("neither is known to have one row only",),
        )


def _pair(first: list[FromItem], group: list[FromItem]) -> tuple[FromItem, FromItem]:
    """The items of two groups to name: those that a foreign key relates, else the first of each."""
    for one in first:
        for other in group:
            if _key(one, other) or _key(other, one):
                return one, other
    return first[0], group[0]


def _perhaps_one(one: FromItem, other: FromItem, select: Node, scope: Scope, ctx: Context) -> bool:
    """Whether equalities choose few rows: of both items, or of one whose keys are not known."""
    chosen = set()
    for part in conditions(select, scope):
        c = comparison(part)
        binding = ctx.binding(c.side) if c and c.operator == "=" else None
        if binding is not None:
            chosen.add(id(binding.item))
    unknown = any(i.kind == "table" and not i.relation and id(i) in chosen for i in (one, other))
    return unknown or {id(one), id(other)} <= chosen


def _name(item: FromItem) -> str:
    return item.name or item.alias or "the subquery"


def _place(item: FromItem) -> Node | None:
    return {"RangeVar": item.node} if item.name else None


def _cross_join(item: FromItem, scope: Scope) -> Node | None:
    """The CROSS JOIN that an item stands on one side of: an inner join without a condition."""
    for join in scope.joins:
        written = "quals" not in join and "usingClause" not in join and not join.get("isNatural")
        if written and any(unwrap(join[s])[1] is item.node for s in ("larg", "rarg")):
            return join
    return None


def _distinct(item: FromItem) -> bool:
    """Whether an item is a subquery that has each row once: half of a grid made on purpose."""
    query = item.query or {}
    return any(k in query for k in ("distinctClause", "groupClause", "larg"))


def _key(one: FromItem, other: FromItem) -> list[tuple[str, str]] | None:
    """The columns of the one foreign key from ``one`` to ``other``; None for none or several."""
    if one.relation is None or other.relation is None:
        return None
    target = other.relation
    keys = [
        k
        for k in one.relation.foreign_keys
        if (k.target_schema, k.target) == (target.schema, target.name) and k.target_columns
    ]
    return (
        list(zip(keys[0].columns, keys[0].target_columns, strict=True)) if len(keys) == 1 else None
    )


def _foreign_key(
    first: list[FromItem], group: list[FromItem]
) -> tuple[str, FromItem, FromItem] | None:
    """The condition of the only foreign key between two groups, and the items it links."""
    found = []
    for a in first:
        for b in group:
            for one, other in ((a, b), (b, a)):
                if pairs := _key(one, other):
                    condition = " AND ".join(
                        f"{identifier(one.alias)}.{identifier(x)} = "
                        f"{identifier(other.alias)}.{identifier(y)}"
                        for x, y in pairs
                    )
                    found.append((condition, one, other))
    return found[0] if len(found) == 1 else None


def _fixes(
    link: tuple[str, FromItem, FromItem],
    item: FromItem,
    select: Node,
    scope: Scope,
    ctx: Context,
) -> list[Fix]:
    condition, *linked = link
    edits: list[Edit] = []
    join = next(
        (j for j in scope.joins if unwrap(j["rarg"])[1] is item.node and "quals" in j), None
    )
    if join is not None:
        span = ctx.span(join["quals"])
        below = {id(node) for _, node in walk("JoinExpr", join)}
        if span and all(id(i.node) in below for i in linked):
            always = constant(join["quals"]) is True
            written = ctx.text(join["quals"])
            edits = [Edit(*span, condition if always else f"({written}) AND {condition}")]
    elif not item.nulled_by:
        edits = and_where(select, clauses(select, ctx.spans), condition)
    if not edits:
        return []
    return [
        Fix(
            f"link them by the foreign key: {condition}",
            ctx.edit(*edits),
            changes_result="pairs only the rows that belong together",
        )
    ]
