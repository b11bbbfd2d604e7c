"""Tries advice where there are rows: builds, runs both ways, times, and takes back what fails.

An index that does not pay when built is not advised. A rewrite that returns other rows is not
offered. A batch or prepared statement that saves nothing is not mentioned.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg

from sqladvisor.advise.rewrites import Tried, substituted, try_rewrite
from sqladvisor.advise.select import IndexAdvice, Use
from sqladvisor.errors import ServerError
from sqladvisor.finding import Evidence, Finding, Fix
from sqladvisor.server.connect import one_line
from sqladvisor.server.explain import explain
from sqladvisor.server.measure import Timing, time_script, time_statement
from sqladvisor.sql.quote import identifier
from sqladvisor.sql.source import read_source, statements

if TYPE_CHECKING:
    from sqladvisor.auditor import Options
    from sqladvisor.evidence import Planned
    from sqladvisor.server.target import Target

MIN_TIME_GAIN = 0.10
"""Share of the measured time an index must save: less is within the noise of repeated runs."""
MIN_SETTING_GAIN = 0.25
"""A setting must save more than an index: it is set by hand, and memory is taken from others."""
MIN_SAVED_MS = 0.2
"""And this much in absolute time: nobody waits for less."""
BUILD_TIMEOUT_MS = 60_000
"""An index that takes longer to build here is reported with the planner's estimate alone."""

Say = Callable[[str], None]
_INDEX = re.compile(r"^\s*CREATE (UNIQUE )?INDEX\b", re.IGNORECASE | re.MULTILINE)
_CONCURRENTLY = re.compile(r"(INDEX )CONCURRENTLY ", re.IGNORECASE)


# -- indexes ------------------------------------------------------------------------------------


def verify_indexes(
    target: Target,
    advice: Sequence[IndexAdvice],
    writing: frozenset[int],
    notes: list[str],
    say: Say,
) -> list[IndexAdvice]:
    """Build each advised index for real, time its statements before and after, drop it again."""
    kept = []
    dropped = 0
    for number, entry in enumerate(advice, 1):
        say(f"building index {number} of {len(advice)} for real")
        readable = [u for u in entry.uses if id(u.context) not in writing]
        before = {id(u): _before(target, u.sql) for u in readable}
        try:
            with built(target, entry, entry.uses) as size:
                entry.built_bytes = size
                for use in readable:
                    _compare(use, before[id(use)], _time(target, use.sql))
        except ServerError as error:
            entry.notes.append(f"could not be built here: {error}")
            kept.append(entry)
            continue
        timed = [u for u in readable if u.time_after_ms is not None]
        helped = [u for u in timed if _pays(u)]
        if timed and not helped:
            dropped += 1
            continue
        entry.measured = bool(timed)
        entry.uses = [u for u in entry.uses if u not in timed or u in helped]
        kept.append(entry)
    if dropped:
        notes.append(
            f"{dropped} index{'es' * (dropped > 1)} promised by the planner did not pay when built "
            "and timed here, and are not shown"
            if dropped > 1
            else "1 index promised by the planner did not pay when built and timed here, and is "
            "not shown"
        )
    return kept


def _compare(use: Use, before: Timing | None, after: Timing | None) -> None:
    if before is None or after is None:
        return
    use.time_before_ms, use.time_after_ms = before.median_ms, after.median_ms
    use.buffers_before, use.buffers_after = before.buffers, after.buffers


def _pays(use: Use) -> bool:
    assert use.time_before_ms is not None
    assert use.time_after_ms is not None
    saved = use.time_before_ms - use.time_after_ms
    return saved >= max(MIN_SAVED_MS, MIN_TIME_GAIN * use.time_before_ms)


def _before(target: Target, sql: str) -> Timing | None:
    """What the statement takes as things are: timed once."""
    if sql not in target.timings:
        timed = _time(target, sql)
        if timed is None:
            return None
        target.timings[sql] = timed
    return target.timings[sql]


def _time(target: Target, sql: str) -> Timing | None:
    try:
        return time_statement(target.connection, sql)
    except ServerError:
        return None


@contextmanager
def built(target: Target, entry: IndexAdvice, uses: Sequence[Use]) -> Iterator[int]:
    """The index and the companions its statements' plans need, built; yields its size in bytes."""
    names = []
    companions = dict.fromkeys(i for u in uses for i in u.companions)
    connection = target.connection
    try:
        with _timeout(connection, BUILD_TIMEOUT_MS):
            for position, index in enumerate((entry.index, *companions)):
                name = f"sqladvisor_try_{position}"
                connection.execute(index.ddl(name=name).encode())
                names.append(name)
        row = connection.execute(
            "SELECT pg_relation_size(i.indexrelid) FROM pg_index i JOIN pg_class c "
            "ON c.oid = i.indexrelid WHERE c.relname = 'sqladvisor_try_0'"
        ).fetchone()
        yield int(row[0]) if row else 0
    except psycopg.Error as error:
        raise ServerError(one_line(error)) from error
    finally:
        if not connection.closed:
            for name in names:
                schema = _schema_of(entry)
                connection.execute(f"DROP INDEX IF EXISTS {schema}{identifier(name)}".encode())


def _schema_of(entry: IndexAdvice) -> str:
    schema, dot, _ = entry.index.table.rpartition(".")
    return f"{schema}{dot}"


@contextmanager
def _timeout(connection: psycopg.Connection, limit_ms: int) -> Iterator[None]:
    row = connection.execute("SHOW statement_timeout").fetchone()
    connection.execute(f"SET statement_timeout = {limit_ms}".encode())
    try:
        yield
    finally:
        if not connection.closed:
            connection.execute(f"SET statement_timeout = '{row[0] if row else 0}'".encode())


# -- rewrites, batches, prepared statements -----------------------------------------------------


def verify_findings(
    target: Target,
    findings: Sequence[Finding],
    planned: Sequence[Planned],
    options: Options,
    say: Say,
) -> list[Finding]:
    """Try every fix that can be tried here. Returns the findings that stand, evidence raised."""
    by_statement = {(p.context.statement.path, p.context.statement.start): p for p in planned}
    located = {
        (p.context.statement.path, p.context.statement.text): p for p in by_statement.values()
    }
    result = []
    for number, finding in enumerate(findings, 1):
        say(f"proving finding {number} of {len(findings)}")
        item = located.get((finding.location.path, finding.statement))
        checked: Finding | None = finding
        if finding.experiment is not None and target.can_build:
            checked = _experiment(target, finding)
        elif item is not None and not finding.rule.startswith("index/"):
            checked = _prove_fixes(target, finding, item, say)
        if checked is not None:
            result.append(checked)
    return result


def _experiment(target: Target, finding: Finding) -> Finding | None:
    experiment = finding.experiment
    assert experiment is not None
    try:
        before = time_script(target.connection, experiment.before)
    except ServerError as error:
        # Rows that are there already, a function the sandbox lacks: the advice may still be right.
        note = f"not measured: {error}"
        evidence = replace(finding.evidence, notes=(*finding.evidence.notes, note))
        return replace(finding, evidence=evidence)
    try:
        after = time_script(target.connection, experiment.after)
    except ServerError:
        return replace(finding, fixes=())  # what is advised does not run here: not to be pasted
    needed = MIN_SETTING_GAIN if experiment.kind == "setting" else MIN_TIME_GAIN
    if after >= before * (1 - needed):
        return None
    figures = {
        **finding.evidence.figures,
        "time_before_ms": before,
        "time_after_ms": after,
        "statements_before": len(experiment.before),
        "statements_after": len(experiment.after),
    }
    if experiment.kind == "setting":
        note = f"measured {experiment.label_before}, then {experiment.label_after}"
    else:
        note = (
            f"{experiment.label_before}: {len(experiment.before)} round trips, "
            f"{experiment.label_after}: {len(experiment.after)}, on a local socket "
            "(a network adds its latency to each)"
        )
    return replace(finding, evidence=Evidence("measured", figures, (*finding.evidence.notes, note)))


def _prove_fixes(target: Target, finding: Finding, item: Planned, say: Say) -> Finding | None:
    fixes: list[Fix] = []
    refuted: dict[str, str] = {}
    level = finding.evidence.level
    for fix in finding.fixes:
        if fix.kind == "rewrite" and finding.experiment is None:
            tried = try_rewrite(target, fix, item, say)
            proven = tried.fix
            if tried.fix is None:
                refuted[f"refuted_{len(refuted) + 1}"] = _refutation(fix, tried)
        elif fix.kind == "ddl" and target.can_build and _INDEX.search(fix.sql):
            # An index that the statement cannot use as it is may serve its rewrite.
            rewritten = [substituted(f.sql, item) for f in fixes if f.proof.get("same_rows")]
            tries = (_prove_index(target, fix, item, sql) for sql in (item.sql, *rewritten) if sql)
            proven = next((tried for tried in tries if tried is not None), None)
        else:
            proven = fix
        if proven is not None:
            fixes.append(proven)
            if "time_after_ms" in proven.proof or "rows" in proven.proof:
                level = "measured"
            elif "cost_after" in proven.proof and level == "static":
                level = "estimated"
    figures = {**finding.evidence.figures, **refuted}
    evidence = replace(finding.evidence, level=level, figures=figures)
    return replace(finding, fixes=tuple(fixes), evidence=evidence)


def _refutation(fix: Fix, tried: Tried) -> str:
    """For --verbose and JSON: the rewrite not offered, and the rows on which it is wrong."""
    rows = "; ".join(tried.rows)
    return f"{fix.description}: {tried.reason}" + (f" with {rows}" if rows else "")


def _prove_index(target: Target, fix: Fix, item: Planned, sql: str) -> Fix | None:
    """Build the index of a DDL fix, see whether ``sql``'s plan uses it and what it saves, drop it.

    ``sql`` is the statement or a proven rewrite of it."""
    connection = target.connection
    try:
        before = explain(connection, sql, generic=item.generic, writes=item.writes)
        existing = _index_names(connection)
        with _timeout(connection, BUILD_TIMEOUT_MS):
            _build(target, fix.sql)
    except (ServerError, psycopg.Error) as error:
        if connection.closed:
            raise
        cause = one_line(error) if isinstance(error, psycopg.Error) else str(error)
        return replace(fix, proof={"note": f"could not be built here: {cause}"})
    new = sorted(_index_names(connection) - existing)
    try:
        connection.execute(f"ANALYZE {new[0][2]}".encode())
        after = explain(connection, sql, generic=item.generic, writes=item.writes)
        if not {name for _, name, _ in new} & after.indexes_used():
            return None
        proof: dict[str, Any] = {"cost_before": before.total_cost, "cost_after": after.total_cost}
        row = connection.execute(
            "SELECT pg_relation_size(%s::regclass)", [f"{new[0][0]}.{identifier(new[0][1])}"]
        ).fetchone()
        proof["size_bytes"] = int(row[0]) if row else 0
        timed = None if item.generic or item.writes else _time(target, sql)
    finally:
        for schema, name, _ in new:
            connection.execute(f"DROP INDEX {schema}.{identifier(name)}".encode())
    if timed is not None:
        first = _before(target, sql)
        if first is not None:
            proof |= {"time_before_ms": first.median_ms, "time_after_ms": timed.median_ms}
            proof |= {"buffers_before": first.buffers, "buffers_after": timed.buffers}
            if timed.median_ms > first.median_ms * (1 - MIN_TIME_GAIN):
                return None
    return replace(fix, proof=proof)


def _build(target: Target, ddl: str) -> None:
    """Run the DDL of an index, without CONCURRENTLY; its extension as the superuser."""
    for statement in statements(read_source("fix", ddl.encode()))[0]:
        if statement.kind == "CreateExtensionStmt" and target.admin is not None:
            with target.admin() as admin:
                admin.execute(statement.sql.encode())
        else:
            target.connection.execute(_CONCURRENTLY.sub(r"\1", statement.sql, count=1).encode())


def _index_names(connection: psycopg.Connection) -> set[tuple[str, str, str]]:
    rows = connection.execute(
        "SELECT quote_ident(n.nspname), c.relname, i.indrelid::regclass::text FROM pg_index i "
        "JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname NOT IN ('pg_catalog', 'pg_toast', 'information_schema')"
    ).fetchall()
    return {(str(a), str(b), str(c)) for a, b, c in rows}
