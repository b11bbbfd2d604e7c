"""A SELECT … FOR UPDATE locks many rows at once: neither a key nor a LIMIT says which.

Why: every row returned is locked until the transaction ends, and locking writes to each row's page
    (and to the WAL). Writers of any of those rows wait for the whole transaction; two sessions
    that lock in different orders deadlock.
Fix: a batch: LIMIT, with SKIP LOCKED so that sessions share the work.
Silent when: an equality with an indexed column, a list of keys, a join, a range on an index or a
    subquery narrows the rows; the lock is shared; the query feeds an UPDATE or DELETE (which locks
    the same rows), or a cursor; the table is known to be small, or temporary. Info where its size
    is not known.
Source: PostgreSQL manual, SELECT ("The Locking Clause") and 13.3.2 "Row-Level Locks".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.finding import Edit, Finding, Fix
from sqladvisor.rule import rule
from sqladvisor.sql.comparisons import comparison, narrowing, ranged
from sqladvisor.sql.resolve import FromItem
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import conjuncts, unwrap

SCHEMA = """
CREATE TABLE jobs (id bigint PRIMARY KEY, status text, done boolean, account_id bigint, at date,
    "Schlüssel" text);
CREATE INDEX ON jobs (account_id);
CREATE INDEX ON jobs (at);
CREATE TABLE accounts (id bigint PRIMARY KEY, name text);
"""
BAD = [
    "SELECT * FROM jobs FOR UPDATE",
    "SELECT id FROM public.jobs AS j WHERE j.status = 'pending' ORDER BY j.id FOR UPDATE OF j",
    """SELECT id
       FROM jobs WHERE NOT done AND "Schlüssel" = 'é'
       FOR NO KEY UPDATE""",
    "SELECT id FROM jobs WHERE status IN ('new', 'pending') FOR UPDATE SKIP LOCKED",
    "WITH mine AS (SELECT id FROM jobs WHERE status = 'new' FOR UPDATE) SELECT count(*) FROM mine",
]
GOOD = [
    "SELECT * FROM jobs WHERE id = 5 FOR UPDATE",
    "SELECT * FROM jobs WHERE id = ANY ($1) ORDER BY id FOR UPDATE",
    "SELECT * FROM jobs WHERE account_id = $1 FOR UPDATE",
    "SELECT * FROM jobs WHERE status = 'pending' LIMIT 10 FOR UPDATE",
    "SELECT * FROM jobs WHERE status = 'pending' FOR SHARE",
    "SELECT * FROM jobs WHERE at < '2024-01-01' FOR UPDATE",
    "SELECT * FROM jobs WHERE status = 'pending' FETCH FIRST ROW ONLY FOR UPDATE",
    """WITH ordered AS (SELECT id FROM jobs WHERE status = 'old' ORDER BY id FOR UPDATE)
       DELETE FROM jobs j USING ordered o WHERE o.id = j.id""",
    "DECLARE c CURSOR FOR SELECT * FROM jobs WHERE status = 'pending' FOR UPDATE",
    "SELECT * FROM jobs j JOIN accounts a ON a.id = j.account_id WHERE a.id = 7 FOR UPDATE",
    "SELECT * FROM jobs WHERE id IN (SELECT id FROM accounts) AND status = 'pending' FOR UPDATE",
    "SELECT * FROM jobs WHERE status = 'pending'",
]

_EXCLUSIVE = frozenset(("LCS_FORUPDATE", "LCS_FORNOKEYUPDATE"))
_WRITERS = frozenset(("UpdateStmt", "DeleteStmt", "InsertStmt", "MergeStmt", "DeclareCursorStmt"))


@rule(
    "SelectStmt",
    severity="warning",
    # rows locked at a time by the batch that is offered: some ten milliseconds of work
    thresholds={"batch_rows": 100},
)
def check(select: Node, ctx: Context) -> Iterator[Finding]:
    locks = select.get("lockingClause", ())
    if len(locks) != 1 or "limitCount" in select:
        return
    lock = unwrap(locks[0])[1]
    scope = ctx.scope(select)
    if lock.get("strength") not in _EXCLUSIVE or len(scope.items) != 1:
        return
    item = scope.items[0]
    if not _large(item, ctx) or any(k in _WRITERS for k, _ in ctx.tree.ancestors(select)):
        return
    if narrowing(scope, select, ctx.resolver).get(id(item)) or (
        id(item) in ranged(scope, select, ctx.resolver)
    ):
        return
    if not all(_plain(part, ctx) for part in conjuncts(select.get("whereClause"))):
        return
    where = select.get("whereClause")
    span = _lock_span(select, ctx)
    which = f" where {' '.join(ctx.text(where).split())}" if where else ""
    known = item.rows is not None
    yield ctx.finding(
        span,
        f"every row of {item.name}{which} is locked until the transaction ends: no key and no LIMIT says which",
        severity="warning" if known else "info",
        fixes=_batch(span, lock, ctx),
    )


def _large(item: FromItem, ctx: Context) -> bool:
    """Whether the item is a table that may be large."""
    if item.kind != "table" or ctx.small(item):
        return False
    relation = item.relation
    return relation is None or (
        relation.kind in ("table", "partitioned") and not relation.temporary
    )


def _plain(part: Node, ctx: Context) -> bool:
    """Whether a predicate only compares a column with fixed values: it is no list of rows."""
    kind, node = unwrap(part)
    if kind == "BoolExpr":
        return all(_plain(arg, ctx) for arg in node.get("args", ()))
    if kind in ("NullTest", "BooleanTest"):
        return "ColumnRef" in node.get("arg", {})
    if kind == "ColumnRef":
        return True
    c = comparison(part)
    binding = ctx.binding(c.side) if c else None
    if c is None or binding is None or c.operator == "ANY":
        return False
    # Of a table nobody knows, any of these may be a key.
    known = binding.item.relation is not None
    return known or not (binding.column == "id" or binding.column.endswith("_id"))


def _lock_span(select: Node, ctx: Context) -> tuple[int, int] | None:
    """From FOR to UPDATE, where the query has one such clause of its own."""
    tokens = ctx.spans.tokens
    found = [
        i
        for i, token in enumerate(tokens)
        if token[2] == "FOR" and i + 1 < len(tokens) and tokens[i + 1][2] in ("UPDATE", "NO")
    ]
    if len(found) != 1 or len(list(ctx.tree.of("LockingClause"))) != 1:
        return None
    end = found[0]
    while tokens[end][2] != "UPDATE":
        end += 1
    return tokens[found[0]][0], tokens[end][1]


def _batch(span: tuple[int, int] | None, lock: Node, ctx: Context) -> list[Fix]:
    if span is None or lock.get("waitPolicy", "LockWaitBlock") == "LockWaitError":
        return []
    rows = int(ctx.threshold("batch_rows"))
    edits = [Edit(span[0], span[0], f"LIMIT {rows} ")]
    if lock.get("waitPolicy") != "LockWaitSkip":
        last = ctx.spans.token_at(span[1] - 1)
        relation = lock.get("lockedRels")
        end = ctx.spans.of("RangeVar", unwrap(relation[-1])[1]) if relation else None
        place = end[1] if end else ctx.spans.tokens[last][1]
        edits.append(Edit(place, place, " SKIP LOCKED"))
    return [
        Fix(
            f"lock {rows} rows at a time, those that nobody else has",
            ctx.edit(*edits),
            changes_result=f"returns at most {rows} rows, and none that others have locked",
        )
    ]
