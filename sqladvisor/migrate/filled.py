"""The set run once more, on tables with generated rows: what fails on data, and what loops over it lock.

Every row of them is one that the schema allows: a CHECK, a key, a trigger that refuses it keeps it out.
So what fails here may fail in production. Whether it does, its rows decide, of which statistics tell
something: columns without NULL, or values that repeat.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg

from sqladvisor.finding import Evidence, Finding, Severity
from sqladvisor.migrate.reconcile import fingerprint, first_line, hidden
from sqladvisor.migrate.trace import Step, Trace, trace
from sqladvisor.prove.compared import Compared
from sqladvisor.prove.databases import everyday
from sqladvisor.prove.ground import TIMEOUT_MS, make_ready, put_rows
from sqladvisor.prove.tables import ForeignKey, Used, read_foreign_keys, used_tables
from sqladvisor.prove.values import make_pools

if TYPE_CHECKING:
    from sqladvisor.catalog.statistics import Statistics
    from sqladvisor.migrate.stage import Stage
    from sqladvisor.server.sandbox import Sandbox

FAILS_ON_DATA = "migration/fails-on-data"
MAX_TABLES = 40
"""Tables that get rows, those of the first statements first: some 20 ms each."""
NOT_NULL, UNIQUE = "23502", "23505"
_DATA = ("22", "23")
"""SQLSTATE classes of values and of constraints."""
_SAYS_SO = frozenset(("migration/unique-index-on-existing", "migration/add-required-column"))
"""Rules that say themselves that rows may make a statement fail."""
_KEY = re.compile(r"Key \((?P<column>[^(),]+)\)=")
_TABLES = """
SELECT c.oid::int8, format('%%I.%%I', n.nspname, c.relname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY (%s::oid[])"""
_OIDS = "SELECT to_regclass(name)::oid::int8 FROM unnest(%s::text[]) AS name"


def on_rows(
    stage: Stage,
    seen: Trace,
    findings: Sequence[Finding],
    statistics: Statistics | None = None,
    *,
    each: bool = False,
) -> list[Finding]:
    """What the stage's migrations do on rows that ``seen``, their trace on none, does not show.

    ``statistics``: of the database itself. Raises ServerError and psycopg.Error when the server is
    lost.
    """
    names = _touched(seen)
    if not names:
        return []
    with stage.copy() as sandbox:
        filled = fill(sandbox, names)
        if not filled:
            return []
        found = trace(sandbox, stage.migrations, each=each)
    told: dict[tuple[str, str], set[str]] = {}
    for finding in findings:
        told.setdefault((finding.location.path, finding.statement), set()).add(finding.rule)
    result: list[Finding] = []
    reasons: set[str] = set()
    for before, after in zip(seen.steps, found.steps, strict=True):
        if not before.traced:
            continue
        if after.failure:
            rules = told.get((after.statement.path, after.statement.text), set())
            if after.failure not in reasons:
                reasons.add(after.failure)
                result += _failure(after, rules, statistics)
        else:
            known = {(lock.relation, lock.mode) for lock in before.locks}
            result += [
                _looped(f)
                for lock, f in hidden(after, (), found)
                if (lock.relation, lock.mode) not in known
            ]
    return result


def _touched(seen: Trace) -> list[str]:
    """The tables there before that the set locks in any way, in its order."""
    found: dict[str, None] = {}
    for step in seen.steps:
        for lock in (*step.locks, *step.held):
            if lock.kind in ("table", "partitioned table"):
                found.setdefault(lock.relation)
    return list(found)[:MAX_TABLES]


def fill(sandbox: Sandbox, names: Sequence[str]) -> int:
    """Put rows into tables, and into those that they refer to; how many there are then."""
    with sandbox.connect() as connection:
        connection.execute("SET client_min_messages = error")
        connection.execute(f"SET statement_timeout = {TIMEOUT_MS * 4}")
        make_ready(connection)
        keys = read_foreign_keys(connection)
        used = used_tables(connection, _with_targets(connection, names, keys), keys)
        pools = make_pools(connection, used.tables, Compared(whole_rows=True), used.keys)
        tables, database = everyday(used, pools, "gate")
        for table in tables:
            try:
                put_rows(connection, [table], database)
            except psycopg.errors.QueryCanceled:
                continue  # its triggers or defaults take too long
        _move_sequences(connection, used)
        return _count(connection, used)


def _with_targets(
    connection: psycopg.Connection, names: Sequence[str], keys: Sequence[ForeignKey]
) -> list[str]:
    oids = {oid for (oid,) in connection.execute(_OIDS, [list(names)]).fetchall() if oid}
    while more := {k.target for k in keys if k.table in oids} - oids:
        oids |= more
    return [name for _, name in connection.execute(_TABLES, [sorted(oids)]).fetchall()]


def _move_sequences(connection: psycopg.Connection, used: Used) -> None:
    """So that what the migrations insert does not meet the keys of generated rows."""
    for sequence in used.sequences:
        connection.execute("SELECT setval(%s::regclass, 10001)", [sequence])


def _count(connection: psycopg.Connection, used: Used) -> int:
    total = 0
    for table in used.tables:
        row = connection.execute(f"SELECT count(*) FROM {table.sql}".encode()).fetchone()
        total += row[0] if row else 0
    return total


# -- findings -------------------------------------------------------------------------------------


def _failure(step: Step, rules: set[str], statistics: Statistics | None) -> Iterator[Finding]:
    if not step.sqlstate.startswith(_DATA):
        return  # a program that asks for something of its rows, a time limit
    if step.sqlstate == UNIQUE and step.statement.kind == "InsertStmt":
        return  # the key of a generated row, and nobody's else
    known = _known(step, statistics)
    if known is False or (known is None and _SAYS_SO & rules):
        return
    severity: Severity = "error" if known else "info"
    says = str(known) if known else "whether yours are so, the schema does not tell"
    detail = f": {step.detail}" if step.detail else ""
    statement = step.statement
    yield Finding(
        FAILS_ON_DATA,
        severity,
        f"Fails on rows that the schema allows: {step.failure}",
        first_line(statement),
        statement.text,
        fingerprint(statement),
        Evidence(
            "measured",
            {"error": step.failure, "sqlstate": step.sqlstate, "detail": step.detail},
            (f"tried on generated rows{detail}", says),
        ),
    )


def _known(step: Step, statistics: Statistics | None) -> str | bool | None:
    """What statistics say: False that it does not fail, in words that it does, None nothing."""
    if statistics is None:
        return None
    table, column = step.column
    if step.sqlstate == UNIQUE and (match := _KEY.match(step.detail)):
        column = match["column"].strip('"')
    values = _values(statistics, table, column)
    if values is None:
        return None
    if step.sqlstate == NOT_NULL:
        share = float(values.get("null_frac") or 0.0)
        return f"statistics: {share:.2%} of {table[1]}.{column} is NULL" if share else False
    if step.sqlstate == UNIQUE:
        distinct = float(values.get("n_distinct") or 0.0)
        if distinct == -1.0:
            return False
        if distinct > 0:
            return f"statistics: {table[1]}.{column} has some {distinct:,.0f} values only"
    return None


def _values(
    statistics: Statistics, table: tuple[str, str], column: str
) -> Mapping[str, str | None] | None:
    rows = {(r.schema, r.name): r.reltuples for r in statistics.relations}
    for own in statistics.columns:
        if (own.schema, own.table, own.column) == (*table, column) and own.kind in ("r", "p"):
            return own.values if rows.get(table, 0) > 0 else None
    return None


def _looped(finding: Finding) -> Finding:
    evidence = finding.evidence
    note = "seen on generated rows: on empty tables it does nothing of this"
    return replace(finding, evidence=replace(evidence, notes=(*evidence.notes, note)))
