"""GitLab's Code Quality report: a JSON list, shown in the merge request.

Format: docs.gitlab.com/ci/testing/code_quality, "Code Quality report format".
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from sqladvisor.finding import Finding, InputProblem
from sqladvisor.report.escape import one_line
from sqladvisor.report.identity import identities, repository_path
from sqladvisor.report.model import Report

SEVERITIES = {"error": "critical", "warning": "minor", "info": "info"}
PROBLEM = "blocker"
"""What could not be read is not known to be good."""


def render(report: Report) -> str:
    """The report as one JSON document, ending in a newline. Plain ASCII: safe in any encoding."""
    entries = [_problem(p) for p in report.problems]
    named = zip(report.findings, identities(report.findings), strict=True)
    entries += [_finding(finding, name) for finding, name in named]
    return json.dumps(entries, indent=2) + "\n"


def _finding(finding: Finding, name: str) -> dict[str, Any]:
    at = finding.location
    last = at.end_line - (at.end_line > at.line and at.end_column == 1)
    return {
        "description": one_line(finding.message),
        "check_name": finding.rule,
        "fingerprint": name,
        "severity": SEVERITIES[finding.severity],
        "location": {
            "path": one_line(repository_path(at.path)),
            "lines": {"begin": at.line, "end": last},
        },
    }


def _problem(problem: InputProblem) -> dict[str, Any]:
    path = one_line(repository_path(problem.path))
    key = f"{path}\0{problem.line}\0{problem.column}\0{problem.message}"
    return {
        "description": one_line(problem.message),
        "check_name": "sqladvisor/unusable-input",
        "fingerprint": hashlib.sha256(key.encode("utf-8", "backslashreplace")).hexdigest()[:32],
        "severity": PROBLEM,
        "location": {"path": path, "lines": {"begin": problem.line or 1}},
    }
