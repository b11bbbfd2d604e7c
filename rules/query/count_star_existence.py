"""count(*) compared with zero counts all matching rows to learn whether there is one.

Why: the count has to reach the last matching row before it can be compared. EXISTS stops at the
    first, and PostgreSQL can plan it as a semi-join or anti-join, which it never does for a count.
Fix: EXISTS, or NOT EXISTS, over the same FROM and WHERE: the same truth value.
Silent when: the count is used for anything else, the comparison is with another number, rows are
    grouped (HAVING count(*) > 0), the subquery has a LIMIT, at most one row can match, or the
    tables are small.
Source: PostgreSQL manual, 9.24.1 "EXISTS": "generally executed only long enough to determine
    whether at least one row is returned".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.finding import Edit, Finding, Fix, Severity
from sqladvisor.rule import rule
from sqladvisor.sql.clauses import Clauses, and_where, clauses
from sqladvisor.sql.comparisons import FLIPPED, narrowing
from sqladvisor.sql.never_null import nullness
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import constant, function_name, operator, unwrap

SCHEMA = """
CREATE TABLE users (id bigint PRIMARY KEY, email text NOT NULL UNIQUE);
CREATE TABLE orders (id bigint PRIMARY KEY, user_id bigint NOT NULL REFERENCES users, status text,
    "Größe" integer);
CREATE INDEX ON orders (status);
"""
BAD = [
    'SELECT count(*) > 0 FROM orders WHERE user_id = 8151 AND "Größe" > 5',
    "SELECT COUNT(*) >= 1 found FROM orders o JOIN users u ON u.id = o.user_id LIMIT 1",
    "SELECT id FROM users u WHERE (SELECT count(*) FROM orders o WHERE o.user_id = u.id) = 0",
    """SELECT u.email, 'é',
              (SELECT count(o."Größe")
               FROM orders o
               WHERE o.user_id = u.id OR o.status = 'x') <> 0 AS has_orders
       FROM users u""",
    "UPDATE users SET email = '' WHERE 0 < (SELECT count(1) FROM orders WHERE orders.user_id = users.id)",
    "DELETE FROM users u WHERE (SELECT count(DISTINCT o.user_id) FROM orders o WHERE o.user_id = u.id) < 1",
    "SELECT CASE WHEN (SELECT count(*) FROM orders WHERE \"Größe\" = $1) > 0 THEN 'yes' ELSE 'no' END",
    "SELECT count(*) = 0 FROM orders WHERE status = 'lost'",
]
GOOD = [
    "SELECT count(*) > 0.0 FROM orders",
    "SELECT u.id FROM users u GROUP BY u.id HAVING (SELECT count(u.id) FROM orders) > 0",
    "SELECT EXISTS (SELECT FROM orders WHERE user_id = 8151)",
    "SELECT count(*) FROM orders WHERE user_id = 8151",
    "SELECT count(*) > 1 FROM orders WHERE user_id = 8151",
    "SELECT id FROM users u WHERE (SELECT count(*) FROM orders o WHERE o.user_id = u.id) = 1",
    "SELECT user_id FROM orders GROUP BY user_id HAVING count(*) > 0",
    "SELECT user_id, count(*) > 0 FROM orders GROUP BY user_id",
    "SELECT u.id FROM users u LEFT JOIN orders o ON o.user_id = u.id GROUP BY u.id HAVING count(o.id) = 0",
    "SELECT count(*) > 0, max(id) FROM orders",
    "SELECT 1 FROM orders WHERE user_id = 5 HAVING count(*) > 0",
    "SELECT count(*) FILTER (WHERE status = 'open') > 0 FROM orders",
    "SELECT count(*) OVER () > 0 FROM orders",
    "SELECT count(*) > 0 FROM orders WHERE id = $1",
    "SELECT id FROM users WHERE (SELECT count(*) FROM orders GROUP BY status LIMIT 1) > 0",
    "SELECT id FROM users WHERE (SELECT count(*) FROM orders OFFSET 1) > 0",
    "SELECT id FROM users u WHERE (SELECT count(*) FROM orders o WHERE o.user_id = u.id) > $1",
    "SELECT (SELECT count(*) FROM orders o WHERE o.user_id = u.id) >= 0 FROM users u",
]

# count compared with a number, as "there is a row" (True) or "there is none" (False).
_MEANS = {
    (">", 0): True,
    (">=", 1): True,
    ("<>", 0): True,
    ("=", 0): False,
    ("<", 1): False,
    ("<=", 0): False,
}
_NOT_PLAIN = frozenset(
    ("groupClause", "havingClause", "distinctClause", "windowClause", "limitOffset", "larg",
     "lockingClause")
)  # fmt: skip


@rule("A_Expr", severity="warning")
def check(node: Node, ctx: Context) -> Iterator[Finding]:
    if node.get("kind", "AEXPR_OP") != "AEXPR_OP" or operator(node) not in FLIPPED:
        return
    left, right = node.get("lexpr", {}), node.get("rexpr", {})
    for side, other, name in (
        (left, right, operator(node)),
        (right, left, FLIPPED[operator(node)]),
    ):
        number = constant(other) if unwrap(other)[0] == "A_Const" else ...
        if type(number) is int and (name, number) in _MEANS:
            yield from _compared(side, {"A_Expr": node}, _MEANS[name, number], ctx)


def _compared(side: Node, wrapped: Node, exists: bool, ctx: Context) -> Iterator[Finding]:
    """``side`` is a count, or a subquery that gives one: what to say and how to write it."""
    kind, node = unwrap(side)
    if kind == "SubLink" and node.get("subLinkType") == "EXPR_SUBLINK":
        select = unwrap(node.get("subselect", {}))[1]
        targets = select.get("targetList", ())
        call = unwrap(targets[0]["ResTarget"].get("val", {})) if len(targets) == 1 else ("", {})
        if select.keys() & {"limitCount", "withClause"}:
            return
        where = None
    elif kind == "FuncCall":
        call = kind, node
        select = _only_target(wrapped, ctx) or {}
        where = wrapped
    else:
        return
    if not _counts(*call, ctx) or select.keys() & _NOT_PLAIN or "fromClause" not in select:
        return
    scope = ctx.scope(select)
    narrowed = narrowing(scope, select, ctx.resolver)
    hows = [narrowed.get(id(i)) for i in scope.items]
    if all(how == "unique" for how in hows) or all(ctx.small(i) for i in scope.items):
        return
    severity: Severity = "info" if all(hows) and ctx.catalog else "warning"
    names = " and ".join(dict.fromkeys(i.name or i.alias for i in scope.items))
    matching = "matching rows" if "whereClause" in select else "rows"
    question = "whether there is one" if exists else "whether there is none"
    yield ctx.finding(
        wrapped,
        f"counts all {matching} of {names} to see {question}: "
        f"{'EXISTS' if exists else 'NOT EXISTS'} stops at the first",
        severity=severity,
        fixes=_fixes(select, call[1], wrapped, where is not None, exists, ctx),
    )


def _only_target(wrapped: Node, ctx: Context) -> Node | None:
    """The SELECT whose whole SELECT list is this comparison."""
    comparison = unwrap(wrapped)[1]
    kind, target = ctx.tree.parent(comparison)
    above_kind, above = ctx.tree.parent(target)
    if kind != "ResTarget" or above_kind != "SelectStmt":
        return None
    return above if len(above.get("targetList", ())) == 1 else None


def _counts(kind: str, node: Node, ctx: Context) -> bool:
    """Whether a call is count() of rows or of one plain column of the query it stands in."""
    if kind != "FuncCall" or function_name(node) != "count":
        return False
    if node.keys() & {"agg_filter", "over", "agg_order", "agg_within_group"}:
        return False
    args = node.get("args", ())
    if node.get("agg_star"):
        return True
    if len(args) != 1:
        return False
    binding = ctx.binding(args[0])
    # The count of an outer query's column belongs to that query.
    return unwrap(args[0])[0] == "A_Const" or (binding is not None and not binding.depth)


def _fixes(
    select: Node, call: Node, wrapped: Node, whole: bool, exists: bool, ctx: Context
) -> list[Fix]:
    places = clauses(select, ctx.spans)
    span = ctx.span(wrapped)
    if span is None or "FROM" not in places:
        return []
    condition = _not_null(call, ctx)
    if condition is None:
        return []
    body = _body(select, places, condition, ctx)
    if body is None:
        return []
    word = "EXISTS" if exists else "NOT EXISTS"
    edits = [Edit(*span, f"{word} (SELECT {body})")]
    if whole:
        end = places.get("WHERE", places["FROM"])[1]
        before = max(t[1] for t in ctx.spans.tokens if t[1] <= places["FROM"][0])
        edits.append(Edit(before, end, ""))
    return [Fix(f"{word}, which ends with the first row", ctx.edit(*edits))]


def _not_null(call: Node, ctx: Context) -> str | None:
    """What count(column) asks of a row beside its being there; None where it counts nothing."""
    if call.get("agg_star"):
        return ""
    argument = call["args"][0]
    if unwrap(argument)[0] == "A_Const":
        return None if constant(argument) is None else ""
    if ctx.binding(argument) is None:
        return None
    return (
        "" if nullness(argument, ctx.resolver) == "never" else f"{ctx.text(argument)} IS NOT NULL"
    )


def _body(select: Node, places: Clauses, condition: str, ctx: Context) -> str | None:
    """FROM … WHERE … of the count, as written, with the condition added."""
    start, end = places["FROM"][0], places.get("WHERE", places["FROM"])[1]
    edits = and_where(select, places, condition) if condition else []
    if condition and not edits:
        return None
    statement = ctx.statement
    text = statement.text[statement.to_text(start) : statement.to_text(end)]
    for edit in sorted(edits, key=lambda e: e.start, reverse=True):
        first, last = (
            statement.to_text(o) - statement.to_text(start) for o in (edit.start, edit.end)
        )
        text = text[:first] + edit.text + text[last:]
    return text
