"""What the commands share: writing a report, progress, exit codes, errors as one line.

Exit codes: 0 nothing at or above ``--fail-on``; 1 findings; 2 bad usage, input or server;
130 interrupted.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from sqladvisor.auditor import Options, audit
from sqladvisor.config import Config, find_config
from sqladvisor.engine import Selection
from sqladvisor.errors import InputError, SqladvisorError
from sqladvisor.finding import SEVERITY_RANK
from sqladvisor.report.escape import printable
from sqladvisor.report.model import Report

if TYPE_CHECKING:
    from sqladvisor.indexer import Options as IndexOptions
    from sqladvisor.migrate.gate import GateOptions

FORMATS = ("text", "json", "sarif", "junit", "github", "gitlab", "markdown", "html")
MAX_ASSUMED = 100_000_000_000
"""Rows of a table: files of such a size can be made without rows."""
FAIL_ON = ("error", "warning", "info", "never")


@dataclass(frozen=True, slots=True)
class Output:
    """How to show a report. ``fail_on`` None: the configuration's, else the command's default."""

    format: str = "text"
    path: str | None = None
    fail_on: str | None = None
    color: bool | None = None
    quiet: bool = False
    verbose: bool = False
    baseline: str | None = None
    write_baseline: str | None = None
    also: tuple[str, ...] = ()
    """Further reports to write, each as FORMAT=FILE."""


def run_audit(
    paths: Sequence[str],
    options: Options,
    output: Output,
    *,
    config_path: str | None = None,
) -> int:
    """The audit command: everything between parsed arguments and the exit code."""

    def job() -> tuple[Report, Config]:
        config = find_config(config_path)
        return audit(
            paths, configured(options, config), progress=progress(output), stdin=read_stdin
        ), config

    if options.fix == "diff":
        return guarded(lambda: show_diff(job()[0], output))
    return guarded(lambda: finish(*job(), output, default_fail_on="error"))


def run_gate(
    paths: Sequence[str],
    options: GateOptions,
    output: Output,
    *,
    config_path: str | None = None,
) -> int:
    """The gate command: everything between parsed arguments and the exit code."""
    from sqladvisor.migrate.gate import gate

    def job() -> tuple[Report, Config]:
        config = find_config(config_path)
        own = options.selection
        judged = replace(
            options,
            selection=Selection(
                own.select or config.select, own.ignore + config.ignore, config.per_file_ignores
            ),
            rule_packs=config.rule_packs + options.rule_packs,
            thresholds=config.thresholds,
        )
        return gate(paths, judged, progress=progress(output), stdin=read_stdin), config

    if options.fix == "diff":
        return guarded(lambda: show_diff(job()[0], output))
    return guarded(lambda: finish(*job(), output, default_fail_on="error"))


def run_snapshot(
    dsn: str | None,
    output: Output,
    *,
    values: str,
    workload: bool,
    timeout_ms: int,
    postgres_bin: str | None,
) -> int:
    """The snapshot command: everything between parsed arguments and the exit code."""
    from sqladvisor.catalog.snapshot import encode, save
    from sqladvisor.server.binaries import find_binaries
    from sqladvisor.server.connect import resolve_dsn
    from sqladvisor.server.snapshot import take_snapshot

    def job() -> int:
        say = progress(output) or (lambda _: None)
        snapshot = take_snapshot(
            resolve_dsn(dsn),
            find_binaries(postgres_bin),
            values=values,
            workload=workload,
            timeout_ms=timeout_ms,
            say=say,
        )
        say("")
        if output.path in (None, "-"):
            write(encode(snapshot), output)
            return 0
        path = str(output.path)
        size = save(snapshot, path)
        if not output.quiet:
            tables = sum(r.kind in "rpmf" for r in snapshot.statistics.relations)
            sys.stderr.write(
                f"{printable(path)}: {tables} tables, {len(snapshot.workload)} statements, "
                f"values {values}, {size:,} bytes\n"
            )
            for missing in (*snapshot.statistics.missing, *snapshot.workload_missing):
                sys.stderr.write(f"  {printable(missing)}\n")
        return 0

    return guarded(job)


def run_snapshot_diff(old: str, new: str, output: Output) -> int:
    """``snapshot --diff``: what changed, and exit code 1 where something did."""
    from sqladvisor.catalog.snapshot import load
    from sqladvisor.catalog.snapshot_diff import compare

    def job() -> int:
        changes = compare(load(old), load(new))
        if output.format == "json":
            write(
                json.dumps(
                    {"changes": [c.document() for c in changes]}, indent=2, ensure_ascii=False
                )
                + "\n",
                output,
            )
        else:
            write("".join(f"{printable(str(c))}\n" for c in changes), output)
            if not output.quiet:
                said = (
                    f"{len(changes)} change{'s' * (len(changes) != 1)}" if changes else "no change"
                )
                sys.stderr.write(f"{said}: {printable(old)} → {printable(new)}\n")
        return int(bool(changes))

    return guarded(job)


def assumed_rows(values: Sequence[str]) -> tuple[int, dict[str, int]]:
    """``--assume-rows``: a count for all tables, and those of single ones. Raises InputError."""
    rows = Options().assume_rows
    tables: dict[str, int] = {}
    for value in values:
        table, _, number = value.rpartition("=")
        if not number.isdecimal() or not 0 < int(number) <= MAX_ASSUMED:
            raise InputError(f"{value}: expected N or TABLE=N, N from 1 to {MAX_ASSUMED:,}")
        if table:
            tables[table] = int(number)
        else:
            rows = int(number)
    return rows, tables


def show_diff(report: Report, output: Output) -> int:
    """Write the diff, and on standard error what it consists of. 1: there is something to fix."""
    from sqladvisor.report.text import Painter, problem_line

    diff = str(report.details.get("diff", ""))
    write(diff, output)
    for problem in report.problems:
        sys.stderr.write(f"{problem_line(problem, Painter(False))}\n")
    if not output.quiet:
        for note in report.notes:
            sys.stderr.write(f"{printable(note)}\n")
        if not diff:
            sys.stderr.write("nothing to fix that was proven\n")
    return 2 if report.problems else int(bool(diff))


def run_explain(
    path: str | None,
    query: str | None,
    options: Options,
    output: Output,
    *,
    top: int,
    config_path: str | None = None,
) -> int:
    """The explain command: everything between parsed arguments and the exit code."""
    from sqladvisor.explainer import explain

    def job() -> tuple[Report, Config]:
        config = find_config(config_path)
        report = explain(
            path,
            query,
            configured(options, config),
            top=top,
            progress=progress(output),
            stdin=read_stdin,
        )
        return report, config

    return guarded(lambda: finish(*job(), output, default_fail_on="error"))


def run_live(
    options: Options,
    output: Output,
    *,
    window_s: float,
    cores: int | None,
    top: int,
    logs: tuple[str, ...] = (),
    log_prefix: str | None = None,
    what_if: Literal["auto", "hypopg", "shadow"] = "auto",
    config_path: str | None = None,
) -> int:
    """The live command: everything between parsed arguments and the exit code."""
    from sqladvisor.live import Watch, live

    def job() -> tuple[Report, Config]:
        config = find_config(config_path)
        watch = Watch(window_s, cores, top, logs, log_prefix, what_if)
        return live(configured(options, config), watch, progress=progress(output)), config

    return guarded(lambda: finish(*job(), output, default_fail_on="never"))


def run_indexes(options: IndexOptions, output: Output, *, config_path: str | None = None) -> int:
    """The indexes command: everything between parsed arguments and the exit code."""
    from sqladvisor.indexer import advise

    def job() -> tuple[Report, Config]:
        config = find_config(config_path)
        return advise(options, progress=progress(output), stdin=read_stdin), config

    return guarded(lambda: finish(*job(), output, default_fail_on="never"))


def configured(options: Options, config: Config) -> Options:
    """Options with the configuration file's settings behind the command line's."""
    own = options.selection
    selection = Selection(
        own.select or config.select, own.ignore + config.ignore, config.per_file_ignores
    )
    return replace(
        options,
        selection=selection,
        rule_packs=config.rule_packs + options.rule_packs,
        thresholds=config.thresholds,
    )


def finish(report: Report, config: Config, output: Output, *, default_fail_on: str) -> int:
    """Apply the baseline, write the report, and say the exit code."""
    from sqladvisor import baseline

    if output.write_baseline:
        baseline.write(output.write_baseline, report.findings)
    if output.baseline:
        report = replace(
            report, findings=tuple(baseline.subtract(output.baseline, report.findings))
        )
    fail_on = output.fail_on or config.fail_on or default_fail_on
    if fail_on not in FAIL_ON:
        raise InputError(f"fail-on must be one of {', '.join(FAIL_ON)}, not {fail_on!r}")
    shown = replace(output, fail_on=fail_on)
    for each in (*further(output), shown):
        write(render(report, replace(shown, format=each.format, path=each.path)), each)
    if output.format == "github":
        append_step_summary(report, output)
    if report.problems:
        return 2
    threshold = SEVERITY_RANK[fail_on]
    failing = any(SEVERITY_RANK[f.severity] >= threshold for f in report.findings)
    return int(failing and not output.write_baseline)


def further(output: Output) -> list[Output]:
    """The reports to be written beside the main one. Raises InputError for one that cannot be."""
    reports = []
    for text in output.also:
        form, _, path = text.partition("=")
        if form not in FORMATS or not path:
            raise InputError(f"it takes FORMAT=FILE (formats: {', '.join(FORMATS)}), not {text!r}")
        reports.append(replace(output, format=form, path=path))
    return reports


def render(report: Report, output: Output) -> str:
    """The report in the format asked for."""
    if output.format == "sarif":
        from sqladvisor.report import sarif

        return sarif.render(report)
    if output.format == "junit":
        from sqladvisor.report import junit

        return junit.render(report, fail_on=output.fail_on or "error")
    if output.format == "github":
        from sqladvisor.report import github

        return github.render(report)
    if output.format == "gitlab":
        from sqladvisor.report import gitlab

        return gitlab.render(report)
    if output.format == "markdown":
        from sqladvisor.report import markdown

        return markdown.render(report, own=_own_text(report, output))
    if output.format == "html":
        from sqladvisor.report import html

        return html.render(report)
    return _render_own(report, output)


def _own_text(report: Report, output: Output) -> str:
    """The text of a command that shows more than findings; "" for the others."""
    if report.command in ("audit", "gate"):
        return ""
    return _render_own(report, replace(output, format="text", color=False))


def _render_own(report: Report, output: Output) -> str:
    """Text and JSON, in which a plan has a form of its own."""
    if report.command == "explain":
        from sqladvisor.report import plan

        if output.format == "json":
            return plan.render_json(report)
        return plan.render(report, color=wants_color(output), verbose=output.verbose)
    if report.command == "live":
        from sqladvisor.report import live

        if output.format == "json":
            return live.render_json(report)
        return live.render(report, color=wants_color(output), verbose=output.verbose)
    if report.command == "indexes":
        from sqladvisor.report import indexes

        if output.format == "json":
            return indexes.render_json(report)
        return indexes.render(report, color=wants_color(output), verbose=output.verbose)
    if output.format == "json":
        from sqladvisor.report.json import render as render_json

        return render_json(report)
    from sqladvisor.report.text import render as render_text

    return render_text(report, color=wants_color(output), verbose=output.verbose)


def append_step_summary(report: Report, output: Output) -> None:
    """Append the Markdown report to GitHub's summary of the step, where there is one."""
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if not path:
        return
    from sqladvisor.report import markdown

    limit, own = markdown.STEP_SUMMARY_CHARACTERS, _own_text(report, output)
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(markdown.render(report, limit=limit, own=own))
    except OSError as error:
        raise InputError(
            f"{path}: the step's summary cannot be written: {error.strerror}"
        ) from error


def write(text: str, output: Output) -> None:
    """Write to ``-o FILE`` or standard output. Raises InputError when that fails."""
    if output.path is None or output.path == "-":
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    try:
        with open(output.path, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError as error:
        raise InputError(f"{output.path}: cannot be written: {error.strerror}") from error


def wants_color(output: Output) -> bool:
    """``--color/--no-color``, else NO_COLOR (no-color.org), else whether a terminal reads it."""
    if output.color is not None:
        return output.color
    if output.path or os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (
        sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    )


def progress(output: Output) -> Callable[[str], None] | None:
    """Progress on standard error, one line rewritten in place, only when it is a terminal."""
    if output.quiet or not sys.stderr.isatty():
        return None

    def say(text: str) -> None:
        line = printable(text).replace("\n", " ")[:100]
        sys.stderr.write(f"\r\x1b[2K{line}" if line else "\r\x1b[2K")
        sys.stderr.flush()

    return say


def read_stdin() -> bytes:
    return sys.stdin.buffer.read()


def guarded(job: Callable[[], int]) -> int:
    """Run a command; every foreseen failure becomes one line on standard error and a code."""
    try:
        return job()
    except SqladvisorError as error:
        sys.stderr.write(f"sqladvisor: {printable(str(error))}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("sqladvisor: interrupted\n")
        return 130
    except BrokenPipeError:
        # The reader (head, less) has left: not an error, and nothing more can be written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        sys.stderr.write(f"sqladvisor: {printable(place)}{error.strerror or error}\n")
        return 2
