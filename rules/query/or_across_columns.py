"""An OR over columns of different tables, or of one table where not all have an index.

Why: an index can serve an OR only if every arm has one on the same table (PostgreSQL then combines
    them in a BitmapOr). An OR over two tables is decided after they are joined, row by row; in ON
    it leaves no equality to hash or merge by, only a nested loop over all pairs; one arm without
    an index means the whole table is read, whatever the other arms have.
Fix: the two halves under UNION ALL, the second without the rows of the first (IS NOT TRUE, so that
    NULLs stay right and nothing comes twice); or the index that is missing for a BitmapOr.
Silent when: all arms are on one column (that is an IN) or share one (keyset pagination); every arm
    has an index on the same table; another condition narrows the query by an index already; an arm
    is an optional parameter ($1 IS NULL), a range or a pattern; tables are small.
Source: PostgreSQL manual, 11.5 "Combining Multiple Indexes"; src/backend/optimizer/util/orclauses.c.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.finding import Finding, Fix
from sqladvisor.rule import rule
from sqladvisor.sql.aggregates import aggregates
from sqladvisor.sql.clauses import clauses
from sqladvisor.sql.comparisons import comparison, narrowing
from sqladvisor.sql.expressions import create_index
from sqladvisor.sql.quote import identifier
from sqladvisor.sql.resolve import Binding, FromItem, Scope
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import conjuncts, names, operator, unwrap, walk
from sqladvisor.sql.volatility import volatile

SCHEMA = """
CREATE TABLE users (id bigint PRIMARY KEY, email text UNIQUE, phone text, city text, name text);
CREATE TABLE orders (id bigint PRIMARY KEY, user_id bigint REFERENCES users, ref text, status text,
    billing text, "Straße" text, created_at timestamptz NOT NULL);
CREATE INDEX ON orders (user_id);
CREATE INDEX ON orders (ref);
CREATE INDEX ON orders (status);
CREATE TABLE parcels (id bigint PRIMARY KEY, sender text, receiver text, order_id bigint);
CREATE TABLE people (id bigint PRIMARY KEY, a text, b text);
CREATE INDEX ON people (a);
CREATE INDEX ON people (b);
"""
BAD = [
    "SELECT id, name FROM users WHERE phone = '+49 30' OR email = 'x@example.org'",
    """SELECT o.id, u.name FROM orders o JOIN users u ON u.id = o.user_id
       WHERE o.id > 5 AND (o.ref = 'Ä7' OR (u.email = 'x@example.org' AND o.id > 0))""",
    "SELECT p.id, q.id FROM parcels p JOIN parcels q ON p.sender = q.receiver OR p.receiver = q.sender",
    "SELECT p.id, o.id FROM parcels p, orders o WHERE p.sender = o.billing OR p.receiver = o.billing",
    """SELECT o.id FROM orders AS o WHERE o.ref IN ($1, $2) OR o."Straße" = $3 ORDER BY id""",
    "UPDATE orders SET status = 'x' WHERE ref = $1 OR billing = $2",
    "DELETE FROM orders USING users u WHERE orders.user_id = u.id AND (orders.ref = 'a' OR u.email = 'b')",
]
GOOD = [
    "SELECT id FROM people WHERE a = 'x' OR b = 'y'",
    "SELECT id FROM users WHERE email = 'x' OR email = 'y'",
    "SELECT id FROM orders WHERE created_at < $1 OR (created_at = $1 AND id < $2)",
    "SELECT id FROM orders WHERE $1 IS NULL OR billing = $1",
    "SELECT id FROM users WHERE id = $1 AND (phone = '1' OR email = 'x')",
    "SELECT id FROM users WHERE phone IS NULL OR email = 'x'",
    "SELECT id FROM users WHERE phone <> '1' OR email = 'x'",
    "SELECT id FROM users WHERE name LIKE '%x%' OR email LIKE '%x%'",
    "SELECT id FROM users WHERE phone = '1' OR city = 'Oslo'",
    "SELECT p.id, x.id FROM parcels p JOIN people x ON p.sender = x.a OR p.receiver = x.b",
    "SELECT o.id FROM orders o JOIN users u ON u.id = o.user_id WHERE o.id = 5 AND (o.billing = 'a' OR u.city = 'b')",
    "SELECT o.id FROM orders o JOIN users u ON u.id = o.user_id WHERE o.billing = 'a' OR u.city = 'b'",
    "SELECT id, (phone = '1' OR email = 'x') AS mine FROM users",
    "SELECT count(*) FILTER (WHERE ref = 'x' OR billing = 'y') FROM orders",
    "SELECT p.id, o.id FROM parcels p JOIN orders o ON o.id = p.order_id AND (p.sender = o.billing OR p.receiver = o.billing)",
]

_EXACT = frozenset(("=", "IN", "ANY"))
_TABLES = ("table", "partitioned", "matview")


@rule("BoolExpr", severity="warning")
def check(expression: Node, ctx: Context) -> Iterator[Finding]:
    if expression.get("boolop") != "OR_EXPR":
        return
    found = _place(expression, ctx)
    if found is None:
        return
    kind, query, clause = found
    scope = ctx.scope(query, kind)
    arms = expression["args"]
    if len(arms) > 4:
        return
    links = [_link(arm, ctx) for arm in arms]
    if all(links):
        yield from _join_or(expression, [x for x in links if x], query, clause, scope, ctx)
        return
    sought = [_sought(arm, ctx) for arm in arms]
    if not all(sought):
        return
    columns = [[(id(b.item), b.column) for b in arm] for arm in sought]
    if set(columns[0]).intersection(*columns[1:]):
        return
    items = list({id(b.item): b.item for arm in sought for b in arm}.values())
    narrow = narrowing(scope, query, ctx.resolver)
    if any(narrow.get(id(i)) for i in scope.items) or all(ctx.small(i) for i in items):
        return
    if any(not _searchable(i, ctx) for i in items) or (not ctx.catalog and len(items) < 2):
        return
    if len(items) == 1:
        yield from _one_table(expression, sought, ctx)
    else:
        yield from _two_tables(expression, sought, items, query, clause, ctx)


def _place(expression: Node, ctx: Context) -> tuple[str, Node, str] | None:
    """The query whose WHERE (or inner join's ON) the OR is a part of by AND alone."""
    child = expression
    for kind, above in ctx.tree.ancestors(expression):
        if kind == "BoolExpr":
            if above.get("boolop") != "AND_EXPR":
                return None
        elif kind == "JoinExpr":
            if unwrap(above.get("quals", {}))[1] is not child:
                return None
            if above.get("jointype", "JOIN_INNER") != "JOIN_INNER":
                return None
            outer_kind, query = ctx.tree.query_of(above)
            return outer_kind, query, "ON"
        elif kind in ("SelectStmt", "UpdateStmt", "DeleteStmt"):
            if unwrap(above.get("whereClause", {}))[1] is not child:
                return None
            return kind, above, "WHERE"
        else:
            return None
        child = above
    return None


def _link(arm: Node, ctx: Context) -> tuple[Binding, Binding] | None:
    """An arm that says ``a.x = b.y`` of two tables of the query."""
    kind, node = unwrap(arm)
    if kind != "A_Expr" or operator(node) != "=" or node.get("kind", "AEXPR_OP") != "AEXPR_OP":
        return None
    one, other = ctx.binding(node.get("lexpr", {})), ctx.binding(node.get("rexpr", {}))
    if one is None or other is None or one.item is other.item or one.depth or other.depth:
        return None
    return one, other


def _sought(arm: Node, ctx: Context) -> list[Binding]:
    """The columns that an arm fixes by equality; none where an index could not serve the arm."""
    result = []
    for part in conjuncts(arm):
        c = comparison(part)
        binding = ctx.binding(c.side) if c and c.operator in _EXACT else None
        if binding is not None and not binding.depth and binding.item.kind == "table":
            result.append(binding)
    return result


def _searchable(item: FromItem, ctx: Context) -> bool:
    relation = item.relation
    if relation is None:
        return not ctx.catalog
    return relation.kind in _TABLES


def _indexed(binding: Binding) -> bool:
    relation = binding.item.relation
    return relation is not None and any(
        index.valid and index.keys[:1] == (binding.column,) and not index.predicate
        for index in relation.indexes
    )


def _one_table(expression: Node, sought: list[list[Binding]], ctx: Context) -> Iterator[Finding]:
    lacking = [arm for arm in sought if not any(_indexed(b) for b in arm)]
    if not lacking or len(lacking) == len(sought):
        return
    item = lacking[0][0].item
    missing = [arm[0].column for arm in lacking]
    served = next(b.column for arm in sought for b in arm if _indexed(b))
    yield ctx.finding(
        {"BoolExpr": expression},
        f"all of {item.name} is read for this OR: the index on {served} cannot be used, because "
        f"{' and '.join(missing)} {'has' if len(missing) == 1 else 'have'} none",
        fixes=[
            Fix(
                f"index {column} too: the OR is then answered by a BitmapOr",
                create_index(item, identifier(column)),
                "ddl",
            )
            for column in missing[:1]
            if len(missing) == 1
        ],
    )


def _two_tables(
    expression: Node,
    sought: list[list[Binding]],
    items: list[FromItem],
    query: Node,
    clause: str,
    ctx: Context,
) -> Iterator[Finding]:
    if ctx.catalog and not all(any(_indexed(b) for b in arm) for arm in sought):
        return
    names_of = " and ".join(i.name for i in items)
    yield ctx.finding(
        {"BoolExpr": expression},
        f"this OR is decided after {names_of} are joined: no index on either can be used for it",
        severity="warning" if ctx.catalog else "info",
        fixes=_halves(expression, query, clause, ctx),
        notes=() if ctx.catalog else ("assuming that each arm's column has an index",),
    )


def _join_or(
    expression: Node,
    links: list[tuple[Binding, Binding]],
    query: Node,
    clause: str,
    scope: Scope,
    ctx: Context,
) -> Iterator[Finding]:
    pair = {id(b.item) for link in links for b in link}
    if len(pair) != 2 or _linked_otherwise(expression, pair, query, scope, ctx):
        return
    items = [i for i in scope.items if id(i) in pair]
    narrow = narrowing(scope, query, ctx.resolver)
    if any(narrow.get(id(i)) == "unique" or ctx.small(i) or i.kind != "table" for i in items):
        return
    for item in items:
        mine = [b for link in links for b in link if b.item is item]
        if len(mine) == len(links) and all(_indexed(b) for b in mine):
            return  # a BitmapOr for each row of the other table
    searched = (
        "and neither table has an index for every arm"
        if ctx.catalog
        else "and unless one table has an index for every arm"
    )
    yield ctx.finding(
        {"BoolExpr": expression},
        f"{items[0].alias} and {items[1].alias} are joined by an OR: neither a hash nor a merge "
        f"join can do that, {searched}{':' if ctx.catalog else ''} all pairs of rows are compared",
        severity="warning" if ctx.catalog else "info",
        fixes=_halves(expression, query, clause, ctx),
    )


def _linked_otherwise(
    expression: Node, pair: set[int], query: Node, scope: Scope, ctx: Context
) -> bool:
    """Whether another condition links the two tables, so that the OR only filters the pairs."""
    if any("usingClause" in j or j.get("isNatural") for j in scope.joins):
        return True
    parts = conjuncts(query.get("whereClause"))
    for join in scope.joins:
        parts += conjuncts(join.get("quals"))
    links = [_link(part, ctx) for part in parts if unwrap(part)[1] is not expression]
    return any({id(b.item) for b in link} == pair for link in links if link)


# -- the rewrite ------------------------------------------------------------------------------------


def _halves(expression: Node, query: Node, clause: str, ctx: Context) -> list[Fix]:
    """Both halves under UNION ALL; [] where that is not the same or cannot be written."""
    if query is not ctx.statement.tree or "targetList" not in query or "relation" in query:
        return []
    if any(k in query for k in ("groupClause", "havingClause", "distinctClause", "limitCount",
                                "limitOffset", "lockingClause", "windowClause", "withClause",
                                "intoClause", "larg")):  # fmt: skip
        return []
    if len(expression["args"]) != 2 or volatile("SelectStmt", query, ctx.catalog):
        return []
    if ctx.positional({"BoolExpr": expression}) or any(
        p.text in ("?", "%s") for p in ctx.statement.placeholders
    ):
        return []
    for target in query["targetList"]:
        below = list(walk(*unwrap(target)))
        if any(True for _ in aggregates(target)) or any("over" in n for _, n in below):
            return []
    order = _order_of_outputs(query, ctx)
    span = ctx.span({"BoolExpr": expression})
    arms = [_enclosed(a, ctx) for a in expression["args"]]
    places = clauses(query, ctx.spans)
    if span is None or order is None or not all(arms) or "FROM" not in places:
        return []
    end = max(stop for name, (_, stop) in places.items() if name in ("FROM", "WHERE"))
    sql = ctx.statement.sql
    if any(part.count("(") != part.count(")") for part in (*arms, sql[span[0] : span[1]])):
        return []
    first = arms[0]
    second = f"{arms[1]} AND ({arms[0]}) IS NOT TRUE"
    text = ctx.statement.text
    at = [ctx.statement.to_text(x) for x in (*span, end)]
    head, tail = text[: at[0]], text[at[1] : at[2]]
    rest = text[at[2] :]
    separator = "\n" if "\n" in text[: at[2]] else " "
    halves = f"{head}{first}{tail}{separator}UNION ALL{separator}{head}{second}{tail}"
    return [
        Fix(
            "search each half by its own index, the second without the rows of the first",
            halves + rest,
        )
    ]


def _enclosed(arm: Node, ctx: Context) -> str:
    text = ctx.text(arm)
    return f"({text})" if text and unwrap(arm)[0] == "BoolExpr" else text


def _order_of_outputs(query: Node, ctx: Context) -> bool | None:
    """None where ORDER BY could not stand behind a UNION: it sorts by more than output names."""
    outputs = ctx.resolver.output_columns(query)
    for wrapped in query.get("sortClause", ()):
        kind, node = unwrap(wrapped["SortBy"].get("node", {}))
        fields = names(node.get("fields"))
        if kind == "A_Const" and "ival" in node:
            continue
        if kind != "ColumnRef" or len(fields) != 1 or not outputs or outputs.count(fields[0]) != 1:
            return None
    return True
