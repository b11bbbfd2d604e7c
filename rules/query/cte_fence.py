"""A common table expression that is computed in full although its readers want a part of it.

Why: a CTE marked MATERIALIZED, or read more than once, is computed first and kept; the conditions
    of its readers are applied to the kept rows, and no index can serve them. Until version 12 that
    was the rule for every CTE, and queries written for it still carry it.
Fix: NOT MATERIALIZED, which lets each reader's condition reach the tables inside.
Silent when: a reader has no condition that could move inside (an aggregate's value, a window, a
    LIMIT or a set operation in between); the CTE is recursive, modifies, locks or is volatile; it
    reads a few rows or small tables; of a CTE read more than once, some reader wants all of it.
Source: PostgreSQL manual, 7.8.3 "Common Table Expression Materialization".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.finding import Edit, Finding, Fix
from sqladvisor.rule import rule
from sqladvisor.sql.comparisons import comparison, narrowing, only_column
from sqladvisor.sql.links import is_few
from sqladvisor.sql.resolve import Binding, FromItem
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import conjuncts, unwrap, walk
from sqladvisor.sql.volatility import volatile

SCHEMA = """
CREATE TABLE users (id bigint PRIMARY KEY, name text NOT NULL, city text);
CREATE TABLE orders (id bigint PRIMARY KEY, user_id bigint REFERENCES users, total numeric,
    status text, "Größe" int, created_at timestamptz NOT NULL);
CREATE INDEX ON orders (user_id);
CREATE TABLE log (at timestamptz, what text);
"""
BAD = [
    """WITH recent AS MATERIALIZED (
    SELECT id, user_id, total FROM orders WHERE created_at >= '2022-01-01'
) SELECT id, total FROM recent WHERE user_id = 815""",
    "WITH o AS MATERIALIZED (SELECT user_id, sum(total) AS s FROM orders GROUP BY user_id) SELECT s FROM o WHERE o.user_id = $1",
    "WITH o AS (SELECT id, user_id, total FROM orders) SELECT a.id, b.id FROM o a, o b WHERE a.user_id = 5 AND b.user_id = 6",
    """WITH "Größen" AS MATERIALIZED (SELECT o.user_id AS "Wer", o."Größe" FROM public.orders o)
       SELECT 'ü', g."Größe" FROM users u JOIN "Größen" g ON g."Wer" = u.id WHERE g."Wer" IN ($1, $2)""",
    "WITH l AS MATERIALIZED (SELECT at, what FROM log) INSERT INTO log SELECT now(), what FROM l WHERE at = $1",
]
GOOD = [
    "WITH recent AS (SELECT id, user_id, total FROM orders) SELECT id FROM recent WHERE user_id = 815",
    "WITH recent AS NOT MATERIALIZED (SELECT id, user_id FROM orders) SELECT id FROM recent WHERE user_id = 815",
    "WITH o AS MATERIALIZED (SELECT user_id, sum(total) AS s FROM orders GROUP BY user_id) SELECT s FROM o WHERE s > 5",
    "WITH o AS MATERIALIZED (SELECT user_id FROM orders ORDER BY created_at DESC LIMIT 10) SELECT * FROM o WHERE user_id = 5",
    "WITH o AS (SELECT id, user_id, total FROM orders) SELECT a.id FROM o a WHERE a.user_id = 5 AND a.total > (SELECT avg(total) FROM o)",
    "WITH o AS MATERIALIZED (SELECT id, user_id, random() r FROM orders) SELECT id FROM o WHERE user_id = 5",
    "WITH o AS MATERIALIZED (DELETE FROM orders RETURNING id, user_id) SELECT id FROM o WHERE user_id = 5",
    "WITH o AS MATERIALIZED (SELECT id, user_id FROM orders FOR UPDATE SKIP LOCKED) SELECT id FROM o WHERE user_id = 5",
    "WITH RECURSIVE t AS (SELECT id, user_id FROM orders UNION ALL SELECT o.id, t.user_id FROM orders o JOIN t ON o.id = t.id + 1) SELECT * FROM t WHERE user_id = 5",
    "WITH o AS MATERIALIZED (SELECT id, user_id, row_number() OVER (ORDER BY id) n FROM orders) SELECT id FROM o WHERE user_id = 5",
    "WITH o AS MATERIALIZED (SELECT id, user_id FROM orders WHERE id = $1) SELECT id FROM o WHERE user_id = 5",
    "WITH o AS MATERIALIZED (SELECT id, user_id FROM orders) SELECT count(*) FROM o",
    "WITH o AS MATERIALIZED (SELECT id, user_id FROM orders) SELECT u.id, o.id FROM users u LEFT JOIN o ON o.user_id = 5",
    "WITH o AS MATERIALIZED (SELECT id, user_id FROM orders) SELECT id FROM o WHERE status = 'x' OR user_id = 3",
    "UPDATE orders SET total = 0 WHERE id IN (WITH d AS MATERIALIZED (SELECT id FROM orders WHERE status = 'new' LIMIT 5) SELECT id FROM d WHERE id = 5)",
]

_OPERATORS = frozenset(("=", "<", "<=", ">", ">=", "BETWEEN", "IN", "ANY"))
_EXACT = frozenset(("=", "IN", "ANY"))
_BARRIERS = ("larg", "limitCount", "limitOffset", "lockingClause", "withClause", "windowClause")


@rule("CommonTableExpr", severity="warning")
def check(cte: Node, ctx: Context) -> Iterator[Finding]:
    how = cte.get("ctematerialized", "CTEMaterializeDefault")
    kind, query = unwrap(cte.get("ctequery", {}))
    if how == "CTEMaterializeNever" or kind != "SelectStmt" or "fromClause" not in query:
        return
    if (ctx.catalog.server_version or 120_000) < 120_000 or not _passes(cte, query, ctx):
        return
    readers = _readers(cte, ctx)
    if not readers or (len(readers) == 1 and how != "CTEMaterializeAlways"):
        return
    wanted = [_wanted(reader, ctx) for reader in readers]
    if not all(wanted):
        return
    parts = [part for found in wanted for part in found]
    served = any(_indexed(b) for _, b in parts)
    if len(readers) > 1 and not all(any(_indexed(b) for _, b in found) for found in wanted):
        return  # computed once, kept and scanned may well be less than computed for each reader
    part, binding = next((p for p in parts if _indexed(p[1])), parts[0])
    name = cte["ctename"]
    table = binding.item.name
    reason = "MATERIALIZED" if how == "CTEMaterializeAlways" else f"read {len(readers)} times"
    inside = (
        f"the index on {table} ({binding.column}) cannot be used"
        if served
        else f"{table} is read without it"
    )
    if ctx.catalog and not served and not _selective(parts):
        return
    large = ctx.rows(binding.item) is not None
    yield ctx.finding(
        part,
        f"{name} is computed in full and kept ({reason}) before {ctx.text(part)} is applied: {inside}",
        severity="warning" if served or large else "info",
        fixes=_fixes(cte, how, ctx),
    )


def _passes(cte: Node, query: Node, ctx: Context) -> bool:
    """Whether a condition on a column of the CTE could be applied inside its query."""
    if cte.get("cterecursive") or any(barrier in query for barrier in _BARRIERS):
        return False
    clause = next((a for k, a in ctx.tree.ancestors(cte) if k == "WithClause"), {})
    if clause.get("recursive") and any(
        k == "RangeVar" and n.get("relname") == cte.get("ctename")
        for k, n in walk("SelectStmt", query)
    ):
        return False
    if query.get("distinctClause", [{}]) != [{}]:  # DISTINCT ON
        return False
    if any(k == "FuncCall" and "over" in n for k, n in walk("SelectStmt", query)):
        return False
    if volatile("SelectStmt", query, ctx.catalog):
        return False
    scope = ctx.scope(query)
    narrow = narrowing(scope, query, ctx.resolver)
    return not all(
        narrow.get(id(i)) == "unique" or ctx.small(i) or is_few(i, ctx.resolver)
        for i in scope.items
    )


def _readers(cte: Node, ctx: Context) -> list[tuple[str, Node, FromItem]]:
    """Where the CTE is read: the kind and node of each query, and the item there."""
    query = unwrap(cte.get("ctequery", {}))[1]
    found = []
    for table in ctx.tree.of("RangeVar"):
        if table.get("relname") != cte.get("ctename") or "schemaname" in table:
            continue
        kind, reader = ctx.tree.query_of(table)
        for item in ctx.scope(reader, kind).items if kind else ():
            if item.node is table and item.kind == "cte" and item.query is query:
                found.append((kind, reader, item))
    return found


def _wanted(reader: tuple[str, Node, FromItem], ctx: Context) -> list[tuple[Node, Binding]]:
    """The conditions in a reader's WHERE that a table inside the CTE could be searched by."""
    _, query, item = reader
    result = []
    if item.nulled_by:
        return []
    for part in conjuncts(query.get("whereClause")):
        c = comparison(part)
        binding = only_column(c.side, ctx.resolver) if c and c.operator in _OPERATORS else None
        if c is None or binding is None or binding.item is not item:
            continue
        if unwrap(c.side)[0] != "ColumnRef" or not binding.sure:
            continue
        inner = _passed_on(binding, ctx)
        if inner is not None and not ctx.small(inner.item):
            result.append((part, inner))
    return result


def _passed_on(binding: Binding, ctx: Context) -> Binding | None:
    """The table's column that a CTE's column is, where a condition on it may be applied inside."""
    query, columns = binding.item.query, binding.item.columns
    outputs = ctx.resolver.outputs(query) if query else None
    if query is None or outputs is None or columns is None or binding.column not in columns:
        return None
    output = outputs[columns.index(binding.column)]
    if output.item is not None:
        inner = Binding(output.item, output.column, 0, True)
    elif output.value is not None:
        found = ctx.binding(output.value)
        if found is None or found.depth:
            return None
        inner = found
    else:
        return None
    if inner.item.kind != "table" or inner.item.nulled_by:
        return None
    relation = inner.item.relation
    if relation is not None and relation.kind not in ("table", "partitioned", "matview"):
        return None
    if "groupClause" in query and not _grouped_by(query, inner, ctx):
        return None
    return inner


def _grouped_by(query: Node, inner: Binding, ctx: Context) -> bool:
    for wrapped in query["groupClause"]:
        key = ctx.binding(wrapped)
        if key is not None and key.item is inner.item and key.column == inner.column:
            return True
    return False


def _indexed(binding: Binding) -> bool:
    relation = binding.item.relation
    return relation is not None and any(
        index.valid and index.keys[:1] == (binding.column,) and not index.predicate
        for index in relation.indexes
    )


def _selective(parts: list[tuple[Node, Binding]]) -> bool:
    """Whether a condition is an equality: fewer rows kept, whatever way the table is read."""
    for part, _ in parts:
        c = comparison(part)
        if c is not None and c.operator in _EXACT:
            return True
    return False


def _fixes(cte: Node, how: str, ctx: Context) -> list[Fix]:
    """The statement with NOT MATERIALIZED after the CTE's AS."""
    tokens = ctx.spans.tokens
    first = ctx.spans.token_at(cte.get("location", 0))
    depth = 0
    for i in range(first, len(tokens)):
        word = tokens[i][2]
        depth += (word == "ASCII_40") - (word == "ASCII_41")
        if word != "AS" or depth:
            continue
        if how == "CTEMaterializeAlways":
            edit = Edit(*tokens[i + 1][:2], "NOT MATERIALIZED")
        else:
            edit = Edit(tokens[i][1], tokens[i][1], " NOT MATERIALIZED")
        return [Fix("let the condition reach the tables inside", ctx.edit(edit))]
    return []
