"""What-if indexes: plans with indexes that do not exist.

On a shadow they are created for real but empty, given the size and height they would have, and
marked invalid; a plan sees those made valid in its own transaction, which is rolled back.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import psycopg

from sqladvisor.errors import ServerError
from sqladvisor.plan.node import Plan
from sqladvisor.plan.read import read_json
from sqladvisor.server.btree_size import KeyColumn, height
from sqladvisor.server.btree_size import pages as btree_pages
from sqladvisor.server.connect import one_line
from sqladvisor.server.masked import restored, translated
from sqladvisor.server.relation_files import pages_of, set_pages, write_btree
from sqladvisor.server.shadow import TOOLS, Shadow

PAGE = 8192


class WhatIfError(ServerError):
    """An index that cannot exist, or a statement that does not plan."""


@dataclass(frozen=True, slots=True)
class HypotheticalIndex:
    """An index as DDL would say it: ``table`` and ``keys`` are SQL text, quoted where needed."""

    table: str
    keys: tuple[str, ...]
    include: tuple[str, ...] = ()
    predicate: str | None = None
    method: str = "btree"
    unique: bool = False

    def ddl(self, name: str | None = None, concurrently: bool = False) -> str:
        """CREATE INDEX; without a name PostgreSQL chooses one."""
        text = "CREATE UNIQUE INDEX" if self.unique else "CREATE INDEX"
        text += " CONCURRENTLY" if concurrently else ""
        text += f" {name}" if name else ""
        text += f" ON {self.table}"
        text += f" USING {self.method}" if self.method != "btree" else ""
        text += f" ({', '.join(self.keys)})"
        text += f" INCLUDE ({', '.join(self.include)})" if self.include else ""
        return text + (f" WHERE {self.predicate}" if self.predicate else "")


@dataclass(frozen=True, slots=True)
class Handle:
    """A hypothetical index known to a WhatIf: its estimated size in bytes, and its name in plans."""

    index: HypotheticalIndex
    name: str
    oid: int
    size_bytes: int


class WhatIf(Protocol):
    """Prices statements under sets of hypothetical indexes. ``calls`` counts the plans made."""

    calls: int

    def add(self, indexes: Sequence[HypotheticalIndex]) -> list[Handle]:
        """Make indexes known, each once. Raises WhatIfError naming one that cannot exist."""

    def cost(
        self,
        sql: str,
        visible: Collection[Handle],
        *,
        hidden_existing: Collection[str] = (),
        generic: bool = False,
    ) -> Plan:
        """The plan of one statement with exactly these hypothetical indexes. Raises WhatIfError."""


class ShadowWhatIf:
    """What-if on a shadow database."""

    def __init__(self, shadow: Shadow) -> None:
        self._shadow = shadow
        self._connection = shadow.connect()
        self._connection.execute("SET client_min_messages = error")
        self._known: dict[HypotheticalIndex, Handle] = {}
        self._refused: dict[HypotheticalIndex, str] = {}
        self.calls = 0

    def close(self) -> None:
        """End the session; the shadow goes with its cluster."""
        self._connection.close()

    def add(self, indexes: Sequence[HypotheticalIndex]) -> list[Handle]:
        """Make indexes known, each once. Raises WhatIfError naming one that cannot exist."""
        return [self._known.get(index) or self._create(index) for index in indexes]

    def cost(
        self,
        sql: str,
        visible: Collection[Handle],
        *,
        hidden_existing: Collection[str] = (),
        generic: bool = False,
    ) -> Plan:
        """The plan of one statement with exactly these hypothetical indexes. Raises WhatIfError.

        ``hidden_existing`` names existing indexes to plan without.
        """
        self.calls += 1
        options = "FORMAT JSON, GENERIC_PLAN" if generic else "FORMAT JSON"
        connection = self._connection
        try:
            with connection.transaction(force_rollback=True):
                shown = sorted(h.oid for h in visible)
                if shown:
                    _set_valid(connection, shown, True)
                if hidden_existing:
                    rows = connection.execute(
                        "SELECT name::regclass::oid::int8 FROM unnest(%s::text[]) AS name ORDER BY 1",
                        [list(hidden_existing)],
                    ).fetchall()
                    _set_valid(connection, [r[0] for r in rows], False)
                document = self._explained(sql, options)
        except psycopg.Error as error:
            if connection.closed:
                raise ServerError(f"the shadow planner is gone: {one_line(error)}") from error
            raise WhatIfError(one_line(error)) from error
        return read_json(document)

    def _explained(self, sql: str, options: str) -> Any:
        text, back = translated(self._connection, sql)
        row = self._connection.execute(f"EXPLAIN ({options}) {text}".encode()).fetchone()
        if row is None:
            raise WhatIfError("the statement has no plan")
        return restored(row[0], back)

    def _create(self, index: HypotheticalIndex) -> Handle:
        if index in self._refused:
            raise WhatIfError(self._refused[index])
        connection = self._connection
        name = f"sqladvisor_{len(self._known) + len(self._refused) + 1}"
        try:
            with connection.transaction():
                handle = self._build(connection, index, name)
        except psycopg.Error as error:
            if connection.closed:
                raise ServerError(f"the shadow planner is gone: {one_line(error)}") from error
            self._refused[index] = f"{index.ddl()}: {one_line(error)}"
            raise WhatIfError(self._refused[index]) from error
        self._known[index] = handle
        return handle

    def _build(self, connection: psycopg.Connection, index: HypotheticalIndex, name: str) -> Handle:
        row = connection.execute(
            "SELECT pg_relation_filepath(oid), pg_relation_size(oid) / %s, reltuples::float8, relkind::text "
            "FROM pg_class WHERE oid = %s::regclass",
            [PAGE, index.table],
        ).fetchone()
        assert row is not None
        if row[3] == "p" or row[0] is None:
            raise WhatIfError(f"{index.table} is partitioned: an index on it is not priced yet")
        heap = str(self._shadow.cluster.data_directory / row[0])
        heap_pages = int(row[1])
        connection.execute("SET LOCAL max_parallel_maintenance_workers = 0")
        # Building over gigabytes of holes would read them: one page holds the two rows there are.
        set_pages(heap, min(1, heap_pages))
        try:
            ddl, _ = translated(connection, index.ddl(name=name))
            connection.execute(ddl.encode())
        finally:
            set_pages(heap, heap_pages)
        found = connection.execute(
            "SELECT c.oid::int8, pg_relation_filepath(c.oid) FROM pg_class c JOIN pg_index i "
            "ON i.indexrelid = c.oid WHERE c.relname = %s AND i.indrelid = %s::regclass",
            [name, index.table],
        ).fetchone()
        assert found is not None
        oid, path = int(found[0]), str(self._shadow.cluster.data_directory / found[1])
        rows = self._rows(connection, index, max(float(row[2]), 0.0))
        if index.method == "btree":
            columns = _columns(connection, oid)
            size = btree_pages(columns, len(index.keys), rows, index.unique)
            levels = height(size, columns)
            write_btree(path, levels)
            size = max(size, levels + 2)
        elif index.method == "brin":
            size = max(pages_of(path), _brin_pages(heap_pages))
        else:
            size = max(pages_of(path), heap_pages // 10)
        set_pages(path, size)
        resize = f"SELECT {TOOLS}.resize(%s::regclass::oid, %s::integer, %s::float8)"
        connection.execute(resize.encode(), [str(oid), size, rows])
        connection.execute(resize.encode(), [index.table, heap_pages, row[2]])
        _set_valid(connection, [oid], False)
        return Handle(index, name, oid, size * PAGE)

    @staticmethod
    def _rows(connection: psycopg.Connection, index: HypotheticalIndex, rows: float) -> float:
        """Rows the index would hold: for a partial one the planner's estimate of its predicate."""
        if not index.predicate or not rows:
            return rows
        query = f"SELECT 1 FROM {index.table} WHERE {index.predicate}"
        row = connection.execute(
            f"EXPLAIN (FORMAT JSON) {translated(connection, query)[0]}".encode()
        ).fetchone()
        assert row is not None
        root = row[0][0]["Plan"]
        return float(root["Plan Rows"])


_BRIN_RANGE, _BRIN_REVMAP, _BRIN_TUPLES = 128, 1360, 200
"""pages_per_range by default, ranges per page of the range map, and per page of summaries."""


def _brin_pages(heap_pages: int) -> int:
    """Pages of a BRIN index: the metapage, the range map and the summaries (brin_page.h)."""
    ranges = max(1, -(-heap_pages // _BRIN_RANGE))
    return 1 - (-ranges // _BRIN_REVMAP) - (-ranges // _BRIN_TUPLES)


def _set_valid(connection: psycopg.Connection, oids: Sequence[int], valid: bool) -> None:
    connection.execute(f"SELECT {TOOLS}.show(%s::oid[], %s)".encode(), [list(oids), valid])


_COLUMNS = """
SELECT t.typname, a.attlen::int, CASE a.attalign WHEN 'c' THEN 1 WHEN 's' THEN 2 WHEN 'i' THEN 4 ELSE 8 END,
       coalesce(s.null_frac, 0)::float8, coalesce(s.n_distinct, 0)::float8, s.avg_width::float8,
       s.most_common_freqs::float8[], s.most_common_vals::text, s.histogram_bounds::text,
       format_type(a.atttypid, NULL)
FROM pg_attribute a
JOIN pg_type t ON t.oid = a.atttypid
JOIN pg_index i ON i.indexrelid = a.attrelid
JOIN pg_class c ON c.oid = i.indrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_attribute ta ON ta.attrelid = i.indrelid AND ta.attnum = i.indkey[a.attnum - 1]
     AND ta.attnum > 0
LEFT JOIN LATERAL (
    SELECT * FROM pg_stats s WHERE s.schemaname = n.nspname AND s.tablename = c.relname
      AND s.attname = ta.attname ORDER BY s.inherited LIMIT 1) s ON true
WHERE a.attrelid = %s AND a.attnum > 0 ORDER BY a.attnum"""


def _columns(connection: psycopg.Connection, oid: int) -> list[KeyColumn]:
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
