"""The report for people: each finding on its line, its evidence, and the fix ready to paste."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqladvisor.figures import ms
from sqladvisor.finding import Evidence, Finding, Fix, InputProblem
from sqladvisor.report.escape import printable
from sqladvisor.report.model import Report

_STYLES = {
    "error": "\x1b[1;31m",
    "warning": "\x1b[1;33m",
    "info": "\x1b[1;36m",
    "bold": "\x1b[1m",
    "dim": "\x1b[2m",
    "good": "\x1b[32m",
    "bad": "\x1b[31m",
}
MAX_QUOTED = 160
"""Characters of a source line shown: longer lines are cut around the marked part."""
MAX_FIX_LINES = 16
"""A rewritten statement longer than this is shown as the lines that change."""


class Painter:
    """Puts ANSI styles around text, or does not."""

    def __init__(self, color: bool) -> None:
        self.color = color

    def __call__(self, style: str, text: str) -> str:
        return f"{_STYLES[style]}{text}\x1b[0m" if self.color and text else text


def render(report: Report, *, color: bool = False, verbose: bool = False) -> str:
    """The whole report as text, ending in a newline.

    ``verbose`` adds the rule id's documentation pointer and every figure of the evidence.
    """
    paint = Painter(color)
    lines: list[str] = []
    for problem in report.problems:
        lines += [problem_line(problem, paint), ""]
    for finding in report.findings:
        lines += [*finding_lines(finding, report.texts, paint, verbose), ""]
    tables = _index_table(report.findings, paint)
    if tables:
        lines += [*tables, ""]
    if steps := report.details.get("timeline"):
        from sqladvisor.report.timeline import render as render_timeline

        lines += [paint("bold", "What each statement locks"), *render_timeline(steps), ""]
    lines += [paint("dim", f"note: {printable(n)}") for n in report.notes]
    lines.append(summary_line(report, paint))
    return "\n".join(lines) + "\n"


def plain_finding(finding: Finding, place: str, paint: Painter, verbose: bool) -> list[str]:
    """A finding without a line of a file to quote; ``place`` says where it is, "" for its message."""
    head = f"{paint(finding.severity, finding.severity)}  {paint('dim', finding.rule)}"
    lines = [
        f"{paint('bold', printable(place))}  {head}" if place else head,
        f"  {printable(finding.message)}",
    ]
    lines += [f"  {line}" for line in evidence_lines(finding.evidence, paint, verbose)]
    for fix in finding.fixes:
        lines += _fix(fix, finding.statement, paint)
    return lines


def problem_line(problem: InputProblem, paint: Painter) -> str:
    """One line for what could not be used."""
    place = printable(problem.path)
    if problem.line is not None:
        place += f":{problem.line}"
        if problem.column is not None:
            place += f":{problem.column}"
    return f"{paint('bold', place)}: {paint('error', 'cannot audit')}: {printable(problem.message)}"


def finding_lines(
    finding: Finding, texts: Mapping[str, str], paint: Painter, verbose: bool
) -> list[str]:
    """One finding in full: place, message, the marked source line, evidence, fixes."""
    at = finding.location
    place = f"{printable(at.path)}:{at.line}:{at.column}"
    lines = [
        f"{paint('bold', place)}  {paint(finding.severity, finding.severity)}  "
        f"{paint('dim', finding.rule)}",
        f"  {printable(finding.message)}",
    ]
    lines += source_lines(finding, texts.get(at.path, ""), paint)
    lines += [f"  {line}" for line in evidence_lines(finding.evidence, paint, verbose)]
    for fix in finding.fixes:
        lines += _fix(fix, finding.statement, paint)
    return lines


def source_lines(finding: Finding, text: str, paint: Painter) -> list[str]:
    """The source line of a finding and its mark, indented by two; none where there is no text."""
    at = finding.location
    source = _line(text, at.line)
    if not source.strip():
        return []
    start = at.column - 1
    end = at.end_column - 1 if at.end_line == at.line else len(source)
    end = max(min(end, len(source)), start + 1)
    lead = ""
    if len(source) > MAX_QUOTED:
        cut = max(0, min(start - 20, len(source) - MAX_QUOTED))
        lead = "…" if cut else ""
        source = source[cut : cut + MAX_QUOTED]
        start, end = start - cut, min(end - cut, MAX_QUOTED)
    number = str(at.line)
    shown = lead + printable(source.expandtabs(1))
    pad = _width(lead + printable(source[:start].expandtabs(1)))
    caret = "^" * max(1, _width(printable(source[start:end].expandtabs(1))))
    gutter = " " * len(number)
    return [
        f"  {paint('dim', number + ' |')} {shown}",
        f"  {paint('dim', gutter + ' |')} {' ' * pad}{paint(finding.severity, caret)}",
    ]


def _line(text: str, number: int) -> str:
    lines = _lines(text)
    return lines[number - 1].rstrip("\r") if 0 < number <= len(lines) else ""


@lru_cache(maxsize=4)
def _lines(text: str) -> list[str]:
    """The lines of a file, split once for all of its findings, which are sorted by file."""
    return text.split("\n")


def _width(text: str) -> int:
    """Terminal columns: wide East Asian characters take two, combining marks none."""
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def evidence_lines(evidence: Evidence, paint: Painter, verbose: bool) -> list[str]:
    """What was gained, then a line for each note."""
    lines = []
    gain = _gain(evidence.figures, paint)
    if gain:
        lines.append(f"{paint('bold', evidence.level)}: {gain}")
    lines += [f"{paint('dim', '·')} {printable(note)}" for note in evidence.notes]
    if verbose:
        lines += [
            paint("dim", f"  {key} = {printable(str(value))}")
            for key, value in evidence.figures.items()
        ]
    return lines


def _gain(figures: Mapping[str, Any], paint: Painter) -> str:
    parts = []
    before, after = figures.get("time_before_ms"), figures.get("time_after_ms")
    if before is not None and after is not None:
        parts.append(f"{ms(before)} → {_faster(before, after, paint)}")
    before, after = figures.get("cost_before"), figures.get("cost_after")
    if before is not None and after is not None and number(before) != number(after):
        parts.append(f"planner cost {number(before)} → {number(after)}")
    before, after = figures.get("buffers_before"), figures.get("buffers_after")
    if before is not None and after is not None and before != after:
        parts.append(f"{number(before)} → {number(after)} buffers")
    if (size := figures.get("size_bytes")) is not None:
        parts.append(f"index size {size_of(size)}")
    return ", ".join(parts)


NOISE = 0.1
"""Share by which two timings of the same plan differ on a busy machine."""


def _faster(before: float, after: float, paint: Painter) -> str:
    if abs(before - after) <= NOISE * before:
        return f"{ms(after)} (no difference)"
    factor = before / after if after else float("inf")
    if factor < 1:
        return f"{paint('bad', ms(after))} ({number(after / before)}× slower)"
    return f"{paint('good', ms(after))} ({number(factor)}× faster)"


def _fix(fix: Fix, statement: str, paint: Painter) -> list[str]:
    head = f"  {paint('good', 'fix')}: {printable(fix.description)}"
    if fix.changes_result:
        head += f" {paint('warning', '(changes the result: ' + fix.changes_result + ')')}"
    lines = [head]
    if proof := proof_line(fix.proof, paint):
        lines.append(f"    {proof}")
    sql = printable(fix.sql).splitlines()
    if fix.kind == "rewrite" and len(sql) > MAX_FIX_LINES:
        lines += _changed(printable(statement).splitlines(), sql, paint)
    else:
        if sql and not sql[-1].endswith(";"):
            sql[-1] += ";"
        if len(sql) > MAX_FIX_LINES:
            left = len(sql) - MAX_FIX_LINES
            sql = [*sql[:MAX_FIX_LINES], f"… {left:,} more lines: --format json has them"]
        lines += [f"    {line}" for line in sql]
    return lines


def proof_line(proof: Mapping[str, Any], paint: Painter) -> str:
    """How a fix was proven; "" if it was not."""
    parts = []
    if (count := proof.get("rows")) is not None:
        rows = "no rows" if not count else f"the same {number(count)} rows"
        parts.append(f"ran both: {'the same row' if count == 1 else rows}")
    if databases := proof.get("databases"):
        parts.append(f"proven on {number(databases)} generated database{'s' * (databases != 1)}")
    gain = _gain(proof, paint)
    if gain:
        parts.append(gain)
    if proof.get("note"):
        parts.append(str(proof["note"]))
    return paint("dim", "proof: ") + "; ".join(parts) if parts else ""


def _changed(before: Sequence[str], after: Sequence[str], paint: Painter) -> list[str]:
    import difflib

    lines = []
    for line in difflib.unified_diff(before, after, lineterm="", n=1):
        if line.startswith(("---", "+++")):
            continue
        style = {"-": "bad", "+": "good", "@": "dim"}.get(line[:1])
        lines.append("    " + (paint(style, line) if style else line))
    return lines


_MADE = re.compile(r"CREATE INDEX CONCURRENTLY ON ([^;]+);?")
"""One index, as a query rule's fix makes it."""


def _index_table(findings: Sequence[Finding], paint: Painter) -> list[str]:
    advised = {
        f.evidence.figures["index"]: (
            f.evidence.figures["size_bytes"],
            f.evidence.figures["queries"],
        )
        for f in findings
        if "queries" in f.evidence.figures
    }
    served = {f.statement for f in findings if "queries" in f.evidence.figures}
    for finding in (f for f in findings if f.statement not in served):
        for fix in finding.fixes:
            made = _MADE.fullmatch(fix.sql) if fix.kind == "ddl" else None
            proof = fix.proof
            if made and {"cost_before", "cost_after", "size_bytes"} <= proof.keys():
                use = {"time_before_ms": None, "time_after_ms": None, **proof}
                use["line"] = finding.location.line
                advised.setdefault(made[1], (proof["size_bytes"], [use]))
    if len(advised) < 2:
        return []
    from tabulate import tabulate

    rows = [
        (
            index,
            size_of(size),
            ", ".join(dict.fromkeys(str(q["line"]) for q in uses)),
            _total(uses, "cost_before", "cost_after", number),
            _total(uses, "time_before_ms", "time_after_ms", ms),
        )
        for index, (size, uses) in advised.items()
    ]
    headers = ["index", "size", "serves lines", "planner cost, all", "measured time, all"]
    width = len(headers) if any(row[-1] for row in rows) else len(headers) - 1
    table = tabulate(
        [row[:width] for row in rows],
        headers=headers[:width],
        tablefmt="simple",
        disable_numparse=True,
    )
    return [paint("bold", "Indexes worth adding"), *table.splitlines()]


def _total(
    uses: Sequence[Mapping[str, Any]], before: str, after: str, show: Callable[[float], str]
) -> str:
    known = [u for u in uses if u[before] is not None and u[after] is not None]
    if not known:
        return ""
    return f"{show(sum(u[before] for u in known))} → {show(sum(u[after] for u in known))}"


def summary_line(report: Report, paint: Painter) -> str:
    """What was found in how much, on one line."""
    counts = [
        paint(s, f"{n} {s}{'s' if n != 1 and s != 'info' else ''}")
        for s in ("error", "warning", "info")
        if (n := report.count(s))
    ]
    found = ", ".join(counts) if counts else paint("good", "no findings")
    tail = f"{report.statements} statement{'s' * (report.statements != 1)} in "
    tail += f"{report.files} file{'s' * (report.files != 1)}"
    if report.problems:
        tail += f", {paint('error', f'{len(report.problems)} could not be audited')}"
    if report.suppressed:
        tail += f", {report.suppressed} suppressed"
    without = "static" if report.command == "gate" else "static: no --schema, no --dsn"
    server = f" ({report.server or without})"
    return f"{found} in {tail}{paint('dim', server)}"


def number(value: float) -> str:
    """A count or cost for people: 12, 12,345, 1.5."""
    return f"{value:,.0f}" if abs(value) >= 100 or float(value).is_integer() else f"{value:.3g}"


def size_of(size: float) -> str:
    """Bytes for people, in powers of 1024 as pg_size_pretty() counts them."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 10240 or unit == "GB":
            return f"{size:.0f} {unit}"
        size /= 1024
    return ""
