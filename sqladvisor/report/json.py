"""The JSON report (``schema_version`` 1); its JSON Schema is report/schema.json."""

from __future__ import annotations

import json
import os
from typing import Any

from sqladvisor import __version__
from sqladvisor.finding import Finding, Fix
from sqladvisor.report.model import Report


def render(report: Report) -> str:
    """The report as one JSON document, indented by two, ending in a newline."""
    return json.dumps(document(report), indent=2, ensure_ascii=False, default=str) + "\n"


def document(report: Report) -> dict[str, Any]:
    """The report as plain dictionaries, as the JSON Schema describes them."""
    extra = {key: report.details[key] for key in ("timeline", "shadow") if key in report.details}
    return {
        **{key: value for key, value in extra.items() if value is not None},
        "schema_version": 1,
        "tool": {"name": "sqladvisor", "version": __version__},
        "command": report.command,
        "server": report.server or None,
        "notes": list(report.notes),
        "summary": {
            "files": report.files,
            "statements": report.statements,
            "findings": {s: report.count(s) for s in ("error", "warning", "info")},
            "suppressed": report.suppressed,
            "errors": len(report.problems),
        },
        "findings": [_finding(f) for f in report.findings],
        "errors": [
            {"path": p.path, "line": p.line, "column": p.column, "message": p.message}
            for p in report.problems
        ],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    at = finding.location
    return {
        "rule": finding.rule,
        "severity": finding.severity,
        "message": finding.message,
        "location": {
            "path": at.path,
            "line": at.line,
            "column": at.column,
            "end_line": at.end_line,
            "end_column": at.end_column,
        },
        "statement": finding.statement,
        "fingerprint": finding.fingerprint,
        "evidence": {
            "level": finding.evidence.level,
            **finding.evidence.figures,
            "notes": list(finding.evidence.notes),
        },
        "fix": _fix(finding.fixes[0]) if finding.fixes else None,
        "alternatives": [_fix(f) for f in finding.fixes[1:]],
        "docs": f"sqladvisor rule {finding.rule}",
    }


def _fix(fix: Fix) -> dict[str, Any]:
    return {
        "description": fix.description,
        "sql": fix.sql,
        "kind": fix.kind,
        "changes_result": fix.changes_result or None,
        "proof": dict(fix.proof),
    }


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the report."""
    path = os.path.join(os.path.dirname(__file__), "schema.json")
    with open(path, encoding="utf-8") as file:
        loaded: dict[str, Any] = json.load(file)
    return loaded
