"""Masks a snapshot: values are replaced by stand-ins, or left out.

Numbers, dates, booleans and enum labels are kept: ranges of them are what most estimates are about.
Texts, UUIDs, addresses, binary strings and JSON are replaced. What cannot be replaced so that it
keeps its meaning (other types) is left out, and the snapshot says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from sqladvisor.catalog.snapshot import Snapshot
from sqladvisor.catalog.stand_ins import StandIns, array_items, array_text, make_stand_ins
from sqladvisor.catalog.statistics import (
    VALUES,
    CommonRow,
    ExtendedStatistics,
    Statistics,
)
from sqladvisor.sql.libpg import ParseProblem, scan

Sort = Callable[[list[str]], list[str]]

_KEPT = frozenset(
    ("bool", "int2", "int4", "int8", "float4", "float8", "numeric", "money", "oid", "date", "time",
     "timetz", "timestamp", "timestamptz", "interval", "enum", "bit", "varbit", "pg_lsn", "xid8")
)  # fmt: skip
_TEXT = frozenset(
    (
        "text",
        "varchar",
        "bpchar",
        "name",
        "citext",
        "char",
        "uuid",
        "inet",
        "cidr",
        "bytea",
        "tsvector",
    )
)
_LISTS = ("most_common_vals", "histogram_bounds", "most_common_elems")
_RANGES = ("range_length_histogram", "range_empty_frac", "range_bounds_histogram")


def without_values(snapshot: Snapshot) -> Snapshot:
    """Leave out every value of a column: common values, histograms, ends, common rows."""
    s = snapshot.statistics
    return replace(
        snapshot,
        values="none",
        statistics=replace(
            s,
            columns=tuple(replace(c, values=_without(c.values)) for c in s.columns),
            extended=tuple(
                replace(e, common=(), expressions=tuple(_without(x) for x in e.expressions))
                for e in s.extended
            ),
            ends={},
        ),
    )


def _without(values: dict[str, str | None]) -> dict[str, str | None]:
    return {k: v for k, v in values.items() if k not in VALUES}


def masked(snapshot: Snapshot, salt: bytes, sort: Sort) -> Snapshot:
    """Replace values by stand-ins. ``sort`` orders texts as the database does."""
    s = snapshot.statistics
    public = _literals(snapshot.schema)
    made = make_stand_ins(_texts(s), sort, public)
    mask = _Mask(StandIns(salt), made)
    columns = tuple(replace(c, values=mask.values(c.values, c.base)) for c in s.columns)
    extended = tuple(mask.extended(e) for e in s.extended)
    bases = {(c.schema, c.table, c.column): c.base for c in s.columns}
    ends = {
        key: (mask.value(low, bases.get(key, "")), mask.value(high, bases.get(key, "")))
        for key, (low, high) in s.ends.items()
    }
    lost = sorted(mask.lost)
    missing = s.missing
    if lost:
        missing = (*missing, f"values of these types are left out, not masked: {', '.join(lost)}")
    return replace(
        snapshot,
        values="masked",
        statistics=replace(s, columns=columns, extended=extended, ends=ends, missing=missing),
        stand_ins=StandIns(salt, mask.lookups),
    )


def _literals(schema: str) -> frozenset[str]:
    """The string constants of the schema: CHECK lists, partition bounds, predicates, defaults.

    Whoever has the file reads them anyway, and queries must match them.
    """
    found = set()
    try:
        tokens = scan(schema)
    except ParseProblem:
        return frozenset()
    for token in tokens:
        if token.name == "SCONST":
            text = schema[token.start : token.end + 1]
            if text.startswith("'") and len(text) < 200:
                found.add(text[1:-1].replace("''", "'"))
    return frozenset(found)


def _texts(s: Statistics) -> Iterator[str]:
    """Every text that needs a stand-in."""
    for column in s.columns:
        yield from _texts_of(column.values, column.base)
    for item in s.extended:
        for values, base in _expressions(item):
            yield from _texts_of(values, base)
        for row in item.common:
            for value, base in zip(row.values, item.bases, strict=False):
                yield from _atoms(value, base)
    bases = {(c.schema, c.table, c.column): c.base for c in s.columns}
    for key, ends in s.ends.items():
        for end in ends:
            yield from _atoms(end, bases.get(key, ""))


def _expressions(item: ExtendedStatistics) -> Iterator[tuple[dict[str, str | None], str]]:
    first = len(item.bases) - len(item.expressions)
    for number, values in enumerate(item.expressions):
        yield values, item.bases[first + number] if first >= 0 else ""


def _texts_of(values: dict[str, str | None], base: str) -> Iterator[str]:
    for name in _LISTS:
        if text := values.get(name):
            inner = base.removeprefix("_") if name == "most_common_elems" else base
            if inner.removeprefix("_") in _TEXT:
                for item in array_items(text):
                    yield from _atoms(item, inner)


def _atoms(value: str | None, base: str) -> Iterator[str]:
    """The texts in a value: itself, or an array's items."""
    if value is None:
        return
    if base in _TEXT:
        yield _plain(value, base)
    elif base[:1] == "_" and base[1:] in _TEXT:
        yield from (i for i in array_items(value) if i is not None)


def _plain(value: str, base: str) -> str:
    """A value as it is written: char(n) is padded with blanks, which do not count."""
    return value.rstrip(" ") if base == "bpchar" else value


class _Mask:
    """Replaces values, and remembers what a query may look up."""

    def __init__(self, stand_ins: StandIns, made: dict[str, str]) -> None:
        self._stand_ins = stand_ins
        self._made = made
        self.lookups: dict[str, str] = {}
        self.lost: set[str] = set()

    def values(self, values: dict[str, str | None], base: str) -> dict[str, str | None]:
        """The statistics of a column whose values are of type ``base``."""
        result = dict(values)
        for name in _LISTS:
            text = values.get(name)
            if not text:
                continue
            inner = base.removeprefix("_") if name == "most_common_elems" else base
            if not self._can(inner):
                self._drop(result, name)
                continue
            if inner.removeprefix("_") in _KEPT:
                continue
            items = array_items(text)
            replaced = [self.value(i, inner) for i in items]
            if name == "histogram_bounds" and inner in _TEXT:
                replaced.sort(key=lambda v: v or "")  # with kept codes among the stand-ins
            elif inner in _TEXT:
                self._remember(items, replaced, inner)
            result[name] = array_text(replaced)
        if base.startswith("range:") and base.removeprefix("range:") not in _KEPT:
            for name in _RANGES:
                self._drop(result, name)
        return result

    def _drop(self, values: dict[str, str | None], name: str) -> None:
        frequencies = {"most_common_vals": "most_common_freqs",
                       "most_common_elems": "most_common_elem_freqs"}  # fmt: skip
        values.pop(name, None)
        values.pop(frequencies.get(name, ""), None)

    def _can(self, base: str) -> bool:
        inner = base.removeprefix("range:") if base.startswith("range:") else base
        known = inner.removeprefix("_") in _KEPT | _TEXT or inner == "jsonb"
        if not known:
            self.lost.add(base or "unknown")
        return known

    def _remember(self, items: list[str | None], replaced: list[str | None], base: str) -> None:
        for value, stand_in in zip(items, replaced, strict=True):
            if value is not None and stand_in is not None and value != stand_in:
                # Of two with one digest the first, which is the more frequent, is found.
                self.lookups.setdefault(self._stand_ins.digest(_plain(value, base)), stand_in)

    def value(self, value: str | None, base: str) -> str | None:
        """What stands for one value; None for what has no stand-in."""
        if value is None or base in _KEPT or base.removeprefix("_") in _KEPT:
            return value
        if base.startswith("range:"):
            return value if base.removeprefix("range:") in _KEPT else None
        if base == "jsonb":
            return self._stand_ins.json(value)
        if base == "bytea":
            return _binary(self._made.get(value, value))
        if base in _TEXT:
            plain = _plain(value, base)
            return self._made.get(plain, plain)
        if base[:1] == "_" and base[1:] in _TEXT:
            items = array_items(value)
            replaced = [None if i is None else self._made.get(i, i) for i in items]
            self._remember(items, replaced, base[1:])
            return array_text(replaced)
        return None

    def extended(self, item: ExtendedStatistics) -> ExtendedStatistics:
        first = len(item.bases) - len(item.expressions)
        expressions = tuple(
            self.values(values, item.bases[first + n] if first >= 0 else "")
            for n, values in enumerate(item.expressions)
        )
        common: tuple[CommonRow, ...] = ()
        if len(item.bases) == len(item.members) and all(map(self._can, item.bases)):
            common = tuple(
                replace(
                    row,
                    values=tuple(
                        self.value(v, b) for v, b in zip(row.values, item.bases, strict=True)
                    ),
                )
                for row in item.common
            )
            for row, made in zip(item.common, common, strict=True):
                for value, stand_in, base in zip(row.values, made.values, item.bases, strict=True):
                    if base in _TEXT:
                        self._remember([value], [stand_in], base)
        return replace(item, common=common, expressions=expressions)


def _binary(text: str) -> str:
    """A bytea's text for a stand-in."""
    return text if re.match(r"\\x([0-9a-f]{2})*\Z", text) else "\\x" + text.encode().hex()
