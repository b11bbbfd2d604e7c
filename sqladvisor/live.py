"""A live server, as a DBA would look at it in the first hour: workload, health, indexes, pool, cache.

The order of work: sample what sessions do (in a thread, meanwhile), run the database/ rules, read what
pg_stat_statements has counted, run the rules over those texts and their plans, price indexes for
them, and put first what matters most. Everything on the server is read, through guarded sessions.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import psycopg

from sqladvisor.advise.relate import relate
from sqladvisor.advise.verify import verify_findings
from sqladvisor.auditor import Options
from sqladvisor.context import Context
from sqladvisor.database import DatabaseContext
from sqladvisor.engine import Engine, check_selection, check_thresholds
from sqladvisor.errors import ServerError
from sqladvisor.evidence import Planned, as_planned, by_value
from sqladvisor.finding import SEVERITY_RANK, Finding, Fix, InputProblem
from sqladvisor.indexer import Options as IndexOptions
from sqladvisor.live_changes import Change, rank
from sqladvisor.live_indexes import Advised, advise_live, agreed, locks, superseded, with_drops
from sqladvisor.report.model import Report
from sqladvisor.rule import ACTIVITY, CATALOG, COUNTED, load_rules
from sqladvisor.schema import Places, SchemaContext
from sqladvisor.server.activity import Activity, Sampler
from sqladvisor.server.connect import one_line, redact_dsn, resolve_dsn
from sqladvisor.server.explain import ExplainError, explain, explainable
from sqladvisor.server.health import Health, examine
from sqladvisor.server.parameters import bind, parameter_values, with_limits
from sqladvisor.server.session import LiveSession
from sqladvisor.server.target import open_live
from sqladvisor.sql.source import read_source, statements
from sqladvisor.workload.pool import Pool, advised_pool
from sqladvisor.workload.statements import Collected, read_statements
from sqladvisor.workload.weights import Weighed, Workload, on_the_line, parsed, told, weigh

if TYPE_CHECKING:
    from sqladvisor.server.target import Target

KINDS = ("query", "index", "batch", "prepare", "plan", "database")
SUPERSEDED = frozenset(
    ("index/unused", "index/duplicate", "index/redundant-prefix", "index/invalid",
     "index/missing-foreign-key-index", "query/string-concatenated-sql")
)  # fmt: skip
"""Rules that the database/ rules do better where there is a server, or that files alone need."""
TIMEOUT_MS = 5_000
"""For each query over the catalogs, and each plan: one that takes longer is given up, and that is
said."""
MAX_PLANNED = 200
"""Statements that are planned, the dearest first; the rest is seldom a hundredth of the time."""
MAX_ADVISED = 40
"""Statements that indexes are priced for."""
MIN_SHARE = 0.001
"""Of the time: a statement that takes less is not planned, unless it is among the first 40."""
MAX_COMPARED = 20
"""Statements, the dearest first, whose generic plan is compared with those for common and rare values:
a handful of plans each."""
EACH_CALL = 0.9
"""Plans for each call from which a statement is taken to be planned anew each time."""
PROVE_SHARE, MAX_PROVED = 0.02, 8
"""Rewrites are tried for statements from this share of the time on, and for so many findings: each
takes some tenths of a second."""
SEARCHED_S = 15.0
"""Seconds after which the search for indexes ends with the best so far."""
ENOUGH_S = 22.0
"""Seconds after which no more rewrites are tried: a report in half a minute is the promise."""

SHORT_HOURS = 0.5
"""Hours. Rates from less are extrapolated so far that it must be said."""

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Watch:
    """How long sessions are sampled (seconds), and the server's cores where the user says so."""

    window_s: float = 5.0
    cores: int | None = None
    top: int = 10
    """Statements listed by each measure."""
    logs: tuple[str, ...] = ()
    """Log files that the statements are read from, instead of pg_stat_statements."""
    log_prefix: str | None = None
    what_if: Literal["auto", "hypopg", "shadow"] = "auto"
    """The planner of index advice: auto is the shadow, HypoPG where there is none."""


@dataclass(slots=True)
class Seen:
    """All that was seen, on its way to a report."""

    place: str
    health: Health | None = None
    workload: Workload = field(default_factory=lambda: Workload(Collected()))
    activity: Activity | None = None
    pool: Pool | None = None
    cores: int | None = None
    findings: list[Finding] = field(default_factory=list)
    problems: list[InputProblem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    planned: int = 0
    unplanned: int = 0
    server: str = ""
    advised: Advised | None = None
    began: float = field(default_factory=time.monotonic)


def live(
    options: Options, watch: Watch | None = None, *, progress: Progress | None = None
) -> Report:
    """Look at a server. Raises InputError for options that cannot be used, ServerError when the

    server cannot be reached; what fails later is a problem or a note of the report."""
    watch = watch or Watch()
    say = progress or (lambda _: None)
    dsn = resolve_dsn(None if options.dsn in (None, "env") else options.dsn)
    rules = load_rules(KINDS, options.rule_packs)
    check_selection(options.selection, rules)
    check_thresholds(options.thresholds, rules)
    wanted = [r for r in rules if options.selection.wants(r.id) and r.id not in SUPERSEDED]
    engine = Engine(wanted)
    seen = Seen(redact_dsn(dsn), cores=watch.cores or _local_cores(dsn))
    with ExitStack() as stack:
        say(f"connecting to {seen.place}")
        session = stack.enter_context(LiveSession(dsn, statement_timeout_ms=TIMEOUT_MS))
        sampler = Sampler(dsn, watch.window_s).start()
        stack.callback(sampler.cancel)
        seen.health = examine(session, wanted, options.thresholds, seen.place, say)
        try:
            collected = _collected(session, watch, seen, say)
            session.run(lambda _: session.as_user())
            _workload(collected, session, dsn, options, watch, engine, seen, sampler, say)
        except (ServerError, psycopg.Error) as error:
            seen.problems.append(InputProblem(seen.place, one_line(error, dsn)))
        seen.notes += [*session.notes, *sampler.notes]
    say("")
    return _report(seen, engine, options, watch)


def _collected(session: LiveSession, watch: Watch, seen: Seen, say: Progress) -> Collected:
    if not watch.logs:
        say("reading pg_stat_statements")
        return session.run(read_statements)
    from sqladvisor.workload.logs import read_logs

    say("reading logs")
    name = session.connection.info.dbname
    logged = read_logs(watch.logs, watch.log_prefix, database=name, unknown=True)
    seen.problems += logged.problems
    seen.notes.append(f"the statements are those of the logs: {logged.entries:,} executions")
    return logged.collected()


def _workload(
    collected: Collected,
    session: LiveSession,
    dsn: str,
    options: Options,
    watch: Watch,
    engine: Engine,
    seen: Seen,
    sampler: Sampler,
    say: Progress,
) -> None:
    limited = replace(
        options, dsn=dsn, timeout_ms=min(options.timeout_ms, TIMEOUT_MS), analyze=False
    )
    with ExitStack() as stack:
        target = session.run(lambda c: stack.enter_context(open_live(limited, say, c)))
        seen.server = target.description
        seen.workload = weigh(collected, target.catalog, options.thresholds)
        _statements(target, session, engine, seen, limited, watch, say)
        say("sampling what sessions do")
        seen.activity = sampler.result()
        context = DatabaseContext(
            seen.place, target.catalog, seen.activity, seen.cores, options.thresholds
        )
        if seen.activity is not None:
            seen.pool = advised_pool(seen.activity, seen.cores)
            seen.findings += engine.check_database(ACTIVITY, seen.activity, context)
        seen.findings += [
            on_the_line(f, seen.workload)
            for f in engine.check_database(COUNTED, seen.workload, context)
        ]
        seen.notes += target.notes


def _statements(
    target: Target,
    session: LiveSession,
    engine: Engine,
    seen: Seen,
    options: Options,
    watch: Watch,
    say: Progress,
) -> None:
    weighed = seen.workload.statements
    contexts = [w.context for w in weighed]
    for context in contexts:
        seen.findings += engine.check_statement(context)
    planned = _plan_all(target, session, weighed, engine, seen, options, say)
    advice = IndexOptions(server=options, what_if=watch.what_if)
    advised = _indexes(target, session, engine, seen, advice, say)
    harmless = {id(p.context) for p in planned if not locks(p.context)}
    dear = {
        w.context.statement.text
        for w in weighed
        if w.share >= PROVE_SHARE and id(w.context) in harmless
    }
    first = [
        f
        for f in seen.findings
        if f.statement in dear and f.fixes and not f.rule.startswith("index/")
    ][:MAX_PROVED]
    proved = _prove(target, first, planned, options, seen, say)
    left = {id(f) for f in first}
    seen.findings = proved + [f for f in seen.findings if id(f) not in left]
    if engine.wants(CATALOG):
        seen.findings += engine.check_schema(
            SchemaContext(target.catalog, Places(seen.place), contexts, advised, options.thresholds)
        )
    seen.findings = [on_the_line(f, seen.workload) for f in relate(seen.findings)]


def _plan_all(
    target: Target,
    session: LiveSession,
    weighed: tuple[Weighed, ...],
    engine: Engine,
    seen: Seen,
    options: Options,
    say: Progress,
) -> list[Planned]:
    planned: list[Planned] = []
    for one in weighed[:MAX_PLANNED]:
        if one.rank > MAX_ADVISED and one.share < MIN_SHARE:
            break
        if not explainable(one.context.statement.kind):
            continue
        say(f"planning statement {one.rank} of {len(weighed)}")
        item = as_planned(one.context)
        done = (
            _plan_aside(target, item, say) if locks(item.context) else _plan(target, session, item)
        )
        if not done:
            seen.unplanned += 1
            continue
        planned.append(item)
        seen.planned += 1
        seen.findings += engine.check_plan(one.context)
        if item.parametric and one.rank <= MAX_COMPARED and _may_be_generic(one, seen):
            say(f"comparing plans by value: statement {one.rank}")
            seen.findings += session.run(
                lambda c, one=one, item=item: _by_value(_on(target, c), one, item, engine, options)  # type: ignore[misc]
            )
    return planned


def _by_value(
    target: Target, one: Weighed, item: Planned, engine: Engine, options: Options
) -> list[Finding]:
    """What the plans for several values of the statement's parameters show."""
    context = parsed(with_limits(one.context), target.catalog, options.thresholds)
    if context is None:
        return []
    return [told(f, one) for f in by_value(target, replace(item, context=context), engine)]


def _on(target: Target, connection: psycopg.Connection) -> Target:
    """The target with the session that there is now."""
    target.connection = connection
    return target


def _may_be_generic(one: Weighed, seen: Seen) -> bool:
    """Whether a statement may run with a kept plan: where plans are counted, not one at each call."""
    if locks(one.context):
        return False
    counted = one.counted
    tracked = seen.workload.collected.tracks_planning and counted.plans > 0
    return not tracked or counted.plans < EACH_CALL * counted.calls


def _plan_aside(target: Target, item: Planned, say: Progress) -> bool:
    """Whether our own copy of the planner's statistics planned a statement."""
    try:
        item.context.plan = target.whatif(say).cost(item.sql, (), generic=item.generic)
    except ServerError:
        return False
    return True


def _plan(target: Target, session: LiveSession, item: Planned) -> bool:
    """Whether the server planned a statement. It ran there: what it refuses now is not its fault."""
    try:
        item.context.plan = session.run(
            lambda c: explain(c, item.sql, generic=item.generic, writes=item.writes)
        )
    except ExplainError:
        return False
    target.connection = session.connection
    return True


def _prove(
    target: Target,
    findings: list[Finding],
    planned: list[Planned],
    options: Options,
    seen: Seen,
    say: Progress,
) -> list[Finding]:
    result: list[Finding] = []
    for number, finding in enumerate(findings):
        if time.monotonic() - seen.began > ENOUGH_S:
            seen.notes.append(
                f"{len(findings) - number} rewrites were not tried, for want of time: audit tries all"
            )
            return result + findings[number:]
        for checked in verify_findings(target, [finding], planned, options, say):
            item = next(p for p in planned if p.context.statement.text == finding.statement)
            result.append(
                replace(checked, fixes=tuple(_priced(target, f, item) for f in checked.fixes))
            )
    return result


def _priced(target: Target, fix: Fix, item: Planned) -> Fix:
    """A rewrite with what the planner says of it, where trying it did not tell."""
    plan = item.context.plan
    if fix.kind != "rewrite" or "cost_after" in fix.proof or plan is None:
        return fix
    found, _ = statements(read_source("rewrite", fix.sql.encode()))
    values = None if item.generic else parameter_values(item.context)
    if len(found) != 1 or (values is None and not item.generic):
        return fix
    rewritten = Context(found[0], target.catalog)
    numbers = {int(p.get("number", 0)) for p in rewritten.tree.of("ParamRef")}
    if values is not None and numbers - values.keys():
        return fix
    sql = found[0].sql if values is None else bind(rewritten, values)
    try:
        after = explain(target.connection, sql, generic=item.generic, writes=False)
    except ExplainError:
        return fix
    costs = {"cost_before": plan.total_cost, "cost_after": after.total_cost}
    return replace(fix, proof={**fix.proof, **costs})


def _indexes(
    target: Target,
    session: LiveSession,
    engine: Engine,
    seen: Seen,
    options: IndexOptions,
    say: Progress,
) -> list[tuple[str, tuple[str, ...]]]:
    until = seen.began + SEARCHED_S
    try:
        seen.advised = session.run(
            lambda c: advise_live(_on(target, c), seen.workload, options, until, say)
        )
    except ServerError as error:
        seen.notes.append(f"no index advice: {error}")
    if seen.advised is None:
        return []
    found, entries = seen.advised.found, seen.advised.entries
    assert seen.health is not None
    seen.health.findings, notes = agreed(seen.health.findings, found)
    advice: list[Finding] = []
    for entry in entries:
        advice += engine.check_advice(entry, entry.best.context)
    seen.findings += with_drops(advice, superseded(found, seen.health.findings))
    seen.notes += [*notes, *found.notes]
    return [(a.index.table, a.index.keys) for a in entries]


def _without_twins(health: list[Finding], others: list[Finding]) -> list[Finding]:
    """Without the foreign keys that an index advised for statements serves as well."""
    advised = {
        (f.evidence.figures["table"], f.fixes[0].sql.partition(" (")[2].split(",")[0].rstrip(")"))
        for f in others
        if f.rule == "index/missing" and f.fixes
    }
    return [
        f
        for f in health
        if f.rule != "database/unindexed-foreign-key"
        or (
            f.evidence.figures["table"].rpartition(".")[2].strip('"'),
            f.evidence.figures["columns"].split(",")[0],
        )
        not in advised
    ]


def _local_cores(dsn: str) -> int | None:
    """The cores of the server's machine where it is this one."""
    host = psycopg.conninfo.conninfo_to_dict(dsn).get("host") or os.environ.get("PGHOST") or ""
    local = not host or str(host).startswith("/") or host in ("localhost", "127.0.0.1", "::1")
    return os.cpu_count() if local else None


def _report(seen: Seen, engine: Engine, options: Options, watch: Watch) -> Report:
    health = seen.health
    assert health is not None
    counted = seen.workload.collected.hours
    if counted is not None and counted < SHORT_HOURS and seen.workload.statements:
        seen.notes.append(
            f"statements have been counted for {counted * 60:.0f} minutes only: what is said of an hour "
            "is what those would make of it"
        )
    findings = _without_twins(health.findings, seen.findings) + seen.findings
    findings = [f for f in findings if options.selection.wants(f.rule)]
    changes: list[Change] = rank(findings, seen.workload)
    order = {id(f): n for n, change in enumerate(changes) for f in change.findings}
    findings.sort(key=lambda f: (order.get(id(f), len(order)), -SEVERITY_RANK[f.severity], f.rule))
    return Report(
        command="live",
        findings=tuple(findings),
        problems=tuple(seen.problems + health.problems + engine.problems),
        statements=len(seen.workload.statements),
        server=seen.server or seen.place,
        notes=tuple(dict.fromkeys([*health.unseen, *health.notes, *seen.notes])),
        details={"seen": seen, "changes": changes, "top": watch.top},
    )
