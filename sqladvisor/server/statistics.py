"""The planner statistics of a database, read with catalog queries only.

Everything the planner looks at to choose a plan and that is not DDL: sizes, pg_stats, the ends of
indexed columns, planner settings. No row data beyond what pg_stats shows, ACCESS SHARE at most.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import psycopg
from psycopg import sql

from sqladvisor.errors import ServerError
from sqladvisor.server.connect import one_line

PAGE = 8192
LOCKED = """SELECT l.relation FROM pg_locks l
    WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND l.pid <> pg_backend_pid()
      AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())"""
"""Relations that nobody can read just now: what looks at their files would wait."""
_RELATIONS = f"""
SELECT n.nspname, c.relname, c.relkind::text, coalesce(am.amname, ''), c.relpages,
       c.reltuples::float8, c.relallvisible,
       CASE WHEN c.relkind IN ('r', 'i', 'm') AND c.oid NOT IN ({LOCKED}) THEN pg_relation_size(c.oid) / 8192 END,
       coalesce((SELECT sum(coalesce(nullif(a.attlen, -1), 32)) FROM pg_attribute a
                 WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), 0)
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_am am ON am.oid = c.relam
WHERE c.relkind IN ('r', 'i', 'm', 'p', 'I') AND c.relpersistence <> 't'
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
ORDER BY 1, 2"""
_FIELDS = (
    "null_frac", "avg_width", "n_distinct", "most_common_vals", "most_common_freqs",
    "histogram_bounds", "correlation", "most_common_elems", "most_common_elem_freqs",
    "elem_count_histogram", "range_length_histogram", "range_empty_frac", "range_bounds_histogram",
)  # fmt: skip
_COLUMNS = """
SELECT s.schemaname, s.tablename, s.attname, c.relkind::text, a.attnum, s.inherited, {fields}
FROM pg_stats s
JOIN pg_namespace n ON n.nspname = s.schemaname
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = s.tablename
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = s.attname
WHERE s.schemaname !~ '^pg_' AND s.schemaname <> 'information_schema'
ORDER BY 1, 2, 5, 6"""
# Leading columns of valid whole-table b-trees: their ends cost one index descent each.
_LEADING = f"""
SELECT DISTINCT n.nspname, t.relname, a.attname
FROM pg_index i
JOIN pg_class x ON x.oid = i.indexrelid
JOIN pg_am m ON m.oid = x.relam AND m.amname = 'btree'
JOIN pg_class t ON t.oid = i.indrelid AND t.relkind IN ('r', 'm')
JOIN pg_namespace n ON n.oid = t.relnamespace
JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = i.indkey[0]
WHERE i.indisvalid AND i.indpred IS NULL AND a.attnum > 0
  AND t.oid NOT IN ({LOCKED}) AND x.oid NOT IN ({LOCKED})
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
ORDER BY 1, 2, 3"""
_SETTINGS = """
SELECT name, setting || coalesce(CASE unit WHEN '8kB' THEN 'x8kB' ELSE unit END, '')
FROM pg_settings
WHERE (category LIKE 'Query Tuning%' OR name IN ('work_mem', 'hash_mem_multiplier',
       'effective_io_concurrency', 'max_parallel_workers', 'max_parallel_workers_per_gather', 'jit'))
  AND setting IS DISTINCT FROM boot_val AND vartype <> 'string'"""


@dataclass(frozen=True, slots=True)
class RelationStatistics:
    """Sizes of a table or index: ``relpages``, ``reltuples``, ``relallvisible`` as in pg_class,

    ``pages`` as the file has them (8192 bytes each); ``width`` a rough row width in bytes."""

    schema: str
    name: str
    kind: str
    method: str
    relpages: int
    reltuples: float
    relallvisible: int
    pages: int | None
    width: int


@dataclass(frozen=True, slots=True)
class ColumnStatistics:
    """One row of pg_stats, values as text."""

    schema: str
    table: str
    column: str
    kind: str
    number: int
    inherited: bool
    values: dict[str, Any]


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


def read_statistics(connection: psycopg.Connection) -> Statistics:
    """Read the statistics of the connected database. Raises ServerError."""
    try:
        version = connection.info.server_version
        relations = tuple(
            RelationStatistics(*row) for row in connection.execute(_RELATIONS).fetchall()
        )
        have = {
            r[0]
            for r in connection.execute(
                "SELECT attname FROM pg_attribute WHERE attrelid = 'pg_catalog.pg_stats'::regclass"
            ).fetchall()
        }
        fields = [f for f in _FIELDS if f in have]
        query = _COLUMNS.format(fields=", ".join(f"s.{f}::text" for f in fields))
        columns = tuple(
            ColumnStatistics(*row[:6], dict(zip(fields, row[6:], strict=True)))  # type: ignore[call-arg]
            for row in connection.execute(query.encode()).fetchall()
        )
        ends, missing = _ends(connection)
        settings = {n: _with_unit(v) for n, v in connection.execute(_SETTINGS).fetchall()}
        path = connection.execute("SELECT current_schemas(false)::text[]").fetchone()
    except psycopg.Error as error:
        raise ServerError(f"statistics cannot be read: {one_line(error)}") from error
    analyzed = {(c.schema, c.table) for c in columns}
    blind = [r.name for r in relations if r.kind == "r" and r.reltuples > 0
             and (r.schema, r.name) not in analyzed]  # fmt: skip
    if blind:
        missing.append(f"no column statistics visible for {', '.join(blind[:5])}")
    search_path = tuple(path[0]) if path else ()
    return Statistics(version, relations, columns, ends, settings, tuple(missing), search_path)


def _ends(
    connection: psycopg.Connection,
) -> tuple[dict[tuple[str, str, str], tuple[str | None, str | None]], list[str]]:
    found: dict[tuple[str, str, str], tuple[str | None, str | None]] = {}
    refused = 0
    for schema, table, column in connection.execute(_LEADING).fetchall():
        query = sql.SQL("SELECT min({0})::text, max({0})::text FROM {1}").format(
            sql.Identifier(column), sql.Identifier(schema, table)
        )
        try:
            row = connection.execute(query).fetchone()
        except psycopg.Error:
            if connection.closed:
                raise
            refused += 1  # no privilege, or a type without min(): the histogram's ends do
            continue
        if row:
            found[schema, table, column] = (row[0], row[1])
    return found, [f"the ends of {refused} indexed columns could not be read"] if refused else []


def _with_unit(value: str) -> str:
    if value.endswith("x8kB"):
        return f"{int(value.removesuffix('x8kB')) * 8}kB"
    return value


def assume_rows(statistics: Statistics, rows: int) -> Statistics:
    """The statistics of the same schema if each table without rows had ``rows`` of them.

    Pages follow from the columns' widths (24 bytes of tuple header, 4 of line pointer; variable
    columns taken as 32 bytes, as get_typavgwidth() does). Indexes of such tables get b-tree sizes.
    """
    empty = {
        (r.schema, r.name) for r in statistics.relations if r.kind in "rm" and r.reltuples <= 0
    }

    def assumed(relation: RelationStatistics) -> RelationStatistics:
        if relation.kind in "rm" and (relation.schema, relation.name) in empty:
            pages = max(rows * (relation.width + 28) // (PAGE - 24), 1)
            return replace(
                relation, relpages=pages, reltuples=float(rows), relallvisible=pages, pages=pages
            )
        if relation.kind == "i" and relation.reltuples <= 0:
            pages = max(rows * (relation.width + 12) // int(PAGE * 0.9), 2)
            return replace(relation, relpages=pages, reltuples=float(rows), pages=pages)
        return relation

    return replace(statistics, relations=tuple(map(assumed, statistics.relations)))
