"""A timestamp without time zone is compared with a moment that has one.

Why: a timestamp column does not say in which zone its values are. To compare it with now() or a
    timestamptz, PostgreSQL reads it in the session's TimeZone: the same query gives other rows in
    another session. A zone written in a literal for such a column ('… +02') is dropped in silence.
Fix: say the zone (AT TIME ZONE 'UTC', where that is what the column holds), or a timestamptz column.
Silent when: both sides have a zone, or neither; a date is on the other side; the type of the column
    is not known.
Source: PostgreSQL manual, 8.5.1.3 "Time Stamps" and 9.9.4 "AT TIME ZONE".
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.finding import Edit, Finding, Fix
from sqladvisor.rule import rule
from sqladvisor.sql.casts import column_type, value_type
from sqladvisor.sql.datatypes import TIMESTAMP, TIMESTAMPTZ
from sqladvisor.sql.resolve import Binding
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import operator, unwrap, walk

SCHEMA = """
CREATE TABLE users (id bigint PRIMARY KEY, seen timestamp, "createdAt" timestamp NOT NULL,
    created_at timestamptz, born date, note text);
CREATE TABLE orders (id bigint PRIMARY KEY, user_id bigint, placed_at timestamptz NOT NULL);
"""
BAD = [
    "SELECT id FROM users WHERE seen > now() - interval '1 day'",
    "SELECT u.id FROM users u WHERE CURRENT_TIMESTAMP >= u.\"createdAt\" AND u.note = 'spät'",
    "SELECT u.id FROM users u JOIN orders o ON o.user_id = u.id AND o.placed_at > u.seen",
    "SELECT id FROM users WHERE seen >= '2024-05-01 00:00:00+02'",
    "SELECT id FROM users WHERE seen BETWEEN '2024-05-01T00:00:00Z' AND '2024-05-31T23:00:00Z'",
    """WITH u AS (SELECT id, seen AS at FROM users)
       SELECT id
       FROM u
       WHERE at < $1::timestamptz""",
    "DELETE FROM users USING orders o WHERE o.user_id = users.id AND o.placed_at < users.seen",
    "UPDATE users SET note = 'x' WHERE seen < created_at",
]
GOOD = [
    "SELECT id FROM users WHERE created_at > now() - interval '1 day'",
    "SELECT id FROM users WHERE seen > localtimestamp - interval '1 day'",
    "SELECT id FROM users WHERE seen > now() AT TIME ZONE 'UTC'",
    "SELECT id FROM users WHERE seen AT TIME ZONE 'UTC' > now()",
    "SELECT id FROM users WHERE seen >= '2024-05-01' AND seen < '2024-05-01 12:00:00-'",
    "SELECT id FROM users WHERE created_at >= '2024-05-01 00:00:00+02'",
    "SELECT id FROM users WHERE seen >= $1 AND seen < CURRENT_DATE",
    "SELECT id FROM users WHERE born = now() AND note = '2024-05-01 00:00:00+02'",
    "SELECT id FROM elsewhere WHERE seen > now()",
    "SELECT seen, now() FROM users",
]

_OPERATORS = frozenset(("=", "<>", "<", "<=", ">", ">="))
_ZONED = (
    r"\s*\d{4}-\d\d?-\d\d?[ T]\d\d?:\d\d(?::\d\d(?:\.\d+)?)?\s*(Z|UTC|[+-]\d\d(?::?\d\d)?)\s*\Z"
)
_PLAIN = frozenset(("ColumnRef", "FuncCall", "SQLValueFunction", "TypeCast", "ParamRef"))
_UTC = r"(?:Z|UTC|[+-]00(?::?00)?)\Z"


@rule("A_Expr", severity="info", needs=("schema",))
def check(node: Node, ctx: Context) -> Iterator[Finding]:
    how, name = node.get("kind", "AEXPR_OP"), operator(node)
    left, right = node.get("lexpr", {}), node.get("rexpr", {})
    if how == "AEXPR_OP" and name in _OPERATORS:
        pairs = [(left, right), (right, left)]
    elif how in ("AEXPR_BETWEEN", "AEXPR_NOT_BETWEEN", "AEXPR_IN"):
        pairs = [(left, value) for value in unwrap(right)[1].get("items", ())]
    else:
        return
    for column, other in pairs:
        binding = ctx.binding(column)
        if binding and binding.sure and column_type(binding, ctx.resolver) == TIMESTAMP:
            found = list(_compared(node, column, binding, other, ctx))
            yield from found
            if found:
                return


def _compared(
    node: Node, column: Node, binding: Binding, other: Node, ctx: Context
) -> Iterator[Finding]:
    name = f"{binding.item.name or binding.item.alias}.{binding.column}"
    zone = _zone(other)
    if zone:
        utc = bool(re.match(_UTC, zone, re.I))
        yield ctx.finding(
            other,
            f"{name} has no time zone: the {zone} in {ctx.text(other)} is ignored, it is compared "
            "as the local time written",
            severity="info" if utc else "warning",
        )
        return
    if value_type(other, ctx.resolver) != TIMESTAMPTZ:
        return
    stored = any(kind == "ColumnRef" for kind, _ in walk(*unwrap(other)))
    text = ctx.text(column)
    place = ctx.span(other)
    fixes = []
    if place and text:
        written = ctx.text(other)
        value = written if unwrap(other)[0] in _PLAIN else f"({written})"
        fixes.append(
            Fix(
                f"if {binding.column} holds UTC: say so",
                ctx.edit(Edit(*place, f"{value} AT TIME ZONE 'UTC'")),
                changes_result="no longer depends on the session's time zone",
            )
        )
    yield ctx.finding(
        {"A_Expr": node},
        f"{name} has no time zone, {' '.join(ctx.text(other).split())} has one: what the "
        "comparison finds depends on the session's TimeZone",
        severity="warning" if stored else "info",
        fixes=fixes,
    )


def _zone(wrapped: Node) -> str:
    """The time zone in a quoted literal that becomes a timestamp without one."""
    kind, node = unwrap(wrapped)
    if kind != "A_Const" or "sval" not in node:
        return ""
    match = re.match(_ZONED, str(node["sval"].get("sval", "")), re.I)
    return match[1] if match else ""
