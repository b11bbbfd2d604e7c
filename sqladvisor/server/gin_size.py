"""How large a GIN index would be, from a sample of its values.

Each distinct key is one entry with the list of its rows, compressed to the difference from row to
row (ginCompressPostingList()); a list too long for an entry goes to a tree of its own.
Keys are those that the operator class extracts: items of arrays, words, trigrams, and of JSON keys
and values (jsonb_ops) or one hash for each value's path (jsonb_path_ops).
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqladvisor.catalog.stand_ins import array_items
from sqladvisor.catalog.statistics import GinPages
from sqladvisor.server.index_samples import Sample

PAGE = 8192
MAX_INLINE = 2704
"""GinMaxItemSize: longer entries have a posting tree."""
_USABLE = PAGE - 24 - 8
ENTRY_FILL = 0.5
"""Of entry pages: entries come in order, and a full page is split into halves (entrySplitPage())."""
DATA_FILL = 0.97
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of an index: distinct ones with the share of rows that have each, and the rest."""

    shares: tuple[float, ...]
    """Of keys seen more than once."""
    others: float
    """How many more distinct keys there are."""
    other_entries: float
    """Share-wise sum of them: entries for each row."""
    width: float
    """Mean bytes of a key."""


def keys_of(
    opclass: str, sample: Sample, rows: float, elements: Sequence[tuple[str, float]] = ()
) -> Keys | None:
    """What an operator class makes of sampled values; ``elements`` are most common ones with shares.

    None for one that is not known.
    """
    extracted: list[tuple[float, set[str]]] = []
    for value, share in zip(sample.values, sample.shares, strict=False):
        if value is None:
            continue
        found = extract(opclass, value)
        if found is None:
            return None
        extracted.append((share, found))
    if not extracted:
        return None
    if not any(found for _, found in extracted):
        return Keys(
            (1.0,), 0.0, 0.0, 0.0
        )  # rows without a key have one in common (GIN_CAT_EMPTY_ITEM)
    shares: defaultdict[str, float] = defaultdict(float)
    seen: Counter[str] = Counter()
    for share, found in extracted:
        for key in found:
            shares[key] += share
            seen[key] += 1
    total = sum(shares.values())
    known = dict(elements) or {k: s for k, s in shares.items() if seen[k] > 1}
    once = sum(1 for k in seen if seen[k] == 1)
    twice = sum(1 for k in seen if seen[k] == 2)
    rest = max(total - sum(known.values()), 0.0)
    unseen = once * (once - 1) / (2 * (twice + 1))  # Chao's estimator, bias-corrected
    others = min(max(len(seen) + unseen - len(known), 0.0), rest * sample.distinct(rows))
    width = sum(len(k.encode()) for k in seen) / len(seen)
    return Keys(tuple(known.values()), others, rest, width)


def keys_of_words(elements: Sequence[tuple[str, float]], column_width: float) -> Keys | None:
    """The keys of a tsvector column, of whose values only the most common words are known.

    A document takes 8 bytes, a word 8 and its letters (WordEntry, one position), to an even number:
    so the column's width tells how many words there are. The others are taken for as frequent as the rarest of the common ones.
    """
    if not elements:
        return None
    total = sum(s for _, s in elements)
    width = sum(len(w.encode()) for w, _ in elements) / len(elements)
    mean = sum(len(w.encode()) * s for w, s in elements) / total
    rest = max((column_width - 8) / (8.5 + mean) - total, 0.0)
    rarest = min(s for _, s in elements)
    return Keys(tuple(s for _, s in elements), rest / rarest, rest, width)


def extract(opclass: str, value: str) -> set[str] | None:
    """The keys of one value, as text; None for an operator class that is not known."""
    if opclass == "array_ops":
        return {i for i in array_items(value) if i is not None}
    if opclass == "tsvector_ops":
        return {w.replace("''", "'") for w in re.findall(r"'((?:[^']|'')*)'(?::[\dA-D,]+)?", value)}
    if opclass == "gin_trgm_ops":
        return set(trigrams(value))
    if opclass in ("jsonb_ops", "jsonb_path_ops"):
        try:
            document = json.loads(value)
        except ValueError:
            return set()
        found = _json_keys(document) if opclass == "jsonb_ops" else _json_paths(document, "")
        return set(found)
    return None


def trigrams(text: str) -> Iterator[str]:
    """The trigrams of pg_trgm: words in lower case, two blanks before and one behind."""
    for word in _WORD.findall(text.lower()):
        padded = f"  {word} "
        for at in range(len(padded) - 2):
            yield padded[at : at + 3]


def _json_keys(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield "k" + key
            yield from _json_keys(value)
    elif isinstance(node, list):
        for value in node:
            yield from _json_keys(value) if not isinstance(value, str) else iter(["k" + value])
    else:
        yield "v" + json.dumps(node).strip('"')


def _json_paths(node: Any, path: str) -> Iterator[str]:
    """One key of four bytes, a hash, for each value."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _json_paths(value, f"{path}.{key}")
    elif isinstance(node, list):
        for value in node:
            yield from _json_paths(value, path)
    else:
        yield f"{hash_of(path + json.dumps(node)):04x}"[:4]


def hash_of(text: str) -> int:
    """Tells paths apart, in no more than the four bytes that the index keeps."""
    import zlib

    return zlib.crc32(text.encode())


def gin_pages(keys: Keys, rows: float, heap_pages: int) -> GinPages:
    """The pages of an index over ``rows`` rows on ``heap_pages`` pages, metapage included."""
    entry_bytes = 0.0
    data = 0
    groups = [(share * rows, 1.0) for share in keys.shares]
    if keys.others >= 1:
        groups.append((max(keys.other_entries * rows / keys.others, 1.0), keys.others))
    entries = 0.0
    for count, times in groups:
        if count < 0.5:
            continue
        entries += times
        posting = _posting_bytes(count, rows, heap_pages)
        key = 8 + keys.width + 1
        if key + posting > MAX_INLINE:
            leaves = math.ceil(posting / (_USABLE * DATA_FILL))
            data += math.ceil(times * (leaves + (1 if leaves > 1 else 0)))
            posting = 0.0
        entry_bytes += times * (_aligned(key + posting) + 4)
    leaves = max(1, math.ceil(entry_bytes / (_USABLE * ENTRY_FILL))) if entry_bytes > _USABLE else 1
    inner = math.ceil(leaves / 150) if leaves > 1 else 0
    entry = leaves + inner
    return GinPages(0, entry + data + 1, entry, data, max(int(entries), 1))


def _aligned(size: float) -> float:
    return math.ceil(size / 8) * 8


def _posting_bytes(count: float, rows: float, heap_pages: int) -> float:
    """Bytes of a compressed list: a first row identifier, then 7 bits a byte of each difference.

    Identifiers count 2048 to a page.
    """
    per_page = max(rows / max(heap_pages, 1), 1.0)
    gap = rows / count
    same_page = max(0.0, 1 - gap / per_page)
    pages_on = max(1.0, gap / per_page)
    crossing = 2 if pages_on < 8 else 3 if pages_on < 1024 else 4
    mean = same_page * 1 + (1 - same_page) * crossing
    return 8 + max(count - 1, 0) * mean
