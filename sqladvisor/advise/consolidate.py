"""Fewer indexes for the same statements: what two indexes have in common, and when a second one pays.

The same for advice next to a query (``select``) and for whole workloads (``recommend``): what a
reviewer would say of two indexes that begin with the same column. Index merging is after Chaudhuri
and Narasayya, "Index Merging", ICDE 1999.
"""

from __future__ import annotations

from sqladvisor.server.whatif import HypotheticalIndex

SECOND = 2.0
"""How many times less a statement must cost for a second index that begins with the same column as
another: each is written to by every INSERT and vacuumed, and takes its place in memory."""
MIN_COST = 100.0
"""Planner cost units. A cheaper statement (about a millisecond) needs no index."""


def begin_alike(one: HypotheticalIndex, other: HypotheticalIndex) -> bool:
    """Whether two b-trees are over the same rows and have the same first key, direction aside."""
    return (
        one != other
        and one.table == other.table
        and one.method == other.method == "btree"
        and one.predicate == other.predicate
        and _plain(one.keys[0]) == _plain(other.keys[0])
    )


def worth_a_second(cost_with: float, cost_without: float) -> bool:
    """Whether a statement gains enough by an index that begins as another one does."""
    return cost_without > max(SECOND * cost_with, MIN_COST)


def merged(
    one: HypotheticalIndex, other: HypotheticalIndex, width: int, included: int
) -> HypotheticalIndex | None:
    """The index that serves as both do: all keys of the one that begins with the other's, and what

    either carries. None where neither begins with the other, where one is the other's better, or
    with more than ``width`` keys or ``included`` columns carried."""
    if not begin_alike(one, other) or one.unique or other.unique:
        return None
    longer, shorter = (one, other) if len(one.keys) >= len(other.keys) else (other, one)
    if longer.keys[: len(shorter.keys)] != shorter.keys or len(longer.keys) > width:
        return None
    have = {_plain(k) for k in longer.keys}
    carried = tuple(dict.fromkeys(c for c in (*longer.include, *shorter.include) if c not in have))
    if len(carried) > included:
        return None
    result = HypotheticalIndex(longer.table, longer.keys, carried, longer.predicate)
    return result if result not in (one, other) else None


def _plain(key: str) -> str:
    """A key without operator class and direction."""
    if key.startswith("("):
        return key
    return key[: key.index('"', 1) + 1] if key.startswith('"') else key.split(" ", 1)[0]
