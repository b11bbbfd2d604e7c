"""Statistics of expressions that nothing has analyzed: what a hypothetical index over them needs.

From rows where there are some (a sandbox), else from the statistics of the expression's column.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import psycopg

from sqladvisor.catalog.stand_ins import array_text
from sqladvisor.catalog.statistics import FIELDS
from sqladvisor.server.index_samples import Sample

VALUES = 2_000
"""Values looked at for the keys of a GIN index."""
ROWS = 30_000
"""Rows looked at, as ANALYZE does at the default statistics target (300 times 100)."""
_TABLE = "sqladvisor_sample"
Values = dict[str, str | None]


class RowSampler:
    """Samples of a table's rows, in a session that may make temporary tables."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    def statistics(self, table: str, expressions: Sequence[str]) -> list[Values] | None:
        """What pg_stats would say of expressions; None where the table has no rows."""
        return from_rows(self._connection, table, expressions)

    def values(self, table: str, expression: str) -> Sample | None:
        """Values of an expression, each standing for the same share of rows."""
        share = _share(self._connection, table, VALUES)
        if share is None:
            return None
        with self._connection.transaction(force_rollback=True):
            rows = self._connection.execute(
                f"SELECT ({expression})::text, pg_column_size({expression}) FROM {table} "
                f"TABLESAMPLE SYSTEM ({min(2 * share, 100):.6f}) REPEATABLE (1) LIMIT {VALUES}".encode()
            ).fetchall()
        values = [(v, int(n)) for v, n in rows if v is not None]
        if not values:
            return None
        each = 1 / len(rows)
        return Sample(
            tuple(v for v, _ in values),
            tuple(n for _, n in values),
            (each,) * len(values),
            1 - len(values) * each,
            0.0,
        )


def shown_fields(connection: psycopg.Connection, view: str = "pg_stats") -> list[str]:
    """Those of FIELDS that this version's view has."""
    rows = connection.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass", [f"pg_catalog.{view}"]
    ).fetchall()
    present = {r[0] for r in rows}
    return [f for f in FIELDS if f in present]


def _share(connection: psycopg.Connection, table: str, wanted: int) -> float | None:
    """Per cent of a table's rows to have so many; None where it has none."""
    row = connection.execute(
        "SELECT greatest(reltuples, 0)::float8 FROM pg_class WHERE oid = to_regclass(%s)", [table]
    ).fetchone()
    return min(100.0, 100.0 * wanted / row[0]) if row and row[0] else None


def from_rows(
    connection: psycopg.Connection, table: str, expressions: Sequence[str]
) -> list[Values] | None:
    """What pg_stats would say of expressions over a table with rows; None where it has none.

    ``expressions`` are SQL text. Needs a session that may make temporary tables; nothing is kept.
    """
    row = connection.execute(
        "SELECT greatest(reltuples, 0)::float8 FROM pg_class WHERE oid = to_regclass(%s)", [table]
    ).fetchone()
    total = float(row[0]) if row else 0.0
    if not total:
        return None
    share = min(100.0, 100.0 * ROWS / total)
    sample = f"TABLESAMPLE SYSTEM ({share:.6f}) REPEATABLE (1)" if share < 100 else ""
    listed = ", ".join(f"({e}) AS e{n}" for n, e in enumerate(expressions))
    with connection.transaction(force_rollback=True):
        connection.execute(
            f"CREATE TEMP TABLE {_TABLE} AS SELECT {listed} FROM {table} {sample}".encode()
        )
        connection.execute(f"ANALYZE {_TABLE}")
        present = shown_fields(connection)
        fields = ", ".join(f"s.{f}::text" for f in present)
        rows = connection.execute(
            f"SELECT s.attname, {fields} FROM pg_stats s WHERE s.tablename = %s "
            "AND s.schemaname = (SELECT nspname FROM pg_namespace WHERE oid = pg_my_temp_schema())".encode(),
            [_TABLE],
        ).fetchall()
        found = {r[0]: {f: v for f, v in zip(present, r[1:], strict=True) if v} for r in rows}
        for number in range(len(expressions)):
            counts = connection.execute(
                f"SELECT sum(c)::float8, count(*)::float8, count(*) FILTER (WHERE c = 1)::float8 "
                f"FROM (SELECT count(*) AS c FROM {_TABLE} WHERE e{number} IS NOT NULL "
                f"GROUP BY e{number}) g".encode()
            ).fetchone()
            values = found.get(f"e{number}")
            if values and counts and counts[0] and share < 100:
                nulls = float(values.get("null_frac") or 0)
                values["n_distinct"] = _distinct(
                    counts[0], counts[1], counts[2], total * (1 - nulls), total
                )
    return [found.get(f"e{n}", {}) for n in range(len(expressions))]


def _distinct(seen: float, distinct: float, once: float, present: float, total: float) -> str:
    """Haas and Stokes' Duj1, as compute_distinct_stats() has it; as pg_stats writes it."""
    estimate = seen * distinct / (seen - once + once * seen / present) if present else distinct
    estimate = min(max(estimate, distinct), present)
    return f"{-estimate / total:.6g}" if estimate > 0.1 * total else f"{estimate:.0f}"


def from_sample(sample: Sample, rows: float) -> Values:
    """What the values of an expression over its column's statistics say of it.

    A value that bounds of the histogram give twice or more is taken for a common one.
    """
    shares: defaultdict[str, float] = defaultdict(float)
    seen: Counter[str] = Counter()
    nulls = sample.null_frac
    width = weight = 0.0
    for value, size, share in zip(sample.values, sample.sizes, sample.shares, strict=False):
        if value is None:
            nulls += share
            continue
        shares[value] += share
        seen[value] += 1
        width += size * share
        weight += share
    if not shares:
        return {}
    common = [(v, s) for v, s in sorted(shares.items(), key=lambda i: -i[1])[:100] if seen[v] > 1]
    once = sum(1 for v in seen if seen[v] == 1)
    present = rows * max(1.0 - nulls, 0.0)
    if once == len(seen):
        estimate = present  # no two alike
    else:
        count = float(sum(seen.values()))
        estimate = count * len(seen) / (count - once + once * count / max(present, 1.0))
    estimate = min(max(estimate, float(len(seen))), max(present, 1.0), sample.distinct(rows))
    values: Values = {
        "null_frac": f"{min(nulls, 1.0):.6g}",
        "avg_width": f"{max(round(width / weight), 1)}",
        "n_distinct": f"{-estimate / rows:.6g}" if estimate > 0.1 * rows else f"{estimate:.0f}",
    }
    if common:
        values["most_common_vals"] = array_text(v for v, _ in common)
        values["most_common_freqs"] = "{" + ",".join(f"{s:.6g}" for _, s in common) + "}"
    return values
