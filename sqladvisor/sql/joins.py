"""Where a join of one table begins and ends in the text: to take it out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqladvisor.sql.statement import Node

if TYPE_CHECKING:
    from sqladvisor.context import Context
    from sqladvisor.sql.resolve import FromItem

_WORDS = frozenset(("LEFT", "RIGHT", "FULL", "INNER_P", "CROSS", "OUTER_P", "NATURAL"))


def start_of_join(item: FromItem, ctx: Context) -> int | None:
    """The offset of ``[LEFT] JOIN`` before a table; None where JOIN does not stand before it."""
    span = ctx.spans.of("RangeVar", item.node)
    if span is None:
        return None
    tokens = ctx.spans.tokens
    place = ctx.spans.token_at(span[0]) - 1
    if place < 0 or tokens[place][2] != "JOIN":
        return None
    while place > 0 and tokens[place - 1][2] in _WORDS:
        place -= 1
    return tokens[place][0]


def end_of_on(join: Node, ctx: Context) -> int | None:
    """The offset behind a join's ON condition and the parentheses around it."""
    span = ctx.span(join.get("quals", {})) if "quals" in join else None
    if span is None:
        return None
    tokens = ctx.spans.tokens
    first, last = ctx.spans.token_at(span[0]), ctx.spans.token_at(span[1] - 1)
    while tokens[first - 1][2] == "ASCII_40":
        first -= 1
        last += 1
        if last >= len(tokens) or tokens[last][2] != "ASCII_41":
            return None
    return tokens[last][1] if tokens[first - 1][2] == "ON" else None
