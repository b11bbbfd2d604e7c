"""Finds what auto_explain wrote in a PostgreSQL log: stderr, csvlog or jsonlog.

An entry's message is ``duration: 12.3 ms  plan:`` and, from the next line on, the plan with its
query (explain_ExecutorEnd in contrib/auto_explain/auto_explain.c).
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sqladvisor.plan.read_parts import number
from sqladvisor.plan.read_text import Line

MAX_ENTRY_LINES = 200_000
"""Lines of one log entry: a longer one is cut there."""
MAX_FIELD = 64 * 1024 * 1024
"""Characters of one field of a csvlog line."""
PEEK_LINES = 400
"""Lines by which a log is known."""

# Two blanks come after the severity and before "plan:", in every language of the server.
_PLAN = re.compile(r"\b\w+: (\d[\d.]*) ms\s+plan:\s*$", re.IGNORECASE)
_ENTRY = re.compile(
    r"(?:^|[\s\])>:])(?:LOG|ERROR|WARNING|STATEMENT|DETAIL|HINT|NOTICE|FATAL|PANIC|CONTEXT|INFO|QUERY"
    r"|LOCATION|DEBUG\d?):  "
)
_CSV = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ [^,\"]+,(?:\"(?:[^\"]|\"\")*\")?,")


@dataclass(frozen=True, slots=True)
class Entry:
    """One logged plan: its lines, and how long the statement ran, in ms."""

    line: int
    duration_ms: float
    body: list[Line]


def kind_of_log(lines: Iterable[str]) -> str:
    """``csv``, ``json``, ``stderr``, or "" for a text that is no log, by its first lines."""
    for count, text in enumerate(lines):
        if count >= PEEK_LINES:
            break
        if not text.strip():
            continue
        if _CSV.match(text):
            return "csv"
        if text.startswith('{"') and '"error_severity"' in text and '"timestamp"' in text:
            return "json"
        if _ENTRY.search(text[:500]) or _plan_at(text) is not None:
            return "stderr"
    return ""


def entries(kind: str, lines: Iterable[str]) -> Iterator[Entry]:
    """The plans of a log in order, one entry in memory at a time."""
    if kind == "csv":
        return _csv(lines)
    return _json(lines) if kind == "json" else _stderr(lines)


def _stderr(lines: Iterable[str]) -> Iterator[Entry]:
    entry: Entry | None = None
    for count, text in enumerate(lines, 1):
        text = text.rstrip("\r\n")
        # append_with_tabs() in elog.c puts a tab after each newline of a message.
        duration = None if text.startswith("\t") else _plan_at(text)
        if duration is not None or (text[:1] != "\t" and _ENTRY.search(text[:500])):
            if entry:
                yield entry
            entry = None if duration is None else Entry(count, duration, [])
        elif entry and len(entry.body) < MAX_ENTRY_LINES:
            entry.body.append(Line(count, text.removeprefix("\t")))
    if entry:
        yield entry


def _csv(lines: Iterable[str]) -> Iterator[Entry]:
    limit = csv.field_size_limit(MAX_FIELD)
    try:
        reader = csv.reader(line.replace("\0", "") for line in lines)
        before = 0
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error:
                before = reader.line_num
                continue
            message = next((f for f in row if "\n" in f and _plan_at(_first(f)) is not None), None)
            if message is not None:
                lead = row[: row.index(message)]
                yield _entry(message, before + 1 + sum(f.count("\n") for f in lead))
            before = reader.line_num
    finally:
        csv.field_size_limit(limit)


def _json(lines: Iterable[str]) -> Iterator[Entry]:
    for count, text in enumerate(lines, 1):
        if "plan:" not in text:
            continue
        try:
            record = json.loads(text)
        except (ValueError, RecursionError):
            continue
        message = record.get("message") if isinstance(record, dict) else None
        if isinstance(message, str) and _plan_at(_first(message)) is not None:
            entry = _entry(message, count)
            yield Entry(count, entry.duration_ms, [Line(count, line.text) for line in entry.body])


def _entry(message: str, line: int) -> Entry:
    first, *rest = message.split("\n")
    body = [Line(line + i, text) for i, text in enumerate(rest[:MAX_ENTRY_LINES], 1)]
    return Entry(line, _plan_at(first) or 0.0, body)


def _first(message: str) -> str:
    return message.partition("\n")[0]


def _plan_at(text: str) -> float | None:
    """The duration of a line that ends in ``duration: 12.3 ms  plan:``."""
    match = _PLAN.search(text[-200:]) if "plan:" in text[-40:].lower() else None
    value = number(match[1]) if match else None
    return None if value is None else float(value)
