"""How large a b-tree would be: from the table's statistics, with deduplication.

Follows how nbtree fills leaf pages when an index is built (_bt_load, _bt_dedup_* in
src/backend/access/nbtree): 8 bytes of tuple header, keys aligned, 4 of line pointer, pages filled
to 90 %; equal keys share one posting list of 6-byte tuple identifiers.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

PAGE = 8192
FILL = 0.90
_USABLE = (PAGE - 24 - 16) * FILL
_MAX_POSTING = 812
"""Bytes of the longest posting list tuple (BTMaxItemSize / 2, aligned down)."""
_NO_DEDUP = frozenset(("numeric", "float4", "float8", "jsonb", "json"))
"""Types whose equal values may differ in bytes (btequalimage is false)."""
UNKNOWN_WIDTH = 20


@dataclass(frozen=True, slots=True)
class KeyColumn:
    """A column of an index. ``length`` is typlen (-1 variable), ``align`` its alignment in bytes."""

    type: str
    length: int
    align: int
    null_frac: float = 0.0
    n_distinct: float = 0.0
    avg_width: float | None = None
    frequencies: tuple[float, ...] = ()
    sample_widths: tuple[int, ...] = ()
    """Stored bytes of sampled values (most common values and histogram bounds)."""


def pages(columns: Sequence[KeyColumn], key_count: int, rows: float, unique: bool) -> int:
    """Pages of the index, metapage included, over ``rows`` rows; the first ``key_count`` columns

    are keys, the rest INCLUDE columns."""
    key = _tuple_bytes(columns)
    distinct = 1.0
    for column in columns:
        distinct *= max(_distinct(column, rows), 1.0)
    distinct = min(distinct, max(rows, 1.0))
    dedup = (
        key_count == len(columns)
        and not unique
        and not any(c.type in _NO_DEDUP or c.type.startswith("_") for c in columns)
    )
    if not dedup or distinct >= rows * 0.999:
        size = rows * (key + 4)
    else:
        size = _deduplicated(columns, key, rows, distinct)
    leaves = max(1, math.ceil(size / _USABLE))
    return leaves + sum(_levels(leaves, key)) + 1


def height(page_count: int, columns: Sequence[KeyColumn]) -> int:
    """Levels above the leaves of an index of so many pages."""
    return len(_levels(max(page_count - 1, 1), _tuple_bytes(columns)))


def _levels(leaves: int, key: float) -> list[int]:
    fanout = max(int((PAGE - 40) * 0.70 / (key + 4)), 2)
    found = []
    while leaves > 1:
        leaves = math.ceil(leaves / fanout)
        found.append(leaves)
    return found


def _distinct(column: KeyColumn, rows: float) -> float:
    n = column.n_distinct
    return n if n > 0 else -n * rows if n < 0 else rows * 0.5


def _tuple_bytes(columns: Sequence[KeyColumn]) -> float:
    fixed = 0.0
    varying = []
    for c in columns:
        present = 1 - c.null_frac
        if c.length > 0:
            fixed = (
                math.ceil(fixed / c.align) * c.align if c.null_frac == 0 else fixed
            ) + c.length * present
        elif c.sample_widths:
            varying.append((c.sample_widths, present))
        else:
            fixed += (c.avg_width or UNKNOWN_WIDTH) * present
    bitmap = 8 if any(c.null_frac > 0.5 for c in columns) else 0
    if not varying:
        return _aligned(8 + bitmap + math.ceil(fixed))
    pick = random.Random(0)  # noqa: S311 - a fixed sample of the widths, the same on every run
    total = 0.0
    draws = 400
    for _ in range(draws):
        width = fixed + sum(pick.choice(widths) * present for widths, present in varying)
        total += _aligned(8 + bitmap + max(1, math.ceil(width)))
    return total / draws


def _aligned(size: float) -> int:
    return (int(size) + 7) & ~7


def _deduplicated(columns: Sequence[KeyColumn], key: float, rows: float, distinct: float) -> float:
    def group(count: float) -> float:
        """Bytes of one key value with ``count`` rows."""
        if count <= 1.0001:
            return count * (key + 4)
        most = max(int((_MAX_POSTING - key) // 6), 1)
        full = int(count // most)
        rest = count - full * most
        size = full * (_aligned(math.ceil(key) + most * 6) + 4)
        if rest >= 1.5:
            return size + _aligned(math.ceil(key) + int(rest * 6)) + 4
        return size + rest * (key + 4)

    size = 0.0
    if len(columns) == 1:
        total = rows
        nulls = columns[0].null_frac * total
        if nulls >= 1:
            size += group(nulls)
            rows -= nulls
        for frequency in columns[0].frequencies:
            share = frequency * total
            size += group(share)
            rows -= share
            distinct -= 1
    if rows <= 0 or distinct < 1:
        return size
    each = rows / distinct
    if each > 30:
        return size + distinct * group(each)
    # Duplicates per value spread like a Poisson variable that is at least one.
    mean = max(each - 1, 0.01)
    weight = math.exp(-mean)
    expected = 0.0
    for extra in range(120):
        expected += weight * group(extra + 1)
        weight *= mean / (extra + 1)
    return size + distinct * expected
