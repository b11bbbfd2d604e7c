"""What one query of the monitor yields, described once: the sampler, the store and the page read it.

A family is a kind of object with figures that belong together (statements, tables, waits). Its
columns are counters, which only grow on the server and are kept as differences, and gauges, which
are kept as they are. A unit stands at the end of a column's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

Key = tuple[str, ...]


@dataclass(frozen=True)
class Family:
    """A kind of object. ``variants`` maps the first version that a query fits to the query.

    Versions are server_version_num, or major * 100 + minor of ``extension``. A query returns
    columns named as ``keys``, ``counters`` and ``gauges`` (one left out is unknown), and may return
    ``epoch``: whatever changes when the counters of the row start anew.
    """

    name: str
    keys: tuple[str, ...]
    counters: tuple[str, ...]
    gauges: tuple[str, ...]
    variants: Mapping[int, str]
    extension: str = ""
    identity: tuple[str, ...] = ()
    """Columns that, with the keys, tell the server's own rows apart; rows are added up by key."""
    smooth: frozenset[str] = field(default_factory=frozenset)
    """Counters worked out in floating point: a decrease is rounding, not a reset."""
    every_s: float = 0.0
    """Seconds between readings; 0 is every tick. What is dear or moves slowly is read less often."""

    @property
    def sparse(self) -> bool:
        """Kept only where something changed: an object's last row holds until the next."""
        return self.every_s > 0

    @cached_property
    def columns(self) -> tuple[str, ...]:
        return self.counters + self.gauges

    def query(self, version: int) -> str | None:
        """The query for a version, None where there is none."""
        fitting = [since for since in self.variants if since <= version]
        return self.variants[max(fitting)] or None if fitting else None


@dataclass(frozen=True, slots=True)
class Raw:
    """One row as the server has it: counters since ``epoch``, and gauges."""

    epoch: str
    counters: tuple[float | None, ...]
    gauges: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """All rows of a family at one moment (``at``, Unix seconds), by keys and then identity."""

    at: float
    rows: Mapping[Key, Raw]


@dataclass(frozen=True, slots=True)
class Row:
    """What is kept of an object in one tick: a value for each of the family's columns."""

    key: Key
    values: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Sampled:
    """A family in one tick. ``elapsed_s`` is what counters span; None where there was nothing

    before, and then only gauges are known. ``resets`` of ``compared`` objects began anew."""

    family: Family
    elapsed_s: float | None
    rows: tuple[Row, ...]
    resets: int = 0
    compared: int = 0
    current: Mapping[Key, tuple[float | None, ...]] = field(default_factory=dict)
    """The gauges of every object there is, also of those without a row in this tick."""

    def total(self, column: str) -> float | None:
        """The sum of a column over all rows; None where no row knows it."""
        at = self.family.columns.index(column)
        known = [v for row in self.rows if (v := row.values[at]) is not None]
        return sum(known) if known else None

    def records(self) -> list[dict[str, Any]]:
        """Rows as dictionaries of keys and columns."""
        names = self.family.keys + self.family.columns
        return [dict(zip(names, (*row.key, *row.values), strict=True)) for row in self.rows]


@dataclass(frozen=True, slots=True)
class Tick:
    """One look at one target: at ``at`` (Unix seconds) it was reachable, or why it was not."""

    target: str
    at: float
    families: Mapping[str, Sampled] = field(default_factory=dict)
    error: str = ""
    version: int = 0
    """server_version_num."""
    restarted: bool = False
    notes: tuple[str, ...] = ()
    statements: Mapping[str, str] = field(default_factory=dict)
    """Texts of statements seen for the first time, by queryid."""
    plans: tuple[SeenPlan, ...] = ()

    @property
    def reachable(self) -> bool:
        return not self.error


@dataclass(frozen=True, slots=True)
class SeenPlan:
    """The plan that a statement has now: its shape's fingerprint, its tree as text, its cost."""

    queryid: str
    fingerprint: str
    tree: str
    cost: float
