"""Splits the text of an SQL file into statements, without understanding them.

Tolerant where PostgreSQL's parser cannot be: psql meta-commands, COPY data, template tags and the
placeholders of client libraries. Follows psql's own lexer (src/fe_utils/psqlscan.l) for what ends
a statement: a semicolon outside quotes, comments, parentheses and BEGIN ATOMIC … END.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

# One token per match; the order of the alternatives matters.
_TOKEN = re.compile(
    r"""
    (?P<space>[ \t\r\n\f\v\ufeff]+)
  | (?P<line>--[^\n]*)
  | (?P<block>/\*)
  | (?P<string>(?:[nN]|[uU]&)?'(?:[^']|'')*(?P<string_end>')?)
  | (?P<estring>[eE]'(?:[^'\\]|\\.|'')*(?P<estring_end>')?)
  | (?P<quoted>(?:[uU]&)?"(?:[^"]|"")*(?P<quoted_end>")?)
  | (?P<dollar>\$(?:[A-Za-z_\x80-\U0010ffff][A-Za-z_0-9\x80-\U0010ffff]*)?\$)
  | (?P<param>\$[0-9]+|\$\{\w+\})
  | (?P<template>\{\{.*?\}\}|\{%.*?%\}|\{\#.*?\#\})
  | (?P<format>%\(\w+\)s|%s(?![\w]))
  | (?P<colon>::|:=|:'(?:[^'\n])+'|:"(?:[^"\n])+"|:(?=[A-Za-z_])\w+)
  | (?P<at>@(?=[A-Za-z_])\w+)
  | (?P<word>[A-Za-z_\x80-\U0010ffff][\w$\x80-\U0010ffff]*)
  | (?P<number>\d[\w.]*)
  | (?P<meta>\\[^\n]*)
  | (?P<open>[(\[])
  | (?P<close>[)\]])
  | (?P<semicolon>;)
  | (?P<operator>[-+*/<>=~!@\#%^&|`?]+?(?=--|/\*|\?|@[A-Za-z_]|%s|%\(|[^-+*/<>=~!@\#%^&|`?]|$)|\?+[|&]?)
  | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)

PLACEHOLDERS = frozenset(("format", "colon", "at", "template", "param", "question"))
Kind = Literal["statement", "meta", "copy-data", "unterminated"]


@dataclass(frozen=True, slots=True)
class Token:
    kind: str
    start: int
    end: int


@dataclass(slots=True)
class Chunk:
    """A stretch of the file: a statement's text, a psql meta-command, or COPY data.

    ``start``/``end`` are character offsets: of the first token to behind the last. ``marks`` are
    the tokens in it that PostgreSQL cannot read (placeholders, templates).
    """

    kind: Kind
    start: int
    end: int
    marks: list[Token]
    note: str = ""


def tokens(text: str, position: int = 0) -> Iterator[Token]:
    """The tokens of a text from a position on. Never raises: what fits nothing is ``other``."""
    size = len(text)
    while position < size:
        match = _TOKEN.match(text, position)
        assert match is not None
        kind = str(match.lastgroup).removesuffix("_end")
        end = match.end()
        if kind in ("string", "estring", "quoted") and match[kind + "_end"] is None:
            yield Token("unterminated", position, end)
            position = end
            continue
        if kind == "block":
            end = _block_end(text, end)
            kind = "comment" if end > 0 else "unterminated"
            end = end if end > 0 else size
        elif kind == "line":
            kind = "comment"
        elif kind == "dollar":
            close = text.find(match[0], end)
            kind = "string" if close >= 0 else "unterminated"
            end = close + len(match[0]) if close >= 0 else size
        elif kind == "template" and match[0].startswith("{#"):
            kind = "comment"
        elif kind == "colon" and match[0] in ("::", ":="):
            kind = "operator"
        elif kind == "operator" and match[0] == "?":
            kind = "question"
        yield Token(kind, position, end)
        position = end


def _block_end(text: str, position: int) -> int:
    depth = 1
    for match in re.compile(r"/\*|\*/").finditer(text, position):
        depth += 1 if match[0] == "/*" else -1
        if not depth:
            return match.end()
    return -1


class Splitter:
    """Walks the tokens of one file and cuts it into chunks."""

    def __init__(self, text: str) -> None:
        self.text = text

    def chunks(self) -> Iterator[Chunk]:
        text, position = self.text, 0
        while position < len(text):
            chunk, position = self._next(position)
            if chunk is None:
                continue
            yield chunk
            if (
                chunk.kind == "statement"
                and _COPY_IN.match(text[chunk.start : chunk.start + 4000])
                and _copies_from_stdin(text[chunk.start : chunk.end])
            ):
                data, position = self._copy_data(position)
                yield data

    def _next(self, position: int) -> tuple[Chunk | None, int]:
        text = self.text
        first = last = -1
        depth = begins = 0
        words: list[str] = []
        marks: list[Token] = []
        previous = ""
        for token in tokens(text, position):
            kind = token.kind
            if kind in ("space", "comment"):
                continue
            if kind == "meta":
                if text[token.start : token.start + 2] == "\\;":
                    return self._done(first, last, marks, token.start + 2)
                if first < 0:
                    return Chunk("meta", token.start, token.end, []), token.end
                # A command like \g or \gset ends the statement; others (\echo) do too, safely.
                return self._done(first, last, marks, token.start)
            if kind == "semicolon" and depth <= 0 and not begins:
                return self._done(first, last, marks, token.end)
            if first < 0:
                if kind == "template" and text.startswith("{%", token.start):
                    continue
                first = token.start
            if kind == "unterminated":
                return self._resume(first, token)
            if kind == "open":
                depth += 1
            elif kind == "close":
                depth -= 1
            elif kind == "word":
                word = text[token.start : token.end].lower()
                if len(words) < 6:
                    words.append(word)
                if _in_routine(words):
                    if word == "atomic" and previous == "begin":
                        begins = 1
                    elif begins and word in ("begin", "case"):
                        begins += 1
                    elif begins and word == "end":
                        begins -= 1
                previous = word
            elif kind in PLACEHOLDERS:
                marks.append(token)
            last = token.end
        return self._done(first, last, marks, len(text))

    @staticmethod
    def _done(first: int, last: int, marks: list[Token], resume: int) -> tuple[Chunk | None, int]:
        if first < 0 or last < 0:
            return None, resume
        return Chunk("statement", first, last, marks), resume

    def _resume(self, first: int, token: Token) -> tuple[Chunk, int]:
        """An unbalanced quote: report it, and go on where a new statement plainly begins."""
        match = _RESTART.search(self.text, token.start)
        resume = match.end("gap") if match else len(self.text)
        quote = self.text[token.start]
        what = {"'": "quoted string", '"': "quoted identifier", "/": "comment"}.get(
            quote, "dollar-quoted string" if quote == "$" else "quoted string"
        )
        chunk = Chunk("unterminated", first, resume, [token], f"unterminated {what}")
        return chunk, resume

    def _copy_data(self, position: int) -> tuple[Chunk, int]:
        newline = self.text.find("\n", position)
        start = newline + 1 if newline >= 0 else len(self.text)
        end = _COPY_END.search(self.text, start)
        if end is None:
            return Chunk("copy-data", start, len(self.text), [], "no end of data (\\.)"), len(
                self.text
            )
        return Chunk("copy-data", start, end.start(), []), end.end()


_COPY_IN = re.compile(r"copy\b", re.IGNORECASE)
_COPY_STDIN = re.compile(r"\bfrom\s+stdin\b", re.IGNORECASE)
_COPY_END = re.compile(r"^\\\.[ \t]*\r?(?:\n|\Z)", re.MULTILINE)
_RESTART = re.compile(
    r"(?P<gap>(?:;[ \t]*(?:--[^\n]*)?\r?\n|\n[ \t]*\r?\n)(?:[ \t\r\n]|--[^\n]*\n)*)"
    r"(?=(?:SELECT|WITH|INSERT|UPDATE|DELETE|MERGE|CREATE|ALTER|DROP|BEGIN|COMMIT|SET|EXPLAIN|TRUNCATE"
    r"|GRANT|COPY|VALUES|CALL|DO|ANALYZE|VACUUM|PREPARE|EXECUTE|DECLARE)\b)",
    re.IGNORECASE,
)


def _copies_from_stdin(statement: str) -> bool:
    return bool(_COPY_STDIN.search(statement))


def _in_routine(words: list[str]) -> bool:
    return words[:1] == ["create"] and ("function" in words[1:4] or "procedure" in words[1:4])
