"""Finds what PostgreSQL logs of statements: stderr with any log_line_prefix, csvlog, jsonlog.

Everything stays bytes, and a log is searched in large pieces instead of line by line: most of it says
nothing of a statement's time, and the rest is told apart by a few words (check_log_duration and
errdetail_params in postgres.c, explain_ExecutorEnd in auto_explain.c). Only logs in English are read
(lc_messages): the words are translated.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

PIECE = 4 * 1024 * 1024
"""Bytes read at a time."""
MAX_ENTRY = 64 * 1024 * 1024
"""Bytes of one log entry: a longer one is cut there, so that memory stays bounded."""
LOOK_AHEAD = 16 * 1024
"""Bytes after a statement in which the values of its parameters are looked for."""

Entry = tuple[bytes, bytes | None, bytes, bytes, int, int]
"""Kind, ms, text, and the piece of the log with where the message begins and ends in it.

The kind is statement, execute, parse, bind, plan, or b"" for a time alone (log_duration), which
belongs to the statement before it of the same session. ms is None where only the statement was
logged. A bare tuple: there are hundreds of thousands in a second."""

_TIME = rb"(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?)"
# The text of a message in each format: to the end of the line and of the lines that begin with a
# tab; to the quote that is not doubled; to the quote that is not escaped.
_UNTIL = {
    "stderr": rb"[^\n]*(?:\n\t[^\n]*)*",
    "csv": rb'[^"]*(?:""[^"]*)*',
    "json": rb'[^"\\]*(?:\\.[^"\\]*)*',
}
_END = {"stderr": rb"(?=\r?\n|\Z)", "csv": rb'(?=")', "json": rb'(?=")'}
_MARK = {"stderr": b"LOG:  ", "csv": b',LOG,00000,"', "json": b'"message":"'}


def _entry_pattern(form: str) -> re.Pattern[bytes]:
    return re.compile(
        re.escape(_MARK[form])
        + rb"(?:duration: (\d+\.\d+) ms(?:  )?)?"
        + rb"(?:(statement|plan): ?|(execute|parse|bind) [^:\n\"]*: |(?<=ms)"
        + _END[form]
        + rb")("
        + _UNTIL[form]
        + rb")"
    )


@dataclass(frozen=True, slots=True)
class Format:
    """How one kind of log is written. ``head`` reads what stands before a message."""

    mark: bytes
    entry: re.Pattern[bytes]
    decode: Callable[[bytes], bytes]
    parameters: re.Pattern[bytes]
    head: re.Pattern[bytes] | None


def _stderr_text(text: bytes) -> bytes:
    return text.replace(b"\n\t", b"\n") if b"\n\t" in text else text


def _csv_text(text: bytes) -> bytes:
    return text.replace(b'""', b'"') if b'""' in text else text


def _json_text(text: bytes) -> bytes:
    if b"\\" not in text:
        return text
    try:
        decoded = json.loads(b'"' + text + b'"', strict=False)
    except ValueError:
        return text
    return str(decoded).encode("utf-8", "surrogatepass")


FORMATS: dict[str, Format] = {
    "stderr": Format(
        _MARK["stderr"],
        _entry_pattern("stderr"),
        _stderr_text,
        re.compile(rb"\r?\n[^\n\t]*DETAIL:  [Pp]arameters: (" + _UNTIL["stderr"] + rb")"),
        None,
    ),
    "csv": Format(
        _MARK["csv"],
        _entry_pattern("csv"),
        _csv_text,
        re.compile(rb'","[Pp]arameters: (' + _UNTIL["csv"] + rb")"),
        re.compile(
            _TIME + rb'[^,]*,(?:"(?:[^"]|"")*")?,(?:"(?P<database>(?:[^"]|"")*)")?,(?P<pid>\d*),'
        ),
    ),
    "json": Format(
        _MARK["json"],
        _entry_pattern("json"),
        _json_text,
        re.compile(rb'","detail":"[Pp]arameters: (' + _UNTIL["json"] + rb")"),
        re.compile(
            rb'\{"timestamp":"' + _TIME + rb'[^"]*"(?:,"user":"(?:[^"\\]|\\.)*")?'
            rb'(?:,"dbname":"(?P<database>(?:[^"\\]|\\.)*)")?(?:,"pid":(?P<pid>\d+))?'
        ),
    ),
}


def scan(file: BinaryIO, form: Format) -> Iterator[Entry]:
    """The entries of a log, one piece of it in memory."""
    left = b""
    decode, find, plain = form.decode, form.entry.finditer, form.head is None
    while True:
        piece = file.read(PIECE)
        data = left + piece if left else piece
        left = b""
        if piece and len(data) < MAX_ENTRY:
            # The last entry may go on in the next piece, and so may what belongs to it.
            end = data.rfind(b"\n", 0, max(0, data.rfind(form.mark))) + 1
            left, data = data[end:], data[:end]
        for match in find(data):
            ms, kind, other, text = match.groups()
            start, end = match.span()
            if plain:
                line = data.rfind(b"\n", 0, start) + 1
                # What stands in somebody's text is no entry, be it made to look like one.
                if data.startswith(b"\t", line) or data.find(b":  ", line, start) >= 0:
                    continue
            yield kind or other or b"", ms, decode(text), data, start, end
        if not piece:
            return


def head_of(entry: Entry) -> bytes:
    """What stands on the entry's line before its message."""
    data, start = entry[3], entry[4]
    return data[data.rfind(b"\n", 0, start) + 1 : start]


def parameters_of(entry: Entry, form: Format) -> bytes:
    """The values of a statement's parameters as they were logged; b"" where they were not."""
    match = form.parameters.match(entry[3], entry[5], entry[5] + LOOK_AHEAD)
    return form.decode(match[1]) if match else b""
