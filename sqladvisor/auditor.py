"""The main job: audit files of queries.

Reads the files, runs the rules, and, given a schema or a server, has the findings proven. Returns
a Report; prints nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from sqladvisor.catalog.empty import EMPTY
from sqladvisor.context import Context
from sqladvisor.engine import Engine, Selection, check_selection, check_thresholds
from sqladvisor.errors import InputError
from sqladvisor.finding import SEVERITY_RANK, Finding, InputProblem
from sqladvisor.report.model import Report
from sqladvisor.rule import load_rules
from sqladvisor.suppress import MARK, Suppression, apply, read_suppressions

if TYPE_CHECKING:
    from sqladvisor.catalog.model import Catalog
    from sqladvisor.server.agreement import Agreement

STATIC_KINDS = ("query", "batch", "prepare")
CONCATENATED = "query/string-concatenated-sql"
SERVER_KINDS = ("query", "index", "batch", "prepare", "plan")


@dataclass(frozen=True, slots=True)
class Options:
    """How to audit. With neither ``schema`` nor ``dsn`` the audit is static.

    ``timeout_ms`` bounds each statement sent to a server; ``assume_rows`` is the row count taken
    for each table of a schema without data.
    """

    schema: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    dsn: str | None = None
    snapshot: str | None = None
    """A snapshot file to plan on."""
    analyze: bool = False
    allow_writes: bool = False
    postgres_bin: str | None = None
    assume_rows: int = 1_000_000
    assume_table_rows: Mapping[str, int] = field(default_factory=dict)
    """Other counts by table, as written in SQL (may be qualified)."""
    timeout_ms: int = 30_000
    selection: Selection = field(default_factory=Selection)
    rule_packs: tuple[str, ...] = ()
    thresholds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    fix: Literal["", "write", "diff"] = ""
    """Write proven rewrites back before the audit, or only say as a diff what that would change.

    Either needs a schema or a server."""

    @property
    def needs_server(self) -> bool:
        return bool(self.schema or self.data or self.dsn or self.snapshot)


@dataclass(slots=True)
class Audited:
    """All that was read, on its way to a report."""

    contexts: list[Context] = field(default_factory=list)
    problems: list[InputProblem] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    suppressions: list[Suppression] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    files: int = 0
    notes: list[str] = field(default_factory=list)
    server: str = ""
    diff: str = ""
    agreement: Agreement | None = None
    """How the shadow planned beside the server, where there were both."""


Progress = Callable[[str], None]


def audit(
    paths: Sequence[str],
    options: Options | None = None,
    *,
    progress: Progress | None = None,
    stdin: Callable[[], bytes] | None = None,
) -> Report:
    """Audit files, directories, globs or ``-`` (standard input).

    Bad input becomes a problem of the report, never an exception. Raises InputError for options
    that cannot be used and ServerError when a server that was asked for cannot be had at all and
    there is nothing to report without it.
    """
    options = options or Options()
    say = progress or (lambda _: None)
    kinds = SERVER_KINDS if options.needs_server else STATIC_KINDS
    rules = load_rules(kinds, options.rule_packs)
    check_selection(options.selection, rules)
    check_thresholds(options.thresholds, rules)
    if options.fix:
        _check_fix(paths, options)
    engine = Engine([r for r in rules if options.selection.runs(r)])
    audited = Audited()
    if options.needs_server:
        from sqladvisor.evidence import audit_with_server

        audit_with_server(paths, options, engine, audited, say, stdin)
    else:
        read_files(paths, EMPTY, options, audited, stdin)
        run_static(engine, audited)
    return finish(engine, audited, options)


def _check_fix(paths: Sequence[str], options: Options) -> None:
    if not options.needs_server:
        raise InputError(
            "--fix and --diff need --schema or --dsn: a rewrite is written back only where it was "
            "proven, and that takes the tables"
        )
    if "-" in paths:
        raise InputError("standard input cannot be written back to: name the files to fix")


def read_files(
    paths: Sequence[str],
    catalog: Catalog,
    options: Options,
    audited: Audited,
    stdin: Callable[[], bytes] | None = None,
) -> None:
    """Read the statements of all inputs into ``audited``, each with its context."""
    from sqladvisor.sql.bodies import with_bodies
    from sqladvisor.sql.inputs import PROGRAMS, SQL, expand, load
    from sqladvisor.sql.source import comments, read_source, statements

    files, problems = expand(paths, SQL + PROGRAMS)
    audited.problems += problems
    unread: list[tuple[str, str]] = []
    for path in files:
        loaded = stdin() if path == "-" and stdin else load(path)
        if isinstance(loaded, InputProblem):
            audited.problems.append(loaded)
            continue
        if path.lower().endswith(PROGRAMS):
            unread += _read_program(path, loaded, catalog, options, audited)
            continue
        source = read_source(path, loaded)
        if "-- name:" in source.text or "@name" in source.text:
            from sqladvisor.source.annotated import annotated

            found, problems = annotated(source)
        else:
            found, problems = statements(source)
        audited.files += 1
        audited.problems += problems
        audited.texts[source.path] = source.text
        read = with_bodies(found, source.text)
        audited.contexts += [Context(s, catalog, thresholds=options.thresholds) for s in read]
        if MARK in source.text:
            audited.suppressions += read_suppressions(source.path, comments(source), found)
    if unread:
        from sqladvisor.source.missing import report_missing

        report_missing(unread, paths, audited.problems, audited.notes)


def _read_program(
    path: str, data: bytes, catalog: Catalog, options: Options, audited: Audited
) -> list[tuple[str, str]]:
    """Read the SQL in a program's literals; (path, language) where its parser is missing."""
    from sqladvisor.source.read import read_program

    program = read_program(path, data)
    if program.missing:
        return [(path, program.missing)]
    audited.files += 1
    audited.problems += program.problems
    found = program.statements
    if found:
        audited.texts[path] = program.text
    audited.contexts += [Context(s, catalog, thresholds=options.thresholds) for s in found]
    audited.suppressions += read_suppressions(path, program.directives, found)
    return []


def run_static(engine: Engine, audited: Audited) -> None:
    """Run the statement and workload rules over everything read."""
    by_file: dict[str, list[Context]] = {}
    for context in audited.contexts:
        found = engine.check_statement(context)
        embedding = context.statement.embedding
        if embedding and embedding.open_ended:
            # What the statement seems to lack may stand in the clause that the program puts in.
            found = [f for f in found if f.rule == CONCATENATED]
        audited.findings += found
        by_file.setdefault(context.statement.path, []).append(context)
    for contexts in by_file.values():
        audited.findings += engine.check_workload(contexts)


def finish(engine: Engine, audited: Audited, options: Options) -> Report:
    """Suppress, sort and count: the report."""
    selection = options.selection
    shown = [
        f
        for f in audited.findings
        if not selection.per_file_ignores or not selection.ignored_in(f.location.path, f.rule)
    ]
    ran = {r.id for r in engine.rules}
    left = [
        f for f in apply(shown, audited.suppressions) if f.rule in ran or selection.wants(f.rule)
    ]
    left.sort(
        key=lambda f: (
            f.location.path,
            f.location.line,
            f.location.column,
            -SEVERITY_RANK[f.severity],
            f.rule,
            f.message,
        )
    )
    meta = sum(f.rule.startswith("suppression/") for f in left)
    return Report(
        command="audit",
        findings=tuple(left),
        problems=tuple(audited.problems + engine.problems),
        files=audited.files,
        statements=len(audited.contexts),
        texts=audited.texts,
        server=audited.server,
        notes=tuple(audited.notes),
        suppressed=len(shown) - (len(left) - meta),
        rules=tuple(engine.rules),
        details={
            **({"diff": audited.diff} if options.fix else {}),
            **({"shadow": audited.agreement.figures()} if audited.agreement else {}),
        },
    )
