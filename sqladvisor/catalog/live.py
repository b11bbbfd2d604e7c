"""The catalog of a running server (13 to 18), read with an ordinary role's rights.

One query per kind of object, whatever the number of tables; everything comes from the system
catalogs, so that no user's row is read. Expressions, predicates and views are printed by the
server, which takes ACCESS SHARE on their tables for a moment.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqladvisor.catalog.model import (
    Catalog,
    Column,
    ColumnStats,
    ForeignKey,
    FunctionInfo,
    Index,
    Relation,
    RelationKind,
    Writes,
)

if TYPE_CHECKING:
    import psycopg

Row = tuple[Any, ...]

_KINDS: dict[str, RelationKind] = {
    "r": "table",
    "p": "partitioned",
    "v": "view",
    "m": "matview",
    "f": "foreign",
}
_VOLATILITY = {"i": "immutable", "s": "stable", "v": "volatile"}

# Schemas that hold no user's objects. Other sessions' temporary tables cannot be queried anyway.
_USER_SCHEMAS = r"""
    n.nspname NOT LIKE 'pg\_toast%%' AND n.nspname NOT LIKE 'pg\_temp\_%%'
    AND (%(system)s OR n.nspname NOT IN ('pg_catalog', 'information_schema'))
"""

# Printing an expression or a view waits for whoever holds its table alone, or is queued to.
_READABLE = f"{_USER_SCHEMAS} AND c.oid <> ALL (%(locked)s::int8[]::oid[])"
LOCKED = """
WITH locked AS (
    SELECT l.relation FROM pg_catalog.pg_locks l
    WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock'
      AND l.pid <> pg_catalog.pg_backend_pid()
      AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d
                        WHERE d.datname = pg_catalog.current_database()))
SELECT c.oid::int8, c.relname::text
FROM pg_catalog.pg_class c
WHERE c.oid IN (SELECT relation FROM locked) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
   OR EXISTS (SELECT FROM pg_catalog.pg_rewrite r
              JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::regclass
                   AND d.objid = r.oid AND d.refclassid = 'pg_catalog.pg_class'::regclass
              WHERE r.ev_class = c.oid AND d.refobjid IN (SELECT relation FROM locked))
ORDER BY c.relname
"""

# The locale's column was called daticulocale in 15 and 16, datlocale since 17; before 15 there was
# no provider but libc: to_jsonb reads whatever is there. Counters never reset began with the
# database: the server's start, which they survive, is then the latest that they can have begun.
DATABASE = """
SELECT current_setting('server_version_num')::int, current_schemas(false)::text[],
       extract(epoch FROM now() - coalesce(
           pg_catalog.pg_stat_get_db_stat_reset_time(d.oid),
           pg_catalog.pg_postmaster_start_time()))::float8 / 86400,
       pg_catalog.pg_is_in_recovery(),
       d.datcollate::text,
       coalesce(to_jsonb(d) ->> 'datlocprovider', 'c'),
       coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale')
FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()
"""

RELATIONS = f"""
SELECT c.oid::int8, n.nspname::text, c.relname::text, c.relkind::text, c.relpersistence = 't',
       c.reltuples, c.relpages,
       CASE WHEN c.relkind IN ('v', 'm') THEN pg_catalog.pg_get_viewdef(c.oid, true) END,
       p.partattrs::text, c.relispartition, c.relallvisible,
       ARRAY[pg_catalog.pg_stat_get_tuples_inserted(c.oid),
             pg_catalog.pg_stat_get_tuples_updated(c.oid),
             pg_catalog.pg_stat_get_tuples_hot_updated(c.oid),
             pg_catalog.pg_stat_get_tuples_deleted(c.oid)],
       CASE WHEN c.relkind = 'p' THEN ARRAY(
           WITH RECURSIVE below AS (
               SELECT i.inhrelid FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid
               UNION ALL
               SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN below b ON i.inhparent = b.inhrelid)
           SELECT inhrelid::int8 FROM below) END,
       CASE WHEN c.relkind = 'p' THEN ARRAY(
           SELECT i.inhrelid::int8 FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid) END
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_partitioned_table p ON p.partrelid = c.oid
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND {_READABLE}
ORDER BY n.nspname, c.relname
"""

COLUMNS = f"""
SELECT a.attrelid::int8, a.attnum::int, a.attname::text,
       pg_catalog.format_type(a.atttypid, NULL), a.attnotnull,
       pg_catalog.pg_get_expr(d.adbin, d.adrelid, true),
       l.collname::text, a.attgenerated <> '', a.attidentity <> '',
       CASE WHEN t.typtype = 'd' THEN a.atttypid::int8 END
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation AND l.oid <> t.typcollation
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND a.attnum > 0 AND NOT a.attisdropped
  AND {_READABLE}
ORDER BY a.attrelid, a.attnum
"""

DOMAINS = """
SELECT oid::int8, typbasetype::int8, pg_catalog.format_type(typbasetype, NULL)
FROM pg_catalog.pg_type WHERE typtype = 'd'
"""

# Sizes are those of the last VACUUM, ANALYZE or CREATE INDEX: pg_relation_size() would wait for
# whoever holds a lock on the index.
INDEXES = f"""
SELECT i.indrelid::int8, x.relname::text, i.indkey::text, i.indclass::text,
       i.indnkeyatts::int, i.indisunique, i.indisprimary, i.indisvalid, m.amname::text,
       pg_catalog.pg_get_expr(i.indpred, i.indrelid, true),
       CASE WHEN i.indexprs IS NOT NULL THEN ARRAY(
           SELECT pg_catalog.pg_get_indexdef(i.indexrelid, k, true)
           FROM pg_catalog.generate_series(1, i.indnkeyatts::int) k
           WHERE i.indkey[k - 1] = 0 ORDER BY k) END,
       pg_catalog.pg_get_indexdef(i.indexrelid),
       EXISTS (SELECT FROM pg_catalog.pg_constraint o
               WHERE o.conindid = i.indexrelid AND o.conrelid = i.indrelid
                 AND o.contype IN ('p', 'u', 'x')),
       x.relpages * pg_catalog.current_setting('block_size')::int8,
       pg_catalog.pg_stat_get_numscans(x.oid), i.indisreplident, x.relispartition,
       EXISTS (SELECT FROM pg_catalog.pg_constraint o
               WHERE o.conindid = i.indexrelid AND o.contype = 'f'),
       NOT i.indisvalid AND i.indrelid = ANY (ARRAY(
           SELECT b.relid FROM pg_catalog.pg_stat_progress_create_index b))
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_am m ON m.oid = x.relam
WHERE {_READABLE}
ORDER BY i.indrelid, i.indexrelid
"""

OPERATOR_CLASSES = "SELECT oid::int8, opcname::text FROM pg_catalog.pg_opclass WHERE NOT opcdefault"

# A foreign key that refers to a partitioned table has a constraint per partition of it, too, on
# the same referring table: those say nothing new.
CONSTRAINTS = f"""
SELECT o.conrelid::int8, o.contype::text, o.conname::text, o.conkey, o.confrelid::int8, o.confkey,
       o.convalidated, pg_catalog.pg_get_expr(o.conbin, o.conrelid, true)
FROM pg_catalog.pg_constraint o
JOIN pg_catalog.pg_class c ON c.oid = o.conrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE (o.contype IN ('f', 'c') OR (o.contype = 'n' AND NOT o.convalidated))
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint p
                  WHERE p.oid = o.conparentid AND p.conrelid = o.conrelid)
  AND {_READABLE}
ORDER BY o.conrelid, o.oid
"""

# Of a table with heirs the rows of the table alone come first: so they win. pg_stats is a security
# barrier: it checks its privileges on every column of the database before any condition but a plain
# list of names (nameeq is leakproof), and that is most of its cost.
STATISTICS = f"""
SELECT s.schemaname::text, s.tablename::text, s.attname::text, s.null_frac, s.n_distinct,
       s.avg_width, s.correlation, s.most_common_vals::text::text[], s.most_common_freqs,
       s.histogram_bounds::text::text[]
FROM pg_catalog.pg_stats s
WHERE s.schemaname = ANY (ARRAY(SELECT n.nspname FROM pg_catalog.pg_namespace n WHERE {_USER_SCHEMAS}))
  AND s.tablename = ANY (ARRAY(
      SELECT c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      WHERE c.relkind IN ('r', 'p', 'm', 'f') AND {_USER_SCHEMAS}))
ORDER BY s.inherited
"""

EXTENSIONS = "SELECT extname::text FROM pg_catalog.pg_extension"

# One answer for all functions of a name: the most careful one.
FUNCTIONS = """
SELECT p.proname::text, max(p.provolatile::text), bool_or(p.proretset),
       bool_and(p.proparallel = 's')
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE p.prokind = 'f' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
GROUP BY p.proname
"""


def read_catalog(
    connection: psycopg.Connection[Any],
    *,
    include_system: bool = False,
    locked: Sequence[tuple[int, str]] | None = None,
) -> Catalog:
    """Read relations, columns, keys, indexes, statistics and functions of the database.

    Works with any role's rights: statistics of columns that the role may not read are left out.
    So are tables that another session has locked against everybody, and views over them
    (locked_relations), which would have to be waited for.
    ``rows`` is reltuples (None: never vacuumed nor analyzed), ``pages`` counts 8192-byte pages and
    ``size_bytes`` is an index's size as of its last VACUUM, ANALYZE or creation. ``include_system``
    adds pg_catalog and information_schema; ``locked`` is what locked_relations has just said.
    Raises what psycopg raises.
    """
    if locked is None:
        locked = locked_relations(connection)
    left_out = [oid for oid, _ in locked]
    read = _Reader(connection, {"system": include_system, "locked": left_out})
    version, path, counted_days, standby, *locale = read(DATABASE)[0]
    relation_rows = read(RELATIONS)
    named: dict[int, tuple[str, str]] = {r[0]: (r[1], r[2]) for r in relation_rows}
    kinds = {r[0]: r[3] for r in relation_rows}
    constraint_rows = read(CONSTRAINTS)
    statistics = _statistics(read(STATISTICS))
    columns, numbers = _columns(
        read(COLUMNS), named, statistics, _base_types(read(DOMAINS)), _unproven(constraint_rows)
    )
    indexes = _indexes(read(INDEXES), numbers, dict(read(OPERATOR_CLASSES)))
    references, checks = _constraints(constraint_rows, named, numbers)
    relations = {}
    for (
        oid, schema, name, kind, temporary, tuples, pages, definition, key, partition, visible, writes, below,
        children,
    ) in relation_rows:  # fmt: skip
        rows = _rows(kind, tuples, pages, version)
        relations[schema, name] = Relation(
            schema,
            name,
            _KINDS[kind],
            tuple(columns[oid]),
            tuple(i if rows is not None else replace(i, size_bytes=None) for i in indexes[oid]),
            tuple(references[oid]),
            tuple(checks[oid]),
            tuple(numbers[oid][n] for n in _ints(key) if n in numbers[oid]),
            rows,
            pages if rows is not None and kind != "p" else None,
            definition.strip().removesuffix(";") if definition else None,
            temporary,
            partition,
            visible if rows is not None and kind in "rm" else None,
            Writes(*writes) if kind in "rm" else None,
            tuple(sorted(named[o] for o in below or () if kinds.get(o) == "r")),
            tuple(sorted(named[o] for o in children or () if kinds.get(o) in ("r", "p"))),
        )
    return Catalog(
        relations,
        tuple(path),
        frozenset(name for (name,) in read(EXTENSIONS)),
        {
            name.lower(): FunctionInfo(name, _VOLATILITY[volatility], returns_set, parallel_safe)  # type: ignore[arg-type]
            for name, volatility, returns_set, parallel_safe in read(FUNCTIONS)
        },
        version,
        "server",
        _is_c(*locale),
        counted_days,
        standby,
    )


def locked_relations(connection: psycopg.Connection[Any]) -> list[tuple[int, str]]:
    """Tables and views, by oid and name, that nobody can read just now."""
    return [(int(oid), str(name)) for oid, name in _Reader(connection, {})(LOCKED)]


class _Reader:
    """Runs the queries above on the caller's connection, whatever its row factory."""

    def __init__(self, connection: psycopg.Connection[Any], parameters: dict[str, Any]) -> None:
        self._connection = connection
        self._parameters = parameters

    def __call__(self, sql: str) -> list[Row]:
        with self._connection.cursor(row_factory=lambda _: tuple) as cursor:
            if "%(system)s" in sql:
                cursor.execute(sql.encode(), self._parameters)
            else:
                cursor.execute(sql.encode())
            return cursor.fetchall()


def _is_c(collate: str, provider: str, locale: str | None) -> bool:
    """Whether text sorts by code point, so that a plain b-tree serves LIKE 'x%'.

    The builtin provider ("b", since 17) always does; of libc's locales only C and POSIX count
    (pg_newlocale_from_collation, collate_is_c).
    """
    return provider == "b" or (provider == "c" and collate in ("C", "POSIX"))


def _rows(kind: str, tuples: float, pages: int, version: int) -> float | None:
    """reltuples, None where nobody has counted: -1 since PostgreSQL 14, before that 0 of 0 pages."""
    if kind == "v" or tuples < 0 or (version < 140000 and tuples == 0 and pages == 0):
        return None
    return float(tuples)


def _ints(vector: str | None) -> list[int]:
    """The numbers of an int2vector or oidvector as text."""
    return [int(n) for n in vector.split()] if vector else []


def _base_types(rows: list[Row]) -> dict[int, str]:
    """Domain → the type beneath it, through domains over domains."""
    bases = {oid: (base, text) for oid, base, text in rows}

    def beneath(oid: int) -> str:
        base, text = bases[oid]
        return beneath(base) if base in bases else str(text)

    return {oid: beneath(oid) for oid in bases}


def _unproven(rows: list[Row]) -> set[tuple[int, int]]:
    """Columns whose NOT NULL is not validated (PostgreSQL 18): they may hold NULLs."""
    return {(r[0], number) for r in rows if r[1] == "n" for number in r[3]}


def _statistics(rows: list[Row]) -> dict[tuple[str, str, str], ColumnStats]:
    found: dict[tuple[str, str, str], ColumnStats] = {}
    for schema, table, column, nulls, distinct, width, correlation, values, freqs, bounds in rows:
        found.setdefault(
            (schema, table, column),
            ColumnStats(
                nulls,
                distinct,
                width,
                correlation,
                tuple(values or ()),
                tuple(freqs or ()),
                tuple(bounds or ()),
            ),
        )
    return found


def _columns(
    rows: list[Row],
    named: dict[int, tuple[str, str]],
    statistics: dict[tuple[str, str, str], ColumnStats],
    bases: dict[int, str],
    unproven: set[tuple[int, int]],
) -> tuple[dict[int, list[Column]], dict[int, dict[int, str]]]:
    """Columns by relation, and names by relation and attribute number."""
    columns: dict[int, list[Column]] = defaultdict(list)
    numbers: dict[int, dict[int, str]] = defaultdict(dict)
    for oid, number, name, type_, not_null, default, collation, generated, identity, domain in rows:
        if oid not in named:
            continue
        numbers[oid][number] = name
        columns[oid].append(
            Column(
                name,
                type_,
                not_null and (oid, number) not in unproven,
                None if generated else default,
                collation,
                generated,
                identity,
                statistics.get((*named[oid], name)),
                bases.get(domain),
            )
        )
    return columns, numbers


def _indexes(
    rows: list[Row], numbers: dict[int, dict[int, str]], opclasses: dict[int, str]
) -> dict[int, list[Index]]:
    indexes: dict[int, list[Index]] = defaultdict(list)
    for (
        oid, name, keys, classes, key_count, unique, primary, valid, method,
        predicate, expressions, definition, constraint, size, *state,
    ) in rows:  # fmt: skip
        columns = [numbers[oid].get(n) for n in _ints(keys)]
        scans, replica_identity, attached, referenced, building = state
        indexes[oid].append(
            Index(
                name,
                tuple(columns[:key_count]),
                unique,
                primary,
                tuple(c for c in columns[key_count:] if c),
                method,
                predicate,
                tuple(expressions or ()),
                tuple(opclasses.get(c) for c in _ints(classes)),
                valid,
                definition,
                constraint,
                size or None,
                scans,
                replica_identity,
                attached,
                building,
                referenced,
            )
        )
    return indexes


def _constraints(
    rows: list[Row], named: dict[int, tuple[str, str]], numbers: dict[int, dict[int, str]]
) -> tuple[dict[int, list[ForeignKey]], dict[int, list[str]]]:
    references: dict[int, list[ForeignKey]] = defaultdict(list)
    checks: dict[int, list[str]] = defaultdict(list)
    for oid, kind, name, keys, target, target_keys, validated, expression in rows:
        if kind == "c" and expression:
            checks[oid].append(expression)
        elif kind == "f" and target in named:
            references[oid].append(
                ForeignKey(
                    name,
                    tuple(numbers[oid][n] for n in keys),
                    *named[target],
                    tuple(numbers[target][n] for n in target_keys),
                    validated,
                )
            )
    return references, checks
