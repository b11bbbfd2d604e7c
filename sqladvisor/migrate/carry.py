"""Planner statistics of a database, as they would be when a migration has run on it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sqladvisor.catalog.statistics import RelationStatistics, Statistics
from sqladvisor.server.statistics import PAGE, read_statistics

if TYPE_CHECKING:
    import psycopg

INDEX_TUPLE_OVERHEAD = 12
"""Bytes of an index entry beside its columns: 8 of header, 4 of line pointer (storage page layout)."""
FILL = 0.9
"""Share of a leaf page that a new b-tree fills (BTREE_DEFAULT_FILLFACTOR)."""

_COLUMNS = """
SELECT n.nspname, c.relname, a.attname
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'm', 'i', 'I')
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"""
_INDEXES = """
SELECT n.nspname, c.relname, t.relname, i.indpred IS NOT NULL, pg_catalog.pg_get_indexdef(c.oid)
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
JOIN pg_catalog.pg_class t ON t.oid = i.indrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"""
_EXTENDED = """
SELECT n.nspname, s.stxname FROM pg_catalog.pg_statistic_ext s
JOIN pg_catalog.pg_namespace n ON n.oid = s.stxnamespace"""
PARTIAL_SHARE = 0.1
"""Share of the rows taken for a new partial index: nothing is known of its predicate."""


def index_definitions(connection: psycopg.Connection) -> dict[tuple[str, str], str]:
    """CREATE INDEX of every index, by schema and name: which ones a migration made anew."""
    rows = connection.execute(_INDEXES.encode()).fetchall()
    return {(schema, name): definition for schema, name, _, _, definition in rows}


def carry(
    before: Statistics, after: psycopg.Connection, defined: dict[tuple[str, str], str]
) -> Statistics:
    """The statistics of ``before`` for the schema of ``after``.

    Dropped columns and relations are gone, new tables are empty, new columns unknown; new indexes
    (those not ``defined`` so before) get the size they would have on their table's rows. Columns whose type
    changed keep their statistics, as after the ANALYZE that follows. Raises ServerError.
    """
    known = {(r.schema, r.name): r for r in before.relations}
    columns = {tuple(row) for row in after.execute(_COLUMNS.encode()).fetchall()}
    indexes = {
        (schema, name): (table, partial, definition)
        for schema, name, table, partial, definition in after.execute(_INDEXES.encode()).fetchall()
    }
    extended = {(schema, name) for schema, name in after.execute(_EXTENDED).fetchall()}
    made = {key for key, (_, _, text) in indexes.items() if defined.get(key) != text}
    relations = []
    for relation in read_statistics(after).relations:
        key = (relation.schema, relation.name)
        same = known.get(key)
        if same is not None and same.kind == relation.kind and key not in made:
            relations.append(replace(same, width=relation.width))
        elif key in indexes and (table := known.get((relation.schema, indexes[key][0]))):
            relations.append(_sized(relation, table, partial=indexes[key][1]))
        else:
            relations.append(relation)
    return replace(
        before,
        relations=tuple(relations),
        columns=tuple(
            c
            for c in before.columns
            if (c.schema, c.table, c.column) in columns and (c.schema, c.table) not in made
        ),
        ends={key: ends for key, ends in before.ends.items() if key in columns},
        extended=tuple(e for e in before.extended if (e.schema, e.name) in extended),
    )


def _sized(
    index: RelationStatistics, table: RelationStatistics, *, partial: bool
) -> RelationStatistics:
    index = replace(index, height=None, gin=None)  # those of an empty one
    rows = max(table.reltuples, 0.0) * (PARTIAL_SHARE if partial else 1.0)
    if index.kind != "i":
        return replace(index, reltuples=rows)
    pages = max(int(rows * (index.width + INDEX_TUPLE_OVERHEAD) / (PAGE * FILL)), 2)
    return replace(index, relpages=pages, pages=pages, reltuples=rows)
