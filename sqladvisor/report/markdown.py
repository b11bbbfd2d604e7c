"""Markdown for a pull request's comment or GitHub's step summary: a table, and each finding in full.

Text that others wrote cannot break out: in prose, characters that mean something in Markdown or
HTML become character references, which never do (CommonMark 0.31, 2.5), and what GitHub and GitLab
turn into a mention, a reference or a link is parted by a zero-width space; SQL stands in fences
longer than any run of backticks in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sqladvisor.finding import Finding, Fix, InputProblem
from sqladvisor.report.escape import one_line, printable
from sqladvisor.report.identity import repository_path
from sqladvisor.report.model import Report
from sqladvisor.report.text import Painter, evidence_lines, proof_line, source_lines, summary_line

if TYPE_CHECKING:
    from sqladvisor.rule import Rule

MAX_CHARACTERS = 60_000
"""GitHub takes 65,536 characters in a comment."""
STEP_SUMMARY_CHARACTERS = 400_000
"""GitHub takes 1 MiB in the summary of a step, which may run more than one command."""
MAX_SQL_LINES = 60
"""Lines of one fix. More are in the other formats."""
MAX_ROW = 300
"""Characters of a message in the table."""

_ICONS = {"error": "🔴", "warning": "🟡", "info": "🔵"}
# An underscore within a word means nothing.
_SPECIAL = re.compile(r"[\\`*\[\]<>&|~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
# What begins a heading, a list or an underline where text begins a line or a list's item.
_BLOCK = re.compile(r"^\s*(\d*)([#+=.)-])")
_LINKED = re.compile(r"(?<=[@#!])(?=\w)|(?<=:)(?=//)|(?<=www)(?=\.)", re.IGNORECASE)
_ZERO_WIDTH_SPACE = "\u200b"
_PLAIN = Painter(False)
_SECTIONS = ("Why:", "Fix:", "Silent when:", "Source:", "Needs:", "Versions:")
_SAID = 250
"""Characters kept free to say what was left out."""


def render(report: Report, *, limit: int = MAX_CHARACTERS, own: str = "") -> str:
    """The report as Markdown, ending in a newline, in at most ``limit`` characters.

    What does not fit is left out from the end, and it is said how much that is. ``own``: the text
    report of a command that has more to show than findings (plans, a set of indexes): it is quoted.
    """
    head = [f"### sqladvisor {report.command}: {escape(summary_line(report, _PLAIN))}", ""]
    if own:
        head[0] = f"### sqladvisor {report.command}"
    if report.problems:
        head += ["| not read | |", "|---|---|"]
    notes = () if own else report.notes  # its text has them
    tail = [f"> {escape(one_line(note))}  " for note in notes]
    room = limit - _SAID - _size(head + tail)
    rows = _fitting([_problem_row(p) for p in report.problems], room)
    lines = [*head, *rows]
    lines += _left(len(report.problems) - len(rows), "more could not be read")
    room -= _size(rows)
    if report.findings:
        table = ["| | place | finding | rule |", "|---|---|---|---|"]
        rows = _fitting([_row(f) for f in report.findings], room - _size(table))
        lines += [*([""] if report.problems else []), *table, *rows, ""]
        lines += _left(len(report.findings) - len(rows), "more findings")
        room -= _size([*table, *rows])
        if len(rows) == len(report.findings):
            found = _fitting([_collapsed(f, report.texts) for f in report.findings], room)
            lines += found
            lines += _left(len(report.findings) - len(found), "findings are not shown in full")
            room -= _size(found)
    if own:
        lines += _quoted(own, room)
    return "\n".join([*lines, *tail]).rstrip() + "\n"


def _quoted(text: str, room: int) -> list[str]:
    """A text report in a fence, as many of its lines as fit."""
    lines = printable(text).rstrip().split("\n")
    kept = _fitting(lines, room - len(fence(text)) + len(text))
    return [fence("\n".join(kept)), *_left(len(lines) - len(kept), "more lines")]


def _size(lines: Sequence[str]) -> int:
    return sum(len(line) + 1 for line in lines)


def _fitting(blocks: Sequence[str], room: int) -> Sequence[str]:
    """The first of the blocks, as many as fit."""
    for count, block in enumerate(blocks):
        room -= len(block) + 1
        if room < 0:
            return blocks[:count]
    return blocks


def _left(count: int, what: str) -> list[str]:
    return ["", f"… {count:,} {what}: the other formats have them.", ""] if count else []


def escape(text: str) -> str:
    """Text of others as text: on one line, nothing in it means anything in Markdown or HTML."""
    parted = _LINKED.sub(_ZERO_WIDTH_SPACE, one_line(text))
    safe = _SPECIAL.sub(lambda found: f"&#{ord(found[0])};", parted).strip()
    return _BLOCK.sub(lambda found: f"{found[1]}&#{ord(found[2])};", safe)


def code(text: str) -> str:
    """Text of others in the typeface of code. In a table a pipe would end a Markdown code span."""
    return f"<code>{escape(text)}</code>"


def fence(text: str, language: str = "") -> str:
    """A fenced block that no run of backticks in the text can end."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    marks = "`" * max(3, longest + 1)
    return f"{marks}{language}\n{printable(text)}\n{marks}"


# -- findings -------------------------------------------------------------------------------------


def _problem_row(problem: InputProblem) -> str:
    place = repository_path(problem.path)
    if problem.line is not None:
        place += f":{problem.line}"
    return f"| {code(place)} | {escape(_cut(problem.message))} |"


def _row(finding: Finding) -> str:
    severity = f"{_ICONS[finding.severity]} {finding.severity}"
    message = escape(_cut(finding.message))
    return f"| {severity} | {code(_place(finding))} | {message} | {code(finding.rule)} |"


def _place(finding: Finding) -> str:
    return f"{repository_path(finding.location.path)}:{finding.location.line}"


def _cut(message: str) -> str:
    return message if len(message) <= MAX_ROW else message[: MAX_ROW - 1] + "…"


def _collapsed(finding: Finding, texts: Mapping[str, str]) -> str:
    title = f"{_ICONS[finding.severity]} {code(_place(finding))} {escape(finding.rule)}"
    return f"<details><summary>{title}</summary>\n\n{details(finding, texts)}\n\n</details>\n"


def details(finding: Finding, texts: Mapping[str, str]) -> str:
    """One finding in full: message, source line, evidence, fixes."""
    parts = [f"**{finding.severity}**: {escape(finding.message)}"]
    quoted = source_lines(finding, texts.get(finding.location.path, ""), _PLAIN)
    if quoted:
        parts.append(fence("\n".join(line[2:] for line in quoted)))
    evidence = evidence_lines(finding.evidence, _PLAIN, False)
    if evidence:
        parts.append("\n".join(f"- {escape(line.removeprefix('· '))}" for line in evidence))
    return "\n\n".join([*parts, *(_fix(f) for f in finding.fixes)])


def _fix(fix: Fix) -> str:
    head = f"**Fix**: {escape(fix.description)}"
    if fix.changes_result:
        head += f" (changes the result: {escape(fix.changes_result)})"
    if proof := proof_line(fix.proof, _PLAIN):
        head += f"  \n{escape(proof)}"
    if not fix.sql:
        return head
    sql = fix.sql.rstrip().splitlines()
    if not sql[-1].endswith(";"):
        sql[-1] += ";"
    if len(sql) > MAX_SQL_LINES:
        left = len(sql) - MAX_SQL_LINES
        sql = [*sql[:MAX_SQL_LINES], f"-- … {left:,} more lines: --format json has them"]
    return head + "\n\n" + fence("\n".join(sql), "sql")


# -- rules ----------------------------------------------------------------------------------------


def rule_page(rule: Rule) -> str:
    """A rule's documentation as Markdown, from its file: summary, sections, an example of each kind."""
    from sqladvisor.catalogue import example_text

    opt_in = f"; opt-in: `--select {rule.opt_in}`" if rule.opt_in else ""
    lines = [f"{rule.summary} ({rule.severity}{opt_in})", ""]
    for line in rule.doc.strip().partition("\n")[2].strip().splitlines():
        mark = next((s for s in _SECTIONS if line.startswith(s)), None)
        lines.append(f"**{mark}**{line[len(mark) :]}  " if mark else line.strip())
    if rule.thresholds:
        shown = ", ".join(f"`{k}` = {v:g}" for k, v in sorted(rule.thresholds.items()))
        lines += ["", f"Thresholds: {shown}."]
    for name, title in (("bad", "Fires on"), ("good", "Silent on")):
        example = next(iter(rule.examples[name]), "")
        if example:
            lines += ["", title, "```sql", example_text(example).strip(), "```"]
    return "\n".join(lines)
