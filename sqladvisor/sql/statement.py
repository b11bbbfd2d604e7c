"""A statement with its place in a file, its parse tree and its parameters."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Any, Literal

from sqladvisor.finding import Location
from sqladvisor.record import record

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


Given = Literal["value", "number", "quoted", "constant", "marks", "bound"]
"""What a program puts into a text: any value, a number, a value that was quoted or escaped, a
constant of the program, a list of placeholders, or what its library passes as a parameter."""

Role = Literal["value", "name", "clause"]
"""What such a part is in the statement. A clause may be anything: a condition, nothing at all."""


@dataclass(frozen=True, slots=True)
class Hole:
    """A part of ``Statement.text`` (characters ``start``..``end``) that a program puts in.

    ``number`` is the ``$n`` that stands for it in ``Statement.sql``; 0 where it can be no
    parameter: a name, a clause, or a part of a quoted string (``within_string``). ``quoted``:
    the program's text has quotes around it, which ``Statement.text`` leaves out.
    """

    expression: str
    given: Given
    start: int
    end: int
    number: int
    role: Role = "value"
    within_string: bool = False
    quoted: bool = False


@dataclass(frozen=True, slots=True)
class Embedding:
    """How a statement stands in a program's source, where its text is (part of) a literal.

    Such a statement is never rewritten in its file: its text is not what is written there.
    ``places`` maps it: (offset in ``Statement.text``, start and end in the file's text) of each
    run, ascending; a run is written as it is when both are of one length, else it is an escape or
    a hole. ``lines`` are the offsets at which the file's lines start.
    """

    language: str
    places: tuple[tuple[int, int, int], ...]
    lines: tuple[int, ...]
    end: int
    """Where the literal ends in the file's text."""
    holes: tuple[Hole, ...] = ()
    placeholder: str = "$1"
    """How the program's database library writes a parameter."""

    @property
    def partial(self) -> bool:
        """Whether parts of the statement other than parameters are unknown."""
        return any(not hole.number for hole in self.holes)

    @property
    def open_ended(self) -> bool:
        """Whether clauses are unknown: nobody can say then what the statement lacks."""
        return any(hole.role == "clause" for hole in self.holes)

    def in_file(self, offset: int, length: int, *, end: bool = False) -> int:
        """The file's offset of an offset in a text of that length (``end``: of a span's end)."""
        at = offset - 1 if end and offset else offset
        i = max(bisect_right(self.places, (at, 1 << 60, 0)) - 1, 0)
        base, first, last = self.places[i]
        after = self.places[i + 1][0] if i + 1 < len(self.places) else length
        if after - base == last - first:
            return min(first + offset - base, last)
        return last if end and offset else first

    def place(self, offset: int) -> tuple[int, int]:
        """Line and column of an offset in the file."""
        line = bisect_right(self.lines, offset)
        return line, offset - self.lines[line - 1] + 1


@record(frozen=True, slots=True)
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
    embedding: Embedding | None = None
    """Set where the statement was read out of a program's source: ``--fix`` leaves it alone."""
    run: int = 0
    """Statements of different runs do not follow one another when they are executed, however they

    stand in their file: each literal of a program is a run, each query of an sqlc file."""

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
        if self.embedding:
            size = len(self.text)
            first = self.embedding.in_file(start, size)
            last = max(self.embedding.in_file(stop, size, end=True), first)
            return Location(self.path, *self.embedding.place(first), *self.embedding.place(last))
        line, column = _advance(self.text, start, self.line, self.column)
        end_line, end_column = _advance(self.text, stop, self.line, self.column)
        return Location(self.path, line, column, end_line, end_column)

    @property
    def last_line(self) -> int:
        """The line on which the statement, or the literal it stands in, ends."""
        if self.embedding:
            return self.embedding.place(self.embedding.end)[0]
        return self.line + self.text.count("\n")


def _advance(text: str, offset: int, line: int, column: int) -> tuple[int, int]:
    newlines = text.count("\n", 0, offset)
    if not newlines:
        return line, column + offset
    return line + newlines, offset - text.rfind("\n", 0, offset)
