"""SARIF 2.1.0, for GitHub code scanning, Azure DevOps and editors.

Rules are described by their own files. A rewrite that keeps the result is a fix that the reader's
tool can apply; every other remedy stands in the result's properties and Markdown message.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import cache
from typing import Any
from urllib.parse import quote

from sqladvisor import __version__
from sqladvisor.engine import META_RULES
from sqladvisor.finding import Finding, Fix, InputProblem
from sqladvisor.report.escape import printable
from sqladvisor.report.identity import identities, repository_path
from sqladvisor.report.markdown import details, rule_page
from sqladvisor.report.model import Report
from sqladvisor.rule import Rule
from sqladvisor.sql.inputs import PROGRAMS

SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
LEVELS = {"error": "error", "warning": "warning", "info": "note"}
ROOT = "%SRCROOT%"
"""The name by which readers know the root of the repository."""
Json = dict[str, Any]


def render(report: Report) -> str:
    """The report as one SARIF log, ending in a newline. Plain ASCII: safe in any encoding."""
    return json.dumps(document(report), indent=2, default=str) + "\n"


def document(report: Report) -> Json:
    """The SARIF log as plain dictionaries."""
    rules = {r.id: r for r in report.rules}
    used = {f.rule: None for f in report.findings}
    ids = sorted({*rules, *used})
    index = {rule_id: i for i, rule_id in enumerate(ids)}
    named = zip(report.findings, identities(report.findings), strict=True)
    run: Json = {
        "tool": {
            "driver": {
                "name": "sqladvisor",
                "version": __version__,
                "semanticVersion": __version__,
                "rules": [_descriptor(i, rules.get(i)) for i in ids],
            }
        },
        "automationDetails": {"id": f"sqladvisor/{report.command}/"},
        "columnKind": "unicodeCodePoints",
        "originalUriBaseIds": {ROOT: {"description": {"text": "The root of the repository."}}},
        "invocations": [
            {
                "executionSuccessful": not report.problems,
                "toolExecutionNotifications": [
                    *(_problem(p) for p in report.problems),
                    *({"level": "note", "message": _message(n)} for n in report.notes),
                ],
            }
        ],
        "results": [_result(f, name, index[f.rule], report.texts) for f, name in named],
    }
    if uri := documentation(""):
        run["tool"]["driver"]["informationUri"] = uri
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


# -- rules ----------------------------------------------------------------------------------------


def _descriptor(rule_id: str, rule: Rule | None) -> Json:
    summary = rule.summary if rule else META_RULES.get(rule_id, rule_id)
    kind = rule_id.partition("/")[0]
    descriptor: Json = {
        "id": rule_id,
        "name": "".join(part.capitalize() for part in rule_id.replace("/", "-").split("-")),
        "shortDescription": {"text": summary},
        "fullDescription": {"text": summary},
        "help": {"text": summary, "markdown": summary},
        "properties": {"tags": ["postgresql", "sql", kind]},
    }
    if rule:
        descriptor["fullDescription"] = {"text": _why(rule) or summary}
        descriptor["help"] = {"text": rule.doc.strip(), "markdown": rule_page(rule)}
        descriptor["defaultConfiguration"] = {"level": LEVELS[rule.severity]}
        descriptor["properties"]["problem.severity"] = (
            "recommendation" if rule.severity == "info" else rule.severity
        )
    if uri := documentation(rule_id):
        descriptor["helpUri"] = uri
    return descriptor


def _why(rule: Rule) -> str:
    """The section of a rule's documentation that says why, as one line."""
    _, _, rest = rule.doc.partition("\nWhy:")
    lines = rest.split("\n")
    more = 1
    while more < len(lines) and lines[more].startswith(" "):
        more += 1
    return " ".join(" ".join(lines[:more]).split())


@cache
def _project_urls() -> Mapping[str, str]:
    from importlib import metadata

    try:
        urls = metadata.metadata("sqladvisor").get_all("Project-URL") or ()
    except metadata.PackageNotFoundError:
        return {}
    named = (u.partition(",") for u in urls)
    return {name.strip().lower(): url.strip() for name, _, url in named}


def documentation(rule_id: str) -> str:
    """Where the project's metadata says that a rule is documented; "" if it does not."""
    urls = _project_urls()
    base = urls.get("documentation", "")
    if not rule_id or not base:
        return base or urls.get("homepage", "")
    return f"{base}#{rule_id.replace('/', '')}"


# -- results --------------------------------------------------------------------------------------


def _result(finding: Finding, name: str, index: int, texts: Mapping[str, str]) -> Json:
    message = _message(finding.message)
    message["markdown"] = details(finding, texts)
    result: Json = {
        "ruleId": finding.rule,
        "ruleIndex": index,
        "level": LEVELS[finding.severity],
        "message": message,
        "locations": [{"physicalLocation": _place(finding)}],
        "partialFingerprints": {"sqladvisorFinding/v1": name},
        "properties": {
            "evidence": {
                "level": finding.evidence.level,
                **finding.evidence.figures,
                "notes": list(finding.evidence.notes),
            },
            "remedies": [
                {
                    "description": f.description,
                    "sql": f.sql,
                    "kind": f.kind,
                    "changesResult": f.changes_result,
                }
                for f in finding.fixes
            ],
        },
    }
    fixes = [fix for f in finding.fixes if (fix := _fix(f, finding, texts))]
    if fixes:
        result["fixes"] = fixes
    return result


def _message(text: str) -> Json:
    # "[text](target)" is a link in SARIF messages (3.11.6): names that look like one are no link.
    return {"text": printable(text).replace("](", "] (") or "(no message)"}


def _place(finding: Finding) -> Json:
    at = finding.location
    region: Json = {"startLine": at.line}
    if (at.end_line, at.end_column) > (at.line, at.column):
        region |= {"startColumn": at.column, "endLine": at.end_line, "endColumn": at.end_column}
    return {"artifactLocation": _artifact(at.path), "region": region}


def _artifact(path: str) -> Json:
    """An artifact's location: relative to the repository's root, or a file's absolute URI."""
    shown = repository_path(path)
    uri = quote(os.fsencode(shown), safe="/")
    if os.path.isabs(shown):
        return {"uri": f"file://{uri}"}
    return {"uri": uri, "uriBaseId": ROOT}


def _problem(problem: InputProblem) -> Json:
    location: Json = {"artifactLocation": _artifact(problem.path)}
    if problem.line is not None:
        location["region"] = {"startLine": problem.line}
        if problem.column is not None:
            location["region"]["startColumn"] = problem.column
    return {
        "level": "error",
        "message": _message(problem.message),
        "locations": [{"physicalLocation": location}],
    }


def _fix(fix: Fix, finding: Finding, texts: Mapping[str, str]) -> Json | None:
    """A rewrite as the replacement of the statement, where it keeps the result; else None."""
    path = finding.location.path
    if fix.kind != "rewrite" or fix.changes_result or path.lower().endswith(PROGRAMS):
        return None
    text = texts.get(path, "")
    start = _statement_start(finding, text)
    if start < 0:
        return None
    end = start + len(finding.statement)
    follows = text[end : end + 1] == ";"
    line, column = _position(text, start)
    end_line, end_column = _position(text, end)
    return {
        "description": {"text": printable(fix.description).replace("](", "] (")},
        "artifactChanges": [
            {
                "artifactLocation": _artifact(path),
                "replacements": [
                    {
                        "deletedRegion": {
                            "startLine": line,
                            "startColumn": column,
                            "endLine": end_line,
                            "endColumn": end_column,
                        },
                        "insertedContent": {"text": fix.sql.rstrip("; \n") if follows else fix.sql},
                    }
                ],
            }
        ],
    }


def _statement_start(finding: Finding, text: str) -> int:
    """The offset at which the finding's statement stands in its file; -1 if that is not known."""
    at = finding.location
    offset = 0
    for _ in range(at.line - 1):
        offset = text.find("\n", offset) + 1
        if not offset:
            return -1
    offset += at.column - 1
    if not finding.statement:
        return -1
    # The statement holds the place of its finding: it begins there, or not far before.
    start = text.rfind(finding.statement, 0, offset + len(finding.statement))
    return start if start >= 0 and start <= offset <= start + len(finding.statement) else -1


def _position(text: str, offset: int) -> tuple[int, int]:
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)
