"""Variables that a runner fills in: ``${name}`` of Flyway and goose, read as identifiers of their length.

So that places in the text stay what they are. What is shown, or written back, has the variables again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqladvisor.finding import Evidence, Finding

# Flyway's ${name} and goose's ${NAME} or ${NAME:-default}.
_VARIABLE = re.compile(r"\$\{[A-Za-z_][^{}\n]*\}")
STANDS_FOR_ONE = re.compile(r"v\w+__\Z")
"""A name that is one, whole."""


def fill(text: str, known: dict[str, str]) -> str:
    """The text with an identifier in place of every variable; ``known`` learns what each stands for."""

    def filled(match: re.Match[str]) -> str:
        name = "v" + re.sub(r"\W", "_", match[0][2:-1]) + "__"
        known[name] = known[name.lower()] = match[0]  # unquoted it is folded
        return name

    return _VARIABLE.sub(filled, text)


def as_written(text: str, known: Mapping[str, str]) -> str:
    """A text with the variables in place of what stood for them."""
    for name in sorted(known, key=len, reverse=True):
        text = text.replace(name, known[name])
    return text


def restored(finding: Finding, known: Mapping[str, str]) -> Finding:
    """A finding that names the variables."""
    if not known:
        return finding
    evidence = finding.evidence
    return replace(
        finding,
        message=as_written(finding.message, known),
        fixes=tuple(
            replace(f, sql=as_written(f.sql, known), description=as_written(f.description, known))
            for f in finding.fixes
        ),
        evidence=Evidence(
            evidence.level,
            _restored(evidence.figures, known),
            tuple(as_written(n, known) for n in evidence.notes),
        ),
    )


def _restored(value: Any, known: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return as_written(value, known)
    if isinstance(value, Mapping):
        return {k: _restored(v, known) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_restored(v, known) for v in value)
    return value
