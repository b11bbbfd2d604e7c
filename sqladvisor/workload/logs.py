"""Log files as a workload: which statements ran, how often, for how long, with which values.

``read_logs`` streams them: memory is bounded by the number of distinct statements, of which the ones
that took the least time give way beyond a limit. Statements are told apart by libpg_query's
fingerprint; a cheap normalisation of the text (literals out) finds most of them without parsing.
"""

from __future__ import annotations

import gzip
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import BinaryIO, cast

from sqladvisor.errors import InputError
from sqladvisor.finding import InputProblem
from sqladvisor.plan.node import Plan
from sqladvisor.plan.read_log import kind_of_log
from sqladvisor.workload.logs_prefix import Heads, heads
from sqladvisor.workload.logs_scan import FORMATS, Entry, Format, head_of, parameters_of, scan
from sqladvisor.workload.statements import Collected, Counted

MAX_STATEMENTS = 20_000
"""Distinct statements kept."""
MAX_KNOWN = 100_000
"""Normalised texts whose statement is remembered: beyond it they are learned again."""
EXAMPLES = 3
"""Texts with their values kept of a statement: the slowest ones."""
FIRST = 20
"""Executions after which only slower ones are examples: one without values has no more of them."""
MAX_TEXT = 100_000
"""Bytes of a statement that is read; longer ones (bulk INSERTs) are known by their beginning."""
MAX_PLAN = 1_000_000
"""Bytes of a plan that is kept."""
MAX_PENDING = 10_000
"""Sessions whose last statement waits for its time (log_duration)."""
PEEK = 256 * 1024

# Literals for a key to look up by; what it cannot tell rightly is _odd, and parsed instead.
_LITERAL = re.compile(rb"'[^']*'|\b\d+")
_LIST = re.compile(rb"\?(?:\s*,\s*\?)+|\(\?\)(?:\s*,\s*\(\?\))+")
_SPACE = re.compile(rb"\s+")
_QUERY_TEXT = re.compile(rb"\s*(?:Query Text: |\{\s*\"Query Text\": )")
_COMMENT = re.compile(rb"--[^\n]*|/\*.*?\*/", re.DOTALL)
_DOLLAR_QUOTE = re.compile(rb"\$(?:[A-Za-z_\x80-\xff]\w*)?\$")
# An identifier that begins with a digit, or one (or a string) with the other's quote in it.
_ODD_NAME = re.compile(rb"\"\d|\"[^\"']*'[^\"']*\"")


@dataclass(frozen=True, slots=True)
class Example:
    """A statement as it was run, with its values, and how long it took in ms."""

    text: str
    ms: float


@dataclass(slots=True)
class LoggedStatement:
    """One statement and what the logs say of it. Times in ms.

    ``calls`` counts executions; ``timed`` those whose time was logged, which ``total_ms`` sums.
    """

    fingerprint: str
    text: str
    calls: int = 0
    timed: int = 0
    total_ms: float = 0.0
    squared_ms: float = 0.0
    min_ms: float = math.inf
    max_ms: float = 0.0
    plan_ms: float = 0.0
    """Parsing and binding, which plans, where the extended protocol logs them."""
    examples: list[Example] = field(default_factory=list)
    explained: int = 0
    """Plans that auto_explain logged."""
    explained_ms: float = 0.0
    slowest_plan: tuple[float, bytes] | None = None

    @property
    def mean_ms(self) -> float:
        return self.total_ms / self.timed if self.timed else 0.0

    @property
    def stddev_ms(self) -> float:
        if not self.timed:
            return 0.0
        return math.sqrt(max(0.0, self.squared_ms / self.timed - self.mean_ms**2))

    def plan(self) -> Plan | None:
        """The slowest plan that auto_explain logged, None where there is none that can be read."""
        from sqladvisor.plan.read_file import plans_in_log

        if self.slowest_plan is None:
            return None
        ms, body = self.slowest_plan
        lines = [f"LOG:  duration: {ms} ms  plan:\n"]
        lines += [
            f"\t{line}\n" for line in body.decode("utf-8", "replace").lstrip("\n").split("\n")
        ]
        found = next(plans_in_log("log", "stderr", lines), None)
        return found if isinstance(found, Plan) else None


@dataclass(slots=True)
class Logged:
    """What was read from log files, most time first."""

    statements: list[LoggedStatement] = field(default_factory=list)
    problems: list[InputProblem] = field(default_factory=list)
    bytes_read: int = 0
    entries: int = 0
    unparsed: int = 0
    """Entries that are not SQL as PostgreSQL's parser takes it (cut off, other languages)."""
    dropped: int = 0
    """Statements that gave way to others beyond the limit, and what is lost with them in ms."""
    dropped_ms: float = 0.0
    first: datetime | None = None
    last: datetime | None = None

    @property
    def hours(self) -> float | None:
        """What the entries span, None where their lines have no time."""
        if self.first is None or self.last is None or self.last <= self.first:
            return None
        return (self.last - self.first).total_seconds() / 3600

    def collected(self) -> Collected:
        """The same in the form that pg_stat_statements is read in, for what weighs a workload."""
        counted = tuple(_counted(s) for s in self.statements)
        return Collected(
            counted,
            missing="" if counted else "no statement in the logs (log_min_duration_statement)",
            hours=self.hours,
            since_reset=True,
            evicted=self.dropped,
            total_ms=sum(c.total_ms for c in counted),
        )


def read_logs(
    paths: Sequence[str],
    prefix: str | None = None,
    *,
    database: str | None = None,
    unknown: bool = False,
    limit: int = MAX_STATEMENTS,
) -> Logged:
    """Read log files (also .gz): stderr, csvlog and jsonlog are told apart by their first lines.

    ``prefix`` is the server's log_line_prefix; without it the usual ones are recognised.
    ``database`` keeps only its entries, and with ``unknown`` those that name none. What cannot be read becomes a problem. Raises InputError
    for a prefix that cannot be used.
    """
    given = heads(prefix)
    tally = _Tally(limit, given, database, unknown)
    if database is not None and not given.has_database and not unknown:
        raise InputError(f"log_line_prefix {prefix!r} has no %d: the database is not in the log")
    for path in paths:
        try:
            _read(path, tally)
        except (OSError, EOFError, gzip.BadGzipFile) as error:
            cause = getattr(error, "strerror", None) or str(error)
            tally.found.problems.append(InputProblem(path, cause))
    return tally.finish()


def _read(path: str, tally: _Tally) -> None:
    opened = gzip.open(path) if path.endswith(".gz") else open(path, "rb")  # noqa: SIM115
    with cast(BinaryIO, opened) as file:
        kind = kind_of_log(_beginning(file).decode("utf-8", "replace").splitlines(keepends=True))
        if not kind:
            tally.found.problems.append(InputProblem(path, "is not a PostgreSQL log in English"))
            return
        form = FORMATS[kind]
        tally.begin(form)
        for entry in scan(file, form):
            tally.add(entry)
        tally.end()
        tally.found.bytes_read += file.tell()


def _beginning(file: BinaryIO) -> bytes:
    data = file.read(PEEK)
    file.seek(0)
    return data


class _Tally:
    """Adds entries up."""

    def __init__(self, limit: int, given: Heads, database: str | None, unknown: bool) -> None:
        self.found = Logged()
        self._given = self._heads = given
        self._form = FORMATS["stderr"]
        kept = {database.encode()} if database is not None else set()
        self._databases = kept | {None} if unknown else kept
        self._limit = limit
        self._statements: dict[str, LoggedStatement] = {}
        self._known: dict[bytes, str] = {}
        self._pending: dict[bytes, tuple[LoggedStatement, Entry]] = {}
        self._last: Entry | None = None

    def begin(self, form: Format) -> None:
        """The entries of another file follow."""
        self._form = form
        self._heads = Heads(form.head) if form.head else self._given
        self._last = None

    def end(self) -> None:
        """There are no more in this file."""
        if self._last is not None:
            self._at(self._last)
        self._last = None

    def _at(self, entry: Entry) -> None:
        when = self._heads.time(head_of(entry))
        if when is not None:
            found = self.found
            found.first = when if found.first is None else min(found.first, when)
            found.last = when if found.last is None else max(found.last, when)

    def add(self, entry: Entry) -> None:
        kind, ms, text, _, _, _ = entry
        if self._databases and self._heads.database(head_of(entry)) not in self._databases:
            return
        if self._last is None:
            self._at(entry)
        self._last = entry
        if kind == b"plan":
            self._add_plan(entry)
            return
        if not kind:
            session = self._heads.session(head_of(entry))
            pending = self._pending.pop(session, None) if session else None
            if pending is not None and ms is not None:
                self._time(pending[0], float(ms), pending[1])
            return
        if len(text) > MAX_TEXT:
            text = text[:MAX_TEXT]
        statement = self._statement(text, kind != b"statement" and b"$1" in text)
        if statement is None:
            return
        if kind == b"parse" or kind == b"bind":
            statement.plan_ms += float(ms or 0)
            return
        self.found.entries += 1
        statement.calls += 1
        if ms is not None:
            self._time(statement, float(ms), entry)
        elif session := self._heads.session(head_of(entry)):
            if len(self._pending) >= MAX_PENDING:
                self._pending.clear()
            data = head_of(entry)
            # Not the piece of the log that it stands in: thousands of them may wait.
            self._pending[session] = (statement, (kind, None, text, data, len(data), len(data)))

    def _time(self, statement: LoggedStatement, ms: float, entry: Entry) -> None:
        statement.timed += 1
        statement.total_ms += ms
        statement.squared_ms += ms * ms
        if ms < statement.min_ms:
            statement.min_ms = ms
        if ms > statement.max_ms:
            statement.max_ms = ms
        examples = statement.examples
        full = len(examples) == EXAMPLES or statement.timed > FIRST
        if not full or (examples and ms > examples[-1].ms):
            shown = with_values(entry[2][:MAX_TEXT], parameters_of(entry, self._form))
            if all(e.text != shown for e in examples):
                examples.append(Example(shown, ms))
                examples.sort(key=lambda e: -e.ms)
                del examples[EXAMPLES:]

    def _add_plan(self, entry: Entry) -> None:
        text = entry[2]
        query = query_of(text)
        statement = self._statement(query[:MAX_TEXT]) if query else None
        if statement is None or entry[1] is None:
            return
        ms = float(entry[1])
        self.found.entries += 1
        statement.explained += 1
        statement.explained_ms += ms
        slowest = statement.slowest_plan
        if (slowest is None or ms > slowest[0]) and len(text) <= MAX_PLAN:
            statement.slowest_plan = (ms, text)

    def _statement(self, text: bytes, again: bool = False) -> LoggedStatement | None:
        """The statement that a text is of; None for one that does not parse.

        ``again``: the very text will come again, as it has parameters instead of values.
        """
        known = self._known
        key = known.get(text) if again else None
        if key is None:
            normal = text if again or _odd(text) else _LITERAL.sub(b"?", text)
            key = known.get(normal)
            if key is None:
                key = self._learn(normal, text)
        statement = self._statements.get(key)
        if statement is None:
            if not key:
                self.found.unparsed += 1
                return None
            statement = self._new(key, text)
        return statement

    def _learn(self, normal: bytes, text: bytes) -> str:
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        short = normal if normal is text else _SPACE.sub(b" ", _LIST.sub(b"?", normal)).strip()
        key = self._known.get(short)
        if key is None:
            key = self._known[short] = _fingerprint(text)
        self._known[normal] = key
        return key

    def _new(self, key: str, text: bytes) -> LoggedStatement:
        if len(self._statements) >= self._limit:
            self._drop()
        statement = LoggedStatement(key, normalised(text))
        self._statements[key] = statement
        return statement

    def _drop(self) -> None:
        """Make room: a tenth, those that took the least time."""
        ranked = sorted(self._statements.values(), key=_weight)
        for statement in ranked[: max(1, self._limit // 10)]:
            self.found.dropped += 1
            self.found.dropped_ms += statement.total_ms
            del self._statements[statement.fingerprint]

    def finish(self) -> Logged:
        """What was found, the statements that took most time first."""
        self.found.statements = sorted(self._statements.values(), key=_weight, reverse=True)
        return self.found


def _odd(text: bytes) -> bool:
    """Whether quotes in a text may not be what they seem: names, comments, escapes, dollar quotes."""
    if b"\\'" in text:
        return True
    if b'"' in text and _ODD_NAME.search(text):
        return True
    if b"$" in text and _DOLLAR_QUOTE.search(text):
        return True
    if b"--" in text or b"/*" in text:
        return any(c.count(b"'") % 2 or b'"' in c for c in _COMMENT.findall(text))
    return False


def _weight(statement: LoggedStatement) -> tuple[float, float, int]:
    return statement.total_ms, statement.explained_ms, statement.calls


def _fingerprint(text: bytes) -> str:
    from sqladvisor.sql.libpg import ParseProblem, fingerprint

    try:
        return fingerprint(text.decode("utf-8", "replace"))
    except (ParseProblem, ValueError):
        return ""


def normalised(text: bytes) -> str:
    """The text without its literals, as pg_stat_statements shows it."""
    from sqladvisor.sql.libpg import ParseProblem, normalize

    shown = text.decode("utf-8", "replace")
    try:
        return normalize(shown)
    except (ParseProblem, ValueError):
        return shown


def query_of(plan: bytes) -> bytes:
    """The statement that stands in an auto_explain entry's text; b"" where it is not found."""
    match = _QUERY_TEXT.match(plan)
    if match is None:
        return b""
    rest = plan[match.end() :]
    if plan.lstrip()[:1] == b"{":
        import json

        try:
            text, _ = json.JSONDecoder().raw_decode(rest.decode("utf-8", "replace"))
        except ValueError:
            return b""
        return str(text).encode("utf-8", "surrogateescape")
    lines = rest.split(b"\n")
    for n, line in enumerate(lines[1:], 1):
        # The root node has the first cost, or (of a plan without them) no indentation.
        if b"(cost=" in line or b"(actual " in line or line.startswith(b"Query Parameters: "):
            return b"\n".join(lines[:n])
    return lines[0]


def with_values(text: bytes, parameters: bytes) -> str:
    """The statement with the values that were logged for its parameters in their places."""
    shown = text.decode("utf-8", "replace")
    if not parameters:
        return shown
    values = dict(_values(parameters.decode("utf-8", "replace")))
    return re.sub(r"\$(\d+)", lambda m: values.get(int(m[1]), m[0]), shown)


_VALUE = re.compile(r"\$(\d+) = ('(?:[^']|'')*'|NULL)", re.DOTALL)


def _values(text: str) -> Iterator[tuple[int, str]]:
    for match in _VALUE.finditer(text):
        yield int(match[1]), match[2]


def _counted(statement: LoggedStatement) -> Counted:
    calls = statement.calls or statement.explained
    total = statement.total_ms or statement.explained_ms
    return Counted(
        queryid=int(statement.fingerprint, 16), text=statement.text, calls=calls, rows=0,
        total_exec_ms=total, mean_exec_ms=total / calls if calls else 0.0,
        min_exec_ms=0.0 if math.isinf(statement.min_ms) else statement.min_ms,
        max_exec_ms=statement.max_ms, stddev_exec_ms=statement.stddev_ms,
        total_plan_ms=statement.plan_ms, plans=0, hit_blocks=0, read_blocks=0, dirtied_blocks=0,
        written_blocks=0, temp_blocks=0, io_ms=0.0, wal_bytes=0,
    )  # fmt: skip
