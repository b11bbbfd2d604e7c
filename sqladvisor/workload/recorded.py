"""The statements that a server has recorded: pg_stat_statements, where the role may read it."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg import sql

from sqladvisor.server.connect import one_line

MAX_RECORDED = 5_000
"""Statements read, the longest running first; pg_stat_statements.max is 5,000 unless changed."""
_PLACE = """
SELECT n.nspname FROM pg_catalog.pg_extension e
JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pg_stat_statements'"""
_READ = """
SELECT queryid::text, min(query), sum(calls)::float8, sum(total_exec_time)::float8, sum(rows)::float8
FROM {}.pg_stat_statements(true)
WHERE dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
  AND queryid IS NOT NULL
GROUP BY queryid ORDER BY 4 DESC, 1 LIMIT %s"""
HIDDEN = "<insufficient privilege>"


@dataclass(frozen=True, slots=True)
class Recorded:
    """One statement as pg_stat_statements has it: constants are ``$n``."""

    queryid: str
    text: str
    calls: float
    total_ms: float
    rows: float


def read_recorded(connection: psycopg.Connection) -> tuple[list[Recorded], list[str]]:
    """The statements of this database, the longest running first, and notes of what is lacking.

    Never raises for want of the extension or of the privilege: the notes say so.
    """
    try:
        place = connection.execute(_PLACE).fetchone()
        if place is None:
            return [], ["pg_stat_statements is not installed in this database: name a --workload"]
        rows = connection.execute(
            sql.SQL(_READ).format(sql.Identifier(place[0])),
            [MAX_RECORDED],
        ).fetchall()
    except psycopg.Error as error:
        if connection.closed:
            raise
        return [], [f"pg_stat_statements cannot be read: {one_line(error)}"]
    found = [Recorded(*row) for row in rows if row[1] != HIDDEN]
    hidden = len(rows) - len(found)
    notes = []
    if hidden:
        notes.append(
            f"{hidden} statements of other roles are hidden: pg_read_all_stats shows their texts"
        )
    if len(rows) == MAX_RECORDED:
        notes.append(f"only the {MAX_RECORDED:,} longest running statements were read")
    return found, notes
