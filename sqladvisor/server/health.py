"""Runs the database/ rules on a server: their queries, with an ordinary role's rights.

A rule that may not look, waits for a lock or takes too long is said to have seen nothing; it never
ends the run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.rows import dict_row

from sqladvisor.database import DatabaseContext
from sqladvisor.finding import Finding, InputProblem
from sqladvisor.rule import Rule
from sqladvisor.rule_sql import COLUMNS, NOTE, query
from sqladvisor.server.connect import one_line
from sqladvisor.server.session import MARK, LiveSession

REST, LONGEST_REST_S = 2.0, 0.05
"""After each query the server has so many times its duration to itself, at most so long (seconds): a
look at it shall not be a burst that others feel."""
_ROLE = """
/* sqladvisor */
SELECT quote_ident(r.rolname), r.rolsuper,
       r.rolsuper OR pg_has_role(r.oid, 'pg_read_all_stats', 'USAGE'),
       r.rolsuper OR NOT EXISTS (
           SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
           WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
             AND (c.relkind IN ('r', 'm', 'p') AND NOT has_table_privilege(c.oid, 'SELECT')
                  OR CASE WHEN c.relkind = 'S' THEN NOT has_sequence_privilege(c.oid, 'SELECT, USAGE') END))
FROM pg_roles r WHERE r.rolname = current_user"""

READER_VERSION = 140000
"""server_version_num of the first PostgreSQL with the role pg_read_all_data."""


@dataclass(frozen=True, slots=True)
class Role:
    """Who we are on the server. ``name`` is quoted where it must be."""

    name: str
    superuser: bool
    monitor: bool
    """Whether we see the sessions and statements of others."""
    reader: bool
    """Whether we may SELECT from all tables and sequences: statistics are shown only then."""

    def lacks(self, needed: str, version: int) -> str:
        """What lets a rule see everything on a server of this version; "" where it does."""
        if needed == "pg_monitor" and not self.monitor:
            return f"GRANT pg_monitor TO {self.name} shows them"
        if needed != "select" or self.reader:
            return ""
        if version >= READER_VERSION:
            return f"GRANT pg_read_all_data TO {self.name} shows them"
        return (
            f"GRANT SELECT on all tables and sequences TO {self.name} shows them, and USAGE of their "
            f"schemas; PostgreSQL {version // 10000} has no pg_read_all_data"
        )


@dataclass(slots=True)
class Health:
    """What the rules found; ``unseen`` says what they could not see, and for want of what."""

    role: Role
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    problems: list[InputProblem] = field(default_factory=list)
    checked: int = 0
    """Rules that ran to their end."""


def read_role(connection: psycopg.Connection) -> Role:
    row = connection.execute(_ROLE).fetchone()
    assert row is not None
    return Role(*row)


def examine(
    session: LiveSession,
    rules: Sequence[Rule],
    thresholds: Mapping[str, Mapping[str, float]],
    place: str,
    say: Callable[[str], None],
) -> Health:
    """Run all rules that are queries. Raises ServerError when the server cannot be had any more."""
    health = Health(session.run(read_role))
    hidden: dict[tuple[str, str], list[str]] = {}
    version = session.connection.info.server_version
    for rule in rules:
        if not rule.variants:
            continue
        say(f"looking at the server: {rule.id}")
        began = time.monotonic()
        sql = query(rule, version, thresholds.get(rule.id, {}))
        if sql is None:
            continue
        try:
            rows = session.run(lambda connection, sql=sql: _rows(connection, sql))  # type: ignore[misc]
            time.sleep(min(REST * (time.monotonic() - began), LONGEST_REST_S))
            found = list(_judged(rows, rule, place, health))
        except psycopg.Error as error:
            if reason := _why_not(error):
                health.unseen.append(f"{rule.id} saw nothing: {reason}")
            else:
                health.problems.append(
                    InputProblem(place, f"rule {rule.id} failed: {one_line(error)}")
                )
            continue
        except (KeyError, TypeError, AttributeError) as error:
            health.problems.append(
                InputProblem(
                    place,
                    f"rule {rule.id} failed: {error!r} (its query must return {', '.join(COLUMNS)})",
                )
            )
            continue
        health.checked += 1
        health.findings += found
        if how := health.role.lacks(rule.role, version):
            hidden.setdefault((rule.unseen, how), []).append(rule.id)
    for (what, how), ids in hidden.items():
        health.unseen.append(f"{what}: not seen by {', '.join(ids)} ({how})")
    return health


def _rows(connection: psycopg.Connection, sql: str) -> list[dict[str, Any]]:
    # One statement per message: a binary result makes psycopg use the extended protocol. Types that
    # PostgreSQL's regclass and numeric have in text are cast in the queries.
    with psycopg.RawCursor(connection, row_factory=dict_row) as cursor:
        cursor.execute(f"{sql}\n{MARK}".encode(), prepare=False, binary=True)
        return cursor.fetchall()


def _judged(
    rows: Sequence[Mapping[str, Any]], rule: Rule, place: str, health: Health
) -> Iterator[Finding]:
    context = DatabaseContext(place)
    context.rule = rule
    for row in rows:
        if row["severity"] == NOTE:
            health.notes.append(f"{rule.id}: {row['message']}")
        yield from rule.check(row, context)


def _why_not(error: psycopg.Error) -> str:
    """Why a rule could not look, in words; "" where it is the rule's own fault."""
    if isinstance(error, psycopg.errors.LockNotAvailable):
        return "another session has locked what it looks at"
    if isinstance(error, psycopg.errors.QueryCanceled):
        return "it took too long"
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return one_line(error)
    # What was there when the query was planned is gone: a table dropped in between.
    gone = isinstance(error, psycopg.errors.UndefinedTable) and "with OID" in str(error)
    return one_line(error) if gone else ""
