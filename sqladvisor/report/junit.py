"""JUnit XML, as Jenkins, GitLab, Azure and CircleCI read it: a suite for each file.

A finding is a test case. One at or above ``--fail-on`` has failed; one below it is skipped, so that
a green run stays green; what could not be read is an error; a file without either has passed. The
elements and attributes are those of Jenkins' junit-10.xsd.
"""

from __future__ import annotations

from xml.etree import ElementTree as ET

from sqladvisor.finding import SEVERITY_RANK, Finding, InputProblem
from sqladvisor.report.escape import one_line, printable
from sqladvisor.report.identity import repository_path
from sqladvisor.report.model import Report
from sqladvisor.report.text import Painter, finding_lines


def render(report: Report, *, fail_on: str = "error") -> str:
    """The report as an XML document, ending in a newline. Plain ASCII: safe in any encoding."""
    root = ET.Element("testsuites", name=f"sqladvisor {report.command}")
    problems_in: dict[str, list[InputProblem]] = {}
    findings_in: dict[str, list[Finding]] = {}
    for problem in report.problems:
        problems_in.setdefault(problem.path, []).append(problem)
    for finding in report.findings:
        findings_in.setdefault(finding.location.path, []).append(finding)
    for path in sorted({*problems_in, *findings_in, *report.texts}):
        problems, findings = problems_in.get(path, ()), findings_in.get(path, ())
        suite = ET.SubElement(root, "testsuite", name=one_line(repository_path(path)))
        for problem in problems:
            _problem(suite, problem)
        for finding in findings:
            _finding(suite, finding, report, SEVERITY_RANK[fail_on])
        if not problems and not findings:
            _case(suite, path, "no findings")
        _count(suite, suite)
    _count(root, *root)
    ET.indent(root)
    body = ET.tostring(root, encoding="us-ascii").decode("ascii")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}\n'


def _case(suite: ET.Element, path: str, name: str, line: int | None = None) -> ET.Element:
    shown = one_line(repository_path(path))
    case = ET.SubElement(suite, "testcase", name=name, classname=shown, time="0", file=shown)
    if line is not None:
        case.set("line", str(line))
    return case


def _problem(suite: ET.Element, problem: InputProblem) -> None:
    place = "" if problem.line is None else f" ({problem.line}:{problem.column or 1})"
    case = _case(suite, problem.path, f"can be read{place}", problem.line)
    ET.SubElement(case, "error", type="unusable-input", message=one_line(problem.message))


def _finding(suite: ET.Element, finding: Finding, report: Report, threshold: int) -> None:
    at = finding.location
    case = _case(suite, at.path, f"{finding.rule} ({at.line}:{at.column})", at.line)
    message = f"{finding.severity}: {one_line(finding.message)}"
    body = "\n".join(finding_lines(finding, report.texts, Painter(False), False))
    if SEVERITY_RANK[finding.severity] >= threshold:
        failure = ET.SubElement(case, "failure", type=finding.severity, message=message)
        failure.text = f"\n{printable(body)}\n"
    else:
        ET.SubElement(case, "skipped", message=message)
        ET.SubElement(case, "system-out").text = f"\n{printable(body)}\n"


def _count(element: ET.Element, *suites: ET.Element) -> None:
    """Set the numbers of tests, failures, errors and skipped ones below these suites."""
    counts = {
        "tests": sum(len(s.findall("testcase")) for s in suites),
        "failures": sum(len(s.findall("testcase/failure")) for s in suites),
        "errors": sum(len(s.findall("testcase/error")) for s in suites),
        "skipped": sum(len(s.findall("testcase/skipped")) for s in suites),
    }
    for name, count in counts.items():
        element.set(name, str(count))
    element.set("time", "0")
