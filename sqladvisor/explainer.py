"""The explain command's work: plans from a file or from a server, with the findings on their nodes.

Returns a Report whose ``details["plans"]`` are Annotated plans; prints nothing.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace

from sqladvisor.auditor import SERVER_KINDS, Audited, Options, finish
from sqladvisor.context import Context
from sqladvisor.engine import Engine, check_selection, check_thresholds
from sqladvisor.errors import InputError
from sqladvisor.finding import Finding, InputProblem
from sqladvisor.plan.annotate import Annotated
from sqladvisor.plan.node import Plan
from sqladvisor.report.model import Report
from sqladvisor.rule import ADVICE, PLAN, load_rules

MAX_SHOWN = 20
"""Plans of one file that are shown where it has more, the slowest ones: nobody reads on."""
MAX_PROBLEMS = 20
"""Damaged plans of one file that are named."""
PEEK = 64 * 1024
"""Bytes by which a file too large to be read at once is known to be a log."""
QUERY = "query"
"""What stands for a file's path where the query came from the command line."""

Stdin = Callable[[], bytes]


def explain(
    path: str | None = None,
    query: str | None = None,
    options: Options | None = None,
    *,
    top: int = MAX_SHOWN,
    progress: Callable[[str], None] | None = None,
    stdin: Stdin | None = None,
) -> Report:
    """Annotate the plans in a file (``-``: standard input), or those of a query's statements.

    A query, and a file of SQL, are planned on the server that ``options`` name: the DSN, or an
    embedded one with the schema and rows. Of more plans than ``top`` the slowest are shown. Raises
    InputError for options that cannot be used.
    """
    options = options or Options()
    if (path is None) == (query is None):
        raise InputError("explain takes a plan file (- for standard input) or --query, one of them")
    if options.selection.select or options.selection.ignore or options.thresholds:
        every = load_rules(SERVER_KINDS, options.rule_packs)
        check_selection(options.selection, every)
        check_thresholds(options.thresholds, every)
    say = progress or (lambda _: None)
    if query is not None:
        return _on_server(query.encode("utf-8", "surrogateescape"), QUERY, options, say)
    assert path is not None
    return _from_file(path, options, top, say, stdin)


# -- plans of a file ------------------------------------------------------------------------------


def _from_file(
    path: str, options: Options, top: int, say: Callable[[str], None], stdin: Stdin | None
) -> Report:
    from sqladvisor.plan.context import PlanContext

    audited = Audited()
    with ExitStack() as stack:
        found = _read(path, audited, stdin, stack)
        plans, count = _slowest(found, top, audited.problems, say)
    if not count and not audited.problems:
        data = audited.texts.get(_name(path), "").encode()
        if options.needs_server and data.strip():
            return _on_server(data, _name(path), options, say)
        audited.problems.append(InputProblem(_name(path), _no_plan(data)))
    engine = _engine(options, ("plan",))
    contexts = [PlanContext(p, _name(path), thresholds=options.thresholds) for p in plans]
    of_plan = [engine.check_plan(c) for c in contexts]
    audited.findings = [f for findings in of_plan for f in findings]
    audited.files = 1
    audited.texts = {}
    if count > len(plans):
        audited.notes.append(f"of {count:,} plans the {len(plans)} slowest are shown (--top)")
    report = finish(engine, audited, options)
    shown = set(map(id, report.findings))
    annotated = tuple(
        Annotated(
            plan=context.plan,
            path=context.statement.path,
            line=context.plan.line or 1,
            query=context.plan.query or "",
            findings=tuple(f for f in findings if id(f) in shown),
        )
        for context, findings in zip(contexts, of_plan, strict=True)
        if context.plan is not None
    )
    return replace(
        report, command="explain", statements=len(annotated), details={"plans": annotated}
    )


def _name(path: str) -> str:
    from sqladvisor.sql.inputs import STDIN

    return STDIN if path == "-" else path


def _read(
    path: str, audited: Audited, stdin: Stdin | None, stack: ExitStack
) -> Iterator[Plan | InputProblem]:
    """The plans of a file, one after the other; the text of a small one into ``audited``."""
    from sqladvisor.plan.read_file import MAX_CHARACTERS, plans_in, plans_in_log
    from sqladvisor.plan.read_log import kind_of_log
    from sqladvisor.sql.inputs import load
    from sqladvisor.sql.source import read_source

    if path != "-" and os.path.isfile(path) and os.path.getsize(path) > MAX_CHARACTERS:
        with open(path, "rb") as binary:
            head = binary.read(PEEK).decode("utf-8", "replace")
        if kind := kind_of_log(head.split("\n")[:-1]):
            file = open(path, encoding="utf-8", errors="replace", newline="\n")  # noqa: SIM115
            stack.enter_context(file)
            yield from plans_in_log(path, kind, file)
            return
        size = MAX_CHARACTERS >> 20
        yield InputProblem(path, f"larger than {size} MB and no log: cut the plans out of it")
        return
    loaded = stdin() if path == "-" and stdin else load(path)
    if isinstance(loaded, InputProblem):
        yield loaded
        return
    source = read_source(path, loaded)
    if source.problem:
        audited.notes.append(_place(source.problem) + source.problem.message)
        if not source.text:
            yield replace(source.problem, message=source.problem.message.replace(" SQL", ""))
            audited.notes.pop()
            return
    audited.texts[source.path] = source.text
    yield from plans_in(source.path, source.text)


def _place(problem: InputProblem) -> str:
    return f"{problem.path}:{problem.line}: " if problem.line else f"{problem.path}: "


def _slowest(
    found: Iterator[Plan | InputProblem],
    top: int,
    problems: list[InputProblem],
    say: Callable[[str], None],
) -> tuple[list[Plan], int]:
    """The ``top`` slowest plans in the order of the file, and how many there are in all."""
    heap: list[tuple[float, float, int, Plan]] = []
    count = damaged = 0
    for item in found:
        if isinstance(item, InputProblem):
            damaged += 1
            if damaged <= MAX_PROBLEMS:
                problems.append(item)
            continue
        count += 1
        entry = (item.execution_ms or 0.0, item.total_cost, -count, item)
        if len(heap) < top:
            heapq.heappush(heap, entry)
        else:
            heapq.heappushpop(heap, entry)
        if count % 500 == 0:
            say(f"reading plan {count:,}")
    say("")
    if damaged > MAX_PROBLEMS:
        rest = damaged - MAX_PROBLEMS
        problems.append(InputProblem(problems[0].path, f"{rest:,} more plans are damaged"))
    return [entry[3] for entry in sorted(heap, key=lambda e: -e[2])], count


def _no_plan(data: bytes) -> str:
    from sqladvisor.plan.context import PLANNED
    from sqladvisor.sql.source import read_source, statements

    if not data.strip():
        return "empty: expected what EXPLAIN prints, or an auto_explain log"
    if len(data) < PEEK and not data.lstrip().startswith((b"{", b"[", b"<")):
        found, problems = statements(read_source("query.sql", data))
        if found and not problems and any(s.kind in PLANNED for s in found):
            return "SQL, not a plan: name a server (--schema or --dsn) to have it explained"
    return (
        "no plan found: expected what EXPLAIN prints (text, JSON, YAML or XML), or an auto_explain "
        "log (stderr, csvlog or jsonlog)"
    )


# -- plans of a server ----------------------------------------------------------------------------


def _on_server(data: bytes, path: str, options: Options, say: Callable[[str], None]) -> Report:
    """Plan the statements, with the index advice and the proofs that an audit gives."""
    from sqladvisor.evidence import audit_with_server
    from sqladvisor.sql.inputs import STDIN

    engine = _engine(options, ("plan", "index"), ADVICE)
    audited = Audited()
    audit_with_server(["-"], options, engine, audited, say, lambda: data)
    if not audited.contexts and not audited.problems:
        audited.problems.append(InputProblem(path, "no statement to explain"))
    if not options.dsn and any(_empty(c) for c in audited.contexts):
        audited.notes.append("planned for empty tables: --data gives the plans that rows would get")
    report = finish(engine, audited, options)
    problems = tuple(replace(p, path=path if p.path == STDIN else p.path) for p in report.problems)
    findings = tuple(
        replace(f, location=replace(f.location, path=path)) if f.location.path == STDIN else f
        for f in report.findings
    )
    annotated = tuple(
        Annotated(
            plan=context.plan,
            path=path,
            line=context.statement.line,
            query=context.statement.text,
            findings=tuple(_of_statement(findings, context.statement.text, context.statement.line)),
        )
        for context in audited.contexts
        if context.plan is not None
    )
    return replace(
        report,
        command="explain",
        findings=findings,
        problems=problems,
        texts=dict.fromkeys([path], next(iter(report.texts.values()), "")),
        statements=len(annotated),
        details={"plans": annotated},
    )


def _empty(context: Context) -> bool:
    """Whether a plan is one of tables that have no rows here."""
    names = (
        {(n.relation, n.schema) for n in context.plan.nodes() if n.relation} if context.plan else ()
    )
    tables = [context.catalog.find(str(name), schema) for name, schema in names]
    return bool(tables) and not any(t.rows for t in tables if t)


def _of_statement(findings: Sequence[Finding], text: str, line: int) -> Iterator[Finding]:
    last = line + text.count("\n")
    for finding in findings:
        if finding.statement == text and line <= finding.location.line <= last:
            yield finding


def _engine(options: Options, kinds: Sequence[str], *subjects: str) -> Engine:
    """The rules of these kinds that look at a plan, or at another subject named."""
    rules = load_rules(kinds, options.rule_packs)
    wanted = [r for r in rules if options.selection.runs(r)]
    return Engine([r for r in wanted if not {PLAN, *subjects}.isdisjoint(r.on)])
