"""SQL files as statements with exact places.

A plain file is parsed in one go by PostgreSQL's parser. Only a file that has what PostgreSQL cannot
read (psql commands, COPY data, client placeholders, templates) or a mistake goes through the
tolerant splitter, statement by statement, so that one mistake never hides the rest.
"""

from __future__ import annotations

import codecs
import re
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
    from sqladvisor.sql.split import Chunk, Splitter

MAX_STATEMENT = 8 * 1024 * 1024
"""Characters. One statement longer than this (a generated INSERT, mostly) takes seconds to parse
and hundreds of MB: it is named, not audited."""
MAX_STATEMENTS = 4 * 1024 * 1024
"""Characters of all statements of one file. Their trees take about a hundred times as much memory:
what comes after them is not audited."""

MAX_PROBLEMS = 1000
"""Statements of one file that cannot be parsed: it is not PostgreSQL's SQL then."""

# What the whole-file parse would misread without failing: an @name placeholder is an operator.
# `? - 1` and `? || 'x'` are the prefix operator ? on another prefix operator.
_SPECIAL = re.compile(r"@[A-Za-z_]|^[ \t\r\f\v]*\\|\{\{|\$[0-9]|\?\s*(?:[-+]|\|\|)", re.MULTILINE)
_SPECIAL_SIGNS = "@\\{$?"
_SET = re.compile(r"\\set\s+(\w+)\s+(\S+)")


def _special(text: str) -> bool:
    # Looking for a character takes a hundredth of the pattern's time.
    return any(sign in text for sign in _SPECIAL_SIGNS) and bool(_SPECIAL.search(text))


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


@dataclass(frozen=True, slots=True)
class Unread:
    """What stands where a statement should, and could not be parsed."""

    text: str
    line: int


ScriptItem = Statement | CopyData | MetaCommand | Unread


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


def parse_plain(text: str) -> list[Parsed] | None:
    """The statements of a text that is nothing but PostgreSQL's SQL without a mistake, else None."""
    if len(text) > MAX_STATEMENT or _special(text):
        return None
    try:
        return parse(text)
    except ParseProblem:
        return None


def statements(
    source: Source, parsed: list[Parsed] | None = None
) -> tuple[list[Statement], list[InputProblem]]:
    """The statements of a file in order, and what of it could not be read.

    ``parsed``: what ``parse_plain`` says of its text, where that is known already.
    """
    reader = _Reader(source, parsed=parsed)
    found: list[Statement] = []
    size = 0
    for item in reader.items():
        if isinstance(item, Statement):
            size += len(item.text)
            if size > MAX_STATEMENTS:
                limit = MAX_STATEMENTS // 1048576
                reader.problem(
                    item.start, f"from here on nothing is audited (limit {limit} MB of statements)"
                )
                break
            found.append(item)
    return found, reader.problems


def script(
    source: Source, problems: list[InputProblem] | None = None, *, unread: bool = False
) -> Iterator[ScriptItem]:
    """Statements, COPY data and psql commands in file order: what a loader replays.

    Without limit, but for that of a single statement. ``problems`` is added to on the way. With
    ``unread`` what cannot be parsed is given as well: a dump may be of a newer PostgreSQL.
    """
    return _Reader(source, problems, unread).items()


def comments(source: Source) -> Iterator[tuple[int, str]]:
    """(line, text) of every comment."""
    from sqladvisor.sql.split import Splitter, tokens

    text = source.text
    position, line = 0, 1
    for start, end in Splitter(text).code():
        for token in tokens(text, start):
            if token.start >= end:
                break
            templated = token.kind == "template" and text.startswith("{#", token.start)
            if token.kind == "comment" or templated:
                line += text.count("\n", position, token.start)
                position = token.start
                yield line, text[token.start : token.end]


class _Reader:
    """Collects the items of one file; knows lines, transaction blocks and psql variables."""

    def __init__(
        self,
        source: Source,
        problems: list[InputProblem] | None = None,
        keep_unread: bool = False,
        parsed: list[Parsed] | None = None,
    ) -> None:
        self._parsed = parsed
        self._keep_unread = keep_unread
        self.path = source.path
        self.text = source.text
        self.problems: list[InputProblem] = [] if problems is None else problems
        if source.problem:
            self.problems.append(source.problem)
        self._found: list[ScriptItem] = []
        self._at = self._line_start = 0
        self._line = 1
        self._variables = dict(source.variables)
        self._copying: str = ""
        self._blocks = 0
        self._in_block = False

    def items(self) -> Iterator[ScriptItem]:
        text = self.text
        plain = parse_plain(text) if self._parsed is None else self._parsed
        if plain is not None:
            for parsed in plain:
                self.add(text[parsed.start : parsed.end], parsed.start, parsed, (), (), None)
            yield from self._found
            return
        from sqladvisor.sql.split import Splitter

        splitter = Splitter(text)
        for chunk in splitter.chunks():
            if len(self.problems) >= MAX_PROBLEMS:
                message = f"{MAX_PROBLEMS:,} errors before this line: the rest is not read"
                self.problem(chunk.start, message)
                return
            self.read(chunk, splitter)
            yield from self._found
            self._found.clear()

    def place(self, offset: int) -> tuple[int, int]:
        """Line and column (from 1, in characters) of an offset.

        Counted from the last one asked for: a list of all lines would take more memory than the
        file, and places are asked for in their order, mostly.
        """
        text, at = self.text, self._at
        lines = text.count("\n", min(at, offset), max(at, offset))
        if lines:
            self._line += lines if offset > at else -lines
            self._line_start = text.rfind("\n", at if offset > at else 0, offset) + 1
        self._at = offset
        return self._line, offset - self._line_start + 1

    def problem(self, offset: int, message: str) -> None:
        self.problems.append(InputProblem(self.path, message, *self.place(offset)))

    def read(self, chunk: Chunk, splitter: Splitter) -> None:
        text = self.text[chunk.start : chunk.end]
        if chunk.kind == "copy-data":
            self._copy(chunk, text)
            return
        self._copying = ""
        if chunk.kind == "meta":
            if found := _SET.match(text):
                self._variables[found[1]] = found[2].strip("'")
            self._copying = text[1:]
            self._found.append(MetaCommand(text.rstrip(), self.place(chunk.start)[0]))
        elif chunk.kind == "unterminated":
            self.problem(chunk.marks[0].start, chunk.note)
        elif len(text) > MAX_STATEMENT:
            size = len(text) / 1048576
            self.problem(chunk.start, f"a statement of {size:.0f} MB is not audited (limit 8 MB)")
        elif not (chunk.doubtful and self._open_quote(chunk, splitter)):
            try:
                self._statement(text, chunk)
            except ParseProblem as problem:
                self._broken(chunk, splitter, problem)

    def _open_quote(self, chunk: Chunk, splitter: Splitter) -> bool:
        """Report the quote of a chunk that lacks its end, if one seems to."""
        blamed = splitter.open_quote(chunk.start, chunk.end)
        if blamed is not None:
            self.problem(blamed.start, f"unterminated {splitter.name(blamed)}")
        return blamed is not None

    def _statement(self, text: str, chunk: Chunk) -> None:
        from sqladvisor.sql.placeholders import readable
        from sqladvisor.sql.split import Token

        marks = [
            Token(m.kind, m.start - chunk.start, m.end - chunk.start)
            for m in chunk.marks
            if m.end - chunk.start <= len(text)
        ]
        # One chunk is one statement; two only where the splitter knows less than the parser.
        for part in readable(text, marks, self._variables):
            self.add(
                text[part.start : part.end],
                chunk.start + part.start,
                part.parsed,
                part.placeholders,
                part.offsets,
                part.sql,
            )
            if part.parsed.kind == "CopyStmt":
                self._copying = text[part.start : part.end]

    def _broken(self, chunk: Chunk, splitter: Splitter, problem: ParseProblem) -> None:
        """Report a statement that cannot be parsed, and find what it has swallowed of others."""
        at = min(chunk.start + problem.offset, chunk.end)
        if self._open_quote(chunk, splitter):
            return
        self.problem(at, problem.message)
        if self._keep_unread:
            line = self.place(chunk.start)[0]
            self._found.append(Unread(self.text[chunk.start : chunk.end], line))
        following = splitter.next_statement(chunk.start, at)
        if following >= 0:
            whole = True
            try:
                self._statement(self.text[chunk.start : following].rstrip(), chunk)
            except ParseProblem:
                whole = False
            if whole or (following == at and splitter.follows_blank(at)):
                splitter.go_on(following)

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
        self._found.append(
            Statement(
                path=self.path,
                text=text,
                sql=text if sql is None else sql,
                start=start,
                line=line,
                column=column,
                kind=parsed.kind,
                tree=parsed.node,
                placeholders=placeholders,
                offsets=offsets,
                in_transaction=block,
            )
        )

    def _copy(self, chunk: Chunk, data: str) -> None:
        if chunk.note:
            self.problem(chunk.start, f"COPY data: {chunk.note}")
        found = _COPY.match(self._copying)
        if found:
            options = found["options"].strip()
            self._found.append(CopyData(found["table"], found["columns"] or "", options, data))


_COPY = re.compile(
    r"copy\s+(?P<table>(?:\"(?:[^\"]|\"\")+\"|[\w.$])+)\s*(?P<columns>\([^)]*\))?\s*from\s+stdin"
    r"(?P<options>.*)",
    re.IGNORECASE | re.DOTALL,
)
