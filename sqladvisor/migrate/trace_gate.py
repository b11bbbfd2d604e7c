"""The part of the gate that runs: trace, sizes and plans, on an embedded server of its own.

What cannot be had is said in a note; what static rules found without it stands.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import psycopg

from sqladvisor.auditor import Audited, read_files
from sqladvisor.auditor import Options as AuditOptions
from sqladvisor.catalog.empty import EMPTY
from sqladvisor.catalog.statistics import Statistics
from sqladvisor.errors import InputError, ServerError
from sqladvisor.finding import Finding, InputProblem
from sqladvisor.migrate.context import Settings
from sqladvisor.migrate.model import Migration, MigrationSet
from sqladvisor.migrate.reconcile import reconcile
from sqladvisor.migrate.rows import (
    Key,
    Size,
    calibrate,
    concerned,
    sizes_of_catalog,
    sizes_of_snapshot,
    weigh,
)
from sqladvisor.migrate.stage import Stage, apply
from sqladvisor.migrate.start import Start
from sqladvisor.migrate.trace import Trace, place, trace
from sqladvisor.server.binaries import find_binaries
from sqladvisor.server.connect import connect_target, one_line, resolve_dsn
from sqladvisor.server.dump import dump_schema, unreadable
from sqladvisor.server.embedded import Cluster
from sqladvisor.server.sandbox import Loaded, Sandbox
from sqladvisor.server.shadow import UNKNOWN_STORAGE
from sqladvisor.server.snapshot import read_workload
from sqladvisor.server.statistics import assume_rows, read_statistics
from sqladvisor.sql.source import read_source
from sqladvisor.sql.statement import Statement

if TYPE_CHECKING:
    from sqladvisor.catalog.snapshot import WorkloadQuery
    from sqladvisor.migrate.gate import GateOptions
    from sqladvisor.server.binaries import Binaries

Say = Callable[[str], None]
_SAY_THE_SAME = ("migration/not-idempotent", "migration/invalid-index-hidden")
"""Rules that tell by the text what a retry shows."""
_PASSING = ("08", "53", "55P03", "57", "58", "XX")
"""SQLSTATEs of what may be otherwise next time: time limits, lost connections, a full disk."""
MAX_NOTES = 5
"""Notes on what of the starting schema could not be made."""


@dataclass(slots=True)
class Tried:
    """What running the migrations made of the findings. ``trace`` None: nothing could be run."""

    findings: list[Finding]
    notes: list[str] = field(default_factory=list)
    problems: list[InputProblem] = field(default_factory=list)
    trace: Trace | None = None
    server: str = ""
    lost: bool = False
    """Whether a part of it could not be tried to the end."""
    settled: bool = False
    """Whether a second run would say the same: nothing was lost, and nothing took too long."""


@dataclass(frozen=True, slots=True)
class _Known:
    """The database as it is before the set: what its server, or nobody, tells of it."""

    ddl: str | None = None
    statistics: Statistics | None = None
    sizes: Mapping[Key, Size] = field(default_factory=dict)
    workload: Sequence[WorkloadQuery] = ()
    """The statements that its server has counted; ``lacking`` says what is not among them."""
    lacking: Sequence[str] = ()
    source: str = ""
    """Where they were counted, in words."""


def try_set(
    migrations: MigrationSet,
    findings: Sequence[Finding],
    start: Start,
    settings: Settings,
    options: GateOptions,
    say: Say,
    then: Callable[[Stage, Tried], None] | None = None,
) -> Tried:
    """Run the set and decide over the findings. Never raises for what a server does.

    ``then`` is called while the server is there, behind all else.
    """
    tried = Tried(list(findings))
    workload = _workload(options.workload, tried)
    if not any(m.judged and m.up for m in migrations.migrations):
        tried.settled = True
        return tried
    try:
        with ExitStack() as stack:
            say("starting PostgreSQL")
            binaries = find_binaries(options.postgres_bin)
            known = _known(binaries, start, options, say)
            if not options.workload:
                workload = _recorded(known, tried)
            cluster = stack.enter_context(Cluster(binaries, progress=say))
            number = cluster.version_num
            tried.server = f"traced on embedded PostgreSQL {number // 10000}.{number % 10000}"
            stage = _run(
                tried, binaries, cluster, migrations, start, known, settings, options, workload, say
            )
            tried.settled = not tried.lost and not any(
                s.sqlstate.startswith(_PASSING) for s in (tried.trace or Trace()).steps
            )
            if then is not None:
                then(stage, tried)
    except (ServerError, psycopg.Error) as error:
        tried.settled = False
        cause = one_line(error) if isinstance(error, psycopg.Error) else str(error)
        if options.dsn is not None or options.workload or options.fix:
            tried.problems.append(InputProblem("embedded server", cause))
        else:
            tried.notes.append(f"not traced: {cause} (--no-trace: static rules only)")
    say("")
    return tried


def _run(
    tried: Tried,
    binaries: Binaries,
    cluster: Cluster,
    migrations: MigrationSet,
    start: Start,
    known: _Known,
    settings: Settings,
    options: GateOptions,
    workload: Sequence[Statement],
    say: Say,
) -> Stage:
    sandbox = Sandbox(cluster, "gate")
    failed = _load(sandbox, start, known, say)
    stage = Stage(binaries, sandbox, migrations, say)
    tried.notes += [*_first(failed), *_first(stage.notes)]
    given = bool(start.statements or known.ddl) or any(not m.judged for m in migrations.migrations)
    # A variable's value may be what makes a name right.
    complete = given and not failed and not stage.notes and not migrations.variables
    with stage.copy() as database:
        traced = trace(database, stage.migrations, say, each=not settings.together)
    tried.trace = traced
    tried.findings, notes = reconcile(
        tried.findings, traced, pg_version=settings.pg_version, complete=complete, given=given
    )
    tried.notes += notes
    if given:
        from sqladvisor.migrate.filled import on_rows

        say("trying generated rows")
        try:
            tried.findings += on_rows(
                stage, traced, tried.findings, known.statistics, each=not settings.together
            )
        except psycopg.Error as error:
            tried.notes.append(f"not tried on generated rows: {one_line(error)}")
            tried.lost = True
    if concerned(tried.findings, known.sizes, settings.min_rows):
        say("measuring the embedded server")
        rates = calibrate(cluster)
    else:
        rates = None
    tried.findings = weigh(tried.findings, known.sizes, rates, settings.min_rows)
    if workload:
        from sqladvisor.migrate.regress import compare_plans

        statistics = known.statistics
        if statistics is None:
            with stage.start.connect() as connection:
                statistics = assume_rows(read_statistics(connection), options.assume_rows)
            tried.notes.append(
                f"plans assume {options.assume_rows:,} rows in each table (no server, no snapshot)"
            )
        compared = compare_plans(
            stage, statistics, workload, traced, say, factor=options.plan_factor,
            snapshot=start.snapshot,
        )  # fmt: skip
        tried.findings += compared.findings
        tried.notes += compared.notes
        if compared.planned or not compared.notes:
            many = "y" if compared.planned == 1 else "ies"
            tried.notes.append(f"{compared.planned} workload quer{many} planned before and after")
    if options.check_down:
        from sqladvisor.migrate.updown import RETRY, check_downs

        found = check_downs(stage, say)
        told = {(f.location.path, f.statement) for f in tried.findings if f.rule in _SAY_THE_SAME}
        tried.findings += [
            f
            for f in found.findings
            if f.rule != RETRY or (f.location.path, f.statement) not in told
        ]
        tried.notes += found.notes
    return stage


def _load(sandbox: Sandbox, start: Start, known: _Known, say: Say) -> list[str]:
    """Make the starting schema; what of it could not be made."""
    if known.ddl is not None:
        loaded = Loaded()
        source = read_source("schema", known.ddl.encode())
        sandbox.load_ddl([source], say, loaded, rows=False, dumped=True)
        lacks = [f"the starting schema lacks: {s.text.splitlines()[0][:80]} ({why})"
                 for s, why in loaded.failed if not why.startswith(UNKNOWN_STORAGE)]  # fmt: skip
        return loaded.substitutes.said + lacks
    if not start.statements:
        return []
    say("loading the starting schema")
    made = Migration("", "", "", start.statements, transaction="none", judged=False)
    steps = apply(sandbox, [made])
    # Without an SQLSTATE it was not sent: COPY, owners and roles, which nothing here rests on.
    failed = [f"{place(s.statement)}: not applied: {s.failure}" for s in steps if s.sqlstate]
    return sandbox.substitutes.said + failed


def _first(notes: Sequence[str]) -> list[str]:
    more = len(notes) - MAX_NOTES
    return [
        *notes[:MAX_NOTES],
        *([f"and {more} more that could not be applied"] if more > 0 else []),
    ]


def _known(binaries: Binaries, start: Start, options: GateOptions, say: Say) -> _Known:
    snapshot = start.snapshot
    if snapshot is not None:
        return _Known(
            snapshot.schema, snapshot.statistics, sizes_of_snapshot(snapshot), snapshot.workload,
            snapshot.workload_missing, "the snapshot",
        )  # fmt: skip
    sizes = sizes_of_catalog(start.catalog) if start.catalog is not None else {}
    if options.dsn is None:
        return _Known(sizes=sizes)
    dsn = resolve_dsn(None if options.dsn == "env" else options.dsn)
    say("reading the server's schema")
    with connect_target(dsn) as connection:
        connection.execute("SET client_encoding = 'UTF8'")
        ddl = dump_schema(binaries, dsn, os.environ, unreadable(connection))
        counted, lacking = ([], []) if options.workload else read_workload(connection)
        statistics = read_statistics(connection)
    return _Known(ddl, statistics, sizes, counted, lacking, "the server's pg_stat_statements")


def _workload(paths: Sequence[str], tried: Tried) -> list[Statement]:
    if not paths:
        return []
    audited = Audited()
    read_files(paths, EMPTY, AuditOptions(), audited)
    tried.problems += audited.problems
    if not audited.contexts and not audited.problems:
        raise InputError(f"--workload {' '.join(paths)}: no statements in it")
    return [context.statement for context in audited.contexts]


def _recorded(known: _Known, tried: Tried) -> list[Statement]:
    """The statements that the server had counted, each under a name of its own."""
    from sqladvisor.workload.weights import PLACE, about_the_system, parsed

    found = []
    for number, query in enumerate(known.workload, 1):
        context = parsed(query.text, EMPTY)
        if context is not None and not about_the_system(context):
            found.append(replace(context.statement, path=f"{PLACE} {number}", line=0))
    if found:
        those = "1 statement" if len(found) == 1 else f"{len(found)} statements"
        tried.notes.append(
            f"no --workload: the {those} of {known.source} stand{'s' * (len(found) == 1)} for it"
        )
    tried.notes += known.lacking
    return found


def timeline(found: Trace) -> list[dict[str, Any]]:
    """The trace as plain data, a statement an entry, for JSON and for the report's table."""
    return [
        {
            "path": step.statement.path,
            "line": step.statement.line,
            "statement": " ".join(step.statement.text.split())[:200],
            "transaction": step.transaction or None,
            "duration_ms": round(step.duration_ms, 3),
            "locks": [{"relation": k.relation, "mode": k.mode, "kind": k.kind} for k in step.locks],
            "held": [{"relation": k.relation, "mode": k.mode} for k in step.held],
            "rewritten": list(step.rewritten),
            "scanned": list(step.scanned),
            "indexes_built": [{"index": b.index, "table": b.table} for b in step.built],
            "created": [f"{c.type} {c.name}" for c in step.changes if c.action == "created"],
            "changed": [f"{c.type} {c.name}" for c in step.changes if c.action == "changed"],
            "dropped": [
                f"{c.type} {c.name}" for c in step.changes if c.action == "dropped" and not c.inner
            ],
            "cascaded": [f"{c.type} {c.name}" for c in step.changes if c.cascaded],
            "not_traced": step.failure or None,
        }
        for step in found.steps
    ]
