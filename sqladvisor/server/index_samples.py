"""A sample of the values an index would hold, out of the statistics of its table.

Common values with their frequencies, the bounds of the histogram for the rest. An expression over
one column is computed over the column's sample, by the plain role.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg

from sqladvisor.sql.quote import identifier

_KEYS = """
SELECT k.n, i.indkey[k.n - 1]::int, pg_get_indexdef(i.indexrelid, k.n, false), t.typname,
       format_type(a.atttypid, -1), a.attlen::int, o.opcname
FROM pg_index i
CROSS JOIN LATERAL generate_series(1, i.indnatts::int) AS k(n)
JOIN pg_attribute a ON a.attrelid = i.indexrelid AND a.attnum = k.n
JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_opclass o ON k.n <= i.indnkeyatts AND o.oid = i.indclass[k.n - 1]
WHERE i.indexrelid = %s ORDER BY k.n"""
# The columns an expression uses are in no catalog; those of the table that it names are.
_COLUMNS = """
SELECT a.attname, format_type(a.atttypid, -1), s.null_frac::float8, s.most_common_vals::text,
       s.most_common_freqs::float8[], s.histogram_bounds::text, s.n_distinct::float8
FROM pg_index i
JOIN pg_class c ON c.oid = i.indrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN LATERAL (
    SELECT * FROM pg_stats s WHERE s.schemaname = n.nspname AND s.tablename = c.relname
      AND s.attname = a.attname ORDER BY s.inherited LIMIT 1) s ON true
WHERE i.indexrelid = %s AND (%s = 0 OR a.attnum = %s) ORDER BY a.attnum"""


@dataclass(frozen=True, slots=True)
class Sample:
    """Values of one key: text, stored bytes, and the share of rows that each stands for.

    ``null_frac`` is not among the shares. ``text`` None: a NULL that an expression gives.
    """

    values: tuple[str | None, ...]
    sizes: tuple[int, ...]
    shares: tuple[float, ...]
    null_frac: float
    n_distinct: float
    """Of the column: as in pg_stats, 0 where unknown. An expression has no more values than that."""

    def distinct(self, rows: float) -> float:
        """The most distinct values that ``rows`` rows have."""
        found = self.n_distinct if self.n_distinct > 0 else -self.n_distinct * rows
        return min(found, rows) or rows


@dataclass(frozen=True, slots=True)
class Key:
    """A key (or INCLUDE column) of an index that exists, and what is known of its values."""

    expression: str
    is_expression: bool
    type: str
    opclass: str
    length: int
    sample: Sample | None


def read_keys(connection: psycopg.Connection, oid: int) -> list[Key]:
    """The keys of an index with samples. Raises psycopg.Error."""
    keys = []
    for _, number, text, typname, _, length, opclass in connection.execute(_KEYS, [oid]).fetchall():
        rows = connection.execute(_COLUMNS, [oid, number, number]).fetchall()
        if number == 0:
            rows = [r for r in rows if r[0] in text and (identifier(r[0]) in text)]
            rows = rows if len(rows) == 1 else []
        sample = _sample(connection, rows[0], None if number else text) if rows else None
        keys.append(Key(text, number == 0, typname, opclass or "", length, sample))
    return keys


def _sample(
    connection: psycopg.Connection, row: Sequence[object], expression: str | None
) -> Sample | None:
    name, type_name, nulls, common, frequencies, bounds, n_distinct = row
    null_frac = float(nulls or 0.0)  # type: ignore[arg-type]
    values: list[str | None] = []
    sizes: list[int] = []
    counts = []
    for text in (common, bounds):
        found = (
            _values(connection, str(text), str(type_name), str(name), expression) if text else []
        )
        counts.append(len(found))
        values += [v for v, _ in found]
        sizes += [s for _, s in found]
    if not values:
        return None
    known = [float(f) for f in (frequencies or ())][: counts[0]]  # type: ignore[attr-defined]
    rest = max(1.0 - null_frac - sum(known), 0.0)
    shares = known + [rest / counts[1]] * counts[1] if counts[1] else known
    return Sample(tuple(values), tuple(sizes), tuple(shares), null_frac, float(n_distinct or 0))  # type: ignore[arg-type]


def _values(
    connection: psycopg.Connection, text: str, type_name: str, column: str, expression: str | None
) -> list[tuple[str | None, int]]:
    """(value as text, stored bytes) of an array's items, or of an expression over them."""
    # A tuplestore shortens varlena headers as an index tuple does.
    source = f"SELECT v AS {identifier(column)} FROM unnest(%s::text::{type_name}[]) v"
    inner = expression or identifier(column)
    query = (
        f"SELECT x::text, coalesce(pg_column_size(x), 0) FROM (SELECT {inner} AS x "
        f"FROM ({source}) s OFFSET 0) y"
    )
    try:
        with connection.transaction():
            return [(v, int(n)) for v, n in connection.execute(query.encode(), [text]).fetchall()]
    except psycopg.Error:
        if connection.closed:
            raise
        return []
