"""A range of timestamps ends at midnight of its last day, which leaves that day out.

Why: '2024-05-31' as a timestamp is the first instant of that day. BETWEEN … AND '2024-05-31' finds
    what happened at exactly 00:00 and nothing of the rest of the day; where the date is the first
    of the next period, the same instant is counted in both. '… 23:59:59' misses the last second.
Fix: a half-open range, >= start AND < the day after: the whole last day, for every precision.
Silent when: the column is a date, or its type is not known; the bound carries a time of its own,
    or is a parameter or an expression; all values known to the planner are at midnight.
Source: PostgreSQL manual, 9.2 "Comparison Functions and Operators" (BETWEEN includes both ends) and
    8.5 "Date/Time Types" (a date without a time means midnight).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, timedelta
from typing import NamedTuple

from sqladvisor.context import Context
from sqladvisor.finding import Edit, Finding, Fix
from sqladvisor.rule import rule
from sqladvisor.sql.comparisons import FLIPPED
from sqladvisor.sql.datatypes import TIMESTAMP, TIMESTAMPTZ, UNKNOWN, type_of
from sqladvisor.sql.resolve import Binding
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import function_name, operator, unwrap

SCHEMA = """
CREATE TABLE orders (id bigint PRIMARY KEY, user_id bigint, total numeric, placed_on date,
    created_at timestamptz NOT NULL, "shippedAt" timestamp, day timestamptz, at_time time);
CREATE SCHEMA crm;
CREATE TABLE crm.calls (id bigint PRIMARY KEY, begun timestamptz, note text);
"""
BAD = [
    "SELECT sum(total) FROM orders WHERE created_at BETWEEN '2024-05-01' AND '2024-05-31'",
    "SELECT id FROM orders o WHERE o.\"shippedAt\" BETWEEN DATE '2024-05-01' AND DATE '2024-05-31'",
    "SELECT id FROM orders WHERE created_at BETWEEN $1 AND '2024-12-31'::timestamptz AND user_id = 5",
    "SELECT id FROM crm.calls WHERE note = 'größer' AND begun BETWEEN '2024-05-31' AND '2024-05-31'",
    "SELECT id FROM orders WHERE created_at BETWEEN '2024-05-01' AND '2024-06-01'",
    "SELECT id FROM orders WHERE created_at NOT BETWEEN '2024-05-01' AND '2024-05-31'",
    "SELECT id FROM orders WHERE NOT created_at BETWEEN '2024-05-01' AND '2024-05-31' OR id = 1",
    """SELECT id
       FROM orders
       WHERE created_at >= '2024-05-01'
         AND created_at <= '2024-05-31'""",
    "DELETE FROM orders USING crm.calls c WHERE c.id = orders.id AND c.begun BETWEEN '2024-01-01' AND '2024-01-31'",
    "SELECT id FROM orders WHERE created_at BETWEEN '2024-05-01 00:00:00' AND '2024-05-31 23:59:59'",
    "WITH may AS (SELECT * FROM orders WHERE created_at BETWEEN '2024-05-01' AND '2024-05-31') SELECT * FROM may",
    "SELECT id FROM (SELECT id, created_at AS moment FROM orders) s WHERE moment BETWEEN '2024-05-01' AND '2024-05-31'",
    "SELECT id FROM orders WHERE created_at AT TIME ZONE 'UTC' BETWEEN '2024-05-01' AND '2024-05-31'",
    "SELECT count(*) FILTER (WHERE created_at BETWEEN '2024-05-01' AND '2024-05-31') FROM orders",
]
GOOD = [
    "SELECT id FROM orders WHERE created_at >= '2024-05-01' AND created_at < '2024-06-01'",
    "SELECT id FROM orders WHERE placed_on BETWEEN '2024-05-01' AND '2024-05-31'",
    "SELECT id FROM orders WHERE created_at::date BETWEEN '2024-05-01' AND '2024-05-31'",
    "SELECT id FROM orders WHERE date_trunc('day', created_at) BETWEEN '2024-05-01' AND '2024-05-31'",
    "SELECT id FROM orders WHERE created_at BETWEEN $1 AND $2",
    "SELECT id FROM orders WHERE created_at BETWEEN '2024-05-01 08:00' AND '2024-05-01 12:00'",
    "SELECT id FROM orders WHERE created_at BETWEEN now() - interval '1 day' AND now()",
    "SELECT id FROM orders WHERE created_at <= '2024-05-31'",
    "SELECT id FROM orders WHERE created_at > '2024-05-31' OR created_at <= '2024-05-01'",
    "SELECT id FROM orders WHERE created_at BETWEEN '2024-05-01' AND '2024-05-31 23:59:59.999999'",
    "SELECT id FROM orders WHERE at_time BETWEEN '00:00' AND '23:59:59'",
    "SELECT id FROM crm.calls WHERE note BETWEEN '2024-05-01' AND '2024-05-31'",
    "SELECT id FROM elsewhere WHERE created_at BETWEEN '2024-05-01' AND '2024-05-31'",
    "SELECT id FROM orders WHERE created_at BETWEEN 'infinity' AND 'today'",
]

_DAY = r"\s*(\d{4})-(\d\d?)-(\d\d?)\s*\Z"
_LAST_SECOND = r"\s*(\d{4})-(\d\d?)-(\d\d?)[ T]23:59(?::59(?:\.9{1,5})?)?\s*\Z"
_START = r"\s*(\d{4})-(\d\d?)-(\d\d?)(?:[ T]00:00(?::00(?:\.0+)?)?)?\s*\Z"
_MOMENTS = (TIMESTAMP, TIMESTAMPTZ)
_DAILY = ("day", "date", "week", "month", "quarter", "year")
# Where a conjunction may stand without parentheses.
_LOOSE = frozenset(("SelectStmt", "UpdateStmt", "DeleteStmt", "JoinExpr", "CaseWhen", "FuncCall",
                    "InferClause", "OnConflictClause"))  # fmt: skip


class _Bound(NamedTuple):
    """A bound written as a literal: its day, the string in it, and what it leaves out."""

    day: date
    literal: Node
    last_second: bool = False


@rule("A_Expr", severity="warning", needs=("schema",))
def check(node: Node, ctx: Context) -> Iterator[Finding]:
    how = node.get("kind", "AEXPR_OP")
    if how in ("AEXPR_BETWEEN", "AEXPR_NOT_BETWEEN"):
        items = unwrap(node.get("rexpr", {}))[1].get("items", ())
        column = _moment(node.get("lexpr", {}), ctx)
        bound = _bound(items[1], ctx) if len(items) == 2 else None
        if column and bound:
            yield from _between(node, items[0], items[1], bound, how, column, ctx)
    elif how == "AEXPR_OP" and operator(node) in ("<=", ">="):
        yield from _pair(node, ctx)


def _moment(wrapped: Node, ctx: Context) -> Binding | None:
    """The timestamp column that an expression is, in its own or in a named time zone."""
    kind, node = unwrap(wrapped)
    if kind == "FuncCall" and function_name(node) == "timezone" and len(node.get("args", ())) == 2:
        kind, node = unwrap(node["args"][1])
    binding = ctx.resolve(node) if kind == "ColumnRef" else None
    origin = ctx.resolver.origin(binding) if binding else None
    definition = origin.definition if origin else None
    if definition is None or (definition.base_type or definition.type) not in _MOMENTS:
        return None
    stats = definition.stats
    known = (*stats.most_common_vals, *stats.histogram_bounds) if stats else ()
    if known and all(" 00:00:00" in value and "00:00:00." not in value for value in known):
        return None
    return binding


def _bound(wrapped: Node, ctx: Context) -> _Bound | None:
    """An upper bound that ends a day too early, or its last second."""
    if type_of(wrapped, ctx.resolver) not in (UNKNOWN, "date", *_MOMENTS):
        return None
    literal = _literal(wrapped)
    if literal is None:
        return None
    text = str(unwrap(literal)[1]["sval"].get("sval", ""))
    day = _date(_DAY, text)
    if day is not None:
        return _Bound(day, literal)
    day = _date(_LAST_SECOND, text)
    return _Bound(day, literal, True) if day is not None else None


def _literal(wrapped: Node) -> Node | None:
    kind, node = unwrap(wrapped)
    if kind == "TypeCast":
        return _literal(node.get("arg", {}))
    return wrapped if kind == "A_Const" and "sval" in node else None


def _date(pattern: str, text: str) -> date | None:
    match = re.match(pattern, text)
    try:
        return date(*map(int, match.groups())) if match else None
    except ValueError:
        return None


def _start(wrapped: Node) -> date | None:
    literal = _literal(wrapped)
    if literal is None:
        return None
    return _date(_START, str(unwrap(literal)[1]["sval"].get("sval", "")))


def _between(
    node: Node, low: Node, high: Node, bound: _Bound, how: str, column: Binding, ctx: Context
) -> Iterator[Finding]:
    negated = how == "AEXPR_NOT_BETWEEN"
    place = ctx.span({"A_Expr": node})
    side, least = ctx.text(node["lexpr"]), ctx.text(low)
    fixes = []
    above, parent = ctx.tree.parent(node)
    inverse = negated != (above == "BoolExpr" and parent.get("boolop") == "NOT_EXPR")
    for upper, description, changes in _uppers(high, bound, _start(low), inverse, ctx):
        if not (place and side and least and upper):
            break
        if negated:
            text = f"({side} < {least} OR {side} >= {upper})"
        else:
            text = f"{side} >= {least} AND {side} < {upper}"
            if not _stands_alone(node, ctx):
                text = f"({text})"
        fixes.append(Fix(description, ctx.edit(Edit(*place, text)), changes_result=changes))
    yield _finding({"A_Expr": node}, high, bound, _start(low), inverse, fixes, column, ctx)


def _stands_alone(node: Node, ctx: Context) -> bool:
    kind, above = ctx.tree.parent(node)
    return kind in _LOOSE or (kind == "BoolExpr" and above.get("boolop") != "NOT_EXPR")


def _uppers(
    high: Node, bound: _Bound, start: date | None, negated: bool, ctx: Context
) -> list[tuple[str, str, str]]:
    """(text of the exclusive end, what it is, how the result changes), the likelier first."""
    verb = "leaves out" if negated else "also returns"
    text = ctx.text(high)
    next_day = _moved(high, bound, ctx)
    if bound.last_second:
        what = f"{verb} what happened on {bound.day} after {text}"
        return [(next_day, "end before the next day begins", what)] if next_day else []
    whole = (
        next_day,
        f"if {bound.day} belongs to the range: end before the next day",
        f"{verb} the rest of {bound.day}",
    )
    verb = "also returns" if negated else "leaves out"
    before = (
        text,
        f"if the range ends before {bound.day}: exclude it",
        f"{verb} the rows at exactly {bound.day} 00:00",
    )
    if start is not None and start >= bound.day:
        return [whole] if next_day else []
    options = [before, whole] if _next_period(start, bound.day) else [whole, before]
    return [option for option in options if option[0]]


def _next_period(start: date | None, day: date) -> bool:
    """Whether a range reaches from a day to the same day of a later month or year."""
    return start is not None and start.day == day.day == 1 and start < day


def _moved(high: Node, bound: _Bound, ctx: Context) -> str:
    """The upper bound's text with the next day in it."""
    place, whole = ctx.span(bound.literal), ctx.span(high)
    text, quoted = ctx.text(high), ctx.text(bound.literal)
    try:
        following = f"'{bound.day + timedelta(days=1)}'"
    except OverflowError:
        return ""
    if place is None or whole is None or not quoted.startswith("'"):
        return ""
    offset = ctx.statement.to_text(place[0]) - ctx.statement.to_text(whole[0])
    if text[offset : offset + len(quoted)] != quoted:
        return ""
    return text[:offset] + following + text[offset + len(quoted) :]


def _finding(
    at: Node,
    high: Node,
    bound: _Bound,
    start: date | None,
    negated: bool,
    fixes: list[Fix],
    column: Binding,
    ctx: Context,
) -> Finding:
    day, name = bound.day, column.column
    if bound.last_second:
        message = f"the range ends at {ctx.text(high)}: what {name} has after it on {day} is missed"
        return ctx.finding(at, message, severity="info", fixes=fixes)
    if _next_period(start, day) and not negated:
        message = (
            f"the range includes {day} 00:00, the first instant after it: a {name} of exactly that "
            "time counts in the next range too"
        )
        return ctx.finding(at, message, severity="info", fixes=fixes)
    missing = "counts as outside" if negated else "is left out"
    message = f"the range of {name} ends at {day} 00:00: the rest of that day {missing}"
    origin = ctx.resolver.origin(column)
    seen = origin is not None and origin.definition is not None and origin.definition.stats
    # A timestamp called a day or a date may well hold midnights only.
    daily = not seen and name.lower().endswith(_DAILY)
    return ctx.finding(at, message, severity="info" if daily else "warning", fixes=fixes)


# -- column >= low AND column <= high -------------------------------------------------------------


def _pair(node: Node, ctx: Context) -> Iterator[Finding]:
    """``<=`` with a date, where another conjunct begins the range with a date as well."""
    left, right, name = node.get("lexpr", {}), node.get("rexpr", {}), operator(node)
    if unwrap(left)[0] != "ColumnRef":
        left, right, name = right, left, FLIPPED[name]
    column = _moment(left, ctx) if name == "<=" else None
    bound = _bound(right, ctx) if column else None
    above, parent = ctx.tree.parent(node)
    if not (column and bound) or above != "BoolExpr" or parent.get("boolop") != "AND_EXPR":
        return
    start = _range_start(parent, column, ctx)
    place = node.get("location", -1)
    if start is None or place < 0:
        return
    token = ctx.spans.tokens[ctx.spans.token_at(place)]
    sign = "<" if name == operator(node) else ">"
    fixes = []
    where = ctx.span(right)
    for upper, description, changes in _uppers(right, bound, start, False, ctx):
        if where:
            edits = (Edit(token[0], token[1], sign), Edit(*where, upper))
            fixes.append(Fix(description, ctx.edit(*edits), changes_result=changes))
    yield _finding({"A_Expr": node}, right, bound, start, False, fixes, column, ctx)


def _range_start(conjunction: Node, column: Binding, ctx: Context) -> date | None:
    for wrapped in conjunction.get("args", ()):
        kind, node = unwrap(wrapped)
        if kind != "A_Expr" or node.get("kind", "AEXPR_OP") != "AEXPR_OP":
            continue
        left, right, name = node.get("lexpr", {}), node.get("rexpr", {}), operator(node)
        if unwrap(left)[0] != "ColumnRef" and name in FLIPPED:
            left, right, name = right, left, FLIPPED[name]
        binding = ctx.binding(left)
        if name in (">", ">=") and binding and binding.item is column.item:
            start = _start(right)
            if binding.column == column.column and start is not None:
                return start
    return None
