"""What a report is made from: findings, problems and the figures of one run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqladvisor.finding import Finding, InputProblem

if TYPE_CHECKING:
    from sqladvisor.rule import Rule


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of a command. ``texts`` holds the decoded text of each file, for quoting."""

    command: str
    findings: tuple[Finding, ...]
    problems: tuple[InputProblem, ...] = ()
    files: int = 0
    statements: int = 0
    texts: Mapping[str, str] = field(default_factory=dict)
    server: str = ""
    """What plans and figures were had from, in words; empty for a static run."""
    notes: tuple[str, ...] = ()
    """What the reader must know of how the run was made (assumptions, what was left out)."""
    suppressed: int = 0
    rules: tuple[Rule, ...] = ()
    """The rules that ran, for the formats that describe them."""
    details: Mapping[str, Any] = field(default_factory=dict)

    def count(self, severity: str) -> int:
        return sum(f.severity == severity for f in self.findings)
