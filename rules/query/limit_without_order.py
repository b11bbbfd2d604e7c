"""LIMIT without ORDER BY returns whichever rows the plan happens to reach first.

Why: the rows depend on the plan, on where updates have moved row versions, on other sessions'
    scans (synchronize_seqscans) and parallel workers: the same query on the same rows may answer
    differently tomorrow. With OFFSET, pages overlap and miss rows.
Fix: ORDER BY a unique key.
Silent when: at most one row can match, every row is the same in what is selected, the query asks
    only whether there is a row, a batch of any rows is wanted (DELETE and UPDATE … IN (… LIMIT),
    SKIP LOCKED, a sample, INSERT … SELECT), or the rows come in order from a subquery.
Source: PostgreSQL manual, 7.6 "LIMIT and OFFSET": "it is important to use an ORDER BY clause that
    constrains the result rows into a unique order".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.finding import Edit, Finding, Fix
from sqladvisor.rule import rule
from sqladvisor.sql.aggregates import aggregates_all
from sqladvisor.sql.clauses import clauses
from sqladvisor.sql.comparisons import narrowing
from sqladvisor.sql.functions import may_return_set
from sqladvisor.sql.keys import Dependencies
from sqladvisor.sql.quote import identifier
from sqladvisor.sql.resolve import FromItem, Scope
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import constant, is_pseudo_constant, unwrap, walk

SCHEMA = """
CREATE TABLE users (id bigint PRIMARY KEY, email text NOT NULL UNIQUE, "Ort" text, status text);
CREATE TABLE orders (id bigint PRIMARY KEY, user_id bigint NOT NULL REFERENCES users, status text);
CREATE TABLE log (at timestamptz, message text);
CREATE TABLE one (only_column text);
"""
BAD = [
    "SELECT id, email FROM users WHERE status = 'blocked' LIMIT 10",
    """SELECT u.email, o.id FROM users AS u
       LEFT JOIN orders o ON o.user_id = u.id
       WHERE u."Ort" = 'Malmö'
       LIMIT 20 OFFSET 40""",
    "SELECT * FROM log FETCH FIRST 5 ROWS ONLY",
    "WITH part AS (SELECT id FROM orders LIMIT $1) SELECT * FROM part",
    'SELECT (SELECT o.status FROM orders o WHERE o.user_id = u.id LIMIT 1) FROM users u WHERE u."Ort" = $1',
    "SELECT status, count(*) FROM public.orders GROUP BY status LIMIT 3",
    "SELECT x.id FROM (SELECT id FROM orders) x LIMIT 10 FOR UPDATE",
]
GOOD = [
    "SELECT id FROM users ORDER BY id LIMIT 10",
    "SELECT id FROM users WHERE email = $1 LIMIT 1",
    "SELECT u.id FROM orders o JOIN users u ON u.id = o.user_id WHERE o.id = 5 LIMIT 1",
    "SELECT 1 FROM orders WHERE user_id = $1 LIMIT 1",
    "SELECT status FROM orders WHERE status = 'open' LIMIT 1",
    "SELECT count(*) FROM orders LIMIT 1",
    "SELECT EXISTS (SELECT id FROM orders WHERE user_id = 1 LIMIT 1)",
    "DELETE FROM log WHERE ctid = ANY (ARRAY(SELECT ctid FROM log WHERE at < $1 LIMIT 1000))",
    """WITH batch AS (SELECT id FROM orders WHERE status = 'old' LIMIT 500)
       DELETE FROM orders o USING batch b WHERE b.id = o.id""",
    "UPDATE orders SET status = 'taken' WHERE id = (SELECT id FROM orders LIMIT 1 FOR UPDATE SKIP LOCKED)",
    "SELECT count(*) FROM (SELECT id FROM orders WHERE user_id = 7 LIMIT 101) capped",
    "SELECT id FROM (SELECT id FROM orders ORDER BY id) x LIMIT 10",
    "SELECT id FROM orders TABLESAMPLE SYSTEM (1) LIMIT 10",
    "SELECT g FROM generate_series(1, 10) g LIMIT 3",
    "SELECT id FROM users LIMIT ALL",
    "SELECT id FROM users LIMIT 0",
    "INSERT INTO one SELECT message FROM log LIMIT 10",
    "CREATE TABLE sample AS SELECT * FROM log LIMIT 1000",
    "SELECT unnest(ARRAY[1, 2, 3]) LIMIT 2",
    "SELECT u.email FROM users u WHERE u.id = 7 AND EXISTS (SELECT * FROM orders o LIMIT 1) LIMIT 1",
    "SELECT id FROM (SELECT max(id) AS id FROM orders) m LIMIT 5",
    """SELECT u.id, o.id FROM users u, LATERAL
       (SELECT id FROM orders WHERE user_id = u.id ORDER BY id LIMIT 1) o WHERE u.id = 5 LIMIT 3""",
]

_WRITES = frozenset(("InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt", "CreateTableAsStmt"))


@rule("SelectStmt", severity="info")
def check(select: Node, ctx: Context) -> Iterator[Finding]:
    limit = select.get("limitCount")
    if not limit or "sortClause" in select or "larg" in select or "fromClause" not in select:
        return
    count = constant(limit)
    if count in (None, 0) or "intoClause" in select or aggregates_all(select):
        return
    if any("SKIP" in c["LockingClause"].get("waitPolicy", "").upper() for c in _locks(select)):
        return
    scope = ctx.scope(select)
    if not _arbitrary(scope) or _any_row_will_do(select, ctx):
        return
    dependencies = Dependencies(select, ctx.resolver)
    if dependencies.rows_unique(()) or _all_the_same(select, dependencies, ctx):
        return
    if count == 1 and any(i.relation is None for i in scope.items):
        # Nobody knows the keys: an equality may find the one row there is.
        narrowed = narrowing(scope, select, ctx.resolver)
        if any(narrowed.get(id(i)) for i in scope.items):
            return
    rows = scope.items[0].rows if len(scope.items) == 1 else None
    if isinstance(count, int) and rows is not None and rows <= count:
        return
    places = clauses(select, ctx.spans)
    at = places.get("LIMIT") or places.get("FETCH")
    paged = "limitOffset" in select and constant(select["limitOffset"]) != 0
    what = "group" if "groupClause" in select else "row"
    written = _written(at, ctx) if at else "LIMIT"
    number = f"{count} {what}s" if isinstance(count, int) and count > 1 else what
    number = number if isinstance(count, int) else f"{what}s"
    first = "are" if number.endswith("s") else "is"
    message = (
        f"{written} without ORDER BY returns whichever {number} of "
        f"{_names(scope.items)} {first} reached first"
    )
    if paged:
        message += ": pages overlap and miss rows"
    yield ctx.finding(
        at or limit,
        message,
        severity="warning" if paged else None,
        fixes=_fixes(select, places, dependencies, ctx),
    )


def _locks(select: Node) -> list[Node]:
    return [c for c in select.get("lockingClause", ()) if "LockingClause" in c]


def _arbitrary(scope: Scope) -> bool:
    """Whether FROM gives rows of tables, in no order that somebody asked for."""
    if any("RangeTableSample" in f for f in scope.query.get("fromClause", ())):
        return False
    read = False
    for item in scope.items:
        if item.query is not None and (
            item.query.keys() & {"sortClause", "limitCount"} or "larg" in item.query
        ):
            return False
        # Of a recursive query's rows the order is that of their making.
        read = read or item.kind == "table" or (item.query or {}).get("fromClause") is not None
    return read


def _any_row_will_do(select: Node, ctx: Context) -> bool:
    """Whether the query around it does not care which rows these are."""
    child = select
    for kind, above in ctx.tree.ancestors(select):
        if kind == "SubLink" and above.get("subLinkType", "") == "EXISTS_SUBLINK":
            return True
        if kind in _WRITES:
            return True
        if kind == "SelectStmt" and above is not select:
            if above.get("larg") is child or above.get("rarg") is child:
                return True  # the fallback idiom: the first branch that has a row
            outputs = [t["ResTarget"].get("val", {}) for t in above.get("targetList", ())]
            if aggregates_all(above) and all(_counts(o) for o in outputs):
                return True
        child = above
    return False


def _counts(output: Node) -> bool:
    """Whether an expression is made of count(*) and constants."""
    return not any(kind == "ColumnRef" for kind, _ in walk(*unwrap(output)))


def _all_the_same(select: Node, dependencies: Dependencies, ctx: Context) -> bool:
    """Whether each row selected is like every other: constants and columns that WHERE fixes."""
    outputs = ctx.resolver.outputs(select)
    if not outputs:
        return False
    columns, items = dependencies.determined(())
    for output in outputs:
        if output.value is not None:
            if may_return_set(output.value, ctx.catalog):
                return False
            if is_pseudo_constant(output.value):
                continue
            binding = ctx.binding(output.value)
            if binding is None:
                return False
            if binding.depth:
                continue
            item, column = binding.item, binding.column
        elif output.item is not None:
            item, column = output.item, output.column
        else:
            return False
        if (item, column) not in columns and item not in items:
            return False
    return True


def _names(items: list[FromItem]) -> str:
    names = list(dict.fromkeys(identifier(i.name or i.alias) for i in items if i.name or i.alias))
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1]))) if names else "its input"


def _written(place: tuple[int, int], ctx: Context) -> str:
    to_text = ctx.statement.to_text
    return " ".join(ctx.statement.text[to_text(place[0]) : to_text(place[1])].split())


def _fixes(
    select: Node, places: dict[str, tuple[int, int]], dependencies: Dependencies, ctx: Context
) -> list[Fix]:
    if not places or select.keys() & {"groupClause", "distinctClause"}:
        return []
    key = dependencies.row_key()
    if not key:
        return []
    several = len(dependencies.scope.items) > 1
    columns = [
        (f"{identifier(item.alias)}." if several else "") + identifier(column)
        for item, column in key
    ]
    last = min(p[0] for name, p in places.items() if name in ("LIMIT", "OFFSET", "FETCH", "FOR"))
    order = f"ORDER BY {', '.join(columns)}"
    return [
        Fix(
            f"{order}, or whatever order is wanted, with the key last",
            ctx.edit(Edit(last, last, f"{order} ")),
            changes_result="always the same rows, those that come first by the key",
        )
    ]
