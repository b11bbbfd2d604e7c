"""How large an index of another method than btree and GIN would be.

Tuple layouts and how builds fill pages: src/backend/access/{hash,gist,spgist,brin}.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

PAGE = 8192
UNKNOWN_WIDTH = 20.0

# hash: entries of 8 + 4 bytes, aligned to 16, and a line pointer.
_HASH_TUPLE = 20
_HASH_FILL = 75
"""HASH_DEFAULT_FILLFACTOR, per cent: how many tuples a bucket gets before one is added."""
_HASH_PER_PAGE = (PAGE - 24 - 16) // _HASH_TUPLE
_ONE_PHASE = 10
"""Doublings in which all buckets come at once (HASH_SPLITPOINT_GROUPS_WITH_ONE_PHASE); then in four."""


def hash_pages(rows: float, shares: Sequence[float]) -> int:
    """Pages of a hash index; ``shares`` are those of common values, which lie in one bucket each."""
    target = max(PAGE * _HASH_FILL // 100 // _HASH_TUPLE, 10)
    buckets = _buckets(math.ceil(rows / target))
    rest = max(1.0 - sum(shares), 0.0) * rows / buckets
    overflow = sum(math.ceil(max(share * rows + rest - _HASH_PER_PAGE, 0) / _HASH_PER_PAGE)
                   for share in shares)  # fmt: skip
    plain = max(buckets - len(shares), 0)
    overflow += int(plain * _excess(rest))
    # Metapage, and a bitmap page for every 32768 overflow pages.
    return 1 + buckets + overflow + math.ceil((overflow + 1) / 32768)


def _buckets(wanted: int) -> int:
    """The buckets that are allocated for ``wanted``: a power of two, or a quarter on the way to it."""
    if wanted <= 2:
        return 2
    group = math.ceil(math.log2(wanted))
    if group < _ONE_PHASE:
        return int(2**group)
    below = 2 ** (group - 1)
    return int(below + math.ceil((wanted - below) / (below / 4)) * below // 4)


def _excess(mean: float) -> float:
    """Overflow pages of a bucket with so many tuples on average (spread as a Poisson variable)."""
    if mean <= 0:
        return 0.0
    spread = math.sqrt(mean)
    expected = 0.0
    for step in range(-30, 31):
        z = step / 10
        tuples = mean + z * spread
        weight = math.exp(-z * z / 2) / math.sqrt(2 * math.pi) / 10
        expected += weight * math.ceil(max(tuples - _HASH_PER_PAGE, 0) / _HASH_PER_PAGE)
    return expected


GIST_SORTED_FILL = 0.78
"""Of pages that a sorting build fills and splits (GIST_SORTED_BUILD_PAGE_NUM at a time): measured .69
for points at random, .88 for ranges in the order of the rows."""
GIST_SPLIT_FILL = 0.66
"""Of pages that were split as rows came: measured on ranges, boxes and trigrams."""


def gist_pages(rows: float, width: float, *, sorted_build: bool) -> int:
    """Pages of a GiST index with keys of so many bytes; ``sorted_build``: it has a sort support."""
    item = _aligned(8 + width) + 4
    fill = GIST_SORTED_FILL if sorted_build else GIST_SPLIT_FILL
    return _tree(
        rows, max(int((PAGE - 24 - 16) * fill / item), 1), max(int((PAGE - 40) * fill / item), 2)
    )


SPGIST_FILL = 0.80


def spgist_pages(rows: float, width: float) -> int:
    """Pages of an SP-GiST index: leaf tuples of 12 bytes and the value; metapage, root, null root."""
    item = _aligned(12 + width) + 4
    leaves = math.ceil(rows / max(int((PAGE - 24 - 8) * SPGIST_FILL / item), 1))
    return 3 + leaves + math.ceil(leaves * 0.05)


BRIN_RANGE = 128
_BRIN_REVMAP = 1360
"""Range pointers a page of the map (REVMAP_PAGE_MAXITEMS)."""


def brin_pages(heap_pages: int, widths: Sequence[float], per_range: int = BRIN_RANGE) -> int:
    """Pages of a BRIN index: metapage, range map, and a summary (two values a column) a range."""
    ranges = max(1, math.ceil(heap_pages / per_range))
    item = _aligned(8 + math.ceil(len(widths) / 4) + sum(2 * max(w, 4) for w in widths)) + 4
    return (
        1 + math.ceil(ranges / _BRIN_REVMAP) + math.ceil(ranges / max(int((PAGE - 40) / item), 1))
    )


def _aligned(size: float) -> float:
    return math.ceil(size / 8) * 8


def _tree(rows: float, per_leaf: int, fan_out: int) -> int:
    total = level = max(1, math.ceil(rows / per_leaf))
    while level > 1:
        level = math.ceil(level / fan_out)
        total += level
    return total
