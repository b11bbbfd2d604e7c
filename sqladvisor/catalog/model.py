"""The catalog: relations, columns, keys and indexes as rules see them.

Filled by ``catalog.ddl`` (from CREATE statements alone) or ``catalog.live`` (from a server).
Sizes are None where nobody knows them: a rule must then not guess.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from sqladvisor.record import record

if TYPE_CHECKING:
    from sqladvisor.catalog.stand_ins import StandIns

RelationKind = Literal["table", "partitioned", "view", "matview", "foreign"]


@record(frozen=True, slots=True)
class Column:
    """One column. ``type`` is PostgreSQL's own name as format_type() prints it, without the

    modifier (``character varying``, ``timestamp with time zone``, ``integer``, ``text[]``).
    """

    name: str
    type: str
    not_null: bool = False
    default: str | None = None
    """What INSERT fills in, as text; None for generated and identity columns."""
    collation: str | None = None
    """Explicit collation name, None for the database's default."""
    generated: bool = False
    identity: bool = False
    stats: ColumnStats | None = None
    base_type: str | None = None
    """Where ``type`` is a domain: the type beneath it."""


@dataclass(frozen=True, slots=True)
class ColumnStats:
    """Planner statistics of one column (pg_stats). Values are text as PostgreSQL prints them."""

    null_frac: float
    n_distinct: float
    """As in pg_stats: > 0 a count, < 0 minus the fraction of rows."""
    avg_width: int
    correlation: float | None = None
    most_common_vals: tuple[str, ...] = ()
    most_common_freqs: tuple[float, ...] = ()
    histogram_bounds: tuple[str, ...] = ()
    stand_ins: StandIns | None = field(default=None, repr=False)
    """What values were replaced by, where they are those of a masked snapshot."""

    def recorded(self, value: str) -> str:
        """A query's value as these statistics have it."""
        return (self.stand_ins and self.stand_ins.find(value)) or value


@record(frozen=True, slots=True)
class Index:
    """An index. ``keys`` holds a column name per key column, or None where it is an expression

    (then ``definition`` has the text). ``predicate`` is the partial index's WHERE, as text.
    """

    name: str
    keys: tuple[str | None, ...]
    unique: bool = False
    primary: bool = False
    include: tuple[str, ...] = ()
    method: str = "btree"
    predicate: str | None = None
    expressions: tuple[str, ...] = ()
    """Text of the expression keys, in key order, as written (DDL) or as pg_get_indexdef prints."""
    opclasses: tuple[str | None, ...] = ()
    """Explicit operator class per key (``text_pattern_ops``), None for the default."""
    valid: bool = True
    definition: str = ""
    constraint: bool = False
    size_bytes: int | None = None
    scans: int | None = None
    """How often it was scanned since the counters began (``Catalog.counted_days``)."""
    replica_identity: bool = False
    attached: bool = False
    """Part of an index of the partitioned table: cannot be dropped by itself."""
    building: bool = False
    """CREATE INDEX or REINDEX works on it now: invalid until that ends."""
    referenced: bool = False
    """A foreign key of some table rests on its uniqueness."""

    @property
    def removable(self) -> bool:
        """Whether DROP INDEX is allowed and takes away no constraint or replica identity."""
        return not (
            self.constraint
            or self.primary
            or self.replica_identity
            or self.attached
            or self.referenced
        )


@dataclass(frozen=True, slots=True)
class Writes:
    """Rows written to a table since the counters began (pg_stat_all_tables)."""

    inserted: int
    updated: int
    hot_updated: int
    """Of those updated: without an entry in any index (heap-only tuples)."""
    deleted: int


@record(frozen=True, slots=True)
class ForeignKey:
    name: str
    columns: tuple[str, ...]
    target_schema: str
    target: str
    target_columns: tuple[str, ...]
    validated: bool = True


@record(frozen=True, slots=True)
class Relation:
    """A table, partitioned table, view, materialized view or foreign table."""

    schema: str
    name: str
    kind: RelationKind
    columns: tuple[Column, ...]
    indexes: tuple[Index, ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    checks: tuple[str, ...] = ()
    partition_key: tuple[str, ...] = ()
    """Columns of the partition key (expressions left out); empty if not partitioned."""
    rows: float | None = None
    """pg_class.reltuples; None when unknown (never analyzed, or read from DDL alone)."""
    pages: int | None = None
    """Heap pages of 8192 bytes."""
    definition: str | None = None
    """The query of a view or materialized view, as text."""
    temporary: bool = False
    partition: bool = False
    """Whether it is a partition of another table."""
    all_visible: int | None = None
    """Of ``pages``: those whose rows every transaction sees (pg_class.relallvisible)."""
    writes: Writes | None = None
    leaves: tuple[tuple[str, str], ...] = ()
    """Of a partitioned table on a server: (schema, name) of the partitions that hold its rows."""
    children: tuple[tuple[str, str], ...] = ()
    """Of a partitioned table on a server: (schema, name) of its own partitions, without theirs."""

    def column(self, name: str) -> Column | None:
        return next((c for c in self.columns if c.name == name), None)

    @property
    def primary_key(self) -> tuple[str, ...]:
        """Columns of the primary key; empty where there is none."""
        for index in self.indexes:
            if index.primary:
                return tuple(k for k in index.keys if k)
        return ()

    def unique_keys(self, *, nullable: bool = False) -> Iterator[tuple[str, ...]]:
        """Column sets that identify at most one row: valid, non-partial, plain unique indexes.

        With ``nullable=False`` only those whose columns are all NOT NULL.
        """
        for index in self.indexes:
            keys = tuple(k for k in index.keys if k)
            if (
                not index.unique
                or not index.valid
                or index.predicate
                or len(keys) < len(index.keys)
            ):
                continue
            if nullable or all((c := self.column(k)) and c.not_null for k in keys):
                yield keys

    def is_unique_on(self, columns: Iterable[str], *, nullable: bool = False) -> bool:
        """Whether ``columns`` include a unique key of this relation."""
        have = set(columns)
        return any(set(key) <= have for key in self.unique_keys(nullable=nullable))


@dataclass(frozen=True, slots=True)
class Catalog:
    """All relations known, with the search path that unqualified names are looked up in."""

    relations: dict[tuple[str, str], Relation] = field(default_factory=dict)
    search_path: tuple[str, ...] = ("public",)
    extensions: frozenset[str] = frozenset()
    functions: dict[str, FunctionInfo] = field(default_factory=dict)
    """User functions by bare name (lower case)."""
    server_version: int | None = None
    """server_version_num (180006), None without a server."""
    source: Literal["ddl", "server"] = "ddl"
    collation_is_c: bool = False
    """Whether the database's default collation is C/POSIX (or C.UTF-8 of the builtin provider)."""
    counted_days: float | None = None
    """Days that the counters of scans and writes cover at least, None without a server."""
    standby: bool = False
    """Whether the server is a standby: its counters are of its own queries only."""

    def find(self, name: str, schema: str | None = None) -> Relation | None:
        """The relation a name means: exact schema, or the first hit along the search path."""
        if schema is not None:
            return self.relations.get((schema, name))
        for path in (*self.search_path, "pg_catalog"):
            if found := self.relations.get((path, name)):
                return found
        return None

    def __bool__(self) -> bool:
        return bool(self.relations)


@dataclass(frozen=True, slots=True)
class FunctionInfo:
    name: str
    volatility: Literal["immutable", "stable", "volatile"] = "volatile"
    returns_set: bool = False
    parallel_safe: bool = False
