"""The index advisor: a workload in, what to create and drop out. Prints nothing.

Plans come from the shadow planner, or from HypoPG in a read-only session of the user's server.
"""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import Any, Literal

import psycopg

from sqladvisor.advise.candidates import Limits
from sqladvisor.advise.consolidate import MIN_COST
from sqladvisor.advise.measured import measure
from sqladvisor.advise.optimise import Stop
from sqladvisor.advise.recommend import Recommendation, Settings, recommend
from sqladvisor.advise.workload import Workload, collect, gather
from sqladvisor.advise.writes import TableWrites, combined, from_counters, from_statements
from sqladvisor.auditor import Audited, Progress, read_files
from sqladvisor.auditor import Options as ServerOptions
from sqladvisor.catalog.model import Catalog
from sqladvisor.context import Context
from sqladvisor.errors import InputError, ServerError
from sqladvisor.finding import InputProblem
from sqladvisor.report.model import Report
from sqladvisor.server.agreement import Asked
from sqladvisor.server.connect import one_line, redact_dsn
from sqladvisor.server.target import Target, open_live, open_sandbox, open_snapshot
from sqladvisor.server.whatif import ShadowWhatIf, WhatIf
from sqladvisor.workload.statements import read_statements
from sqladvisor.workload.weights import PLACE, about_the_system, parsed

MIN_DAYS = 1.0
"""Days that the counters must cover to say how much is written."""
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kMGT]?)(?:i?B)?", re.IGNORECASE)
_UNITS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


@dataclass(frozen=True, slots=True)
class Options:
    """How to advise. ``server`` says where to plan; sizes are bytes, times seconds."""

    workload: tuple[str, ...] = ()
    server: ServerOptions = field(default_factory=ServerOptions)
    budget_bytes: float | None = None
    width: int = 3
    time_limit_s: float | None = None
    worst: float = 1.1
    drop_unused: bool = False
    verify: bool = False
    verify_dsn: str | None = None
    what_if: Literal["auto", "hypopg", "shadow"] = "auto"
    logs: tuple[str, ...] = ()
    """Log files to take the workload from, and their log_line_prefix where it is an unusual one."""
    log_prefix: str | None = None


def parse_size(text: str) -> float:
    """Bytes of ``500MB``, ``1.5 GB``, ``200k``, in powers of 1024 as PostgreSQL counts its sizes."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise InputError(f"--budget: {text!r} is not a size (500MB, 2GB)")
    unit = _UNITS[match[2].lower()]
    return float(match[1]) * float(1024**unit)


def advise(
    options: Options,
    *,
    progress: Progress | None = None,
    stdin: Callable[[], bytes] | None = None,
    rows: Callable[[], Sequence[Any]] | None = None,
) -> Report:
    """Index advice for a workload; ``report.details["indexes"]`` is a Recommendation.

    Bad statements are problems of the report. Raises InputError for options that cannot be used,
    ServerError when there is no server to plan on.
    """
    say = progress or (lambda _: None)
    _check(options)
    stop = Stop()
    if options.time_limit_s is not None:
        stop.deadline = time.monotonic() + options.time_limit_s
    with ExitStack() as stack:
        if options.server.snapshot is not None:
            target = stack.enter_context(open_snapshot(options.server, say))
        elif options.server.dsn is not None:
            target = stack.enter_context(open_live(options.server, say))
        else:
            target = stack.enter_context(open_sandbox(options.server, say, rows() if rows else ()))
        report = advise_on(target, options, stop, say, stdin)
    say("")
    return report


def advise_on(
    target: Target,
    options: Options,
    stop: Stop,
    say: Progress,
    stdin: Callable[[], bytes] | None = None,
) -> Report:
    """Index advice on a server that is there already. Raises as ``advise`` does."""
    with ExitStack() as stack:
        workload, audited = _workload(options, target, stdin)
        if not workload.queries:
            raise InputError(_nothing(workload, audited))
        whatif, planner = what_if(options, target, stack, say)
        if isinstance(whatif, ShadowWhatIf):
            asked = sorted(workload.queries, key=lambda q: -q.calls)
            target.compare_plans(
                whatif, (Asked(q.name, v.sql, v.generic) for q in asked for v in q.variants[:1])
            )
        writes = table_writes(workload, target, options.server.snapshot is not None)
        with _interruptible(stop):
            found = recommend(
                workload, target.catalog, whatif, settings(options), stop, say, writes
            )
        if stop.asked:
            found.notes.append("interrupted: this is the best set found until then")
        elif stop.deadline is not None and time.monotonic() >= stop.deadline:
            found.notes.append("the time limit ended the search: this is the best set found in it")
        found.notes += _notes(options, target, found)
        if options.verify or options.verify_dsn:
            _verify(options, target, found, say)
    problems = [*audited.problems, *target.problems, *workload.problems]
    problems += [InputProblem(name, f"cannot be planned: {why}") for name, why in found.unplanned]
    return Report(
        command="indexes",
        findings=(),
        problems=tuple(problems),
        files=audited.files,
        statements=workload.statements,
        texts=audited.texts,
        server=f"{target.description}; plans by {planner}",
        notes=tuple(found.notes),
        details={
            "indexes": found,
            **({"shadow": target.agreement.figures()} if target.agreement else {}),
        },
    )


def settings(options: Options) -> Settings:
    """The terms of the optimiser."""
    return Settings(
        options.budget_bytes,
        Limits(options.width, count=400, pairs=True),
        options.worst,
        options.drop_unused,
    )


def _check(options: Options) -> None:
    server = options.server
    if not server.needs_server:
        raise InputError(
            "index advice takes a planner: give --schema (with --data if you can), --dsn or --snapshot"
        )
    if options.workload and options.logs:
        raise InputError("either --workload or --log: their weights do not compare")
    named = options.workload or options.logs
    if server.dsn is None and server.snapshot is None and not named:
        raise InputError(
            "which queries? Name them with --workload (SQL files or directories) or --log"
        )
    if options.what_if == "hypopg" and server.dsn is None:
        raise InputError("--what-if hypopg needs the server that has it: --dsn")
    if options.verify and server.dsn is not None and not options.verify_dsn:
        raise InputError(
            "--verify builds indexes, and never on the server of --dsn: use --schema and --data, or "
            "name a staging copy with --verify-dsn"
        )


def _nothing(workload: Workload, audited: Audited) -> str:
    problems = [*audited.problems, *workload.problems]
    if problems:
        first = problems[0]
        place = f"{first.path}:{first.line}" if first.line else first.path
        return f"{place}: {first.message}"
    return "; ".join(workload.notes) or "the workload has no query that PostgreSQL could plan"


def _workload(
    options: Options, target: Target, stdin: Callable[[], bytes] | None
) -> tuple[Workload, Audited]:
    audited = Audited()
    if options.workload:
        read_files(options.workload, target.catalog, options.server, audited, stdin)
        return collect(audited.contexts, audited.texts), audited
    workload = Workload(complete=True, weighed=True)
    if options.logs:
        texts = _logged(options, workload, audited)
    elif options.server.snapshot is not None:
        from sqladvisor.catalog.snapshot import load

        snapshot = load(options.server.snapshot)
        workload.notes += snapshot.workload_missing
        texts = [(f"{PLACE} {n}", q.text, q.calls) for n, q in enumerate(snapshot.workload, 1)]
    else:
        collected = read_statements(target.connection)
        workload.hours = collected.hours
        workload.notes += [collected.missing] if collected.missing else []
        workload.notes += collected.notes
        if collected.hidden:
            workload.notes.append(
                f"{collected.hidden} statements of other roles are hidden: pg_read_all_stats shows "
                "their texts"
            )
        texts = [(f"{PLACE} {c.queryid}", c.text, c.calls) for c in collected.statements]
    gather(workload, _recorded(texts, target.catalog))
    return workload, audited


def _logged(options: Options, workload: Workload, audited: Audited) -> list[tuple[str, str, float]]:
    """The statements of log files, each with the values of its slowest execution."""
    from sqladvisor.workload.logs import read_logs

    logged = read_logs(options.logs, options.log_prefix)
    audited.problems += logged.problems
    workload.hours = logged.hours
    if not logged.statements and not logged.problems:
        workload.notes.append("the logs hold no statement (log_min_duration_statement)")
    return [
        (f"log {n}", s.examples[0].text if s.examples else s.text, s.calls or s.explained)
        for n, s in enumerate(logged.statements, 1)
    ]


def _recorded(
    texts: Iterable[tuple[str, str, float]], catalog: Catalog
) -> Iterator[tuple[Context, float]]:
    """Counted statements that can be planned; texts that were cut off cannot."""
    for name, text, calls in texts:
        context = parsed(text, catalog)
        if context is not None and not about_the_system(context):
            statement = replace(context.statement, path=name, line=0)
            yield Context(statement, catalog), calls


def what_if(
    options: Options, target: Target, stack: ExitStack, say: Progress
) -> tuple[WhatIf, str]:
    """The planner to ask, and its name in the report.

    ``auto``: the shadow, which knows existing indexes, expressions and every access method; HypoPG
    where there is no shadow to be had.
    """
    own = options.server.snapshot is not None or options.server.dsn is None
    if own or options.what_if == "shadow":
        return target.whatif(say), "the shadow planner"
    from sqladvisor.server.hypopg import HypoPGWhatIf, has_hypopg

    if options.what_if == "hypopg":
        whatif = HypoPGWhatIf(target.connection)
        stack.callback(whatif.close)
        return whatif, f"HypoPG {whatif.version} on the server"
    try:
        return target.whatif(say), "the shadow planner"
    except ServerError as error:
        if not has_hypopg(target.connection):
            raise
        target.notes.append(f"no shadow planner ({error}): HypoPG is used instead")
        whatif = HypoPGWhatIf(target.connection)
        stack.callback(whatif.close)
        return whatif, f"HypoPG {whatif.version} on the server"


def table_writes(
    workload: Workload, target: Target, from_snapshot: bool = False
) -> dict[tuple[str, str], TableWrites]:
    """Rows written to each table while the workload runs once.

    The counters of a live server are turned into the workload's measure by its scans: as many writes
    to a scan as the counters say. Without counters, the workload's own INSERTs and UPDATEs count.
    """
    unit = 1 / MIN_COST if workload.alike else 1.0
    told = from_statements(
        (q.context, q.calls * unit, 1.0)
        for q in workload.queries
        if any(q.context.tree.by_kind.get(kind) for kind in ("InsertStmt", "UpdateStmt"))
    )
    if target.admin is not None:
        return told
    scale = _scale(workload, target, from_snapshot)
    if scale is None:
        return told
    result = dict(told)
    for key, relation in sorted(target.catalog.relations.items()):
        if relation.writes is not None:
            counted = from_counters(relation, scale * unit)
            result[key] = combined(counted, told.get(key))
    return result


def _scale(workload: Workload, target: Target, from_snapshot: bool) -> float | None:
    """What the counters' writes are multiplied by to be those of the workload; None if unknown."""
    days = target.catalog.counted_days
    if days is None or days < MIN_DAYS:
        return None  # what was loaded for a start would pass for what is written every day
    if workload.complete:
        return 1.0 if workload.hours is None else min(workload.hours / 24 / days, 1.0)
    if from_snapshot:
        indexes = (i for r in target.catalog.relations.values() for i in r.indexes)
        counted = float(sum(i.scans or 0 for i in indexes))
    else:
        counted = _counted_scans(target.connection)
    asked = sum(q.calls * len(q.context.tree.by_kind.get("RangeVar", ())) for q in workload.queries)
    return asked / counted if counted else None


def _counted_scans(connection: psycopg.Connection) -> float:
    try:
        row = connection.execute(
            "SELECT sum(seq_scan + coalesce(idx_scan, 0))::float8 FROM pg_stat_user_tables"
        ).fetchone()
    except psycopg.Error:
        if connection.closed:
            raise
        return 0.0
    return float(row[0] or 0) if row else 0.0


@contextmanager
def _interruptible(stop: Stop) -> Iterator[None]:
    """The first Ctrl-C ends the search, with the best so far; a second one the program."""

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.asked:
            raise KeyboardInterrupt
        stop.asked = True

    try:
        before = signal.signal(signal.SIGINT, ask)
    except ValueError:  # not the main thread: the caller's business
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _notes(options: Options, target: Target, found: Recommendation) -> list[str]:
    notes = [*target.notes, *target.assumptions]
    # What PostgreSQL itself would refuse (an expression that is not immutable) is no candidate.
    some = sorted((d, why) for d, why in found.refused.items() if "HypoPG" in why)
    if some:
        notes.append(
            f"{len(some)} candidate{'s' * (len(some) > 1)} could not be priced, for example "
            f"{some[0][1]}"
        )
    return notes


def _verify(options: Options, target: Target, found: Recommendation, say: Progress) -> None:
    if options.verify_dsn is None and not target.can_build:
        found.notes.append("not verified: there are no rows (give --data)")
        return
    try:
        if options.verify_dsn is None:
            found.measured = measure(target.connection, found, say)
            return
        say(f"connecting to {redact_dsn(options.verify_dsn)}")
        with _staging(options.verify_dsn) as connection:
            found.measured = measure(connection, found, say)
    except (ServerError, psycopg.Error) as error:
        cause = one_line(error) if isinstance(error, psycopg.Error) else str(error)
        found.notes.append(f"not verified: {cause}")


@contextmanager
def _staging(dsn: str) -> Iterator[psycopg.Connection]:
    """A session that may build indexes: only where the user names the server for that."""
    from sqladvisor.server.connect import connect_staging

    connection = connect_staging(dsn)
    try:
        yield connection
    finally:
        connection.close()
