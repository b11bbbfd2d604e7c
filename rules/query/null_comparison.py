"""A value is compared with NULL by an operator, which is never true.

Why: NULL stands for an unknown value, so x = NULL is neither true nor false but NULL, also where x
    is NULL. A WHERE that needs it returns no row; x NOT IN (1, NULL) excludes every row as well,
    and a NULL in an IN list or in CASE x WHEN NULL matches nothing.
Fix: IS NULL or IS NOT NULL, which matches the rows that were meant; a NULL in a list is taken out.
Silent when: the test knows NULL (IS NULL, IS DISTINCT FROM); the value is a bound parameter; NULL
    is assigned, not compared; both sides are constants.
Source: PostgreSQL manual, 9.2 "Comparison Functions and Operators" and 9.25 "Row and Array
    Comparisons".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqladvisor.context import Context
from sqladvisor.finding import Edit, Finding, Fix
from sqladvisor.rule import rule
from sqladvisor.sql.never_null import nullness
from sqladvisor.sql.nulls import only_truth_counts
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import constant, operator, unwrap

SCHEMA = """
CREATE TABLE users (id bigint PRIMARY KEY, email text NOT NULL, "Nick" text, city text,
    deleted_at timestamptz, score integer);
CREATE TABLE orders (id bigint PRIMARY KEY, user_id bigint REFERENCES users, coupon text);
"""
BAD = [
    "SELECT id FROM users WHERE deleted_at = NULL AND city = 'Oslo'",
    'SELECT u.id FROM users u WHERE u."Nick" <> NULL',
    "SELECT id FROM users WHERE NULL != score",
    "SELECT id FROM users WHERE city = 'Zürich' OR city = NULL::text",
    "SELECT id FROM users WHERE score > NULL OR score BETWEEN NULL AND 5",
    "SELECT id FROM users WHERE score NOT IN (1, 2, NULL)",
    """SELECT id
       FROM users
       WHERE city IN ('Köln', NULL, 'Bonn') AND score IN (NULL)""",
    "SELECT id FROM users WHERE city <> ALL (ARRAY['Köln', NULL])",
    "SELECT CASE u.city WHEN NULL THEN 'nowhere' WHEN 'Köln' THEN 'here' ELSE u.city END FROM users u",
    "UPDATE users SET city = NULL WHERE city = NULL",
    "DELETE FROM orders USING users u WHERE u.id = orders.user_id AND NOT (u.deleted_at = NULL)",
    """WITH gone AS (SELECT id FROM users WHERE deleted_at <> NULL)
       INSERT INTO orders (id, user_id) SELECT id, id FROM gone""",
    "MERGE INTO users u USING orders o ON u.id = o.user_id WHEN MATCHED AND o.coupon = NULL THEN DELETE",
    "SELECT id FROM orders WHERE coupon = $1 AND (user_id, coupon) = (5, NULL)",
]
GOOD = [
    "SELECT id FROM users WHERE deleted_at IS NULL AND city IS NOT NULL",
    "SELECT id FROM users WHERE deleted_at IS DISTINCT FROM NULL",
    "UPDATE users SET deleted_at = NULL, city = NULL WHERE id = 5",
    "SELECT id FROM users WHERE city = $1 OR ($1 IS NULL AND city IS NULL)",
    "SELECT id FROM users WHERE city IN ('Köln', 'Bonn') AND city <> 'NULL'",
    "SELECT coalesce(city, NULL), nullif(city, NULL), CASE WHEN city IS NULL THEN NULL END FROM users",
    "SELECT NULL = NULL, 1 = NULL",
    "INSERT INTO users (id, email, city) VALUES (1, 'x', NULL) ON CONFLICT (id) DO UPDATE SET city = NULL",
    "SELECT CASE city WHEN 'Köln' THEN NULL ELSE 1 END FROM users",
    "SELECT id FROM orders WHERE (user_id, coupon) > (5, NULL)",
]

_ORDERED = frozenset(("=", "<>", "<", "<=", ">", ">="))
_SIMPLE = frozenset(("A_Const", "ColumnRef", "ParamRef", "TypeCast", "FuncCall"))


@rule("A_Expr", "CaseExpr", severity="error")
def check(node: Node, ctx: Context) -> Iterator[Finding]:
    if "args" in node:
        yield from _case(node, ctx)
        return
    how, name = node.get("kind", "AEXPR_OP"), operator(node)
    left, right = node.get("lexpr", {}), node.get("rexpr", {})
    pattern = how in ("AEXPR_LIKE", "AEXPR_ILIKE", "AEXPR_SIMILAR")
    if pattern or (how == "AEXPR_OP" and name in _ORDERED):
        yield from _operator(node, name, left, right, ctx)
    elif how == "AEXPR_BETWEEN":
        if any(_is_null(v) for v in unwrap(right)[1].get("items", ())) and _varies(left):
            yield _never(node, ctx)
    elif how == "AEXPR_IN":
        yield from _list(node, unwrap(right)[1].get("items", ()), name == "<>", ctx)
    elif (how, name) in (("AEXPR_OP_ANY", "="), ("AEXPR_OP_ALL", "<>")):
        if _is_null(right) and _varies(left):
            yield _never(node, ctx)
            return
        kind, array = unwrap(right)
        if kind == "TypeCast":
            kind, array = unwrap(array.get("arg", {}))
        if kind == "A_ArrayExpr":
            yield from _list(node, array.get("elements", ()), name == "<>", ctx)


def _is_null(wrapped: Node) -> bool:
    return bool(wrapped) and constant(wrapped) is None


def _varies(wrapped: Node) -> bool:
    return bool(wrapped) and constant(wrapped) is ...


def _never(node: Node, ctx: Context, fixes: Sequence[Fix] = ()) -> Finding:
    text = " ".join(ctx.text({"A_Expr": node}).split())
    return ctx.finding(
        {"A_Expr": node}, f"{text} is never true: a comparison with NULL is NULL", fixes=fixes
    )


def _operator(node: Node, name: str, left: Node, right: Node, ctx: Context) -> Iterator[Finding]:
    if _in_row(left, right, name) or _in_row(right, left, name):
        yield _never(node, ctx)
        return
    if _is_null(left) == _is_null(right) or not _varies(left if _is_null(right) else right):
        return
    yield _never(node, ctx, _null_test(node, name, left, right, ctx))


def _in_row(row: Node, other: Node, name: str) -> bool:
    """Whether ``row = other`` cannot be true for a NULL in a row constructor."""
    kind, node = unwrap(row)
    other_kind, facing = unwrap(other)
    if name != "=" or kind != "RowExpr" or other_kind != "RowExpr":
        return False
    pairs = zip(node.get("args", ()), facing.get("args", ()), strict=False)
    return any(_is_null(a) and _varies(b) for a, b in pairs)


def _null_test(node: Node, name: str, left: Node, right: Node, ctx: Context) -> list[Fix]:
    if name not in ("=", "<>"):
        return []
    test = "IS NULL" if name == "=" else "IS NOT NULL"
    sides = ctx.span(left), ctx.span(right)
    if sides[0] is None or sides[1] is None:
        return []
    if _is_null(right):
        edits = [Edit(node.get("location", 0), sides[1][1], test)]
        tested = ctx.text(left)
    else:
        edits = [Edit(sides[0][0], sides[1][0], ""), Edit(sides[1][1], sides[1][1], f" {test}")]
        tested = ctx.text(right)
    meant = "is NULL" if name == "=" else "has a value"
    return [
        Fix(
            f"say {test}",
            ctx.edit(*edits),
            changes_result=f"matches the rows where {tested} {meant}, as written it matches none",
        )
    ]


def _list(node: Node, items: Sequence[Node], negated: bool, ctx: Context) -> Iterator[Finding]:
    nulls = [item for item in items if _is_null(item)]
    left = node.get("lexpr", {})
    if not nulls or not _varies(left):
        return
    subject = ctx.text(left)
    above, parent = ctx.tree.parent(node)
    if negated or (above == "BoolExpr" and parent.get("boolop") == "NOT_EXPR"):
        yield ctx.finding(
            {"A_Expr": node},
            f"a list with NULL excludes every row: {subject} can never be proven to differ from "
            "an unknown value",
            fixes=_without(items, ctx, "matches rows, as written it matches none"),
        )
        return
    filled = nullness(left, ctx.resolver) == "never"
    missed = f"{subject} has none" if filled else f"rows whose {subject} is NULL are not found"
    yield ctx.finding(
        nulls[0],
        f"the NULL in this list matches nothing: {missed}",
        severity="info" if filled else "warning",
        fixes=_matching_null(node, items, left, ctx),
    )


def _without(items: Sequence[Node], ctx: Context, changes: str) -> list[Fix]:
    kept = [item for item in items if not _is_null(item)]
    edits = _removals(items, ctx)
    if not kept or not edits:
        return []
    return [Fix("take the NULL out of the list", ctx.edit(*edits), changes_result=changes)]


def _matching_null(node: Node, items: Sequence[Node], left: Node, ctx: Context) -> list[Fix]:
    place, subject = ctx.span({"A_Expr": node}), ctx.text(left)
    if place is None or unwrap(left)[0] != "ColumnRef":
        return []
    also = f"finds the rows where {subject} is NULL too"
    if all(_is_null(item) for item in items):
        return [
            Fix("say IS NULL", ctx.edit(Edit(*place, f"{subject} IS NULL")), changes_result=also)
        ]
    edits = _removals(items, ctx)
    if not edits:
        return []
    changes = "" if only_truth_counts(node, ctx.tree) else "is false instead of NULL"
    without = _without(items, ctx, changes)
    if nullness(left, ctx.resolver) == "never":
        return without
    either = [Edit(place[0], place[0], "("), Edit(place[1], place[1], f" OR {subject} IS NULL)")]
    return [
        *without,
        Fix("if they are wanted: test for NULL", ctx.edit(*edits, *either), changes_result=also),
    ]


def _removals(items: Sequence[Node], ctx: Context) -> list[Edit]:
    """Edits that take the NULLs out of a list of which something remains."""
    spans = [ctx.span(item) for item in items]
    edits: list[Edit] = []
    kept_before = False
    for i, item in enumerate(items):
        here = spans[i]
        before, after = (
            (spans[i - 1] if i else None),
            (spans[i + 1] if i + 1 < len(spans) else None),
        )
        if here is None:
            return []
        if not _is_null(item):
            kept_before = True
        elif kept_before and before:
            edits.append(Edit(before[1], here[1], ""))
        elif after:
            edits.append(Edit(here[0], after[0], ""))
    return edits


def _case(node: Node, ctx: Context) -> Iterator[Finding]:
    subject = node.get("arg")
    if not subject or not _varies(subject):
        return
    branches = [unwrap(w)[1] for w in node.get("args", ())]
    for branch in branches:
        if _is_null(branch.get("expr", {})):
            yield ctx.finding(
                branch["expr"],
                f"WHEN NULL is never chosen: CASE {ctx.text(subject)} compares by =, which NULL "
                "never satisfies",
                fixes=_searched(subject, branches, ctx),
            )


def _searched(subject: Node, branches: list[Node], ctx: Context) -> list[Fix]:
    """``CASE WHEN x IS NULL THEN … WHEN x = 1 THEN …`` for ``CASE x WHEN NULL … WHEN 1 …``."""
    place, text = ctx.span(subject), ctx.text(subject)
    if unwrap(subject)[0] != "ColumnRef" or place is None:
        return []
    edits = [Edit(place[0], branches[0]["location"], "")]
    for branch in branches:
        value = branch["expr"]
        here = ctx.span(value)
        if here is None or unwrap(value)[0] not in _SIMPLE:
            return []
        if _is_null(value):
            edits.append(Edit(*here, f"{text} IS NULL"))
        else:
            edits.append(Edit(here[0], here[0], f"{text} = "))
    changes = f"chooses that branch where {text} is NULL"
    return [Fix("name the condition in each WHEN", ctx.edit(*edits), changes_result=changes)]
