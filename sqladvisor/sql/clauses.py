"""Where the clauses of a SELECT begin and end in its text, and how to add to them."""

from __future__ import annotations

from sqladvisor.finding import Edit
from sqladvisor.sql.spans import Spans
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import unwrap

_CLAUSES = frozenset(
    ["FROM", "WHERE", "GROUP_P", "HAVING", "WINDOW", "ORDER", "LIMIT", "OFFSET", "FETCH", "FOR"]
)  # names of tokens as libpg_query's scanner has them
_AFTER = frozenset(["UNION", "INTERSECT", "EXCEPT", "RETURNING", "ASCII_59"])
_OPEN, _CLOSE = frozenset(("ASCII_40", "ASCII_91")), frozenset(("ASCII_41", "ASCII_93"))

Clauses = dict[str, tuple[int, int]]


def clauses(select: Node, spans: Spans) -> Clauses:
    """(start, end) of each clause of a SELECT (``FROM``, ``WHERE``, ``ORDER``, …), keyword included.

    ``SELECT`` is the target list without its keyword. Empty for set operations and VALUES.
    """
    targets = select.get("targetList")
    if not targets:
        return {}
    first = spans.token_at(targets[0]["ResTarget"].get("location", 0))
    result: Clauses = {}
    name, begin, depth, last = "SELECT", spans.tokens[first][0], 0, first
    for i in range(first, len(spans.tokens)):
        start, _, token = spans.tokens[i]
        depth += (token in _OPEN) - (token in _CLOSE)
        if depth < 0 or (depth == 0 and _ends(spans, i)):
            break
        if depth == 0 and token in _CLAUSES and i > first and not _is_distinct_from(spans, i):
            result[name] = begin, spans.tokens[last][1]
            name, begin = token, start
        last = i
    result[name] = begin, spans.tokens[last][1]
    return result


def _ends(spans: Spans, i: int) -> bool:
    name = spans.tokens[i][2]
    if name == "ON":  # of INSERT … SELECT … ON CONFLICT
        return i + 1 < len(spans.tokens) and spans.tokens[i + 1][2] == "CONFLICT"
    return name in _AFTER


def _is_distinct_from(spans: Spans, i: int) -> bool:
    return spans.tokens[i][2] == "FROM" and spans.tokens[i - 1][2] == "DISTINCT"


def and_where(select: Node, places: Clauses, condition: str) -> list[Edit]:
    """Edits that add a condition to a SELECT's WHERE; [] where its clauses are not known."""
    if "whereClause" in select and "WHERE" in places:
        start, end = places["WHERE"]
        kind, node = unwrap(select["whereClause"])
        if kind == "BoolExpr" and node.get("boolop") == "OR_EXPR":
            inner = start + len("WHERE")
            return [Edit(inner, inner, " ("), Edit(end, end, f") AND {condition}")]
        return [Edit(end, end, f" AND {condition}")]
    if "whereClause" not in select and "FROM" in places:
        end = places["FROM"][1]
        return [Edit(end, end, f" WHERE {condition}")]
    return []


def items(place: tuple[int, int], spans: Spans, keywords: int) -> list[tuple[int, int]]:
    """(start, end) of each element of a clause's list, the parentheses around it included.

    ``keywords``: tokens before the first element (two for GROUP BY, none for the target list).
    """
    found: list[tuple[int, int]] = []
    first = spans.token_at(place[0]) + keywords
    begin, end, depth = -1, -1, 0
    for start, stop, name in spans.tokens[first:]:
        if start >= place[1]:
            break
        if depth == 0 and name == "ASCII_44":
            found.append((begin, end))
            begin = -1
            continue
        depth += (name in _OPEN) - (name in _CLOSE)
        begin, end = (start if begin < 0 else begin), stop
    return [*found, (begin, end)] if begin >= 0 else found


def without(places: list[tuple[int, int]], dropped: set[int]) -> list[Edit]:
    """Edits that take elements out of a list, each with the comma that goes with it.

    At least one element must stay.
    """
    edits, kept = [], [i for i in range(len(places)) if i not in dropped]
    for i in sorted(dropped):
        if i < kept[0]:
            edits.append(Edit(places[i][0], places[i + 1][0], ""))
        else:
            edits.append(Edit(places[i - 1][1], places[i][1], ""))
    return edits
