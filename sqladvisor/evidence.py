"""An audit with a server behind it: plans, costed and measured advice, proven rewrites.

The order of work: have a server (embedded, or the user's own, read-only), read its catalog, run
the rules over statements and plans, price index candidates by what-if, and where there are rows
to try it on, build, run and time what is advised. What does not help is not shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import psycopg

from sqladvisor.advise.relate import relate
from sqladvisor.advise.select import IndexAdvice, Question, advise
from sqladvisor.advise.verify import verify_findings, verify_indexes
from sqladvisor.advise.verify_schema import verify_schema
from sqladvisor.auditor import Audited, Options, Progress, read_files, run_static
from sqladvisor.catalog.empty import EMPTY
from sqladvisor.context import Context
from sqladvisor.engine import Engine, matches
from sqladvisor.errors import ServerError
from sqladvisor.finding import Evidence, Finding, InputProblem
from sqladvisor.rule import CATALOG, PARAMETERS
from sqladvisor.schema import Places, SchemaContext
from sqladvisor.server.agreement import Asked
from sqladvisor.server.by_value import plans_by_value
from sqladvisor.server.connect import one_line
from sqladvisor.server.explain import ExplainError, ExplainTimeout, explain, explainable
from sqladvisor.server.parameters import has_parameters, with_types, with_values
from sqladvisor.server.target import Target, open_live, open_sandbox, open_snapshot
from sqladvisor.sql.bodies import IN_BODIES, inner
from sqladvisor.sql.effects import writes
from sqladvisor.sql.quote import identifier
from sqladvisor.sql.source import comments, read_source, statements
from sqladvisor.sql.tree import unwrap
from sqladvisor.suppress import MARK, read_suppressions

if TYPE_CHECKING:
    from sqladvisor.plan.node import Plan
    from sqladvisor.server.sandbox import TableRows
    from sqladvisor.sql.statement import Statement

# SQLSTATEs of statements that can never run against this schema (appendix A of the manual).
_WOULD_FAIL = frozenset(
    ("42P01", "42703", "42883", "42804", "42P10", "42803", "42702", "42P09", "42725", "22P02",
     "22007", "42P18", "42846", "21000", "42601", "42P02", "42P20")
)  # fmt: skip
LOST = "the connection to the server was lost: evidence is missing from here on"
_UNDEFINED = frozenset(("42P01", "42703", "42883", "42704", "3F000"))
_UNTYPED = frozenset(("42P08", "42P18"))
_UNDEFINED_TABLE = "42P01"
_UNKNOWN_NAMES = frozenset((_UNDEFINED_TABLE, "42703"))
_TELLS_WHY = frozenset(
    ("query/unknown-column", "query/implicit-cast-on-column", "query/join-on-different-types")
)
"""Rules that say better than the server why a statement would fail, with the fix."""


@dataclass(slots=True)
class Planned:
    """A statement the server could plan: the text it planned, and whether that has ``$n`` left."""

    context: Context
    sql: str
    generic: bool
    writes: bool

    @property
    def parametric(self) -> bool:
        return self.context.statement.kind == "SelectStmt" and has_parameters(self.context)


def audit_with_server(
    paths: Sequence[str],
    options: Options,
    engine: Engine,
    audited: Audited,
    say: Progress,
    stdin: Callable[[], bytes] | None = None,
    rows: Callable[[], Sequence[TableRows]] | None = None,
) -> None:
    """Fill ``audited`` from the files and a server.

    ``rows`` gives table rows to load beside ``options.data`` (the demo's generator). A server that
    cannot be had, or dies midway, is one problem: what was found without it is kept.
    """
    with ExitStack() as stack:
        target = _open(options, audited, say, stack, rows)
        if target is None:
            read_files(paths, EMPTY, options, audited, stdin)
            run_static(engine, audited)
            return
        if options.fix:
            _fix(paths, target, engine, audited, options, say)
            if options.fix == "diff":
                say("")
                return
        read_files(paths, target.catalog, options, audited, stdin)
        audited.server = target.description
        say(f"checking {len(audited.contexts)} statements")
        run_static(engine, audited)
        try:
            _prove(target, engine, audited, options, say)
        except (ServerError, psycopg.Error) as error:
            audited.problems.append(InputProblem(target.name, one_line(error)))
        else:
            if target.connection.closed:
                audited.problems.append(InputProblem(target.name, LOST))
        audited.notes += target.notes
        audited.agreement = target.agreement
    say("")


def _fix(
    paths: Sequence[str],
    target: Target,
    engine: Engine,
    audited: Audited,
    options: Options,
    say: Progress,
) -> None:
    from sqladvisor.fix import fix_files

    try:
        fixed = fix_files(paths, target, engine, options, say)
    except ServerError as error:
        audited.problems.append(InputProblem(target.name, f"nothing was written back: {error}"))
        return
    audited.diff = fixed.diff
    audited.problems += fixed.problems
    audited.notes += [*fixed.applied, *fixed.left]


def _open(
    options: Options,
    audited: Audited,
    say: Progress,
    stack: ExitStack,
    rows: Callable[[], Sequence[TableRows]] | None,
) -> Target | None:
    try:
        if options.snapshot is not None:
            return stack.enter_context(open_snapshot(options, say))
        if options.dsn is not None:
            return stack.enter_context(open_live(options, say))
        target = stack.enter_context(open_sandbox(options, say, rows() if rows else ()))
    except ServerError as error:
        audited.problems.append(
            InputProblem(
                "--dsn" if options.dsn and not options.snapshot else "embedded server", str(error)
            )
        )
        return None
    audited.problems += target.problems
    return target


def _prove(
    target: Target, engine: Engine, audited: Audited, options: Options, say: Progress
) -> None:
    planned = _plan_all(target, engine, audited, options, say)
    audited.findings = verify_findings(target, audited.findings, planned, options, say)
    advice = _index_advice(target, planned, audited, say)
    if target.can_build:
        advice = verify_indexes(target, advice, planned_writes(planned), audited.notes, say)
    agreement = {"shadow": target.agreement.figures()} if target.agreement else {}
    for entry in advice:
        audited.findings += [
            replace(f, evidence=replace(f.evidence, figures={**f.evidence.figures, **agreement}))
            for f in engine.check_advice(entry, entry.best.context)
        ]
    _schema(target, engine, audited, planned, advice, options, say)
    audited.findings = relate(audited.findings)


def _schema(
    target: Target,
    engine: Engine,
    audited: Audited,
    planned: Sequence[Planned],
    advice: Sequence[IndexAdvice],
    options: Options,
    say: Progress,
) -> None:
    """Add what the schema itself shows, and try it and what plans showed of it where there are rows."""
    found: list[Finding] = []
    if engine.wants(CATALOG):
        sources = {source.path: source for source in target.schema}
        made = [s for source in target.schema for s in statements(source)[0]]
        name = next(iter(sources), target.name)
        found = engine.check_schema(
            SchemaContext(
                target.catalog,
                Places(name, made),
                audited.contexts,
                [(a.index.table, a.index.keys) for a in advice],
                options.thresholds,
            )
        )
        for path in {f.location.path for f in found} & sources.keys() - audited.texts.keys():
            text = sources[path].text
            audited.texts[path] = text
            if MARK in text:
                there = [s for s in made if s.path == path]
                audited.suppressions += [
                    s
                    for s in read_suppressions(path, comments(sources[path]), there)
                    if any(matches(f.rule, s.rules) for f in found)
                ]
    if target.can_build:
        tried = [f for f in audited.findings if "probe" in f.evidence.figures]
        rest = [f for f in audited.findings if "probe" not in f.evidence.figures]
        audited.findings = rest + verify_schema(target, tried + found, planned, say)
    else:
        audited.findings += found


def planned_writes(planned: Sequence[Planned]) -> frozenset[int]:
    """The identities of contexts whose statement writes: not executed unless asked for."""
    return frozenset(id(p.context) for p in planned if p.writes)


def _plan_all(
    target: Target, engine: Engine, audited: Audited, options: Options, say: Progress
) -> list[Planned]:
    created = _created_here(audited.contexts)
    planned = []
    written = 0
    settings: dict[str, dict[str, str]] = {}
    seen: Counter[str] = Counter()
    for number, context in enumerate(audited.contexts, 1):
        statement = context.statement
        if statement.kind == "VariableSetStmt":
            _follow_search_path(statement, settings.setdefault(statement.path, {}))
        if not explainable(statement.kind):
            within = inner(statement)
            if within is None or not explainable(within.kind):
                continue
            statement = within
            context = Context(within, context.catalog, thresholds=options.thresholds)
        if statement.embedding and statement.embedding.partial:
            continue  # its tables, or the patterns it looks for, are known to the program only
        say(f"planning statement {number} of {len(audited.contexts)}")
        if seen[context.fingerprint] >= MAX_PLANNED:
            continue
        item = as_planned(context)
        run = options.analyze and not item.generic and (not item.writes or options.allow_writes)
        try:
            own = settings.get(statement.path)
            context.plan = _explain(target, item, options, run, own)
        except ExplainError as error:
            finding = _refused(error, item, target, created, audited)
            if finding is not None:
                audited.findings.append(finding)
            continue
        seen[context.fingerprint] += 1
        written += run and item.writes
        if not own:  # the shadow and the proofs know one search path only
            planned.append(item)
        _plan_again(target, item, own, context)
        audited.findings += engine.check_plan(context)
        if item.parametric and seen[context.fingerprint] == 1 and engine.wants(PARAMETERS):
            audited.findings += by_value(target, item, engine)
    for path in (p for p, own in settings.items() if own):
        target.notes.append(
            f"{path}: what follows SET search_path was planned, but no index or rewrite tried for it"
        )
    if written and target.admin is None:
        target.notes.append(
            f"{written} writing statement{'s were' if written > 1 else ' was'} run and rolled back "
            "(--allow-writes); rollback does not undo sequence values, dead rows left until VACUUM, "
            "and what functions did outside the database"
        )
    return planned


COLD_MS = 1.0
"""ms of planning from which on it is taken again: the first time reads the catalogs, too."""


def _plan_again(
    target: Target, item: Planned, settings: Mapping[str, str] | None, context: Context
) -> None:
    """Give the plan the planning time of a session that has planned such a statement before."""
    plan = context.plan
    if plan is None or not plan.execution_ms or (plan.planning_ms or 0) < COLD_MS:
        return
    if (plan.planning_ms or 0) <= plan.execution_ms:
        return
    warm = explain(target.connection, item.sql, writes=item.writes, settings=settings).planning_ms
    if warm is not None:
        context.plan = replace(plan, planning_ms=min(warm, plan.planning_ms or warm))


def by_value(target: Target, item: Planned, engine: Engine) -> list[Finding]:
    """What the plans for several values of the statement's parameters show; nothing if refused."""
    try:
        plans = plans_by_value(
            target.connection, item.context, run=target.may_run and not item.writes
        )
    except ServerError:
        if target.connection.closed:
            raise
        return []  # a value that the statement's own functions refuse, a timeout: no evidence
    return engine.check_parameters(plans, item.context) if plans and plans.values else []


def _follow_search_path(statement: Statement, settings: dict[str, str]) -> None:
    """Note what a ``SET search_path`` in an audited file means for the statements after it."""
    tree = statement.tree
    if tree.get("name") != "search_path":
        return
    settings.clear()
    values = [unwrap(a)[1].get("sval", {}).get("sval", "") for a in tree.get("args", ())]
    if tree.get("kind") == "VAR_SET_VALUE" and values:
        settings["search_path"] = ", ".join(map(identifier, values))


def as_planned(context: Context) -> Planned:
    """A statement as it is sent to the server: with values for its parameters, if they are known."""
    statement, sql = context.statement, with_values(context)
    return Planned(
        context,
        sql or statement.sql,
        sql is None and has_parameters(context),
        writes(statement.kind, statement.tree),
    )


MAX_PLANNED = 3
"""Statements of one fingerprint that are planned: further ones differ in literals only."""


def _explain(
    target: Target, item: Planned, options: Options, run: bool, settings: Mapping[str, str] | None
) -> Plan:
    connection = target.connection
    try:
        return explain(
            connection,
            item.sql,
            analyze=run,
            generic=item.generic,
            allow_writes=options.allow_writes,
            writes=item.writes,
            settings=settings,
        )
    except ExplainError as error:
        untyped = item.generic and error.sqlstate in _UNTYPED
        if untyped:  # drivers say the types; here the columns do
            item.sql = with_types(item.context)
        elif not run or error.sqlstate in _WOULD_FAIL:
            raise
        plan = explain(
            connection, item.sql, generic=item.generic, writes=item.writes, settings=settings
        )
        if untyped:
            return plan
        stopped = isinstance(error, ExplainTimeout) and "statement timeout" in str(error)
        why = f"stopped after {options.timeout_ms / 1000:g} s (--timeout)" if stopped else error
        target.notes.append(
            f"{item.context.statement.path}:{item.context.statement.line}: {why}; its plan is shown "
            "without measurements"
        )
        return plan


def _created_here(contexts: Sequence[Context]) -> frozenset[str]:
    """Relations that the audited files create themselves: absent from the server, not a mistake."""
    created = set()
    for context in contexts:
        for kind in ("CreateStmt", "ViewStmt"):
            for node in context.tree.of(kind):
                created.add((node.get("relation") or node.get("view") or {}).get("relname", ""))
        for node in context.tree.of("IntoClause"):
            created.add(node.get("rel", {}).get("relname", ""))
    return frozenset(created)


def _refused(
    error: ExplainError,
    item: Planned,
    target: Target,
    created: frozenset[str],
    audited: Audited,
) -> Finding | None:
    """What to say of a statement the server would not plan."""
    context, statement = item.context, item.context.statement
    at = statement.locate(0, len(statement.text.split(None, 1)[0]))
    in_body = statement.embedding and statement.embedding.language in IN_BODIES
    if in_body and error.sqlstate not in _UNKNOWN_NAMES:
        return None  # of a function's variables the types are not known here
    if statement.embedding and statement.embedding.holes:
        return None  # refused with what we took for the program's part, not with the program's
    missing = target.incomplete and error.sqlstate in _UNDEFINED
    if missing or error.sqlstate not in _WOULD_FAIL:
        because = " (the schema was not loaded completely)" if missing else ""
        audited.problems.append(
            InputProblem(statement.path, f"cannot be planned: {error}{because}", at.line, at.column)
        )
        return None
    tables = {n.get("relname") for n in context.tree.of("RangeVar")}
    if error.sqlstate == _UNDEFINED_TABLE and tables & created:
        return None
    told = any(
        f.rule in _TELLS_WHY and f.statement == statement.text and f.location.path == statement.path
        for f in audited.findings
    )
    if told:
        return None
    return Finding(
        rule="query/would-fail",
        severity="error",
        message=f"PostgreSQL refuses this statement: {error}",
        location=at,
        statement=statement.text,
        fingerprint=context.fingerprint,
        evidence=Evidence("measured", {"sqlstate": error.sqlstate or ""}),
    )


def _place(context: Context) -> str:
    return f"{context.statement.path}:{context.statement.line}"


def _rewritten(findings: Sequence[Finding], planned: Sequence[Planned]) -> Iterator[Question]:
    """The proven rewrites, as statements to find indexes for: what helps them once they are made."""
    by_text = {(p.context.statement.path, p.context.statement.text): p for p in planned}
    for finding in findings:
        item = by_text.get((finding.location.path, finding.statement))
        for fix in finding.fixes:
            if item is None or fix.changes_result or not fix.proof.get("same_rows"):
                continue
            original = item.context.statement
            found, _ = statements(read_source(original.path, fix.sql.encode()))
            if len(found) == 1:
                moved = replace(
                    found[0], start=original.start, line=original.line, column=original.column
                )
                context = Context(moved, item.context.catalog)
                sql = moved.sql if item.sql == original.sql else with_values(context)
                if sql is not None:
                    yield Question(context, sql, item.generic, item.context.fingerprint)
            break


def _index_advice(
    target: Target, planned: Sequence[Planned], audited: Audited, say: Progress
) -> list[IndexAdvice]:
    # A statement that does not say what it means is mended first: another one needs other indexes.
    wrong = {(f.location.path, f.statement) for f in audited.findings if f.severity == "error"}
    questions = [
        Question(p.context, p.sql, p.generic)
        for p in planned
        if p.context.statement.kind != "InsertStmt"
        and (p.context.statement.path, p.context.statement.text) not in wrong
    ]
    questions += _rewritten(audited.findings, planned)
    if not questions:
        return []
    try:
        whatif = target.whatif(say)
    except ServerError as error:
        audited.notes.append(f"no index advice: {error}")
        return []
    # Both plans are to be had for nothing more on the server: it has made its own for the audit.
    target.compare_plans(
        whatif,
        [
            Asked(_place(p.context), p.sql, p.generic, p.context.plan)
            for p in planned
            if p.context.plan is not None and not p.writes
        ],
    )
    advice = advise(questions, whatif, say)
    for entry in advice:
        if target.agreement is not None:
            served = (_place(use.context) for use in entry.uses)
            entry.notes += [
                f"the shadow's plan without it is not the server's: {difference}"
                for difference in target.agreement.of(served)
            ]
        entry.notes += target.assumptions
        entry.assumed = bool(target.assumptions)
    return advice
