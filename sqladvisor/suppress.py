"""Suppression comments: ``-- sqladvisor: ignore RULE[, RULE…] reason`` on or above a statement.

``ignore-file`` in place of ``ignore`` covers the whole file. The reason is required: a suppression
without one is not honoured, one that suppresses nothing is reported.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sqladvisor.engine import matches
from sqladvisor.finding import Evidence, Finding, Location
from sqladvisor.sql.statement import Statement

MARK = "sqladvisor:"
_DIRECTIVE = re.compile(
    r"sqladvisor:\s*(?P<verb>ignore(?:-file)?)\s+"
    r"(?P<rules>[\w*-]+(?:/[\w*-]+)?(?:\s*,\s*[\w*-]+(?:/[\w*-]+)?)*)\s*(?P<reason>.*)",
    re.DOTALL,
)
_BARE = re.compile(r"sqladvisor:\s*ignore(?:-file)?[\s*/]*$")
"""One that does not say what to ignore."""


@dataclass(slots=True)
class Suppression:
    """One directive. ``line`` is where it stands, ``first``..``last`` the lines it covers."""

    path: str
    line: int
    rules: tuple[str, ...]
    reason: str
    first: int
    last: int
    used: bool = field(default=False)
    """Or not known to be of no use."""


def read_suppressions(
    path: str, comments: Iterable[tuple[int, str]], statements: Sequence[Statement]
) -> list[Suppression]:
    """The directives among a file's comments (line, text), with the statement each one covers."""
    result = []
    for line, text in comments:
        found = _DIRECTIVE.search(text)
        if not found:
            if _BARE.search(text):
                result.append(Suppression(path, line, (), "", line, line))
            continue
        reason = found["reason"].rstrip("*/ \n").lstrip("-:— ").strip()
        rules = tuple(part.strip() for part in found["rules"].split(","))
        first, last = 1, 1 << 60
        if found["verb"] == "ignore":
            first, last = line, line
            for statement in statements:
                end = statement.last_line
                if statement.line <= line <= end or statement.line > line:
                    first, last = statement.line, end
                    break
        result.append(Suppression(path, line, rules, reason, first, last))
    return result


def apply(findings: Sequence[Finding], suppressions: Sequence[Suppression]) -> list[Finding]:
    """The findings left, with findings about suppressions that are unused or lack a reason."""
    left = []
    for finding in findings:
        suppressed = False
        for s in suppressions:
            covers = (
                s.path == finding.location.path
                and s.first <= finding.location.line <= s.last
                and matches(finding.rule, s.rules)
            )
            if covers:
                s.used = True
                suppressed = suppressed or bool(s.reason)
        if not suppressed:
            left.append(finding)
    for s in suppressions:
        at = Location(s.path, s.line, 1, s.line, 1)
        if not s.rules:
            message = "no rule and no reason given to ignore: not honoured"
            left.append(
                Finding("suppression/without-reason", "warning", message, at, "", "", Evidence())
            )
        elif not s.reason:
            message = f"no reason given for ignoring {', '.join(s.rules)}: not honoured"
            left.append(
                Finding("suppression/without-reason", "warning", message, at, "", "", Evidence())
            )
        elif not s.used:
            message = f"nothing to ignore here for {', '.join(s.rules)}: remove the comment"
            left.append(Finding("suppression/unused", "info", message, at, "", "", Evidence()))
    return left
