"""Finds the plans in a file of any kind: formats are told apart by what stands there.

Around the plans there may be anything: psql's frame, prompts, prose, a server's log. What begins
like a plan and does not go on like one is a problem with its line; nothing here raises.
"""

from __future__ import annotations

import bisect
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import accumulate
from typing import Any

from sqladvisor.errors import InputError
from sqladvisor.finding import InputProblem
from sqladvisor.plan.node import Plan
from sqladvisor.plan.read import plan_of
from sqladvisor.plan.read_log import PEEK_LINES, entries, kind_of_log
from sqladvisor.plan.read_parts import Damaged, Properties
from sqladvisor.plan.read_text import Line, is_node, read_text, starts_plan
from sqladvisor.plan.read_xml import read_xml
from sqladvisor.plan.read_yaml import read_yaml, starts_yaml

MAX_CHARACTERS = 64 * 1024 * 1024
"""Of a file that is no log, and of one log entry: the largest plans seen are under 1 MB."""
MAX_FAILURES = 50
"""Brackets that begin no JSON, or tags no XML plan, after which no more are tried in a file."""
PLAN_WITHIN = 2000
"""Characters after a bracket within which a JSON plan has its first node."""

_COLUMN = "QUERY PLAN"
_XML_END = "</explain>"
_ANSI = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|[@-Z\\-_])")
_HEADER = re.compile(r"\s*[|│║]?\s*\"?QUERY PLAN\"?\s*[|│║]?\s*")
_RULE = re.compile(r"\s*(?:[-─═+┼╪]{4,}|[+├┌└╔╠╚][-─═+┬┴┼╤╧╪]*[+┤┐┘╗╣╝]|-\[ RECORD \d+ \][-+]*)\s*")
_COUNT = re.compile(r"\s*\(\d+ \w+\)\s*")
_BORDER = re.compile(r"\s*(?:QUERY PLAN\s*)?[|│║] ?")
_RIGHT_BORDER = re.compile(r"\s*[|│║]\s*$")
_CONTINUED = re.compile(r"[+↵]\s*$")
_QUERY = re.compile(r"\s*Query Text: ?(.*)")
_PARAMETERS = re.compile(r"\s*Query Parameters: ")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}]', re.DOTALL)


def plans_in(path: str, text: str) -> Iterator[Plan | InputProblem]:
    """The plans of a decoded file in order, and what of it begins like one and cannot be read."""
    kind = kind_of_log(text.split("\n", PEEK_LINES))
    if kind:
        # A log may be a session's, whose plans were EXPLAIN's own answers.
        found = list(plans_in_log(path, kind, io.StringIO(text)))
        if found or kind != "stderr":
            yield from found
            return
    if len(text) > MAX_CHARACTERS:
        size = MAX_CHARACTERS >> 20
        yield InputProblem(path, f"larger than {size} MB and no log: cut the plans out of it")
        return
    yield from _Finder(path, _undecorated(text)).plans()


def plans_in_log(path: str, kind: str, lines: Iterable[str]) -> Iterator[Plan | InputProblem]:
    """The plans that auto_explain logged, read entry by entry however long the log is.

    ``kind`` is kind_of_log()'s; each line ends in its newline.
    """
    for entry in entries(kind, lines):
        empty = True
        for found in _Finder(path, entry.body, entry.duration_ms).plans():
            empty = False
            yield found
        if empty:
            yield InputProblem(
                path, "a logged plan that breaks off before its first node", entry.line
            )


class _Finder:
    """The plans among some lines. ``duration_ms`` is what a log says of the statement."""

    def __init__(self, path: str, lines: Sequence[Line], duration_ms: float | None = None) -> None:
        self.path = path
        self.lines = lines
        self.duration_ms = duration_ms
        self.failures = 0
        self.textual = False
        """A text plan was read."""
        self.damaged = False
        """Since the last plan something could not be read: a node with an arrow is a piece of it."""

    @cached_property
    def text(self) -> str:
        return "\n".join(line.text for line in self.lines)

    @cached_property
    def starts(self) -> list[int]:
        """The offset in ``text`` at which each line begins."""
        return list(accumulate((len(line.text) + 1 for line in self.lines), initial=0))[:-1]

    def at_offset(self, offset: int) -> int:
        """The position in ``lines`` of a character of ``text``."""
        return max(0, bisect.bisect_right(self.starts, offset) - 1)

    def plans(self) -> Iterator[Plan | InputProblem]:
        at = 0
        query: list[str] | None = None
        while at < len(self.lines):
            try:
                found, end = self._documents(at, query is not None)
            except Damaged as error:
                yield InputProblem(self.path, error.cause, error.line)
                if self.duration_ms is not None:
                    return
                self.damaged = True
                at = self._past(at, error.line)
                query = None
                continue
            if not found:
                line = self.lines[at].text
                if start := _QUERY.fullmatch(line):
                    query = [start[1]]
                elif query is not None and not _PARAMETERS.match(line):
                    query.append(line)
            for document in found:
                if query is not None:
                    document.setdefault("Query Text", "\n".join(query).strip())
                    query = None
                if self.duration_ms is not None:
                    document.setdefault("Execution Time", self.duration_ms)
                try:
                    yield plan_of(document)
                except InputError as error:
                    yield InputProblem(self.path, str(error), document.line)
            at = max(end, at + 1)

    def _documents(self, at: int, querying: bool) -> tuple[list[Properties], int]:
        """The plans that begin on a line, and the position after them. Raises Damaged.

        ``querying``: below a log's query text, whose own lines may look like anything.
        """
        text = self.lines[at].text.strip()
        if text.startswith(("[", "{")) and self.failures < MAX_FAILURES:
            return self._json(at)
        if text.startswith(("<explain", "<?xml")) and self.failures < MAX_FAILURES:
            return self._xml(at)
        if text and starts_yaml(self.lines, at):
            document, end = read_yaml(self.lines, at)
            return [document], end
        if text and starts_plan(self.lines, at) and (not querying or self._first_node(at)):
            if text.startswith("->") and self.damaged:
                return [], at + 1
            if text.startswith("->") and self.textual:
                raise Damaged(
                    self.lines[at].number,
                    "a node without the one above it: the plan's indentation is lost",
                )
            self.damaged = False
            self.textual = True
            document, end = read_text(self.lines, at)
            return [document], end
        return [], at + 1

    def _first_node(self, at: int) -> bool:
        """Whether a line is one that auto_explain would print: at the margin, figures complete."""
        return is_node(self.lines[at].text) and not self.lines[at].text[:1].isspace()

    def _past(self, at: int, line: int) -> int:
        """Where to go on after damage on ``line``: behind it and what belonged to that plan."""
        at += 1
        while at < len(self.lines) and (
            self.lines[at].number <= line or self.lines[at].text[:1] in (" ", "\t", "}", "]")
        ):
            at += 1
        return at

    def _json(self, at: int) -> tuple[list[Properties], int]:
        begin = self.text.index(self.lines[at].text.strip()[0], self.starts[at])
        try:
            value, end = self._decoded(begin)
        except (ValueError, RecursionError) as error:
            self.failures += 1
            ahead = self.text[begin : begin + PLAN_WITHIN]
            if '"Node Type"' not in ahead and '"Plan"' not in ahead:
                return [], at + 1
            raise self._json_damage(error, at) from None
        found = list(self._with_plans(value, self.lines[at].number))
        if found or isinstance(value, dict) or value:
            return found, self.at_offset(end - 1) + 1
        return [], at + 1

    def _json_damage(self, error: ValueError | RecursionError, at: int) -> Damaged:
        if isinstance(error, RecursionError):
            return Damaged(self.lines[at].number, "not a JSON plan: nested too deeply")
        if not isinstance(error, json.JSONDecodeError):
            return Damaged(self.lines[at].number, "not a JSON plan: a number is too long")
        line = self.lines[self.at_offset(error.pos)].number
        if not self.text[error.pos :].strip() or error.msg.startswith("Unterminated"):
            end = self.lines[self.at_offset(len(self.text[: error.pos].rstrip()))].number
            return Damaged(end, "the JSON plan breaks off here")
        return Damaged(line, f"not valid JSON: {error.msg}")

    def _decoded(self, begin: int) -> tuple[Any, int]:
        """The JSON value at an offset, its objects as Properties, and its end."""
        _, end = json.JSONDecoder().raw_decode(self.text, begin)
        # Objects end in the order in which the decoder makes them: that of their closing braces.
        places: list[int] = []
        opened: list[int] = []
        for token in _TOKEN.finditer(self.text, begin, end):
            if token[0] == "{":
                opened.append(token.start())
            elif token[0] == "}":
                places.append(opened.pop())
            elif token[0] == '"Node Type"' and opened:
                opened[-1] = token.start()
        ends = iter(places)

        def located(pairs: list[tuple[str, Any]]) -> Properties:
            found = Properties(self.lines[self.at_offset(next(ends))].number)
            found.update(pairs)
            return found

        return json.JSONDecoder(object_pairs_hook=located).raw_decode(self.text, begin)

    def _with_plans(self, value: Any, line: int) -> Iterator[Properties]:
        """The objects with a Plan: EXPLAIN's own list, or a client's rows of one column."""
        rows = value if isinstance(value, list) else [value]
        for row in rows:
            if isinstance(row, Properties) and "Plan" in row:
                yield row
            elif isinstance(row, Properties) and isinstance(row.get(_COLUMN), list | dict):
                yield from self._with_plans(row[_COLUMN], line)
        texts = [row.get(_COLUMN) for row in rows if isinstance(row, dict)]
        if texts and all(isinstance(text, str) for text in texts):
            inner = [Line(line, t) for text in texts for t in str(text).split("\n")]
            for at in range(len(inner)):
                if starts_plan(inner, at):
                    yield read_text(inner, at)[0]
                    return

    def _xml(self, at: int) -> tuple[list[Properties], int]:
        begin = self.text.index("<", self.starts[at])
        end = self.text.find(_XML_END, begin)
        head = self.text[begin : begin + 1000]
        if end < 0 and "<explain" not in head:
            self.failures += 1
            return [], at + 1
        if end < 0:
            return read_xml(self.text[begin:], self.lines[at].number), len(self.lines)
        end += len(_XML_END)
        return read_xml(self.text[begin:end], self.lines[at].number), self.at_offset(end - 1) + 1


# -- what clients put around a plan ---------------------------------------------------------------


def _undecorated(text: str) -> list[Line]:
    """The lines of a file without colours, psql's frames and footers, a table's quotes."""
    if "\x1b" in text:
        text = _ANSI.sub("", text)
    lines = _uncelled([line.rstrip("\r") for line in text.split("\n")])
    framed = any(_COLUMN in line and _HEADER.match(line) for line in lines)
    found = []
    inside = True  # a frame: at the start, after its rules and after lines that had its border
    margin = False  # psql's blank before each cell: from the header's rule to the footer
    for number, line in enumerate(lines, 1):
        if _decoration(line):
            margin = not _COUNT.fullmatch(line)
            inside = True
            continue
        if line.strip():
            border = _BORDER.match(line)
            bordered = border is not None and (inside or _COLUMN in border[0])
            if bordered and border:
                line = _RIGHT_BORDER.sub("", line[border.end() :])
            elif margin and framed:
                line = line.removeprefix(" ")
            if framed:
                line = _CONTINUED.sub("", line).rstrip()
            inside = bordered
        found.append(Line(number, line))
    return found


def _decoration(line: str) -> bool:
    if _RULE.fullmatch(line) or line.startswith("Time: "):
        return True
    return len(line) < 1000 and bool(_HEADER.fullmatch(line) or _COUNT.fullmatch(line))


def _uncelled(lines: list[str]) -> list[str]:
    """Lines of a table exported as CSV: a quoted field for each, or one field over many lines."""
    filled = [line for line in lines if line.strip()]
    header = bool(filled) and filled[0].strip(' "') == _COLUMN and not filled[0].startswith(" ")
    if header and len(filled) > 1 and _RULE.fullmatch(filled[1]):
        return lines
    if not header and not all(f.startswith('"') and f.rstrip().endswith('"') for f in filled):
        return lines
    inside = False
    found = []
    for line in lines:
        if not inside and line.startswith('"'):
            inside = True
            line = line[1:]
        if inside:
            trailing = len(line) - len(line.rstrip('"'))
            if trailing % 2:
                inside = False
                line = line[:-1]
            line = line.replace('""', '"')
        found.append(line)
    return found
