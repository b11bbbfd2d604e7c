"""Splits the text of an SQL file into statements, without understanding them.

Tolerant where PostgreSQL's parser cannot be: psql meta-commands, COPY data, template tags and the
placeholders of client libraries. Follows psql's own lexer (src/fe_utils/psqlscan.l) for what ends
a statement: a semicolon outside quotes, comments and BEGIN ATOMIC … END. Unlike psql it lets one
end a statement inside parentheses, too, except in CREATE RULE: they are unbalanced then.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

# One token per match; the order of the alternatives matters. Repetitions are possessive: they
# neither backtrack nor keep a stack, whatever the size of a literal.
_TOKEN = re.compile(
    r"""
    (?P<space>[ \t\r\n\f\v\ufeff]++)
  | (?P<line>--[^\n]*+)
  | (?P<block>/\*)
  | (?P<string>(?:[nN]|[uU]&)?'(?:[^']++|'')*+(?P<string_end>')?)
  | (?P<estring>[eE]'(?:[^'\\]++|\\.|'')*+(?P<estring_end>')?)
  | (?P<quoted>(?:[uU]&)?"(?:[^"]++|"")*+(?P<quoted_end>")?)
  | (?P<dollar>\$(?:[A-Za-z_\x80-\U0010ffff][A-Za-z_0-9\x80-\U0010ffff]*+)?\$)
  | (?P<param>\$[0-9]+|\$\{\w+\})
  | (?P<template>\{\{(?:[^{}]++|\{[^{}]*+\}|\}(?!\}))*+\}\}
      |\{%(?:[^%{]++|%(?!\})|\{(?!%))*+%\}
      |\{\#(?:[^\#{]++|\#(?!\})|\{(?!\#))*+\#\})
  | (?P<format>%\(\w+\)s|%s(?![\w]))
  | (?P<colon>::|:=|:'[^'\n]+'|:"[^"\n]+"|:(?=[A-Za-z_])\w+)
  | (?P<at>@(?=[A-Za-z_])\w+)
  | (?P<word>[A-Za-z_\x80-\U0010ffff](?:[\w\x80-\U0010ffff]|\$(?!\{))*+)
  | (?P<number>\d[\w.]*+)
  | (?P<meta>\\[^\n]*+)
  | (?P<open>[(\[])
  | (?P<close>[)\]])
  | (?P<semicolon>;)
  | (?P<operator>[-+*/<>=~!@\#%^&|`?]+?
      (?=--|/\*|\?|(?<!<)@[A-Za-z_]|%s|%\(|[^-+*/<>=~!@\#%^&|`?]|\Z)|\?+[|&]?)
  | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
# A run of tokens that neither end a statement nor are placeholders.
_PLAIN = re.compile(
    r"""
    (?: [\s,()\[\]=.]++
      | \d[\w.]*+
      | '(?:[^']++|'')*+'(?![\w%])
      | [A-Za-z_\x80-\U0010ffff](?:[\w\x80-\U0010ffff]|\$(?!\{))*+(?!['"&])
    )++
    """,
    re.VERBOSE,
)

PLACEHOLDERS = frozenset(("format", "colon", "at", "template", "param", "question"))
Kind = Literal["statement", "meta", "copy-data", "unterminated"]
_QUOTES = {
    "string": "quoted string",
    "estring": "quoted string",
    "quoted": "quoted identifier",
    "dollar": "dollar-quoted string",
    "block": "comment",
}
_MAX_REPAIRS = 100
"""Places in one file where reading may go on in the middle of a broken statement: each can cost a

look at the whole rest of the file."""


_MAX_ENDLESS = 3
_NEAR = 20_000
"""Characters behind a broken statement's start in which the quote that lacks its end is looked for."""


class Token(NamedTuple):
    kind: str
    start: int
    end: int


@dataclass(slots=True)
class Chunk:
    """A stretch of the file: a statement's text, a psql meta-command, or COPY data.

    ``start``/``end`` are character offsets: of the first token to behind the last. ``marks`` are
    the tokens in it that PostgreSQL cannot read (placeholders, templates). An unterminated one has
    the open quote as its only mark, and the reason as its note.
    """

    kind: Kind
    start: int
    end: int
    marks: list[Token]
    note: str = ""
    doubtful: bool = False
    """Whether a quote of several lines ends where a word begins: as if another were to begin."""


def tokens(text: str, position: int = 0, *, unterminated: bool = False) -> Iterator[Token]:
    """The tokens of a text from a position on. Never raises: what fits nothing is ``other``.

    A quote without end is ``unterminated``, unless its own kind is asked for.
    """
    size = len(text)
    while position < size:
        match = _TOKEN.match(text, position)
        assert match is not None
        kind = str(match.lastgroup).removesuffix("_end")
        end = match.end()
        open_quote = False
        if kind in ("string", "estring", "quoted"):
            open_quote = match[kind + "_end"] is None
        elif kind == "block":
            end = _block_end(text, end)
            open_quote = end < 0
            kind = "block" if open_quote else "comment"
        elif kind == "line":
            kind = "comment"
        elif kind == "dollar":
            close = text.find(match[0], end)
            open_quote = close < 0
            kind = "dollar" if open_quote else "string"
            end = close + len(match[0])
        elif kind == "colon" and match[0] in ("::", ":="):
            kind = "operator"
        elif kind == "operator" and match[0] == "?":
            kind = "question"
        if open_quote:
            kind, end = (kind if unterminated else "unterminated"), size
        yield Token(kind, position, end)
        position = end


_COMMENT_EDGE = re.compile(r"/\*|\*/")


def _block_end(text: str, position: int) -> int:
    depth = 1
    for match in _COMMENT_EDGE.finditer(text, position):
        depth += 1 if match[0] == "/*" else -1
        if not depth:
            return match.end()
    return -1


class Splitter:
    """Walks the tokens of one file and cuts it into chunks.

    The reader of a chunk may find that it is none, and have the next one begin earlier: ``go_on``.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._position = 0
        self._repairs = 0
        self._endless = 0
        """How often BEGIN ATOMIC had no END: to see that takes a look at the whole rest."""

    def chunks(self) -> Iterator[Chunk]:
        text = self.text
        while self._position < len(text):
            chunk, behind = self._next(self._position)
            self._position = behind
            if chunk is None:
                continue
            yield chunk
            if self._position == behind and self._copies_from_stdin(chunk):
                data, self._position = self._copy_data(behind)
                yield data

    def code(self) -> Iterator[tuple[int, int]]:
        """Where SQL stands in the text: not COPY data, not the rest behind an open quote."""
        position = 0
        for chunk in self.chunks():
            if chunk.kind == "copy-data":
                yield position, chunk.start
                position = chunk.end
            elif chunk.kind == "unterminated":
                yield position, chunk.marks[0].start
                position = chunk.end
        yield position, len(self.text)

    def go_on(self, offset: int) -> bool:
        """Have the next chunk begin at an offset; False where that was done too often."""
        self._repairs += 1
        if self._repairs > _MAX_REPAIRS:
            return False
        self._position = offset
        return True

    def open_quote(self, start: int, end: int, *, odd: bool = False) -> Token | None:
        """The quote that lacks its end in a chunk that cannot be parsed, if it seems that one does.

        It swallows the beginning of another statement, up to that one's first quote; what stands
        behind is what that one quotes, or there is an ``odd`` number of quotes. The next chunk
        then begins with that statement.
        """
        for token in tokens(self.text, start):
            if token.start >= min(end, start + _NEAR):
                break
            if token.end < end and (self._runs_into_word(token) or (odd and self._is_quote(token))):
                restart = _restart(self.text, token.start, token.end)
                if restart >= 0 and self.go_on(restart):
                    return token
        return None

    def begins_statement(self, offset: int) -> bool:
        """Whether a line begins here, and with a word that begins statements."""
        line = self.text.rfind("\n", 0, offset) + 1
        return not self.text[line:offset].strip(" \t") and bool(
            _FIRST_WORD.match(self.text, offset)
        )

    def next_statement(self, start: int, offset: int) -> int:
        """Where the line of an error begins a statement, behind ``start``; -1 if it does not.

        A semicolon is missing before it, then. The parser may read its first word as an alias.
        """
        line = max(self.text.rfind("\n", 0, offset) + 1, start)
        found = _VERB.match(self.text, line)
        return found.start(1) if found and start < found.start(1) <= offset else -1

    def follows_blank(self, offset: int) -> bool:
        """Whether a blank line stands above the line of an offset."""
        line = self.text.rfind("\n", 0, offset) + 1
        return line > 0 and _behind_end(self.text, 0, line)

    def _next(self, position: int, *, atomic: bool = True) -> tuple[Chunk | None, int]:
        text, begin = self.text, position
        first = last = -1
        depth = begins = 0
        words: list[str] = []
        marks: list[Token] = []
        previous = ""
        routine = rule = doubtful = False
        atomic = atomic and self._endless < _MAX_ENDLESS
        while True:
            for token in tokens(text, position):
                kind = token.kind
                if kind in ("space", "comment"):
                    continue
                if kind == "meta":
                    if text.startswith("\\;", token.start):
                        return self._done(first, last, marks, token.start + 2, doubtful)
                    if first < 0:
                        return Chunk("meta", token.start, token.end, []), token.end
                    # A command like \g or \gset ends the statement; others (\echo) do too, safely.
                    return self._done(first, last, marks, token.start, doubtful)
                if kind == "semicolon" and not begins and not (rule and depth > 0):
                    return self._done(first, last, marks, token.end, doubtful)
                if first < 0:
                    if kind == "template" and text.startswith(("{%", "{#"), token.start):
                        continue
                    first = token.start
                if kind == "unterminated":
                    return self._unterminated(first, token)
                if kind == "open":
                    depth += 1
                elif kind == "close":
                    depth -= 1
                elif kind == "word":
                    word = text[token.start : token.end].lower()
                    if len(words) < 6:
                        words.append(word)
                        routine = atomic and _creates(words, "function", "procedure")
                        rule = _creates(words, "rule")
                    if routine:
                        if word == "atomic" and previous == "begin":
                            begins = 1
                        elif begins and word in ("begin", "case"):
                            begins += 1
                        elif begins and word == "end":
                            begins -= 1
                    previous = word
                elif kind in PLACEHOLDERS:
                    marks.append(token)
                elif self._runs_into_word(token):
                    doubtful = True
                last = token.end
                # Where no word of what follows matters it is not looked at token by token, for
                # the sake of VALUES lists of many MB.
                if words and (words[0] != "create" or len(words) == 6) and not (routine or rule):
                    plain = _PLAIN.match(text, token.end)
                    if plain:
                        last = plain.start() + len(plain[0].rstrip())
                        position = plain.end()
                        break
            else:
                break
        if begins:
            self._endless += 1
            return self._next(begin, atomic=False)
        return self._done(first, last, marks, len(text), doubtful)

    def _is_quote(self, token: Token) -> bool:
        return token.kind in ("string", "estring", "quoted") and self.text[token.start] != "$"

    def _runs_into_word(self, token: Token) -> bool:
        """Whether a quote of several lines ends where a word begins."""
        following = self.text[token.end : token.end + 1]
        return (
            self._is_quote(token)
            and (following.isalnum() or following in ("_", "%"))
            and self.text.find("\n", token.start, token.end) >= 0
        )

    @staticmethod
    def name(token: Token) -> str:
        """What to call an open quote."""
        return _QUOTES[token.kind]

    @staticmethod
    def _done(
        first: int, last: int, marks: list[Token], resume: int, doubtful: bool
    ) -> tuple[Chunk | None, int]:
        if first < 0 or last < 0:
            return None, resume
        return Chunk("statement", first, last, marks, "", doubtful), resume

    def _unterminated(self, first: int, token: Token) -> tuple[Chunk, int]:
        """A quote without end: report it, and go on where a new statement plainly begins."""
        text = self.text
        kind = next(tokens(text, token.start, unterminated=True)).kind
        chunk = Chunk("unterminated", first, token.end, [token], f"unterminated {_QUOTES[kind]}")
        # Of two quotes the first may be the one to blame: it ended where another was to begin.
        if blamed := self.open_quote(first, token.end, odd=True):
            note = f"unterminated {self.name(blamed)}"
            return Chunk("unterminated", first, self._position, [blamed], note), self._position
        # The lines of a function's body are statements that are none: they are indented, mostly.
        restart = _restart(text, token.start, len(text), indented=kind != "dollar")
        if restart < 0 or not self.go_on(restart):
            restart = len(text)
        chunk.end = restart
        return chunk, restart

    def _copies_from_stdin(self, chunk: Chunk) -> bool:
        text = self.text[chunk.start : min(chunk.end, chunk.start + _COPY_COMMAND)]
        if chunk.kind == "meta":
            return _META_COPY.match(text) is not None
        return (
            chunk.kind == "statement"
            and _COPY_IN.match(text) is not None
            and _COPY_STDIN.search(text) is not None
        )

    def _copy_data(self, position: int) -> tuple[Chunk, int]:
        text = self.text
        newline = text.find("\n", position)
        start = newline + 1 if newline >= 0 else len(text)
        end = _COPY_END.search(text, start)
        if end is not None:
            return Chunk("copy-data", start, end.start(), []), end.end()
        # A client that sends the rows itself: there are none here, and the file goes on.
        restart = start if self.begins_statement(start) else _restart(text, start - 1, len(text))
        stop = restart if restart >= 0 and self.go_on(restart) else len(text)
        note = "no end of data (\\.)" if text[start:stop].strip() else ""
        return Chunk("copy-data", start, stop, [], note), stop


_COPY_COMMAND = 4000
"""Characters. COPY commands are shorter."""
_COPY_IN = re.compile(r"copy\b", re.IGNORECASE)
_COPY_STDIN = re.compile(r"\bfrom\s+stdin\b", re.IGNORECASE)
_META_COPY = re.compile(r"\\copy\b[^\n]*\bfrom\s+stdin\b", re.IGNORECASE)
_COPY_END = re.compile(r"^\\\.[ \t]*\r?(?:\n|\Z)", re.MULTILINE)
_WORDS = (
    r"(?:SELECT|WITH|INSERT|UPDATE|DELETE|MERGE|CREATE|ALTER|DROP|BEGIN|COMMIT|SET|EXPLAIN"
    r"|TRUNCATE|GRANT|REVOKE|COPY|VALUES|CALL|DO|ANALYZE|VACUUM|PREPARE|EXECUTE|DECLARE|REFRESH"
    r"|COMMENT|ROLLBACK|START)\b"
)
_FIRST_WORD = re.compile(_WORDS, re.IGNORECASE)
_LINE_WITH_FIRST_WORD = re.compile(r"^[ \t]*+" + _WORDS, re.IGNORECASE | re.MULTILINE)
# Of these words none begins a line within other statements but where they would not be complete.
_VERB = re.compile(
    r"[ \t]*+((?:SELECT|INSERT|UPDATE|DELETE|MERGE|CREATE|ALTER|DROP|TRUNCATE)\b)", re.IGNORECASE
)
_COMMENT_LINES = 20


def _restart(text: str, start: int, end: int, *, indented: bool = True) -> int:
    """Where between two offsets a line plainly begins a new statement, -1 for nowhere.

    It begins with a statement's first word, behind a blank line or a semicolon at a line's end.
    """
    for match in _LINE_WITH_FIRST_WORD.finditer(text, start, end):
        at = match.start()
        if at > start and (indented or text[at] not in " \t") and _behind_end(text, start, at):
            return at + len(match[0]) - len(match[0].lstrip(" \t"))
    return -1


def _behind_end(text: str, start: int, line: int) -> bool:
    for _ in range(_COMMENT_LINES):
        above = text.rfind("\n", start, line - 1)
        before = text[max(above + 1, start) : line].strip()
        code = before.partition("--")[0].strip()
        if not before or code.endswith(";"):
            return above >= 0 or bool(code)
        if code or above < 0:
            return False
        line = above + 1
    return False


def _creates(words: list[str], *what: str) -> bool:
    """Whether a statement's first words are CREATE [OR REPLACE] and one of these."""
    return words[0] == "create" and any(w in what for w in words[1:4])
