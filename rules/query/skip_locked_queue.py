"""A worker takes its next job so that all workers wait for the same row, or take it twice.

Why: SELECT … LIMIT 1 FOR UPDATE picks the same first row in every session: one locks it, the others
    wait until that transaction ends, and are then given a row that no longer matches: nothing, or
    (where the row was locked before it was sorted) one out of order. Adding workers adds waiting.
    UPDATE … WHERE id = (SELECT … LIMIT 1) without a lock is worse: both sessions choose the same
    row, and the second, after its wait, updates it again: the job is done twice.
Fix: FOR UPDATE SKIP LOCKED in the query that picks the rows: each session takes the first rows that
    nobody else has. With several rows, = ANY (ARRAY(SELECT …)), so that the subquery runs once.
Silent when: SKIP LOCKED or NOWAIT is there; a unique key finds the row; nothing in the query says
    that it is a queue (a state that is compared with a literal; for an UPDATE, the column it
    changes). The latest row of an account, or a batch of a migration, is none.
Source: PostgreSQL manual, SELECT ("The Locking Clause") and 13.2.1 "Read Committed".
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.finding import Edit, Finding, Fix
from sqladvisor.rule import rule
from sqladvisor.sql.comparisons import narrowing
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import (
    column_name,
    conjuncts,
    constant,
    function_name,
    is_pseudo_constant,
    operator,
    unwrap,
    walk,
)

SCHEMA = """
CREATE TABLE jobs (id bigint PRIMARY KEY, status text NOT NULL, queue text, run_at timestamptz,
    locked_by text, done boolean NOT NULL DEFAULT false, "Zustand" text, account_id bigint);
CREATE TABLE balances (id bigint PRIMARY KEY, account_id bigint, amount numeric, status text);
"""
BAD = [
    "SELECT id FROM jobs WHERE status = 'pending' ORDER BY id LIMIT 1 FOR UPDATE",
    """SELECT *
       FROM public.jobs AS "Jöbs"
       WHERE "Jöbs".status = 'new' AND "Jöbs".run_at <= now() AND "Jöbs".queue = $1
       ORDER BY "Jöbs".run_at
       FOR NO KEY UPDATE OF "Jöbs" LIMIT 10""",
    "SELECT id FROM jobs WHERE NOT done ORDER BY run_at FETCH FIRST 5 ROWS ONLY FOR UPDATE",
    """UPDATE jobs SET status = 'running' WHERE id = (
           SELECT id FROM jobs WHERE status = 'pending' ORDER BY id LIMIT 1) RETURNING *""",
    """UPDATE jobs j SET status = 'running', locked_by = $1
       WHERE j.id IN (SELECT q.id FROM jobs q WHERE q.status = 'é' ORDER BY q.id LIMIT 10)
       RETURNING j.id""",
    """UPDATE jobs SET done = true WHERE id IN (SELECT id FROM jobs WHERE NOT done
       ORDER BY coalesce(run_at, now()) FETCH FIRST 3 ROWS ONLY FOR UPDATE) RETURNING id, (SELECT 1)""",
    """DELETE FROM jobs WHERE id = (SELECT id FROM jobs ORDER BY id LIMIT 1 FOR UPDATE) RETURNING *""",
    """WITH next AS (SELECT id FROM jobs WHERE status = 'pending' LIMIT 1 FOR UPDATE)
       UPDATE jobs SET status = 'running' FROM next WHERE jobs.id = next.id RETURNING jobs.*""",
    """WITH next AS (SELECT id FROM jobs WHERE status = 'pending' ORDER BY id LIMIT 1)
       UPDATE jobs SET status = 'running' FROM next WHERE jobs.id = next.id RETURNING jobs.*""",
]
GOOD = [
    "SELECT id FROM jobs WHERE status = 'pending' ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED",
    "SELECT id FROM jobs WHERE status = 'pending' ORDER BY id LIMIT 1 FOR UPDATE NOWAIT",
    "SELECT id FROM jobs WHERE status = 'pending' ORDER BY id LIMIT 1",
    "SELECT status FROM jobs WHERE id = 5 AND status = 'pending' LIMIT 1 FOR UPDATE",
    "SELECT amount FROM balances WHERE account_id = $1 ORDER BY id DESC LIMIT 1 FOR UPDATE",
    "SELECT amount FROM balances WHERE account_id = 7 AND status = 'open' ORDER BY id LIMIT 1 FOR UPDATE",
    "SELECT id FROM jobs WHERE status = 'pending' ORDER BY id LIMIT 1 FOR SHARE",
    "SELECT id FROM users WHERE status = 'active' AND email = $1 LIMIT 1 FOR UPDATE",
    """UPDATE jobs SET status = 'running' WHERE id = (
           SELECT id FROM jobs WHERE status = 'pending' ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
       RETURNING *""",
    """UPDATE jobs SET locked_by = NULL WHERE id IN (SELECT id FROM jobs WHERE locked_by = 'x' LIMIT 1000)""",
    "DELETE FROM jobs WHERE id IN (SELECT id FROM jobs WHERE status = 'done' LIMIT 1000)",
    "UPDATE jobs SET locked_by = 'x' WHERE id = (SELECT max(id) FROM jobs WHERE status = 'pending')",
    """UPDATE jobs SET status = 'running' WHERE id = (
           SELECT id FROM jobs WHERE status = 'pending' AND pg_try_advisory_xact_lock(id) LIMIT 1)""",
    """UPDATE balances SET status = 'x' WHERE id = (SELECT id FROM jobs WHERE status = 'y' LIMIT 1)
       RETURNING *""",
]

_EXCLUSIVE = frozenset(("LCS_FORUPDATE", "LCS_FORNOKEYUPDATE"))
# Names of columns that say where a job stands; compared with a literal they select what is to do.
_STATE = re.compile(
    r"(?:.*_)?(?:status|state|processed|done|finished|completed|locked|claimed|taken|started|sent|"
    r"picked|pending|queued|available|ready|reserved|handled|published|delivered|zustand)(?:_.*)?\Z",
    re.IGNORECASE,
)
# And of those that name a queue among several; another equality looks one thing up.
_KIND = re.compile(
    r"(?:.*_)?(?:queue|topic|channel|kind|type|priority|lane|worker|shard)(?:_.*)?\Z", re.IGNORECASE
)
_PASSED_OVER = "rows that other sessions have locked are passed over, not waited for"


@rule("SelectStmt", "UpdateStmt", "DeleteStmt", severity="warning")
def check(query: Node, ctx: Context) -> Iterator[Finding]:
    if "relation" in query:
        yield from _claim(query, ctx)
    elif query.get("lockingClause") and "limitCount" in query and not _claimed_by(query, ctx):
        yield from _pick(query, ctx)


def _pick(select: Node, ctx: Context) -> Iterator[Finding]:
    """SELECT … LIMIT n FOR UPDATE of rows in some state."""
    lock = unwrap(select["lockingClause"][0])[1]
    scope = ctx.scope(select)
    if len(select["lockingClause"]) != 1 or not _waits(lock) or len(scope.items) != 1:
        return
    item = scope.items[0]
    state = _state(select, ctx)
    if (
        item.kind != "table"
        or not state
        or narrowing(scope, select, ctx.resolver).get(id(item)) == ("unique")
    ):
        return
    yield ctx.finding(
        _marked(select, ctx),
        f"sessions that run this at the same time all pick the same rows of {item.name} "
        f"where {state}: one locks them and the others wait for it",
        fixes=_locked(select, False, ctx),
    )


def _claim(query: Node, ctx: Context) -> Iterator[Finding]:
    """UPDATE or DELETE of the row that a subquery with LIMIT over the same table picks."""
    updates = "targetList" in query
    changed = {t.get("ResTarget", {}).get("name") for t in query.get("targetList", ())}
    returning = bool(query.get("returningClause") or query.get("returningList"))
    for select, by_list in _picking(query, ctx):
        locks = [unwrap(w)[1] for w in select.get("lockingClause", ())]
        table = unwrap(select["fromClause"][0])[1]
        if len(locks) > 1 or not all(map(_waits, locks)) or not _same_table(table, query):
            continue
        if updates and not changed & _compared(select):
            continue
        # Without a look at what was taken, many rows at a time are a batch of maintenance.
        if not returning and (by_list or not updates):
            continue
        if any(function_name(c).startswith("pg_") for c in _calls(select)):
            continue
        name = query["relation"].get("relname", "")
        verb = "updates" if updates else "deletes"
        if locks:
            what = f"sessions that run this at the same time all wait for the same rows of {name}"
        elif updates:
            what = (
                f"two sessions pick the same rows of {name}: the second waits for the first and "
                f"then {verb} them again"
            )
        else:
            what = f"two sessions pick the same rows of {name}: the second waits and gets nothing"
        yield ctx.finding(_marked(select, ctx), what, fixes=_locked(select, by_list, ctx))


def _picking(query: Node, ctx: Context) -> Iterator[tuple[Node, bool]]:
    """The subqueries with LIMIT that say which rows are written, and whether by IN."""
    for part in conjuncts(query.get("whereClause")):
        kind, node = unwrap(part)
        if kind == "A_Expr" and operator(node) == "=":
            kind, node = unwrap(node.get("rexpr", {}))
        if kind == "SubLink":
            select = unwrap(node.get("subselect", {}))[1]
            if _limited(select):
                yield select, node.get("subLinkType") != "EXPR_SUBLINK"
    for item in ctx.scope(query, "UpdateStmt").items[1:]:
        if item.kind in ("cte", "subquery") and item.query and _limited(item.query):
            yield item.query, constant(item.query["limitCount"]) != 1


def _limited(select: Node) -> bool:
    sources = select.get("fromClause", ())
    return "limitCount" in select and len(sources) == 1 and "RangeVar" in sources[0]


def _same_table(table: Node, query: Node) -> bool:
    target = query["relation"]
    return all(table.get(f) == target.get(f) for f in ("relname", "schemaname"))


def _claimed_by(select: Node, ctx: Context) -> bool:
    """Whether an UPDATE or DELETE around the query is looked at with it."""
    for kind, above in ctx.tree.ancestors(select):
        if kind in ("UpdateStmt", "DeleteStmt"):
            return any(found is select for found, _ in _picking(above, ctx))
    return False


def _waits(lock: Node) -> bool:
    return (
        lock.get("strength") in _EXCLUSIVE
        and lock.get("waitPolicy", "LockWaitBlock") == "LockWaitBlock"
    )


def _state(select: Node, ctx: Context) -> str:
    """The predicate that selects what is to do; "" where a condition names one owner's rows."""
    found = ""
    for part in conjuncts(select.get("whereClause")):
        column = _fixed_column(part)
        if column is None:
            return ""
        name = column_name(column)[1]
        fixed = not any(k == "ParamRef" for k, _ in walk(*unwrap(part)))
        if fixed and _STATE.match(name):
            found = found or ctx.text(part)
        elif operator(unwrap(part)[1]) == "=" and not _KIND.match(name):
            return ""
    return found


def _fixed_column(part: Node) -> Node | None:
    """The column of a predicate on one column and nothing but fixed values."""
    kind, node = unwrap(part)
    if kind == "ColumnRef":
        return node
    if kind == "BoolExpr" and node.get("boolop") == "NOT_EXPR":
        return _fixed_column(node["args"][0])
    if kind in ("NullTest", "BooleanTest"):
        return unwrap(node.get("arg", {}))[1] if "ColumnRef" in node.get("arg", {}) else None
    if kind != "A_Expr":
        return None
    left, right = node.get("lexpr", {}), node.get("rexpr", {})
    if "ColumnRef" not in left:
        left, right = right, left
    values = unwrap(right)[1].get("items", ()) if "List" in right else (right,)
    fixed = "ColumnRef" in left and all(map(is_pseudo_constant, values))
    return unwrap(left)[1] if fixed else None


def _compared(select: Node) -> set[str]:
    """The columns that the subquery's WHERE tests."""
    return {
        column_name(node)[1]
        for part in conjuncts(select.get("whereClause"))
        if (node := _fixed_column(part))
    }


def _calls(select: Node) -> Iterator[Node]:
    for kind, node in walk("SelectStmt", select):
        if kind == "FuncCall":
            yield node


def _limit(select: Node, ctx: Context) -> int | None:
    """The index of the token LIMIT or FETCH."""
    span = ctx.span(select["limitCount"])
    index = ctx.spans.token_at(span[0]) if span else 0
    while index and ctx.spans.tokens[index][2] not in ("LIMIT", "FETCH"):
        index -= 1
    return index or None


def _marked(select: Node, ctx: Context) -> tuple[int, int] | None:
    """What a finding points at: the locking clause, else the LIMIT without one."""
    limit = _limit(select, ctx)
    if limit is None:
        return None
    tokens = ctx.spans.tokens
    start = _lock(limit, ctx) if select.get("lockingClause") else limit
    if start is None:
        return None
    end = start
    while end + 1 < len(tokens) and tokens[end + 1][2] in ("NO", "KEY", "UPDATE", "ICONST"):
        end += 1
    return tokens[start][0], tokens[end][1]


def _lock(limit: int, ctx: Context) -> int | None:
    """The index of the FOR of ``FOR UPDATE``, which may stand before LIMIT or after it."""
    for step in (1, -1):
        for index in _beside(limit, step, ctx):
            if ctx.spans.tokens[index][2] == "FOR":
                return index
    return None


def _beside(index: int, step: int, ctx: Context) -> Iterator[int]:
    """The tokens from one on that belong to the same query, those in parentheses left out."""
    depth = 0
    while 0 <= index < len(ctx.spans.tokens):
        name = ctx.spans.tokens[index][2]
        if name in ("ASCII_40", "ASCII_41"):
            depth += step if name == "ASCII_40" else -step
            if depth < 0:
                return
        elif depth == 0:
            if name == "ASCII_59":
                return
            yield index
        index += step


def _locked(select: Node, by_list: bool, ctx: Context) -> list[Fix]:
    """The statement with SKIP LOCKED in the query that picks."""
    limit, tokens = _limit(select, ctx), ctx.spans.tokens
    if limit is None:
        return []
    last = max(_beside(limit, 1, ctx))
    edits = []
    if select.get("lockingClause"):
        start = _lock(limit, ctx)
        if start is None:
            return []
        end = start
        while end < last and tokens[end + 1][2] not in ("LIMIT", "FETCH", "OFFSET"):
            end += 1
        edits.append(Edit(tokens[end][1], tokens[end][1], " SKIP LOCKED"))
    else:
        # A call in parentheses may end the query: LIMIT least(5, 9).
        while last + 1 < len(tokens) and tokens[last + 1][2] == "ASCII_40":
            last = _closing(last + 1, ctx)
        edits.append(Edit(tokens[last][1], tokens[last][1], " FOR UPDATE SKIP LOCKED"))
    if by_list:
        first = min(_beside(limit, -1, ctx))
        around = first - 1, _closing(first - 1, ctx)
        word = tokens[around[0] - 1] if around[0] > 0 else (0, 0, "")
        if word[2] == "IN_P":
            edits.append(Edit(word[0], word[1], "= ANY"))
            edits.append(Edit(tokens[around[0]][1], tokens[around[0]][1], "ARRAY("))
            edits.append(Edit(tokens[around[1]][1], tokens[around[1]][1], ")"))
    return [Fix("take what nobody else has", ctx.edit(*edits), changes_result=_PASSED_OVER)]


def _closing(index: int, ctx: Context) -> int:
    """The index of the parenthesis that closes the one at an index."""
    depth = 0
    for i in range(index, len(ctx.spans.tokens)):
        name = ctx.spans.tokens[i][2]
        depth += (name == "ASCII_40") - (name == "ASCII_41")
        if depth == 0:
            return i
    return len(ctx.spans.tokens) - 1
