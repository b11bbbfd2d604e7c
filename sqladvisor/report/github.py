"""GitHub's workflow commands: an annotation at each finding's line, in the run and the pull request.

Format: docs.github.com, "Workflow commands for GitHub Actions". GitHub shows ten annotations of each
level for a step; all of them stand in its log, and the Markdown summary has them too.
"""

from __future__ import annotations

from sqladvisor.finding import Finding, InputProblem
from sqladvisor.report.escape import one_line, printable
from sqladvisor.report.identity import repository_path
from sqladvisor.report.model import Report
from sqladvisor.report.text import Painter, summary_line

LEVELS = {"error": "error", "warning": "warning", "info": "notice"}


def render(report: Report) -> str:
    """One command a line, then a line for the log that says how much was found."""
    lines = [_problem(p) for p in report.problems]
    lines += [_finding(f) for f in report.findings]
    summary = one_line(summary_line(report, Painter(False)))
    # The runner obeys "##[error]" anywhere in a line, and "::" at the start of one.
    lines.append("sqladvisor: " + summary.replace("##[", "# #["))
    return "\n".join(lines) + "\n"


def _finding(finding: Finding) -> str:
    at = finding.location
    properties = {"file": repository_path(at.path), "line": str(at.line)}
    if at.end_line == at.line:  # columns of a span over lines are refused
        if at.end_column > at.column:
            properties |= {"col": str(at.column), "endColumn": str(at.end_column)}
    else:
        properties["endLine"] = str(at.end_line - (at.end_column == 1))
    properties["title"] = finding.rule
    said = [finding.message, *finding.evidence.notes]
    for fix in finding.fixes:
        changes = f" (changes the result: {fix.changes_result})" if fix.changes_result else ""
        said.append(f"Fix: {fix.description}{changes}\n{fix.sql}".rstrip())
    return _command(LEVELS[finding.severity], properties, "\n".join(said))


def _problem(problem: InputProblem) -> str:
    properties = {"file": repository_path(problem.path)}
    if problem.line is not None:
        properties["line"] = str(problem.line)
    if problem.column is not None:
        properties["col"] = str(problem.column)
    properties["title"] = "cannot be read"
    return _command("error", properties, problem.message)


def _command(name: str, properties: dict[str, str], message: str) -> str:
    shown = ",".join(f"{k}={_property(one_line(v))}" for k, v in properties.items())
    return f"::{name} {shown}::{_data(printable(message))}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
