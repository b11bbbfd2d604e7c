"""The two rows of a shadow's tables: the smallest and the largest value of each column.

The planner looks up the ends of an index (get_actual_variable_range()) instead of trusting a
histogram's. Constraints are off while the rows go in: ends of different columns never met in a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql

from sqladvisor.catalog.stand_ins import array_items
from sqladvisor.catalog.statistics import Statistics
from sqladvisor.server.sandbox import ROLE

Ends = dict[str, tuple[str | None, str | None]]


def insert_ends(
    admin: psycopg.Connection, owner: psycopg.Connection, statistics: Statistics
) -> None:
    """Insert them, as the owner: types and generated columns may call functions of the schema."""
    probed: dict[tuple[str, str], Ends] = {}
    for (schema, table, name), ends in statistics.ends.items():
        probed.setdefault((schema, table), {})[name] = ends
    bounds: dict[tuple[str, str], Ends] = {}
    for column in statistics.columns:
        if column.kind in "rm" and not column.inherited:
            ends = _histogram_ends(column.values)
            bounds.setdefault((column.schema, column.table), {})[column.column] = ends
    for key in sorted(bounds.keys() | probed.keys()):
        known = probed.get(key, {})
        with _unconstrained(admin, *key) as writable:
            for side in (0, 1):
                # A domain, a generated column, or a rule may refuse the ends of a histogram.
                for values in (bounds.get(key, {}) | known, known):
                    chosen = {c: values[c][side] for c in writable if c in values}
                    if not chosen or _insert(owner, key, chosen, writable):
                        break


def _insert(
    owner: psycopg.Connection,
    table: tuple[str, str],
    chosen: dict[str, str | None],
    types: dict[str, str],
) -> bool:
    names = sql.SQL(", ").join(map(sql.Identifier, chosen))
    typed = sql.SQL(", ").join(sql.SQL("%s::text::{}").format(sql.SQL(types[c])) for c in chosen)
    try:
        owner.execute(
            sql.SQL(
                "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE VALUES ({}) ON CONFLICT DO NOTHING"
            ).format(sql.Identifier(*table), names, typed),
            list(chosen.values()),
        )
    except psycopg.Error:
        if owner.closed:
            raise
        return False
    return True


@contextmanager
def _unconstrained(admin: psycopg.Connection, schema: str, table: str) -> Iterator[dict[str, str]]:
    """The table's plain columns and types, its constraints off for the moment and its triggers for

    good. A materialized view is made a table for as long; its rule is left alone by INSERT."""
    rows = admin.execute(
        """SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, c.oid::int8,
            c.relkind::text, c.relchecks::int, c.relispartition
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'm') AND a.attnum > 0
          AND NOT a.attisdropped AND a.attgenerated = '' AND pg_get_userbyid(c.relowner) = %s
        ORDER BY a.attnum""",
        [schema, table, ROLE],
    ).fetchall()
    if not rows:
        yield {}
        return
    oid, kind, checks, partition = rows[0][3:]
    required = [r[0] for r in rows if r[2]]
    columns = "UPDATE pg_attribute SET attnotnull = %s WHERE attrelid = %s AND attname = ANY (%s)"
    relation = "UPDATE pg_class SET relchecks = %s, relispartition = %s, relkind = %s, relhasrules = %s WHERE oid = %s"
    if required:
        admin.execute(columns, [False, oid, required])
    if kind == "r":
        admin.execute(
            sql.SQL("ALTER TABLE {} DISABLE TRIGGER ALL").format(sql.Identifier(schema, table))
        )
    if checks or partition or kind == "m":
        admin.execute(relation, [0, False, "r", False, oid])
    try:
        yield {r[0]: r[1] for r in rows}
    finally:
        if not admin.closed:
            if required:
                admin.execute(columns, [True, oid, required])
            if checks or partition or kind == "m":
                admin.execute(relation, [checks, partition, kind, kind == "m", oid])


def _histogram_ends(values: dict[str, str | None]) -> tuple[str | None, str | None]:
    text = values.get("histogram_bounds") or values.get("most_common_vals")
    found = array_items(text) if text else []
    return (found[0], found[-1]) if found else (None, None)
