"""What every rule produces and every report reads: findings, their evidence, their fixes.

Data only. Nothing in here computes, prints or connects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["error", "warning", "info"]
Level = Literal["static", "estimated", "measured"]

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")
SEVERITY_RANK: dict[str, int] = {"error": 3, "warning": 2, "info": 1, "never": 99}


@dataclass(frozen=True, slots=True)
class Location:
    """A place in an input file. Lines and columns count from 1; columns count characters.

    ``end_line``/``end_column`` are exclusive at the column: the span is what lies before them.
    """

    path: str
    line: int
    column: int
    end_line: int
    end_column: int


@dataclass(frozen=True, slots=True)
class Edit:
    """Replace characters ``[start, end)`` of the statement's original text by ``text``."""

    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Fix:
    """A remedy, ready to paste.

    ``sql`` is complete, runnable SQL (the rewritten statement or DDL), never a template.
    ``kind`` says what it is: ``rewrite`` replaces the statement, ``ddl`` changes the schema,
    ``advice`` is neither (a client-side pattern).
    ``changes_result`` is empty for a meaning-preserving rewrite; otherwise it says, in a few
    words, how the result differs (then it is a choice for a human, never applied by ``--fix``).
    """

    description: str
    sql: str
    kind: Literal["rewrite", "ddl", "advice"] = "rewrite"
    changes_result: str = ""
    proof: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a finding rests on. Figures carry their unit in the name (``time_before_ms``).

    ``figures`` is a flat JSON-serialisable mapping; ``notes`` are short sentences for people.
    """

    level: Level = "static"
    figures: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Experiment:
    """What to run, where there are rows, to measure a piece of advice: two ways to the same end.

    Each side is a list of statements run in one transaction that is rolled back.
    ``label_before``/``label_after`` name the sides in the report.
    """

    kind: Literal["batch", "prepare", "setting"]
    before: tuple[str, ...]
    after: tuple[str, ...]
    label_before: str = "as written"
    label_after: str = "as advised"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing worth saying about one place in one statement."""

    rule: str
    severity: Severity
    message: str
    location: Location
    statement: str
    fingerprint: str
    evidence: Evidence = field(default_factory=Evidence)
    fixes: tuple[Fix, ...] = ()
    experiment: Experiment | None = None


@dataclass(frozen=True, slots=True)
class InputProblem:
    """Input that could not be used: one line for the user, and exit code 2."""

    path: str
    message: str
    line: int | None = None
    column: int | None = None
