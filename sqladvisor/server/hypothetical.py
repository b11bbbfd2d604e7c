"""Makes an index in a shadow that does not exist: created for real but empty, given its size.

The heap is cut to the one page with its two rows for the moment. Of a partitioned table every
partition gets its part.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

import psycopg

from sqladvisor.catalog.statistics import ColumnStatistics
from sqladvisor.server import index_size
from sqladvisor.server.btree_size import KeyColumn, height
from sqladvisor.server.btree_size import pages as btree_pages
from sqladvisor.server.expression_statistics import Values, from_sample
from sqladvisor.server.gin_keys import supposed_gin
from sqladvisor.server.gin_size import extract
from sqladvisor.server.index_samples import Key, Sample, read_keys
from sqladvisor.server.masked import translated
from sqladvisor.server.relation_files import (
    assumed_gin,
    pages_of,
    set_pages,
    write_brin,
    write_btree,
    write_gin,
)
from sqladvisor.server.restore import TOOLS, bare, restore_columns
from sqladvisor.server.shadow import Shadow
from sqladvisor.sql.quote import qualified

PAGE = 8192
MAX_PAGES = (1 << 31) - 1
"""Of an index, 16 TiB: what pg_class.relpages holds."""
TRIGRAM_BYTES = 3
_HEAPS = """
SELECT c.oid::int8, n.nspname, c.relname, pg_relation_filepath(c.oid),
       pg_relation_size(c.oid) / 8192, c.reltuples::float8, c.relpages, c.relallvisible
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm') AND (c.oid = %s::regclass OR c.oid IN (
    SELECT relid FROM pg_partition_tree(%s::regclass) WHERE isleaf))
ORDER BY c.oid"""
_MADE = """
SELECT i.indexrelid::int8, i.indrelid::int8, x.relname, n.nspname, x.relkind = 'i'
FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_namespace n ON n.oid = x.relnamespace
WHERE i.indexrelid = %s OR i.indexrelid IN (SELECT relid FROM pg_partition_tree(%s::oid::regclass))
ORDER BY 1"""


class Sampler(Protocol):
    """What a table's rows say, where they are at hand (RowSampler)."""

    def statistics(self, table: str, expressions: Sequence[str]) -> list[Values] | None:
        """What pg_stats would say of expressions; None where the table has no rows."""

    def values(self, table: str, expression: str) -> Sample | None:
        """Values of an expression, each standing for the same share of rows."""


@dataclass(frozen=True, slots=True)
class Made:
    """An index with all its parts, hidden: their oids and names in plans; bytes together."""

    oid: int
    oids: tuple[int, ...]
    names: tuple[str, ...]
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to make: see HypotheticalIndex."""

    table: str
    ddl: str
    method: str
    keys: int
    predicate: str | None
    unique: bool


@dataclass(frozen=True, slots=True)
class Heap:
    """A table's file: its ``pages``, and the rows that the planner takes it to have."""

    oid: int
    schema: str
    table: str
    path: str
    pages: int
    rows: float
    counted: tuple[int, float, int]
    """relpages, reltuples, relallvisible of pg_class."""


def heaps(connection: psycopg.Connection, shadow: Shadow, table: str) -> dict[int, Heap]:
    """The files of a table or of its partitions, by oid."""
    data = shadow.cluster.data_directory
    return {
        row[0]: Heap(
            row[0], row[1], row[2], str(data / row[3]), int(row[4]), max(row[5], 0.0),
            (row[6], row[5], row[7]),
        )
        for row in connection.execute(_HEAPS, [table, table]).fetchall()
    }  # fmt: skip


def recount(connection: psycopg.Connection, tables: Iterable[Heap]) -> None:
    """Give tables the sizes again that CREATE INDEX has counted anew, which nothing rolls back."""
    for heap in tables:
        _resize(connection, heap.oid, *heap.counted)


def _resize(
    connection: psycopg.Connection, oid: int, pages: int, rows: float, visible: int
) -> None:
    connection.execute(
        f"SELECT {TOOLS}.resize(%s::oid, %s::integer, %s::float8, %s::integer)".encode(),
        [oid, pages, rows, visible],
    )


def make(
    connection: psycopg.Connection,
    shadow: Shadow,
    wanted: Wanted,
    tables: Mapping[int, Heap],
    name: str,
    sampler: Sampler | None,
) -> Made:
    """Make the index, in the caller's transaction. Raises psycopg.Error."""
    connection.execute("SET LOCAL max_parallel_maintenance_workers = 0")
    with _cut(list(tables.values())):
        connection.execute(translated(connection, wanted.ddl)[0].encode())
    recount(connection, tables.values())
    row = connection.execute(
        "SELECT i.indexrelid::int8 FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid "
        "WHERE x.relname = %s AND i.indrelid = %s::regclass",
        [name, wanted.table],
    ).fetchone()
    assert row is not None
    oid = int(row[0])
    made = connection.execute(_MADE, [oid, oid]).fetchall()
    total = 0
    for part, heap, relname, schema, has_file in made:
        if has_file:
            total += _fit(
                connection, shadow, wanted, tables[heap], part, (schema, relname), sampler
            )
    oids = tuple(int(m[0]) for m in made)
    connection.execute(f"SELECT {TOOLS}.show(%s::oid[], false)".encode(), [list(oids)])
    return Made(oid, oids, tuple(str(m[2]) for m in made), total * PAGE)


@contextmanager
def _cut(heaps: Sequence[Heap]) -> Iterator[None]:
    """Building over gigabytes of holes would read them: one page holds the two rows there are."""
    try:
        for heap in heaps:
            set_pages(heap.path, min(1, heap.pages))
        yield
    finally:
        for heap in heaps:
            set_pages(heap.path, heap.pages)


def _fit(
    connection: psycopg.Connection,
    shadow: Shadow,
    wanted: Wanted,
    heap: Heap,
    oid: int,
    name: tuple[str, str],
    sampler: Sampler | None,
) -> int:
    """Give one index its size and statistics; its pages."""
    rows = _rows(connection, wanted, heap)
    keys = read_keys(connection, oid)
    _expressions(connection, heap, keys, name, rows, sampler)
    # What the build has left in shared buffers would be read instead of the file.
    path = str(shadow.cluster.data_directory / bare(connection, oid))
    least = pages_of(path)
    if wanted.method == "btree":
        columns = [_of_part(c, heap.rows, rows) for c in btree_columns(connection, oid)]
        pages = btree_pages(columns, wanted.keys, rows, wanted.unique)
        levels = height(pages, columns)
        write_btree(path, levels)
        pages = max(pages, levels + 2)
    elif wanted.method == "gin":
        if sampler:
            table = qualified(heap.schema, heap.table)
            keys = [
                replace(k, sample=sampler.values(table, k.expression) or k.sample) for k in keys
            ]
        pages = _gin(connection, heap, keys, rows, path)
    elif wanted.method == "brin":
        pages = index_size.brin_pages(heap.pages, [_width(k) for k in keys])
        write_brin(path, heap.pages)
    elif wanted.method == "hash":
        pages = index_size.hash_pages(rows, _common_shares(connection, oid))
    elif wanted.method == "gist":
        pages = index_size.gist_pages(
            rows,
            sum(_gist_width(connection, k) for k in keys),
            sorted_build=_sorts(connection, oid),
        )
    elif wanted.method == "spgist":
        pages = index_size.spgist_pages(rows, sum(map(_width, keys)))
    else:
        pages = max(least, heap.pages // 10)
    pages = min(max(pages, least), MAX_PAGES)
    set_pages(path, pages)
    _resize(connection, oid, pages, rows, 0)
    return pages


def _rows(connection: psycopg.Connection, wanted: Wanted, heap: Heap) -> float:
    """Rows the index would hold: for a partial one the planner's estimate of its predicate."""
    if not wanted.predicate or not heap.rows:
        return heap.rows
    table = qualified(heap.schema, heap.table)
    query, _ = translated(connection, f"SELECT 1 FROM ONLY {table} WHERE {wanted.predicate}")
    row = connection.execute(f"EXPLAIN (FORMAT JSON) {query}".encode()).fetchone()
    assert row is not None
    return float(row[0][0]["Plan"]["Plan Rows"])


def _of_part(column: KeyColumn, total: float, rows: float) -> KeyColumn:
    """A column as a partial index has it: so many distinct values as ``rows`` of ``total`` rows show

    when taken at random (Cardenas' formula, as estimate_num_groups() has it)."""
    if rows >= total or not column.n_distinct:
        return column
    distinct = max(column.n_distinct if column.n_distinct > 0 else -column.n_distinct * total, 1.0)
    return replace(column, n_distinct=max(distinct * -math.expm1(-rows / distinct), 1.0))


def _expressions(
    connection: psycopg.Connection,
    heap: Heap,
    keys: Sequence[Key],
    name: tuple[str, str],
    rows: float,
    sampler: Sampler | None,
) -> None:
    """Give the index's expressions statistics, as ANALYZE would once it exists."""
    numbered = [(n, k) for n, k in enumerate(keys, 1) if k.is_expression]
    if not numbered:
        return
    table = qualified(heap.schema, heap.table)
    known = sampler.statistics(table, [k.expression for _, k in numbered]) if sampler else None
    for place, (number, key) in enumerate(numbered):
        values = known[place] if known else from_sample(key.sample, rows) if key.sample else {}
        if values:
            restore_columns(
                connection, [ColumnStatistics(name[0], name[1], "", "i", number, False, values)]
            )


def _gin(
    connection: psycopg.Connection, heap: Heap, keys: Sequence[Key], rows: float, path: str
) -> int:
    found = supposed_gin(connection, (heap.schema, heap.table), keys, rows, heap.pages)
    if found is None:
        found = assumed_gin(max(pages_of(path), heap.pages // 10))
    if found.total > 2:
        write_gin(path, found)
    return found.total


def _gist_width(connection: psycopg.Connection, key: Key) -> float:
    """Bytes of a key in GiST: its storage type's, a list of trigrams, or the value's own."""
    if key.length > 0:
        return float(key.length)
    if key.opclass == "gist_trgm_ops" and key.sample is not None:
        sizes = [
            (len(extract("gin_trgm_ops", v) or ()), s)
            for v, s in zip(key.sample.values, key.sample.shares, strict=False)
            if v is not None
        ]
        total = sum(s for _, s in sizes)
        return 5 + TRIGRAM_BYTES * (sum(n * s for n, s in sizes) / total if total else 20)
    return _width(key)


def _width(key: Key) -> float:
    """Mean stored bytes of a key."""
    if key.length > 0:
        return float(key.length)
    if key.sample is None or not key.sample.sizes:
        return _RANGE_WIDTH if key.type.endswith("range") else index_size.UNKNOWN_WIDTH
    pairs = list(zip(key.sample.sizes, key.sample.shares, strict=False))
    total = sum(s for _, s in pairs)
    return sum(n * s for n, s in pairs) / total if total else index_size.UNKNOWN_WIDTH


_RANGE_WIDTH = 22.0
"""Of a range of two 8-byte bounds: type oid, both, flags, a short header."""


def _sorts(connection: psycopg.Connection, oid: int) -> bool:
    """Whether every operator class of a GiST index has sort support, which builds then use."""
    row = connection.execute(
        """SELECT bool_and(EXISTS (SELECT FROM pg_amproc p WHERE p.amprocfamily = o.opcfamily
               AND p.amproclefttype = o.opcintype AND p.amprocnum = 11))
        FROM pg_index i, unnest(i.indclass) AS c JOIN pg_opclass o ON o.oid = c
        WHERE i.indexrelid = %s""",
        [oid],
    ).fetchone()
    return bool(row and row[0])


def _common_shares(connection: psycopg.Connection, oid: int) -> list[float]:
    columns = btree_columns(connection, oid)
    return list(columns[0].frequencies) if columns else []


_COLUMNS = """
SELECT t.typname, a.attlen::int, CASE a.attalign WHEN 'c' THEN 1 WHEN 's' THEN 2 WHEN 'i' THEN 4 ELSE 8 END,
       coalesce(s.null_frac, 0)::float8, coalesce(s.n_distinct, 0)::float8, s.avg_width::float8,
       s.most_common_freqs::float8[], s.most_common_vals::text, s.histogram_bounds::text,
       format_type(a.atttypid, -1)
FROM pg_attribute a
JOIN pg_type t ON t.oid = a.atttypid
JOIN pg_index i ON i.indexrelid = a.attrelid
JOIN pg_class x ON x.oid = i.indexrelid
JOIN pg_class c ON c.oid = i.indrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_attribute ta ON ta.attrelid = i.indrelid AND ta.attnum = i.indkey[a.attnum - 1]
     AND ta.attnum > 0
LEFT JOIN LATERAL (
    SELECT * FROM pg_stats s WHERE s.schemaname = n.nspname
      AND (s.tablename = c.relname AND s.attname = ta.attname
           OR s.tablename = x.relname AND s.attname = a.attname)
    ORDER BY s.inherited LIMIT 1) s ON true
WHERE a.attrelid = %s AND a.attnum > 0 ORDER BY a.attnum"""


def btree_columns(connection: psycopg.Connection, oid: int) -> list[KeyColumn]:
    """The columns of an index, with the statistics of what they hold."""
    result = []
    for row in connection.execute(_COLUMNS, [oid]).fetchall():
        widths: list[int] = []
        if row[1] < 0:
            for values in (row[7], row[8]):
                if values:
                    # A tuplestore shortens varlena headers as an index tuple does.
                    sizes = connection.execute(
                        f"SELECT array_agg(pg_column_size(v)) FROM unnest(%s::text::{row[9]}[]) v".encode(),
                        [values],
                    ).fetchone()
                    widths += (sizes[0] if sizes else None) or []
        result.append(
            KeyColumn(
                row[0], row[1], row[2], row[3], row[4], row[5], tuple(row[6] or ()), tuple(widths)
            )
        )
    return result
