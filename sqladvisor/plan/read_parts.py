"""What the readers of all formats share: objects that know their line, and the types of properties.

Only the JSON format says whether ``5`` is a number or a text; the names say it for the others.
"""

from __future__ import annotations

import re
from typing import Any

from sqladvisor.errors import InputError


class Properties(dict[str, Any]):
    """An object of EXPLAIN's output, under EXPLAIN's own names, and the line it stands on."""

    __slots__ = ("line",)

    def __init__(self, line: int | None = None) -> None:
        super().__init__()
        self.line = line


class Damaged(InputError):
    """A plan that breaks off or makes no sense, and the line where it does."""

    def __init__(self, line: int, cause: str) -> None:
        super().__init__(cause)
        self.line = line
        self.cause = cause


MAX_DEPTH = 5000
"""Levels. PostgreSQL's own max_stack_depth ends far below; a deeper input was made to hurt."""

_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,30})(?:\.\d{1,30})?(?:[eE][+-]?\d{1,3})?")
_SWITCHES = frozenset(
    ("Parallel Aware", "Async Capable", "Inner Unique", "Single Copy", "Disabled", "Inlining",
     "Optimization", "Expressions", "Deforming")
)  # fmt: skip
# Names and expressions: texts even where they look like numbers. Those in lists are texts anyway.
_TEXTS = re.compile(
    r"(?!Rows Removed)(?:.* )?(?:Name|Schema|Alias|Cond|Filter|Key|By|Call|Text|Parameters|Type|Relation|Seed|Item"
    r"|Operation|Command|Mode|Strategy|Method|Used|SQL|File|Relationship|Window|Provider|Resolution"
    r"|Format|Storage|Replaces)"
)
_NUMBERS = frozenset(("Sort Space Used", "Average Sort Space Used", "Peak Sort Space Used",
                      "Memory Used", "Maximum Storage"))  # fmt: skip


def number(text: str) -> int | float | None:
    """A number as EXPLAIN prints it; None for anything else."""
    if not _NUMBER.fullmatch(text):
        return None
    value = float(text)
    return int(text) if text.lstrip("-").isdigit() else value


def typed(name: str, text: str) -> Any:
    """The value of a property as the JSON format would have it."""
    if name in _SWITCHES and text in ("true", "false"):
        return text == "true"
    if name not in _NUMBERS and _TEXTS.fullmatch(name):
        return text
    value = number(text)
    return text if value is None else value
