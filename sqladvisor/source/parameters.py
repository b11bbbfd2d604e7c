"""A statement that a program puts together, written with parameters instead."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sqladvisor.sql.libpg import ParseProblem, parse
from sqladvisor.sql.split import tokens
from sqladvisor.sql.statement import Hole, Statement

_NUMBERED = re.compile(r"\$(\d+)")
_NAME = re.compile(r"[A-Za-z_]\w*")
_TYPED = re.compile(r"\b(interval|date|time|timestamp|timestamptz)\s*\Z", re.IGNORECASE)
_PERCENT = re.compile(r"%(?!s|\(\w+\)s)")


def parametrised(statement: Statement, holes: Sequence[Hole]) -> tuple[str, list[str]] | None:
    """The statement's text with the given holes as parameters in its library's style, and the

    expressions to pass, in order. None where that is not valid SQL.
    """
    embedding = statement.embedding
    assert embedding is not None
    own = [p.text for p in statement.placeholders if p.number and not p.text.startswith("{{")]
    style = _style(own[0] if own else embedding.placeholder)
    writer = _Writer(style, statement, doubled=style in ("%s", "%(name)s") and not own)
    strings = [t for t in tokens(statement.text) if t.kind in ("string", "quoted")]
    wanted = sorted(holes, key=lambda h: h.start)
    position = 0
    while wanted:
        hole = wanted.pop(0)
        if not hole.within_string:
            writer.text(position, hole.start)
            writer.parameter(hole)
            position = hole.end
            continue
        around = next((t for t in strings if t.start < hole.start and hole.end < t.end), None)
        if around is None or not statement.text.startswith("'", around.start):
            return None
        inside = [hole]
        while wanted and wanted[0].end < around.end:
            inside.append(wanted.pop(0))
        writer.text(position, around.start)
        writer.joined(inside, around.start + 1, around.end - 1)
        position = around.end
    writer.text(position, len(statement.text))
    return writer.result()


def _style(written: str) -> str:
    if written[0] == "$":
        return "$1"
    if written.startswith("%("):
        return "%(name)s"
    return written if written in ("?", "%s") else f"{written[0]}name"


class _Writer:
    """Puts the parametrised text together, beside a twin that PostgreSQL can parse."""

    def __init__(self, style: str, statement: Statement, *, doubled: bool) -> None:
        self.style = style
        self.statement = statement
        self.doubled = doubled
        self.parts: list[str] = []
        self.twin: list[str] = []
        self.expressions: list[str] = []
        self._names: dict[str, str] = {}
        used = [int(n) for n in _NUMBERED.findall(statement.text)] if style == "$1" else []
        self._first = max(used, default=0)

    def text(self, start: int, end: int) -> None:
        self._write(self.statement.text[start:end])
        self.twin.append(self._in_sql(start, end))

    def parameter(self, hole: Hole) -> None:
        self._parameter(hole.expression)
        self.twin.append("$1")

    def joined(self, holes: Sequence[Hole], start: int, end: int) -> None:
        """A quoted string with holes in it: its parts and the parameters, put together by ||."""
        before = self.parts[-1] if self.parts else ""
        typed = _TYPED.search(before)
        if typed:
            self.parts[-1] = before[: typed.start()]
            self.twin[-1] = self.twin[-1][: _TYPED.search(self.twin[-1]).start()]  # type: ignore[union-attr]
            self._both("CAST(")
        written = self.statement.text
        position = start
        first = True
        for hole in (*holes, None):
            stop = hole.start if hole else end
            if stop > position:
                self._both("" if first else " || ")
                self._write(f"'{written[position:stop]}'")
                self.twin.append("''")
                first = False
            if hole:
                self._both("" if first else " || ")
                self.parameter(hole)
                position, first = hole.end, False
        if typed:
            self._both(f" AS {typed[1]})")

    def result(self) -> tuple[str, list[str]] | None:
        """The text and its arguments, if the twin parses."""
        try:
            parse("".join(self.twin))
        except ParseProblem:
            return None
        return "".join(self.parts), self.expressions

    def _both(self, text: str) -> None:
        self.parts.append(text)
        self.twin.append(text)

    def _write(self, text: str) -> None:
        # Where a library reads % itself, one that is meant is written twice.
        self.parts.append(_PERCENT.sub("%%", text) if self.doubled else text)

    def _parameter(self, expression: str) -> None:
        name = self._names.get(expression)
        if self.style == "$1":
            if name is None:
                self.expressions.append(expression)
                name = self._names[expression] = f"${self._first + len(self.expressions)}"
            self.parts.append(name)
            return
        if self.style in ("?", "%s"):
            self.expressions.append(expression)
            self.parts.append(self.style)
            return
        if name is None:
            self.expressions.append(expression)
            words = _NAME.findall(expression)
            base = words[-1] if words else "value"
            name = base
            while name in self._names.values():
                name = f"{base}{len(self._names) + 1}"
            self._names[expression] = name
        self.parts.append(self.style.replace("name", name))

    def _in_sql(self, start: int, end: int) -> str:
        """What stands in ``Statement.sql`` for a span of its text, placeholders as ``$1``."""
        parts: list[str] = []
        text, position = self.statement.text, start
        for mark in self.statement.placeholders:
            if start <= mark.start and mark.end <= end:
                parts += (text[position : mark.start], "$1" if mark.number else " placeholder ")
                if not mark.number and mark.text.startswith("{%"):
                    parts[-1] = " "
                position = mark.end
        return "".join((*parts, text[position:end]))
