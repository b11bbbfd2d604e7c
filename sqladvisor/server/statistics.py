"""The planner statistics of a database, read with catalog queries and EXPLAIN only.

Everything the planner looks at to choose a plan and that is not DDL: sizes, pg_stats, extended
statistics, heights and metapages of indexes, the ends of indexed columns, planner settings. No row
data beyond what these show, ACCESS SHARE at most.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import psycopg

from sqladvisor.catalog.statistics import (
    ColumnStatistics,
    GinPages,
    RelationStatistics,
    Statistics,
)
from sqladvisor.errors import ServerError
from sqladvisor.server.connect import one_line
from sqladvisor.server.expression_estimates import hidden_objects, indexed_expressions
from sqladvisor.server.expression_statistics import shown_fields
from sqladvisor.server.extended_statistics import read_extended
from sqladvisor.server.index_heights import read_heights
from sqladvisor.server.many import first_rows
from sqladvisor.server.session import MARK
from sqladvisor.sql.quote import identifier, qualified

PAGE = 8192
ENDS_TIMEOUT = "2s"
"""For one column's ends: an index whose end is full of dead rows is not waited for."""
LOCKED = """SELECT l.relation FROM pg_locks l
    WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND l.pid <> pg_backend_pid()
      AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())"""
"""Relations that nobody can read just now: what looks at their files would wait."""
_RELATIONS = f"""
SELECT n.nspname, c.relname, c.relkind::text, coalesce(am.amname, ''), c.relpages,
       c.reltuples::float8, c.relallvisible,
       CASE WHEN c.relkind IN ('r', 'i', 'm') AND c.oid NOT IN ({LOCKED}) THEN pg_relation_size(c.oid) / 8192 END,
       coalesce((SELECT sum(coalesce(nullif(a.attlen, -1), 32)) FROM pg_attribute a
                 WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), 0)::int,
       coalesce(t.relname, '')
FROM pg_class c
LEFT JOIN pg_index i ON i.indexrelid = c.oid
LEFT JOIN pg_class t ON t.oid = i.indrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_am am ON am.oid = c.relam
WHERE c.relkind IN ('r', 'i', 'm', 'p', 'I', 'f') AND c.relpersistence <> 't'
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
ORDER BY 1, 2"""
# The list of names keeps pg_stats from checking privileges on every column (see catalog/live.py).
_COLUMNS = """
SELECT s.schemaname, s.tablename, s.attname, c.relkind::text, a.attnum, s.inherited,
       a.atttypid::int8, {fields}
FROM pg_stats s
JOIN pg_namespace n ON n.nspname = s.schemaname
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = s.tablename
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = s.attname
WHERE s.schemaname !~ '^pg_' AND s.schemaname <> 'information_schema'
  AND s.tablename = ANY (ARRAY(
      SELECT r.relname FROM pg_class r JOIN pg_namespace m ON m.oid = r.relnamespace
      WHERE r.relkind IN ('r', 'p', 'm', 'f', 'i', 'I')
        AND m.nspname !~ '^pg_' AND m.nspname <> 'information_schema'))
ORDER BY 1, 2, 5, 6"""
# Before 17 pg_stats does not show what is known of ranges (stakind 6 and 7, pg_statistic.h).
_RANGES = """
SELECT n.nspname, c.relname, a.attnum::int, s.stainherit, k.kind::int, k.vals, k.number
FROM pg_statistic s
JOIN pg_class c ON c.oid = s.starelid
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = s.staattnum
CROSS JOIN LATERAL (VALUES (stakind1, stavalues1::text, stanumbers1[1]::text),
    (stakind2, stavalues2::text, stanumbers2[1]::text), (stakind3, stavalues3::text, stanumbers3[1]::text),
    (stakind4, stavalues4::text, stanumbers4[1]::text), (stakind5, stavalues5::text, stanumbers5[1]::text)
) AS k (kind, vals, number)
WHERE k.kind IN (6, 7) AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"""
_TYPES = """
SELECT t.oid::int8, t.typname, t.typtype::text, t.typbasetype::int8,
       CASE WHEN t.typcategory = 'A' THEN t.typelem::int8 ELSE 0 END,
       coalesce(r.rngsubtype::int8, 0)
FROM pg_type t LEFT JOIN pg_range r ON r.rngtypid = t.oid"""
# Leading columns of valid whole-table b-trees: their ends cost one index descent each. That counts as
# a scan, and would have an index that nobody uses pass for a used one: where counting cannot be
# switched off, indexes never scanned are left alone. The planner has not asked for their ends either,
# which counts as well (get_actual_variable_range()).
_LEADING = f"""
SELECT n.nspname, t.relname, a.attname
FROM pg_index i
JOIN pg_class x ON x.oid = i.indexrelid
JOIN pg_am m ON m.oid = x.relam AND m.amname = 'btree'
JOIN pg_class t ON t.oid = i.indrelid AND t.relkind IN ('r', 'm')
JOIN pg_namespace n ON n.oid = t.relnamespace
JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = i.indkey[0]
WHERE i.indisvalid AND i.indpred IS NULL AND a.attnum > 0
  AND t.oid NOT IN ({LOCKED}) AND x.oid NOT IN ({LOCKED})
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
GROUP BY 1, 2, 3 HAVING %s OR bool_and(pg_stat_get_numscans(x.oid) > 0)
ORDER BY 1, 2, 3"""
_METAPAGES = f"""
SELECT n.nspname, c.relname, am.amname,
       pg_read_binary_file(pg_relation_filepath(c.oid), 0, 128, true)
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_am am ON am.oid = c.relam AND am.amname IN ('btree', 'gin')
WHERE c.relkind = 'i' AND c.oid NOT IN ({LOCKED})
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"""
_MAY_READ_FILES = (
    "SELECT has_function_privilege('pg_read_binary_file(text, int8, int8, bool)', 'EXECUTE') "
    "AND pg_has_role('pg_read_server_files', 'USAGE')"
)
PLANNER_SETTINGS = """(category LIKE 'Query Tuning%' OR name IN ('work_mem', 'hash_mem_multiplier',
       'effective_io_concurrency', 'max_parallel_workers', 'max_parallel_workers_per_gather', 'jit'))
  AND vartype <> 'string'"""
"""Of pg_settings: those that a plan depends on."""
_SETTINGS = f"""
SELECT name, setting || coalesce(CASE unit WHEN '8kB' THEN 'x8kB' ELSE unit END, '')
FROM pg_settings WHERE {PLANNER_SETTINGS} AND setting IS DISTINCT FROM boot_val ORDER BY 1"""
_LOCALE = """
SELECT d.datcollate::text, coalesce(to_jsonb(d) ->> 'datlocprovider', 'c')
FROM pg_database d WHERE d.datname = current_database()"""
_BTREE_MAGIC, _GIN_VERSIONS = 0x053162, range(3)

Name = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Type:
    name: str
    kind: str
    base: int
    element: int
    subtype: int


def read_statistics(connection: psycopg.Connection, *, ours: bool = False) -> Statistics:
    """Read the statistics of the connected database. Raises ServerError.

    ``ours``: nobody minds what the server's own counters say.
    """
    try:
        return _read(connection, ours)
    except psycopg.Error as error:
        raise ServerError(f"statistics cannot be read: {one_line(error)}") from error
    except UnicodeDecodeError as error:
        raise ServerError(
            "statistics cannot be read: the database holds text that is not in its encoding"
        ) from error


def _read(connection: psycopg.Connection, ours: bool) -> Statistics:
    version = connection.info.server_version
    relations = [RelationStatistics(*row) for row in connection.execute(_RELATIONS).fetchall()]
    types = {row[0]: _Type(*row[1:]) for row in connection.execute(_TYPES).fetchall()}
    fields = shown_fields(connection)
    query = _COLUMNS.format(fields=", ".join(f"s.{f}::text" for f in fields))
    columns = tuple(
        ColumnStatistics(
            schema,
            table,
            column,
            kind,
            number,
            inherited,
            _present(zip(fields, values, strict=True)),
            base_of(oid, types),
        )
        for schema, table, column, kind, number, inherited, oid, *values in connection.execute(
            query.encode()
        ).fetchall()
    )
    if "range_bounds_histogram" not in fields:
        columns = tuple(_with_ranges(connection, columns))
    extended, missing = read_extended(connection, lambda oid: base_of(oid, types))
    known = {(c.schema, c.table, c.number) for c in columns if c.kind in "iI"}
    hidden = indexed_expressions(connection, known, LOCKED, lambda oid: base_of(oid, types))
    columns += tuple(hidden)
    if missing:
        extended += tuple(
            hidden_objects(connection, {(e.schema, e.name) for e in extended}, LOCKED)
        )
    ends, unread = _ends(connection, ours)
    settings = {n: _with_unit(v) for n, v in connection.execute(_SETTINGS).fetchall()}
    path = connection.execute("SELECT current_schemas(false)::text[]").fetchone()
    locale = connection.execute(_LOCALE).fetchone()
    missing = [*_blind(relations, columns), *missing, *unread]
    return Statistics(
        version,
        tuple(_with_metapages(connection, relations)),
        columns,
        ends,
        settings,
        tuple(missing),
        tuple(path[0]) if path else (),
        extended,
        locale is not None
        and (locale[1] == "b" or (locale[1] == "c" and locale[0] in ("C", "POSIX"))),
    )


def _with_ranges(
    connection: psycopg.Connection, columns: Iterable[ColumnStatistics]
) -> Iterable[ColumnStatistics]:
    """Add the histograms of ranges out of pg_statistic, which a superuser may read."""
    row = connection.execute("SELECT has_table_privilege('pg_statistic', 'SELECT')").fetchone()
    found: dict[tuple[str, str, int, bool], dict[str, str | None]] = {}
    if row and row[0]:
        for *key, kind, values, number in connection.execute(_RANGES).fetchall():
            schema, table, attnum, inherited = key
            more = found.setdefault((schema, table, attnum, inherited), {})
            if kind == 6:
                more |= _present(
                    {"range_length_histogram": values, "range_empty_frac": number}.items()
                )
            else:
                more |= _present({"range_bounds_histogram": values}.items())
    for column in columns:
        more = found.get((column.schema, column.table, column.number, column.inherited), {})
        yield replace(column, values=column.values | more) if more else column


def _present(items: Iterable[tuple[str, Any]]) -> dict[str, str | None]:
    return {key: value for key, value in items if value is not None}


def base_of(oid: int, types: Mapping[int, _Type]) -> str:
    """``ColumnStatistics.base`` of a type: through domains, arrays and ranges."""
    found = types.get(oid)
    for _ in range(20):
        if found is None or found.kind != "d":
            break
        found = types.get(found.base)
    if found is None:
        return ""
    if found.element:
        inner = base_of(found.element, types)
        return f"_{inner}" if inner else ""
    if found.kind == "e":
        return "enum"
    if found.kind in "rm":
        return f"range:{base_of(found.subtype, types)}" if found.subtype else "range:"
    return found.name if found.kind == "b" else ""


def _blind(
    relations: Iterable[RelationStatistics], columns: Iterable[ColumnStatistics]
) -> list[str]:
    analyzed = {(c.schema, c.table) for c in columns}
    blind = [
        r.name
        for r in relations
        if r.kind in "rm" and r.reltuples > 0 and (r.schema, r.name) not in analyzed
    ]
    more = f" and {len(blind) - 5} more" if len(blind) > 5 else ""
    return [f"no column statistics visible for {', '.join(blind[:5])}{more}"] if blind else []


def _with_metapages(
    connection: psycopg.Connection, relations: Iterable[RelationStatistics]
) -> Iterable[RelationStatistics]:
    """Add what metapages say: heights of b-trees by EXPLAIN, the rest from the files if it may.

    A file may be older than what the planner sees in memory by a whole checkpoint.
    """
    heights: dict[Name, int] = {}
    gins: dict[Name, GinPages] = {}
    allowed = connection.execute(_MAY_READ_FILES).fetchone()
    if allowed and allowed[0]:
        for schema, name, method, data in connection.execute(_METAPAGES).fetchall():
            if method == "btree" and (height := _btree_height(data)) is not None:
                heights[schema, name] = height
            elif method == "gin" and (pages := _gin_pages(data)) is not None:
                gins[schema, name] = pages
    sized = {(r.schema, r.name) for r in relations if r.method == "btree" and (r.pages or 0) > 2}
    heights |= read_heights(connection, sized, LOCKED)
    return [
        replace(r, height=heights.get((r.schema, r.name)), gin=gins.get((r.schema, r.name)))
        if r.kind == "i"
        else r
        for r in relations
    ]


def _btree_height(data: bytes | None) -> int | None:
    """btm_fastlevel of a b-tree's metapage (BTMetaPageData), which _bt_getrootheight() returns."""
    if not data or len(data) < 48:
        return None
    magic, _, _, _, _, level = struct.unpack_from("=6I", data, 24)
    return int(level) if magic == _BTREE_MAGIC and level < 20 else None


def _gin_pages(data: bytes | None) -> GinPages | None:
    """GinMetaPageData, as of the last VACUUM or the index's creation, if it has reached the disk."""
    if not data or len(data) < 76:
        return None
    pending = struct.unpack_from("=I", data, 36)[0]
    total, entry, inner = struct.unpack_from("=3I", data, 48)
    entries, version = struct.unpack_from("=qi", data, 64)
    if version not in _GIN_VERSIONS or not entry or entry + inner > total:
        return None
    return GinPages(pending, total, entry, inner, entries)


def _ends(
    connection: psycopg.Connection, ours: bool
) -> tuple[dict[tuple[str, str, str], tuple[str | None, str | None]], list[str]]:
    found: dict[tuple[str, str, str], tuple[str | None, str | None]] = {}
    before = connection.execute("SELECT current_setting('statement_timeout')").fetchone()
    uncounted = connection.info.parameter_status("is_superuser") == "on"
    columns = connection.execute(_LEADING, [ours or uncounted]).fetchall()
    # x.{0}: a bare name would be the output column, text, and the whole table be sorted.
    one = "(SELECT x.{0}::text FROM {1} x WHERE x.{0} IS NOT NULL ORDER BY x.{0} %s LIMIT 1)"
    template = f"SELECT 1, {one % ''}, {one % 'DESC'} {MARK}"
    queries = [
        template.format(identifier(column), qualified(schema, table))
        for schema, table, column in columns
    ]
    connection.execute(f"SET statement_timeout = '{ENDS_TIMEOUT}'")
    if uncounted:
        connection.execute("SET track_counts = off")
    try:
        rows = first_rows(connection, queries)
    finally:
        if not connection.closed:
            if uncounted:
                connection.execute("RESET track_counts")
            connection.execute(
                "SELECT set_config('statement_timeout', %s, false)", [before[0] if before else "0"]
            )
    for (schema, table, column), row in zip(columns, rows, strict=True):
        if row and row[1] is not None:
            found[schema, table, column] = (row[1], row[2])
    refused = rows.count(None)  # no privilege, or too slow: the histogram's ends do
    return found, [f"the ends of {refused} indexed columns could not be read"] if refused else []


def _with_unit(value: str) -> str:
    if value.endswith("x8kB"):
        return f"{int(value.removesuffix('x8kB')) * 8}kB"
    return value


def assume_rows(
    statistics: Statistics, rows: int, tables: Mapping[str, int] | None = None
) -> Statistics:
    """The statistics of the same schema if each table without rows had ``rows`` of them.

    ``tables`` gives other counts by name, qualified or not; the row counts of partitions are
    theirs. Pages follow from the columns' widths (24 bytes of tuple header, 4 of line pointer;
    variable columns taken as 32 bytes, as get_typavgwidth() does). Indexes of such tables get
    b-tree sizes.
    """
    given = tables or {}
    empty = {
        (r.schema, r.name) for r in statistics.relations if r.kind in "rm" and r.reltuples <= 0
    }

    def count(schema: str, name: str) -> int:
        return given.get(f"{schema}.{name}", given.get(name, rows))

    def assumed(relation: RelationStatistics) -> RelationStatistics:
        if relation.kind in "rm" and (relation.schema, relation.name) in empty:
            total = count(relation.schema, relation.name)
            pages = max(total * (relation.width + 28) // (PAGE - 24), 1) if total else 0
            return replace(
                relation, relpages=pages, reltuples=float(total), relallvisible=pages, pages=pages
            )
        if relation.kind == "i" and relation.reltuples <= 0:
            total = count(relation.schema, relation.table)
            if relation.method == "brin":
                return replace(relation, relpages=3, reltuples=float(total), pages=3)
            pages = max(total * (relation.width + 12) // int(PAGE * 0.9), 2)
            return replace(relation, relpages=pages, reltuples=float(total), pages=pages)
        return relation

    return replace(statistics, relations=tuple(map(assumed, statistics.relations)))
