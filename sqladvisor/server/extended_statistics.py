"""Extended statistics (CREATE STATISTICS): read as values, and put into a shadow.

Nothing restores them before PostgreSQL 19. Here, on a cluster of our own: counts of distinct
values and dependencies are written in their binary form (statext_ndistinct_serialize(),
statext_dependencies_serialize()); a list of common rows is made by ANALYZE of a table that holds
exactly these rows, and its frequencies are set then: so it has this server's type oids.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

import psycopg
from psycopg import sql

from sqladvisor.catalog.statistics import (
    CommonRow,
    ExtendedStatistics,
    Member,
)
from sqladvisor.server.connect import one_line
from sqladvisor.server.expression_statistics import shown_fields
from sqladvisor.server.restore import clear_column

_NDISTINCT_MAGIC, _DEPENDENCIES_MAGIC = 0xA352BFA4, 0xB4549A2C
EXPRESSIONS_VERSION = 140000
INHERITED_VERSION = 150000
"""server_version_num of the first PostgreSQL with expressions in, and with inherited data of its own."""
_TARGET = 10_000
"""The largest statistics target: MCV lists are kept whole."""
_OBJECTS = """
SELECT v.statistics_schemaname, v.statistics_name, {inherited},
       quote_ident(v.schemaname) || '.' || quote_ident(v.tablename), v.attnames::text[], {exprs},
       v.n_distinct::bytea, v.dependencies::bytea, v.most_common_vals, v.most_common_freqs,
       v.most_common_base_freqs,
       (SELECT jsonb_object_agg(a.attnum, a.attname) FROM pg_attribute a WHERE a.attrelid = e.stxrelid
        AND a.attnum = ANY (e.stxkeys)),
       (SELECT array_agg(a.atttypid::int8 ORDER BY a.attnum) FROM pg_attribute a
        WHERE a.attrelid = e.stxrelid AND a.attnum = ANY (e.stxkeys))
FROM pg_stats_ext v
JOIN pg_namespace n ON n.nspname = v.statistics_schemaname
JOIN pg_statistic_ext e ON e.stxname = v.statistics_name AND e.stxnamespace = n.oid
WHERE n.nspname !~ '^pg_' ORDER BY 1, 2, 3"""
_EXPRESSIONS = """
SELECT v.expr, {fields} FROM pg_stats_ext_exprs v
WHERE v.statistics_schemaname = %s AND v.statistics_name = %s AND {inherited} = %s"""
_ALL = """
SELECT count(*) FROM pg_statistic_ext e JOIN pg_namespace n ON n.oid = e.stxnamespace
WHERE n.nspname !~ '^pg_'"""


def read_extended(
    connection: psycopg.Connection, base_of: Callable[[int], str]
) -> tuple[tuple[ExtendedStatistics, ...], list[str]]:
    """The extended statistics that the role may see, and what it may not, said."""
    version = connection.info.server_version
    has = {
        "exprs": "v.exprs" if version >= EXPRESSIONS_VERSION else "NULL::text[]",
        "inherited": "v.inherited" if version >= INHERITED_VERSION else "false",
    }
    rows = connection.execute(_OBJECTS.format(**has).encode()).fetchall()
    found = []
    for row in rows:
        (schema, name, inherited, table, columns, exprs, ndistinct, dependencies,
         values, frequencies, base_frequencies, numbers, types) = row  # fmt: skip
        named: dict[int, Member] = {int(n): str(c) for n, c in (numbers or {}).items()}
        members: list[Member] = [*(columns or ()), *(-k for k in range(1, len(exprs or ()) + 1))]
        bases = [base_of(t) for t in types or ()]
        bases += [base_of(_type_of(connection, table, e)) for e in exprs or ()]
        common = zip(values or (), frequencies or (), base_frequencies or (), strict=True)
        found.append(
            ExtendedStatistics(
                schema,
                name,
                bool(inherited),
                tuple(members),
                tuple(bases),
                _unpacked(ndistinct, _NDISTINCT_MAGIC, "i", named),
                _unpacked(dependencies, _DEPENDENCIES_MAGIC, "h", named),
                tuple(CommonRow(tuple(v), f, b) for v, f, b in common),
                tuple(_expressions(connection, schema, name, inherited, has, exprs or ())),
            )
        )
    total = connection.execute(_ALL).fetchone()
    hidden = (total[0] if total else 0) - len({(f.schema, f.name) for f in found})
    missing = []
    if hidden > 0:
        missing.append(
            f"the data of {hidden} extended statistics cannot be seen (never analyzed, or not the "
            "role's own): their distinct values are taken from plans"
        )
    return tuple(found), missing


def _expressions(
    connection: psycopg.Connection,
    schema: str,
    name: str,
    inherited: bool,
    has: dict[str, str],
    exprs: Sequence[str],
) -> list[dict[str, str | None]]:
    if not exprs:
        return []
    fields = shown_fields(connection, "pg_stats_ext_exprs")
    query = _EXPRESSIONS.format(fields=", ".join(f"v.{f}::text" for f in fields), **has)
    rows = connection.execute(query.encode(), [schema, name, inherited]).fetchall()
    by_text = {
        r[0]: {k: v for k, v in zip(fields, r[1:], strict=True) if v is not None} for r in rows
    }
    return [by_text.get(e, {}) for e in exprs]


def _type_of(connection: psycopg.Connection, table: str, expression: str) -> int:
    """The type of an expression over a table: of a query that returns nothing."""
    try:
        cursor = connection.execute(f"SELECT {expression} FROM ONLY {table} LIMIT 0".encode())
    except psycopg.Error:
        if connection.closed:
            raise
        return 0
    return cursor.description[0].type_code if cursor.description else 0


def _unpacked(
    data: bytes | None, magic: int, count: str, named: dict[int, Member]
) -> tuple[tuple[tuple[Member, ...], float], ...]:
    """Items of (double, count, attribute numbers); nothing where the byte order is another's."""
    if not data or struct.unpack_from("=I", data, 0)[0] != magic:
        return ()
    items = []
    at = 12
    for _ in range(struct.unpack_from("=I", data, 8)[0]):
        value, size = struct.unpack_from(f"=d{count}", data, at)
        at += struct.calcsize(f"=d{count}")
        numbers = struct.unpack_from(f"={size}h", data, at)
        at += 2 * size
        items.append((tuple(named.get(n, n) for n in numbers), float(value)))
    return tuple(items)


def _packed(
    items: Sequence[tuple[tuple[Member, ...], float]],
    magic: int,
    count: str,
    numbers: dict[str, int],
) -> bytes | None:
    if not items:
        return None
    data = struct.pack("=3I", magic, 1, len(items))
    for members, value in items:
        listed = [numbers[m] if isinstance(m, str) else m for m in members]
        data += struct.pack(f"=d{count}{len(listed)}h", value, len(listed), *listed)
    return data


# -- putting them into a shadow -----------------------------------------------------------------

_CASTS = ("pg_ndistinct", "pg_dependencies", "pg_mcv_list")
_OBJECT = """
SELECT e.oid::int8, n2.nspname, c.relname, {exprs},
       (SELECT jsonb_object_agg(a.attname, a.attnum) FROM pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum = ANY (e.stxkeys)),
       (SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum = ANY (e.stxkeys))
FROM pg_statistic_ext e
JOIN pg_namespace n ON n.oid = e.stxnamespace
JOIN pg_class c ON c.oid = e.stxrelid
JOIN pg_namespace n2 ON n2.oid = c.relnamespace
WHERE n.nspname = %s AND e.stxname = %s"""
_WORK = "sqladvisor_work"


def restore_extended(
    admin: psycopg.Connection,
    owner: psycopg.Connection,
    extended: Sequence[ExtendedStatistics],
    restore: Callable[[str, str, str, dict[str, str | None]], None],
) -> list[str]:
    """Put extended statistics into a shadow; say which could not be.

    What may call functions of the schema runs as ``owner``; ``admin`` only copies the results.
    ``restore`` sets the statistics of one column of a table (schema, table, column, values).
    """
    if not extended:
        return []
    left_out = []
    for name in _CASTS:
        admin.execute(f"CREATE CAST (bytea AS {name}) WITHOUT FUNCTION".encode())
    try:
        for item in extended:
            try:
                with admin.transaction():
                    if not _restore_one(admin, owner, item, restore):
                        continue
            except (psycopg.Error, KeyError, ValueError, struct.error) as error:
                if admin.closed or owner.closed:
                    raise
                left_out.append(f"statistics {item.schema}.{item.name}: {one_line(error)}")
            finally:
                if not owner.closed:
                    owner.execute(f"DROP TABLE IF EXISTS public.{_WORK}")
    finally:
        if not admin.closed:
            for name in _CASTS:
                admin.execute(f"DROP CAST (bytea AS {name})".encode())
    return left_out


def _restore_one(
    admin: psycopg.Connection,
    owner: psycopg.Connection,
    item: ExtendedStatistics,
    restore: Callable[[str, str, str, dict[str, str | None]], None],
) -> bool:
    version = owner.info.server_version
    if item.inherited and version < INHERITED_VERSION:
        return False
    exprs = "pg_get_statisticsobjdef_expressions(e.oid)"
    query = _OBJECT.format(exprs=exprs if version >= EXPRESSIONS_VERSION else "NULL::text[]")
    row = owner.execute(query.encode(), [item.schema, item.name]).fetchone()
    if row is None:
        return False
    oid, schema, table, expressions, numbers, columns = row
    listed = [sql.Identifier(c) for c in columns or ()]
    listed += [sql.Identifier(f"#{k}") for k in range(1, len(expressions or ()) + 1)]
    if len(listed) != len(item.members):
        raise ValueError("the object has other members in the schema")
    mcv = statistics = None
    if item.common or item.expressions:
        parts = [sql.SQL("{}").format(sql.Identifier(c)) for c in columns or ()]
        parts += [
            sql.SQL("{} AS {}").format(sql.SQL(e), sql.Identifier(f"#{k}"))
            for k, e in enumerate(expressions or (), 1)
        ]
        owner.execute(
            sql.SQL("CREATE UNLOGGED TABLE public.{} AS SELECT {} FROM {} WITH NO DATA").format(
                sql.Identifier(_WORK),
                sql.SQL(", ").join(parts),
                sql.Identifier(schema, table),
            )
        )
    if item.common:
        mcv = _common_rows(admin, owner, item.common, listed)
    if item.expressions:
        for number, values in enumerate(item.expressions, 1):
            name = f"#{number}"
            clear_column(owner, "public", _WORK, name)
            if values:
                restore("public", _WORK, name, values)
        statistics = len(columns or ())
    data: dict[str, tuple[str, list[object]]] = {
        "stxoid": ("%s", [oid]),
        "stxdndistinct": (
            "%s::bytea::pg_ndistinct",
            [_packed(item.ndistinct, _NDISTINCT_MAGIC, "i", numbers or {})],
        ),
        "stxddependencies": (
            "%s::bytea::pg_dependencies",
            [_packed(item.dependencies, _DEPENDENCIES_MAGIC, "h", numbers or {})],
        ),
        "stxdmcv": ("%s::bytea::pg_mcv_list", [mcv]),
    }
    if version >= INHERITED_VERSION:
        data["stxdinherit"] = ("%s", [item.inherited])
    if version >= EXPRESSIONS_VERSION:
        data["stxdexpr"] = (
            "(SELECT array_agg(s ORDER BY s.staattnum) FROM pg_statistic s "
            "WHERE s.starelid = to_regclass(%s) AND s.staattnum > %s)",
            [f"public.{_WORK}" if statistics is not None else None, statistics],
        )
    keys = [k for k in ("stxoid", "stxdinherit") if k in data]
    admin.execute(
        f"DELETE FROM pg_statistic_ext_data WHERE {' AND '.join(f'{k} = %s' for k in keys)}".encode(),
        [v for k in keys for v in data[k][1]],
    )
    admin.execute(
        f"INSERT INTO pg_statistic_ext_data ({', '.join(data)}) "
        f"VALUES ({', '.join(place for place, _ in data.values())})".encode(),
        [v for _, given in data.values() for v in given],
    )
    return True


def _common_rows(
    admin: psycopg.Connection,
    owner: psycopg.Connection,
    common: Sequence[CommonRow],
    columns: Sequence[sql.Identifier],
) -> bytes:
    """pg_mcv_list of these rows, in its binary form (statext_mcv_serialize())."""
    work = sql.Identifier("public", _WORK)
    types = owner.execute(
        "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = %s::regclass "
        "AND attnum > 0 ORDER BY attnum",
        [f"public.{_WORK}"],
    ).fetchall()
    marks = sql.SQL(", ").join(sql.SQL("%s::text::{}").format(sql.SQL(t[0])) for t in types)
    if any(len(row.values) != len(types) for row in common):
        raise ValueError("common rows of another width")
    with owner.cursor() as cursor:
        cursor.executemany(
            sql.SQL("INSERT INTO {} VALUES ({})").format(work, marks),
            [list(row.values) for row in common],
        )
    name = sql.Identifier("public", f"{_WORK}_rows")
    for command in (
        sql.SQL("CREATE STATISTICS {} (mcv) ON {} FROM {}").format(
            name, sql.SQL(", ").join(columns), work
        ),
        sql.SQL("ALTER STATISTICS {} SET STATISTICS {}").format(name, sql.Literal(_TARGET)),
        sql.SQL("ANALYZE {}").format(work),
    ):
        owner.execute(command)
    row = admin.execute(
        "SELECT d.stxdmcv::bytea FROM pg_statistic_ext e JOIN pg_statistic_ext_data d "
        "ON d.stxoid = e.oid WHERE e.stxname = %s AND e.stxnamespace = 'public'::regnamespace",
        [f"{_WORK}_rows"],
    ).fetchone()
    if row is None or row[0] is None:
        raise ValueError("no list of common rows was made")
    made = admin.execute(
        'SELECT i."values" FROM pg_statistic_ext e JOIN pg_statistic_ext_data d '
        "ON d.stxoid = e.oid CROSS JOIN LATERAL pg_mcv_list_items(d.stxdmcv) i "
        "WHERE e.stxname = %s AND e.stxnamespace = 'public'::regnamespace ORDER BY i.index",
        [f"{_WORK}_rows"],
    ).fetchall()
    return _with_frequencies(row[0], [tuple(m[0]) for m in made], common, len(types))


def _with_frequencies(
    data: bytes, made: Sequence[tuple[str | None, ...]], common: Sequence[CommonRow], width: int
) -> bytes:
    """Set the frequencies of a serialized list, whose items are its last bytes: for each a flag

    per member, two doubles, and a 16-bit number per member."""
    known = {row.values: row for row in common}
    size = 3 * width + 16
    changed = bytearray(data)
    start = len(data) - size * len(made)
    for number, values in enumerate(made):
        row = known[values]
        struct.pack_into(
            "=dd", changed, start + number * size + width, row.frequency, row.base_frequency
        )
    return bytes(changed)
