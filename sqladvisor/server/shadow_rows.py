"""The two rows of a shadow's tables: the smallest and the largest value of each column.

The planner looks up the ends of an index (get_actual_variable_range()) instead of trusting a
histogram's. Constraints are off while the rows go in: ends of different columns never met in a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager

import psycopg
from psycopg import sql

from sqladvisor.catalog.stand_ins import array_items
from sqladvisor.catalog.statistics import Statistics
from sqladvisor.server.many import batches
from sqladvisor.server.sandbox import ROLE

Ends = dict[str, tuple[str | None, str | None]]
Table = tuple[str, str]
"""Schema and name."""
BATCH = 50
"""Tables whose rows go in by one message."""


def insert_ends(
    admin: psycopg.Connection, owner: psycopg.Connection, statistics: Statistics
) -> None:
    """Insert them, as the owner: types and generated columns may call functions of the schema.

    ``owner`` is a session in which neither triggers nor rules fire (Sandbox.loader()).
    """
    probed: dict[Table, Ends] = {}
    for (schema, table, name), ends in statistics.ends.items():
        probed.setdefault((schema, table), {})[name] = ends
    bounds: dict[Table, Ends] = {}
    for column in statistics.columns:
        if column.kind in "rm" and not column.inherited:
            ends = _histogram_ends(column.values)
            bounds.setdefault((column.schema, column.table), {})[column.column] = ends
    with _unconstrained(admin, bounds.keys() | probed.keys()) as writable:
        for keys in batches(sorted(writable), BATCH):
            together = sql.SQL(";\n").join(
                _row(key, chosen, writable[key], (0, 1))
                for key in keys
                if (chosen := _chosen(bounds.get(key, {}) | probed.get(key, {}), writable[key]))
            )
            try:
                owner.execute(together)
            except psycopg.Error:
                if owner.closed:
                    raise
                for key in keys:
                    _insert_singly(owner, key, bounds, probed, writable[key])


def _chosen(ends: Ends, types: Mapping[str, str]) -> Ends:
    return {column: ends[column] for column in types if column in ends}


def _insert_singly(
    owner: psycopg.Connection,
    key: Table,
    bounds: Mapping[Table, Ends],
    probed: Mapping[Table, Ends],
    types: Mapping[str, str],
) -> None:
    """Each row by itself: a domain, a generated column, or a type may refuse a histogram's ends."""
    known = probed.get(key, {})
    for side in (0, 1):
        for values in (bounds.get(key, {}) | known, known):
            chosen = _chosen(values, types)
            if not chosen or _inserted(owner, _row(key, chosen, types, (side,))):
                break


def _inserted(owner: psycopg.Connection, command: sql.Composed) -> bool:
    try:
        owner.execute(command)
    except psycopg.Error:
        if owner.closed:
            raise
        return False
    return True


def _row(
    table: Table, chosen: Ends, types: Mapping[str, str], sides: tuple[int, ...]
) -> sql.Composed:
    rows = [
        sql.SQL("({})").format(
            sql.SQL(", ").join(
                sql.SQL("{}::text::{}").format(sql.Literal(ends[side]), sql.SQL(types[column]))
                for column, ends in chosen.items()
            )
        )
        for side in sides
    ]
    return sql.SQL(
        "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE VALUES {} ON CONFLICT DO NOTHING"
    ).format(
        sql.Identifier(*table),
        sql.SQL(", ").join(map(sql.Identifier, chosen)),
        sql.SQL(", ").join(rows),
    )


_WRITABLE = """
SELECT n.nspname, c.relname, c.oid::int8, a.attname, format_type(a.atttypid, a.atttypmod)
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm') AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
  AND pg_get_userbyid(c.relowner) = %s
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
ORDER BY c.oid, a.attnum"""
# RETURNING would give what has been set: what was is read first.
_OFF = (
    (
        "SELECT attrelid::int8, attnum::int4 FROM pg_attribute WHERE attrelid = ANY (%s::int8[]::oid[]) "
        "AND attnotnull AND attnum > 0 AND NOT attisdropped AND attgenerated = ''",
        "UPDATE pg_attribute a SET attnotnull = false "
        "FROM unnest(%s::int8[], %s::int4[]) AS o (oid, number) "
        "WHERE a.attrelid = o.oid::oid AND a.attnum = o.number",
        "UPDATE pg_attribute a SET attnotnull = true "
        "FROM unnest(%s::int8[], %s::int4[]) AS o (oid, number) "
        "WHERE a.attrelid = o.oid::oid AND a.attnum = o.number",
    ),
    (
        "SELECT oid::int8, relchecks::int4, relispartition, relkind::text FROM pg_class "
        "WHERE oid = ANY (%s::int8[]::oid[]) AND (relchecks > 0 OR relispartition OR relkind = 'm')",
        "UPDATE pg_class c SET relchecks = 0, relispartition = false, relkind = 'r', "
        "relhasrules = c.relhasrules AND o.kind <> 'm' "
        "FROM unnest(%s::int8[], %s::int4[], %s::bool[], %s::text[]) AS o (oid, checks, part, kind) "
        "WHERE c.oid = o.oid::oid",
        "UPDATE pg_class c SET relchecks = o.checks, relispartition = o.part, relkind = o.kind::\"char\", "
        "relhasrules = c.relhasrules OR o.kind = 'm' "
        "FROM unnest(%s::int8[], %s::int4[], %s::bool[], %s::text[]) AS o (oid, checks, part, kind) "
        "WHERE c.oid = o.oid::oid",
    ),
)  # fmt: skip


@contextmanager
def _unconstrained(
    admin: psycopg.Connection, wanted: AbstractSet[Table]
) -> Iterator[dict[Table, dict[str, str]]]:
    """The tables' plain columns and their types, without constraints for the moment.

    A materialized view is made a table for as long; its rule is left alone by INSERT.
    """
    found: dict[Table, dict[str, str]] = {}
    oids: set[int] = set()
    for schema, table, oid, column, data_type in admin.execute(_WRITABLE, [ROLE]).fetchall():
        if (schema, table) in wanted:
            found.setdefault((schema, table), {})[column] = data_type
            oids.add(oid)
    were = []
    for read, off, on in _OFF:
        rows = admin.execute(read.encode(), [list(oids)]).fetchall()
        if rows:
            columns = [list(values) for values in zip(*rows, strict=True)]
            were.append((on, columns))
            admin.execute(off.encode(), columns)
    # Triggers that fire in any session: the rows are nobody's business.
    admin.execute("UPDATE pg_trigger SET tgenabled = 'D' WHERE tgenabled IN ('A', 'R')")
    try:
        yield found
    finally:
        if not admin.closed:
            for on, columns in were:
                admin.execute(on.encode(), columns)


def _histogram_ends(values: dict[str, str | None]) -> tuple[str | None, str | None]:
    text = values.get("histogram_bounds") or values.get("most_common_vals")
    found = array_items(text) if text else []
    return (found[0], found[-1]) if found else (None, None)
