"""A statement with its place in a file, its parse tree and its parameters."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Any

from sqladvisor.finding import Location

Node = dict[str, Any]
"""A node of libpg_query's JSON parse tree, without its one-key wrapper."""


@dataclass(frozen=True, slots=True)
class Placeholder:
    """A parameter as written (``:id``, ``?``, ``%(id)s``, ``$1``, ``{{ x }}``).

    ``number`` is the ``$n`` that stands for it in ``Statement.sql``, 0 where it was made an
    identifier or blanked (then it is no parameter of the statement).
    ``start``/``end`` are character offsets in ``Statement.text``.
    """

    text: str
    number: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Statement:
    """One SQL statement.

    ``text`` is the statement exactly as written (no leading blanks or comments, no semicolon);
    ``sql`` is what PostgreSQL can parse: the same, with foreign placeholders turned into ``$n``.
    ``start`` is the character offset of ``text`` in the file's decoded text.
    ``tree`` is ``(node type, node)`` of the raw parse tree.
    All ``location`` fields of the tree are character offsets in ``sql`` (already converted from
    libpg_query's bytes).
    """

    path: str
    text: str
    sql: str
    start: int
    line: int
    column: int
    kind: str
    """Node type of the tree: ``SelectStmt``, ``InsertStmt``, …"""
    tree: Node
    placeholders: tuple[Placeholder, ...] = ()
    offsets: tuple[tuple[int, int], ...] = ()
    """Where ``sql`` and ``text`` differ: (offset in sql, offset in text) of the start of each run

    of equal text, ascending; empty when they are the same."""
    in_transaction: int = 0
    """Ordinal of the explicit transaction block in its file (BEGIN … COMMIT), 0 outside one."""
    extra: dict[str, Any] = field(default_factory=dict, compare=False)

    def to_text(self, offset: int) -> int:
        """The offset in ``text`` of an offset in ``sql``."""
        if not self.offsets:
            return offset
        i = bisect_right(self.offsets, (offset, 1 << 60)) - 1
        if i < 0:
            return offset
        base_sql, base_text = self.offsets[i]
        limit = self.offsets[i + 1][1] if i + 1 < len(self.offsets) else len(self.text)
        return min(base_text + offset - base_sql, limit)

    def locate(self, start: int, end: int | None = None) -> Location:
        """The file location of ``text[start:end]``; ``end`` defaults to the statement's end."""
        stop = len(self.text) if end is None else end
        line, column = _advance(self.text, start, self.line, self.column)
        end_line, end_column = _advance(self.text, stop, self.line, self.column)
        return Location(self.path, line, column, end_line, end_column)


def _advance(text: str, offset: int, line: int, column: int) -> tuple[int, int]:
    newlines = text.count("\n", 0, offset)
    if not newlines:
        return line, column + offset
    return line + newlines, offset - text.rfind("\n", 0, offset)
