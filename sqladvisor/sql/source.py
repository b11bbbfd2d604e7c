"""SQL files as statements with exact places.

A plain file is parsed in one go by PostgreSQL's parser. Only a file that has what PostgreSQL cannot
read (psql commands, COPY data, client placeholders, templates) or a mistake goes through the
tolerant splitter, statement by statement, so that one mistake never hides the rest.
"""

from __future__ import annotations

import codecs
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqladvisor.finding import InputProblem
from sqladvisor.sql.inputs import STDIN
from sqladvisor.sql.libpg import Parsed, ParseProblem, parse
from sqladvisor.sql.statement import Placeholder, Statement

if TYPE_CHECKING:
    # Imported where used: compiling the splitter's patterns takes as long as auditing a plain file,
    # which never needs them.
    from sqladvisor.sql.split import Chunk

MAX_STATEMENT = 8 * 1024 * 1024
"""Characters. One statement longer than this (a generated INSERT, mostly) takes seconds to parse
and hundreds of MB: it is named, not audited."""

# What the whole-file parse would misread without failing: an @name placeholder is an operator.
_SPECIAL = re.compile(r"@[A-Za-z_]|^\s*\\|\{\{|\$[0-9]", re.MULTILINE)
_SET = re.compile(r"\\set\s+(\w+)\s+(\S+)")


@dataclass(frozen=True, slots=True)
class Source:
    """A file's decoded text. ``problem`` is set when it is not what it should be.

    ``variables``: what psql would know before it reads the file, as by its ``-v``.
    """

    path: str
    text: str
    problem: InputProblem | None = None
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CopyData:
    """The rows of a ``COPY … FROM stdin`` in a file. ``columns`` is ``(a, b)`` or ""."""

    table: str
    columns: str
    options: str
    data: str


@dataclass(frozen=True, slots=True)
class MetaCommand:
    """A psql meta-command and its line."""

    text: str
    line: int


ScriptItem = Statement | CopyData | MetaCommand


def read_source(path: str, data: bytes) -> Source:
    """Decode a file. UTF-8 with or without BOM, UTF-16 with one; never raises."""
    path = STDIN if path == "-" else path
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return Source(path, _lines(data.decode("utf-16")))
        except UnicodeDecodeError:
            return Source(path, "", InputProblem(path, "not valid UTF-16"))
    if b"\x00" in data[:65536]:
        line = data.count(b"\n", 0, data.index(b"\x00")) + 1
        return Source(path, "", InputProblem(path, "binary file (NUL byte), not SQL text", line))
    try:
        return Source(path, _lines(data.decode("utf-8-sig")))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"not valid UTF-8 (byte 0x{data[error.start]:02x}); read as Latin-1"
        return Source(path, _lines(data.decode("latin-1")), InputProblem(path, message, line))


def _lines(text: str) -> str:
    """Old Mac line ends become newlines, of the same length: offsets stay what they are."""
    if "\r" in text and "\n" not in text:
        return text.replace("\r", "\n")
    return text


def statements(source: Source) -> tuple[list[Statement], list[InputProblem]]:
    """The statements of a file in order, and what of it could not be read."""
    items, problems = _items(source)
    return [i for i in items if isinstance(i, Statement)], problems


def script(source: Source) -> Iterator[ScriptItem]:
    """Statements, COPY data and psql commands in file order: what a loader replays."""
    yield from _items(source)[0]


def comments(source: Source) -> Iterator[tuple[int, str]]:
    """(line, text) of every comment."""
    from sqladvisor.sql.split import tokens

    for token in tokens(source.text):
        if token.kind == "comment":
            line = source.text.count("\n", 0, token.start) + 1
            yield line, source.text[token.start : token.end]


def _items(source: Source) -> tuple[list[ScriptItem], list[InputProblem]]:
    problems = [source.problem] if source.problem else []
    text = source.text
    reader = _Reader(source)
    if len(text) <= MAX_STATEMENT and not _SPECIAL.search(text):
        try:
            found = parse(text)
        except ParseProblem:
            pass
        else:
            for parsed in found:
                reader.add(text[parsed.start : parsed.end], parsed.start, parsed, (), (), None)
            return list(reader.items), problems
    from sqladvisor.sql.split import Splitter

    for chunk in Splitter(text).chunks():
        reader.read(chunk)
    return reader.items, problems + reader.problems


class _Reader:
    """Collects the items of one file; knows lines, transaction blocks and psql variables."""

    def __init__(self, source: Source) -> None:
        self.path = source.path
        self.text = source.text
        self.items: list[ScriptItem] = []
        self.problems: list[InputProblem] = []
        self._starts = [0]
        find, position = source.text.find, source.text.find("\n")
        while position >= 0:
            self._starts.append(position + 1)
            position = find("\n", position + 1)
        self._variables = dict(source.variables)
        self._blocks = 0
        self._in_block = False

    def place(self, offset: int) -> tuple[int, int]:
        """Line and column (from 1, in characters) of an offset."""
        line = bisect_right(self._starts, offset)
        return line, offset - self._starts[line - 1] + 1

    def problem(self, offset: int, message: str) -> None:
        self.problems.append(InputProblem(self.path, message, *self.place(offset)))

    def read(self, chunk: Chunk) -> None:
        text = self.text[chunk.start : chunk.end]
        if chunk.kind == "meta":
            if found := _SET.match(text):
                self._variables[found[1]] = found[2].strip("'")
            self.items.append(MetaCommand(text.rstrip(), self.place(chunk.start)[0]))
        elif chunk.kind == "unterminated":
            self.problem(chunk.marks[0].start, chunk.note)
        elif chunk.kind == "copy-data":
            self._copy(chunk, text)
        elif len(text) > MAX_STATEMENT:
            size = len(text) / 1048576
            self.problem(chunk.start, f"a statement of {size:.0f} MB is not audited (limit 8 MB)")
        else:
            self._statement(chunk, text)

    def _statement(self, chunk: Chunk, text: str) -> None:
        from sqladvisor.sql.placeholders import readable
        from sqladvisor.sql.split import Token

        marks = [Token(m.kind, m.start - chunk.start, m.end - chunk.start) for m in chunk.marks]
        try:
            read = readable(text, marks, self._variables)
        except ParseProblem as problem:
            self.problem(chunk.start + min(problem.offset, len(text)), problem.message)
            return
        for parsed in read.parsed:
            # One chunk is one statement; two only where the splitter knows less than the parser.
            whole = len(read.parsed) == 1
            self.add(
                text if whole else text[parsed.start : parsed.end],
                chunk.start if whole else chunk.start + parsed.start,
                parsed,
                read.placeholders if whole else (),
                read.offsets if whole else (),
                read.sql if whole else None,
            )

    def add(
        self,
        text: str,
        start: int,
        parsed: Parsed,
        placeholders: tuple[Placeholder, ...],
        offsets: tuple[tuple[int, int], ...],
        sql: str | None,
    ) -> None:
        line, column = self.place(start)
        block = self._blocks if self._in_block else 0
        if parsed.kind == "TransactionStmt":
            what = parsed.node.get("kind", "TRANS_STMT_BEGIN")
            if what in ("TRANS_STMT_BEGIN", "TRANS_STMT_START") and not self._in_block:
                self._blocks += 1
                self._in_block, block = True, self._blocks
            elif what in ("TRANS_STMT_COMMIT", "TRANS_STMT_ROLLBACK", "TRANS_STMT_PREPARE"):
                self._in_block = False
        self.items.append(
            Statement(
                path=self.path,
                text=text,
                sql=text if sql is None else sql,
                start=start,
                line=line,
                column=column,
                kind=parsed.kind,
                tree=parsed.node,
                placeholders=tuple(p for p in placeholders),
                offsets=offsets,
                in_transaction=block,
            )
        )

    def _copy(self, chunk: Chunk, data: str) -> None:
        if chunk.note:
            self.problem(chunk.start, f"COPY data: {chunk.note}")
        last = self.items[-1] if self.items else None
        if not isinstance(last, Statement) or last.kind != "CopyStmt":
            return
        found = _COPY.match(last.text)
        if found:
            self.items.append(
                CopyData(found["table"], found["columns"] or "", found["options"].strip(), data)
            )


_COPY = re.compile(
    r"copy\s+(?P<table>(?:\"(?:[^\"]|\"\")+\"|[\w.$])+)\s*(?P<columns>\([^)]*\))?\s*from\s+stdin"
    r"(?P<options>.*)",
    re.IGNORECASE | re.DOTALL,
)
