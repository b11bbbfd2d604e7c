"""What is said of files that cannot be read because their language's parser is not installed."""

from __future__ import annotations

import os
from collections.abc import Sequence

from sqladvisor.finding import InputProblem
from sqladvisor.source.read import INSTALL


def report_missing(
    unread: Sequence[tuple[str, str]],
    paths: Sequence[str],
    problems: list[InputProblem],
    notes: list[str],
) -> None:
    """One line for all of (path, language): a problem where a file was named, else a note.

    Whoever gives a directory may not know of, or care for, the programs in it.
    """
    named = {os.path.normpath(p) for p in paths}
    patterns = any(c in p for p in paths for c in "*?[")
    asked = [u for u in unread if patterns or u[0] in named]
    if asked:
        problems.append(InputProblem(asked[0][0], _line(asked, asked[0][0])))
    below = [u for u in unread if u not in asked]
    if below:
        notes.append(_line(below, ""))


def _line(unread: Sequence[tuple[str, str]], first: str) -> str:
    languages = " and ".join(sorted({language for _, language in unread}))
    others = len(unread) - 1
    if first:
        more = f", and {others} more file{'s' * (others > 1)} like it" if others else ""
        return f"the parser for {languages} is not installed{more}: {INSTALL}"
    count = f"{len(unread)} file{'s' * (len(unread) > 1)}"
    return f"the SQL in {count} of {languages} was not read: {INSTALL}"
