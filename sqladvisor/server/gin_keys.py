"""The pages of a GIN index by the statistics of its table: of one that is not there, or whose

metapage could not be read."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg

from sqladvisor.catalog.stand_ins import array_items
from sqladvisor.catalog.statistics import GinPages
from sqladvisor.server.gin_size import gin_pages, keys_of, keys_of_words
from sqladvisor.server.index_samples import Key


def supposed_gin(
    connection: psycopg.Connection,
    table: tuple[str, str],
    keys: Sequence[Key],
    rows: float,
    heap_pages: int,
) -> GinPages | None:
    """What the metapage of an index with these keys would say; None where nothing is known.

    ``table`` is schema and name. Raises psycopg.Error.
    """
    found = []
    for key in keys:
        elements, width = ([], 0.0) if key.is_expression else _elements(connection, table, key)
        if key.sample is not None:
            taken = keys_of(key.opclass, key.sample, rows, elements)
        else:
            taken = keys_of_words(elements, width) if key.opclass == "tsvector_ops" else None
        if taken is not None:
            found.append(gin_pages(taken, rows, heap_pages))
    if not found:
        return None
    return GinPages(
        0,
        1 + sum(f.total - 1 for f in found),
        sum(f.entry for f in found),
        sum(f.data for f in found),
        sum(f.entries for f in found),
    )


def scaled(pages: GinPages, total: int) -> GinPages:
    """The same index if it has so many pages."""
    share = total / max(pages.total, 1)
    entry = min(max(round(pages.entry * share), 1), total - 1)
    data = min(round(pages.data * share), total - 1 - entry)
    return GinPages(0, total, entry, data, pages.entries)


def _elements(
    connection: psycopg.Connection, table: tuple[str, str], key: Key
) -> tuple[list[tuple[str, float]], float]:
    """The most common items of an array or words of a document, with the share of rows of each;

    the column's mean width in bytes."""
    row = connection.execute(
        "SELECT most_common_elems::text, most_common_elem_freqs::float8[], null_frac::float8, "
        "avg_width::float8 "
        "FROM pg_stats WHERE schemaname = %s AND tablename = %s AND quote_ident(attname) = %s "
        "ORDER BY inherited LIMIT 1",
        [*table, key.expression],
    ).fetchone()
    if row is None or not row[0] or key.opclass not in ("array_ops", "tsvector_ops"):
        return [], 0.0
    items = array_items(row[0])
    # Behind the frequencies stand the least, the greatest, and that of NULL items.
    shares = zip(items, row[1], strict=False)
    return [(i, f * (1 - row[2])) for i, f in shares if i is not None], float(row[3] or 0)
