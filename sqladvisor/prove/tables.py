"""The tables two statements read, as generated rows need to know them: types, keys, constraints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import psycopg

from sqladvisor.prove.compared import Key
from sqladvisor.sql.tree import Tree

# Views lead to what they read: their rules depend on it. A domain tells by typcategory what it is.
_RELATIONS = """
WITH RECURSIVE used AS (
    SELECT to_regclass(name)::oid AS oid FROM unnest(%s::text[]) AS name
    UNION
    SELECT d.refobjid FROM used u JOIN pg_rewrite r ON r.ev_class = u.oid
    JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
      AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> u.oid)
SELECT c.oid::int8, n.nspname::text, c.relname::text, c.relkind::text,
       format('%%I.%%I', n.nspname, c.relname),
       CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) END,
       CASE WHEN c.relispartition THEN pg_get_expr(c.relpartbound, c.oid) END
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid IN (SELECT oid FROM used) AND c.relkind IN ('r', 'p', 'v', 'm')
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
ORDER BY 2, 3"""

_COLUMNS = """
SELECT a.attrelid::int8, a.attname::text, format_type(a.atttypid, a.atttypmod),
       format_type(b.oid, NULL), b.typcategory::text, format_type(nullif(b.typelem, 0), NULL),
       a.attnotnull OR t.typnotnull,
       EXISTS (SELECT FROM pg_index i WHERE i.indrelid = a.attrelid AND i.indisunique
               AND i.indpred IS NULL AND i.indnkeyatts = 1 AND i.indkey[0] = a.attnum),
       ARRAY(SELECT enumlabel::text FROM pg_enum e WHERE e.enumtypid = b.oid
             ORDER BY enumsortorder),
       (SELECT string_agg('(' || pg_get_expr(o.conbin, o.conrelid) || ')', ' AND ')
        FROM pg_constraint o WHERE o.conrelid = a.attrelid AND o.contype = 'c'
          AND o.conkey = ARRAY[a.attnum])
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
JOIN pg_type b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END
WHERE a.attrelid = ANY (%s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
ORDER BY a.attrelid, a.attnum"""

# Keys of several columns, as arrays of their names.
_KEYS = """
SELECT i.indrelid::int8,
       ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY k (n, o)
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.n
             WHERE k.o <= i.indnkeyatts ORDER BY k.o)
FROM pg_index i
WHERE i.indisunique AND i.indnkeyatts > 1 AND i.indrelid = ANY (%s::oid[])
ORDER BY i.indexrelid"""

_BOUNDS = """
SELECT p.inhparent::int8, pg_get_expr(c.relpartbound, c.oid)
FROM pg_inherits p JOIN pg_class c ON c.oid = p.inhrelid
WHERE p.inhparent = ANY (%s::oid[]) AND c.relispartition"""

_FOREIGN_KEYS = """
SELECT o.conrelid::int8, o.confrelid::int8,
       ARRAY(SELECT a.attname::text FROM unnest(o.conkey) WITH ORDINALITY k (n, i)
             JOIN pg_attribute a ON a.attrelid = o.conrelid AND a.attnum = k.n ORDER BY k.i),
       ARRAY(SELECT a.attname::text FROM unnest(o.confkey) WITH ORDINALITY k (n, i)
             JOIN pg_attribute a ON a.attrelid = o.confrelid AND a.attnum = k.n ORDER BY k.i)
FROM pg_constraint o WHERE o.contype = 'f' AND o.conparentid = 0 AND o.convalidated
ORDER BY o.oid"""

_SEQUENCES = """
SELECT s.oid::regclass::text FROM pg_depend d JOIN pg_class s ON s.oid = d.objid
WHERE d.classid = 'pg_class'::regclass AND s.relkind = 'S' AND d.deptype IN ('a', 'i')
  AND d.refobjid = ANY (%s::oid[]) ORDER BY 1"""


@dataclass(frozen=True, slots=True)
class Column:
    """A column that can be given values. ``type`` has its modifier, ``base`` is beneath a domain.

    ``category`` is pg_type.typcategory; ``checks`` the CHECKs on this column alone, as one
    condition, or "".
    """

    name: str
    type: str
    base: str
    category: str
    element: str | None
    not_null: bool
    unique: bool
    labels: tuple[str, ...]
    checks: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table to fill. ``sql`` is its name as SQL text, ``bounds`` its partitions' bounds."""

    oid: int
    key: str
    sql: str
    columns: tuple[Column, ...]
    bounds: tuple[str, ...] = ()
    keys: tuple[tuple[str, ...], ...] = ()
    """The unique keys of several columns."""

    def of(self, name: str) -> Key:
        return self.key, name


@dataclass(frozen=True, slots=True)
class ForeignKey:
    table: int
    target: int
    columns: tuple[str, ...]
    target_columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Used:
    """What statements read: tables, the queries of the views among them, materialized views."""

    tables: tuple[Table, ...]
    views: tuple[str, ...]
    matviews: tuple[str, ...]
    keys: tuple[ForeignKey, ...]
    sequences: tuple[str, ...]
    """Sequences of the tables' serial and identity columns."""


def relation_names(trees: Iterable[Tree]) -> list[str]:
    """The names after FROM, INTO, UPDATE … as SQL text; those of CTEs among them do no harm."""
    found: dict[str, None] = {}
    for tree in trees:
        for node in tree.of("RangeVar"):
            parts = [node[k] for k in ("schemaname", "relname") if node.get(k)]
            found.setdefault(".".join('"' + p.replace('"', '""') + '"' for p in parts))
    return list(found)


def read_foreign_keys(connection: psycopg.Connection) -> list[ForeignKey]:
    """The validated foreign keys of the database: what its rows are known to keep."""
    rows = connection.execute(_FOREIGN_KEYS).fetchall()
    return [ForeignKey(t, f, tuple(c), tuple(r)) for t, f, c, r in rows]


def used_tables(
    connection: psycopg.Connection, names: Sequence[str], foreign_keys: Sequence[ForeignKey]
) -> Used:
    """The tables behind these names."""
    relations = connection.execute(_RELATIONS, [list(names)]).fetchall()
    oids = [r[0] for r in relations if r[3] in "rp"]
    columns: dict[int, list[Column]] = {}
    for (
        oid,
        name,
        type_,
        base,
        category,
        element,
        not_null,
        unique,
        labels,
        checks,
    ) in connection.execute(_COLUMNS, [oids]).fetchall():
        columns.setdefault(oid, []).append(
            Column(
                name, type_, base, category, element if category == "A" else None, not_null, unique,
                tuple(labels), checks or "",
            )
        )  # fmt: skip
    bounds: dict[int, list[str]] = {}
    for oid, bound in connection.execute(_BOUNDS, [oids]).fetchall():
        bounds.setdefault(oid, []).append(bound)
    keys: dict[int, list[tuple[str, ...]]] = {}
    for oid, names_of_key in connection.execute(_KEYS, [oids]).fetchall():
        keys.setdefault(oid, []).append(tuple(names_of_key))
    tables = tuple(
        Table(
            oid,
            f"{schema}.{name}",
            sql,
            tuple(columns.get(oid, ())),
            (*bounds.get(oid, ()), *([bound] if bound else ())),
            tuple(keys.get(oid, ())),
        )
        for oid, schema, name, kind, sql, _, bound in relations
        if kind in "rp"
    )
    return Used(
        tables,
        tuple(r[5].strip().removesuffix(";") for r in relations if r[5]),
        tuple(r[4] for r in relations if r[3] == "m"),
        tuple(k for k in foreign_keys if k.table in oids and k.target in oids),
        tuple(r[0] for r in connection.execute(_SEQUENCES, [oids]).fetchall()),
    )
