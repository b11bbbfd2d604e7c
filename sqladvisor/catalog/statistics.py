"""What the planner knows of a database beside its DDL: sizes, statistics, settings, counters.

Data only. ``server.statistics`` reads it from a server, ``catalog.snapshot`` from a file.
Values are text as PostgreSQL prints them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

FIELDS = (
    "null_frac", "avg_width", "n_distinct", "most_common_vals", "most_common_freqs",
    "histogram_bounds", "correlation", "most_common_elems", "most_common_elem_freqs",
    "elem_count_histogram", "range_length_histogram", "range_empty_frac", "range_bounds_histogram",
)  # fmt: skip
"""The columns of pg_stats that the planner uses, as pg_restore_attribute_stats() names them."""
VALUES = (
    "most_common_vals", "most_common_freqs", "histogram_bounds", "most_common_elems",
    "most_common_elem_freqs", "range_length_histogram", "range_empty_frac",
    "range_bounds_histogram",
)  # fmt: skip
"""Those of them that hold values of the column, and their frequencies."""


@dataclass(frozen=True, slots=True)
class GinPages:
    """What a GIN index's metapage says. Pages are 8192 bytes; ``entries`` counts keys."""

    pending: int
    total: int
    entry: int
    data: int
    entries: int


@dataclass(frozen=True, slots=True)
class RelationStatistics:
    """Sizes of a table or index: ``relpages``, ``reltuples``, ``relallvisible`` as in pg_class,

    ``pages`` as the file has them (8192 bytes each); ``width`` a rough row width in bytes;
    ``table`` is an index's table (in the same schema), ``height`` the levels of a b-tree above its
    leaves.
    """

    schema: str
    name: str
    kind: str
    method: str
    relpages: int
    reltuples: float
    relallvisible: int
    pages: int | None
    width: int
    table: str = ""
    height: int | None = None
    gin: GinPages | None = None


@dataclass(frozen=True, slots=True)
class ColumnStatistics:
    """One row of pg_stats: of a table's column, or of an index's expression (``kind`` i or I).

    ``number`` is the attribute number. ``base`` says what its values are: the name of the base
    type in pg_catalog (``text``, ``_int4``), ``enum``, ``range:int4``, or "" where unknown.
    """

    schema: str
    table: str
    column: str
    kind: str
    number: int
    inherited: bool
    values: dict[str, str | None]
    base: str = ""


@dataclass(frozen=True, slots=True)
class CommonRow:
    """A combination of values of an MCV list: its frequency, and what it would be if independent."""

    values: tuple[str | None, ...]
    frequency: float
    base_frequency: float


Member = str | int
"""A column by its name, an expression of a statistics object by -1, -2, …"""


@dataclass(frozen=True, slots=True)
class ExtendedStatistics:
    """The data of a CREATE STATISTICS object. ``bases`` are those of ``members``."""

    schema: str
    name: str
    inherited: bool
    members: tuple[Member, ...]
    bases: tuple[str, ...] = ()
    ndistinct: tuple[tuple[tuple[Member, ...], float], ...] = ()
    dependencies: tuple[tuple[tuple[Member, ...], float], ...] = ()
    """The last member depends on the others, to this degree."""
    common: tuple[CommonRow, ...] = ()
    expressions: tuple[dict[str, str | None], ...] = ()
    """What pg_stats would say of each expression."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """All of it. ``ends`` maps (schema, table, column) to the smallest and largest value, as text."""

    version: int
    relations: tuple[RelationStatistics, ...]
    columns: tuple[ColumnStatistics, ...]
    ends: dict[tuple[str, str, str], tuple[str | None, str | None]] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    search_path: tuple[str, ...] = ()
    """The schemas in which the session that read this finds unqualified names."""
    extended: tuple[ExtendedStatistics, ...] = ()
    sorts_by_bytes: bool = False
    """Whether the database's text sorts as in C: a plain b-tree then serves LIKE 'x%'."""
