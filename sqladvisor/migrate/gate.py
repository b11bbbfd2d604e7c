"""The migration gate: reads a set, judges it by rules, and has what rules say tried.

``gate`` is the whole command without its output; ``migrate.trace_gate`` is where they are run and the
trace decides over static findings. Returns a Report; prints nothing.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from sqladvisor.auditor import Audited, finish
from sqladvisor.auditor import Options as AuditOptions
from sqladvisor.engine import Engine, Selection, check_selection, check_thresholds
from sqladvisor.errors import InputError, ServerError
from sqladvisor.finding import Finding, InputProblem, Location
from sqladvisor.migrate import cache
from sqladvisor.migrate.context import DEFAULT_MIN_ROWS, DEFAULT_PG_VERSION, Settings
from sqladvisor.migrate.model import MigrationSet
from sqladvisor.migrate.runner import aux, choose, load_files, read_files
from sqladvisor.migrate.start import Start, read_start
from sqladvisor.migrate.variables import as_written, restored
from sqladvisor.report.model import Report
from sqladvisor.rule import Rule, load_rules
from sqladvisor.sql.inputs import STDIN
from sqladvisor.suppress import MARK, Suppression, apply, read_suppressions

if TYPE_CHECKING:
    from sqladvisor.migrate.check import Checked
    from sqladvisor.migrate.files import Files
    from sqladvisor.migrate.history import Change
    from sqladvisor.migrate.stage import Stage
    from sqladvisor.migrate.state import SetState
    from sqladvisor.migrate.trace_gate import Tried

Progress = Callable[[str], None]
FROM_CACHE = "trace from cache: nothing that it rests on has changed (--no-cache runs it again)"


@dataclass(frozen=True, slots=True)
class GateOptions:
    """How to judge migrations.

    ``schema``, ``dsn``, ``snapshot``: what the set starts from; ``base``: judge only what git says is new since.
    ``pg_version``: major version judged for, None for that of the start or of the embedded server.
    ``each``: every migration is a deployment of its own: tables of earlier ones hold rows.
    ``min_rows``: rows below which what locks or rewrites a table is no error.
    ``trace``: run them on an embedded server; ``workload``: files of queries, planned before and after
    them, where ``plan_factor`` times the planner's cost is a regression.
    """

    runner: str | None = None
    base: str | None = None
    schema: tuple[str, ...] = ()
    dsn: str | None = None
    snapshot: str | None = None
    pg_version: int | None = None
    judge_down: bool = False
    each: bool = False
    min_rows: float = DEFAULT_MIN_ROWS
    cache: bool = True
    trace: bool = False
    trace_report: bool = False
    workload: tuple[str, ...] = ()
    plan_factor: float = 1.5
    assume_rows: int = 1_000_000
    check_down: bool = True
    postgres_bin: str | None = None
    fix: Literal["", "write", "diff"] = ""
    """Write the safe forms of hazards into the files, or only say as a diff what that would be."""
    lock_attempts: int = 10
    """How often what is rewritten asks for a lock before it gives up; 1: no retry is written."""
    selection: Selection = field(default_factory=Selection)
    rule_packs: tuple[str, ...] = ()
    thresholds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def gate(
    paths: Sequence[str],
    options: GateOptions | None = None,
    *,
    progress: Progress | None = None,
    stdin: Callable[[], bytes] | None = None,
) -> Report:
    """Judge migration files, directories, globs or ``-`` (standard input).

    Bad input becomes a problem of the report. Raises InputError for options that cannot be used,
    ServerError when a server that was asked for cannot be had.
    """
    # Millions of parse tree nodes, none in a cycle: looking for cycles takes a third of the time.
    collected = gc.isenabled()
    gc.disable()
    try:
        return _gate(paths, options or GateOptions(), progress or (lambda _: None), stdin)
    finally:
        if collected:
            # What is alive now is in no cycle either: the first collection need not look at it.
            gc.freeze()
            gc.enable()


def _gate(
    paths: Sequence[str],
    options: GateOptions,
    say: Progress,
    stdin: Callable[[], bytes] | None,
) -> Report:
    if options.fix and "-" in paths:
        raise InputError("standard input cannot be written back to: name the files to fix")
    rules = load_rules(("migration",), options.rule_packs)
    check_selection(options.selection, rules)
    check_thresholds(options.thresholds, rules)
    engine = Engine([r for r in rules if options.selection.runs(r)])
    files = load_files(paths, stdin)
    choose(files, options.runner)
    changes = _changes(paths, options)
    start = read_start(options.schema, options.dsn, files, say, options.snapshot)
    name = _cache_key(files.sql, start, changes, options)
    if name and (known := cache.load(name, aux)):
        return _report_of(known, files.sql, engine.rules)
    looked_at: dict[str, str] = {}
    files.aux = _noting(files.aux, looked_at)
    migrations = _judged(read_files(files, options.runner), changes, start)
    settings = Settings(
        options.pg_version or start.pg_version or DEFAULT_PG_VERSION,
        start.rows,
        options.min_rows,
        not options.each,
        options.thresholds,
    )
    report = judged_report(migrations, changes, engine, settings, start, options, say, files)
    if options.fix == "write":
        return _again(paths, options, say, report)
    settled = report.details.get("settled", not options.trace)
    if name and settled:
        cache.save(
            name,
            cache.Outcome(
                migrations.runner, report.statements, report.findings, report.problems,
                report.notes, report.suppressed, looked_at, report.server, report.details,
            ),
        )  # fmt: skip
    return report


def judged_report(
    migrations: MigrationSet,
    changes: Sequence[Change] | None,
    engine: Engine,
    settings: Settings,
    start: Start,
    options: GateOptions,
    say: Progress,
    files: Files,
) -> Report:
    """Check, try, suppress, sort, count."""
    from sqladvisor.migrate.check import check_set

    checked = check_set(migrations, engine, settings, start.state(), judge_down=options.judge_down)
    found = checked.findings + _history_findings(migrations, changes or ())
    suppressions: list[Suppression] = []
    for path, text in migrations.texts.items():
        if MARK in text:
            suppressions += _suppressions(migrations, path, text, options)
    if settings.together:
        _excuse(suppressions, checked)
    details: dict[str, Any] = {"runner": migrations.runner}
    server, tried_notes, tried_problems = start.description, [], []
    if options.trace:
        from sqladvisor.migrate.trace_gate import timeline, try_set

        def fixing(stage: Stage, tried: Tried) -> None:
            from sqladvisor.migrate.rewrite import Gate, rewrite, write

            selection = options.selection
            made = rewrite(
                Gate(
                    files, migrations, tried.findings, engine, settings, start, stage,
                    lambda f: selection.ignored_in(f.location.path, f.rule)
                    or not apply([f], suppressions),
                    options.lock_attempts,
                ),
                say,
            )  # fmt: skip
            if options.fix == "write":
                write(made, files)
            verb = "rewritten" if options.fix == "write" else "can be rewritten"
            tried.notes += [f"{verb}: {line}" for line in made.applied] + made.left
            tried.problems += made.problems
            details["diff"] = made.diff

        then = fixing if options.fix else None
        tried = try_set(migrations, found, start, settings, options, say, then)
        found, server = tried.findings, tried.server or server
        tried_notes, tried_problems = tried.notes, tried.problems
        details["settled"] = tried.settled
        if options.trace_report and tried.trace is not None:
            details["timeline"] = timeline(tried.trace)
    if known := migrations.variables:
        found = [restored(f, known) for f in found]
        tried_notes = [as_written(n, known) for n in tried_notes]
    audited = Audited(
        problems=[*start.problems, *migrations.problems, *tried_problems],
        findings=found,
        texts={**start.texts, **migrations.texts},
        files=len(migrations.texts),
        notes=[*start.notes, *migrations.notes, *_notes(migrations, checked.state, options),
               *tried_notes],
        server=server,
    )  # fmt: skip
    audited.suppressions = suppressions
    report = finish(engine, audited, AuditOptions(selection=options.selection))
    return replace(
        report,
        command="gate",
        statements=len(checked.contexts),
        details=details,
    )


def _again(paths: Sequence[str], options: GateOptions, say: Progress, first: Report) -> Report:
    """The report on the files as they are now, with what was done to them."""
    now = _gate(paths, replace(options, fix=""), say, None)
    done = [n for n in first.notes if n.startswith("rewritten: ") or " is not rewritten: " in n]
    failed = [p for p in first.problems if p not in now.problems]
    return replace(now, notes=(*done, *now.notes), problems=(*now.problems, *failed))


def _excuse(suppressions: Iterable[Suppression], checked: Checked) -> None:
    """Take a suppression as used where the statement's table only counts as new.

    An earlier migration of the set makes it: judged by --base or --each, the rule would speak.
    """
    for suppression in suppressions:
        for context in checked.contexts:
            statement = context.statement
            if (
                statement.path == suppression.path
                and suppression.first <= statement.line <= suppression.last
            ):
                tables = [table for _, table in context.locks]
                if not tables and "relation" in statement.tree:
                    tables = [context.table()]
                suppression.used |= any(
                    t.new and checked.state.created.get(t.key) != context.number for t in tables
                )


def _suppressions(
    migrations: MigrationSet, path: str, text: str, options: GateOptions
) -> list[Suppression]:
    from sqladvisor.sql.source import Source, comments

    statements = [
        s for m in migrations.migrations for s in (*m.up, *(m.down or ())) if s.path == path
    ]
    judged = {s.path for m in migrations.migrations if m.judged for s in (*m.up, *(m.down or ()))}
    if path not in judged:
        return []
    statements.sort(key=lambda s: s.start)
    return list(read_suppressions(path, comments(Source(path, text)), statements))


def _changes(paths: Sequence[str], options: GateOptions) -> list[Change] | None:
    if options.base is None:
        return None
    if list(paths) == ["-"]:
        raise InputError("--base needs files: standard input has no history")
    from sqladvisor.migrate.history import changes_since

    return changes_since(options.base, paths)


def _judged(
    migrations: MigrationSet, changes: Sequence[Change] | None, start: Start
) -> MigrationSet:
    """The set with ``judged`` set: new since the base, and not part of the starting schema."""
    baseline = any(m.baseline for m in migrations.migrations)
    if changes is None and not start.files and not baseline:
        return migrations
    given = bool(start.statements or start.catalog)
    new = None
    if changes is not None:
        new = {c.path for c in changes if c.status in ("added", "renamed")}
        edited = {c.path for c in changes if c.status == "edited"}
    kept = []
    for migration in migrations.migrations:
        if migration.path in start.files or (migration.baseline and given):
            continue
        judged = migration.judged
        if new is not None and not migration.baseline:
            judged = migration.path in new or (migration.repeatable and migration.path in edited)
        kept.append(replace(migration, judged=judged))
    return replace(migrations, migrations=tuple(kept))


_CHECKSUMS = frozenset(("flyway", "refinery", "sqlx", "prisma", "atlas"))
"""Runners that keep a checksum of each applied file and stop when it differs."""


def _history_findings(migrations: MigrationSet, changes: Sequence[Change]) -> list[Finding]:
    found = []
    repeatable = {m.path for m in migrations.migrations if m.repeatable}
    refuses = migrations.runner in _CHECKSUMS
    consequence = (
        f"{migrations.runner} compares checksums and will refuse to go on"
        if refuses
        else "databases that have run it keep what the old text did, new ones get the new"
    )
    for change in changes:
        if not change.path.lower().endswith(".sql") and not change.old_path:
            continue
        at = Location(change.path, 1, 1, 1, 1)
        if change.status == "edited" and change.path not in repeatable:
            message = f"a migration that the base already has was edited: {consequence}"
            rule = "migration/edited-migration"
        elif change.status == "deleted":
            message = (
                "a migration that the base already has was deleted: databases that have run it "
                "and those that have not will differ"
            )
            rule = "migration/deleted-migration"
        elif change.status == "renamed":
            message = (
                f"a migration that the base already has was renamed from {change.old_path}: its "
                "runner takes it for a new one and applies it again"
            )
            rule = "migration/deleted-migration"
        else:
            continue
        found.append(Finding(rule, "error", message, at, "", change.old_path or change.path))
    return found


_INCLUDES = re.compile(r"^\\i(?:r|nclude|nclude_relative)?[ \t]+\S[^\r\n]*", re.MULTILINE)
MAX_INCLUDED = 5
"""Notes on files that psql would read and nobody named."""


def _notes(migrations: MigrationSet, state: SetState, options: GateOptions) -> list[str]:
    judged = sum(m.judged for m in migrations.migrations)
    included = [
        f"{path}:{text.count(chr(10), 0, match.start()) + 1}: {match[0].strip()} is not followed: "
        "name that file too, where it has migrations"
        for path, text in migrations.texts.items()
        if "\\i" in text
        for match in _INCLUDES.finditer(text)
    ]
    notes = [
        f"read as {migrations.runner}: {judged} of {len(migrations.migrations)} "
        f"migration{'' if len(migrations.migrations) == 1 else 's'} judged"
    ]
    known = state.builder.state.relations
    count = sum(key in known and known[key].kind != "view" for key in state.created)
    if judged > 1 and options.base is None and not options.each and count:
        notes.append(
            f"{count} {'table' if count == 1 else 'tables'} that the set itself creates "
            f"count{'s' * (count == 1)} as empty; --base REF judges only what a branch adds, --each "
            "every migration as deployed by itself"
        )
    return notes + included[:MAX_INCLUDED]


def _cache_key(
    sql: Mapping[str, bytes],
    start: Start,
    changes: Sequence[Change] | None,
    options: GateOptions,
) -> str:
    """The cache's name for this run, "" for one that is not cached."""
    if not options.cache or options.dsn is not None or options.fix or STDIN in sql:
        return ""
    if options.snapshot and not options.trace:
        return ""
    settings: list[object] = [
        options.runner, options.pg_version, options.judge_down, options.each, options.min_rows,
        options.selection, sorted((k, sorted(v.items())) for k, v in options.thresholds.items()),
        options.schema, [(c.status, c.path, c.old_path) for c in changes or ()], changes is None,
    ]  # fmt: skip
    contents = {**start.contents, **sql}
    if options.trace:
        read = _workload_files(options.workload)
        if read is None:
            return ""
        try:
            machine = cache.machine(options.postgres_bin)
        except (ServerError, OSError):
            return ""
        contents |= {f"workload {path}": data for path, data in read.items()}
        settings += [
            "traced", options.trace_report, options.workload, options.plan_factor,
            options.assume_rows, options.check_down, options.snapshot, *machine,
        ]  # fmt: skip
    return cache.key(contents, settings, options.rule_packs, traced=options.trace)


def _workload_files(paths: Sequence[str]) -> dict[str, bytes] | None:
    """The bytes of the workload's files; None where they do not tell all: programs, standard input."""
    from sqladvisor.sql.inputs import PROGRAMS, SQL, expand, load

    found, problems = expand(paths, SQL + PROGRAMS)
    read = {path: load(path) for path in found if path != "-"}
    whole = {p: data for p, data in read.items() if isinstance(data, bytes)}
    if problems or len(whole) < len(found) or any(p.lower().endswith(PROGRAMS) for p in whole):
        return None
    return whole


def _noting(
    read: Callable[[str], bytes | None], looked_at: dict[str, str]
) -> Callable[[str], bytes | None]:
    def noted(path: str) -> bytes | None:
        data = read(path)
        looked_at[path] = cache.digest(data)
        return data

    return noted


def _report_of(known: cache.Outcome, sql: Mapping[str, bytes], rules: Sequence[Rule]) -> Report:
    from sqladvisor.sql.source import read_source

    paths = {f.location.path for f in known.findings}
    return Report(
        command="gate",
        findings=known.findings,
        problems=known.problems,
        files=len(sql),
        statements=known.statements,
        # The text of a file without findings is shown by no report.
        texts={p: read_source(p, sql[p]).text if p in paths else "" for p in sql},
        server=known.server,
        notes=(*known.notes, FROM_CACHE) if "settled" in known.details else known.notes,
        suppressed=known.suppressed,
        rules=tuple(rules),
        details=known.details,
    )


__all__ = ["GateOptions", "InputProblem", "gate"]
