"""What stands before a message in a log: the time, the session, the database.

By the server's log_line_prefix (elog.c, log_line_prefix), or, without it, by what the usual ones look
like; csvlog and jsonlog are brought into that form by their readers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from sqladvisor.errors import InputError

_TIME = rb"(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?)"
_AT = re.compile(rb"(?:^|[\s,\]])(?:user=)?[^\s@=,\[\]]*(?:@|,db=|\bdb=)(?P<database>[^\s@,:\]]+)")
_PID = re.compile(rb"\[(\d+)(?:-\d+)?\]")
_ANY_TIME = re.compile(_TIME)
# Escapes of log_line_prefix; what is not needed is any text.
_ESCAPES = {
    "t": _TIME + rb" \S+", "m": _TIME + rb" \S+", "n": rb"(?P<epoch>\d+\.\d+)",
    "p": rb"(?P<pid>\d+)", "c": rb"(?P<session>[0-9a-f]+\.[0-9a-f]+)", "d": rb"(?P<database>\S*?)",
    "u": rb"\S*?", "a": rb".*?", "h": rb"\S*?", "r": rb"\S*?", "b": rb".*?", "i": rb".*?",
    "e": rb"\w*", "l": rb"\d*", "s": rb"[\d :-]+ \S+", "v": rb"[\d/]*", "x": rb"\d*", "P": rb"\d*",
    "Q": rb"-?\d*", "L": rb"\S*?", "%": rb"%",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Heads:
    """Reads the heads of log entries. ``pattern`` None: as the usual ones look."""

    pattern: re.Pattern[bytes] | None = None

    @property
    def has_database(self) -> bool:
        return self.pattern is None or "database" in self.pattern.groupindex

    def _group(self, head: bytes, name: str) -> bytes | None:
        if self.pattern is None or name not in self.pattern.groupindex:
            return None
        match = self.pattern.match(head)
        return match[name] if match else None

    def session(self, head: bytes) -> bytes:
        """What tells sessions apart: the process, or its session id; b"" where nothing does."""
        if self.pattern is not None:
            return self._group(head, "session") or self._group(head, "pid") or b""
        match = _PID.search(head)
        return match[1] if match else b""

    def database(self, head: bytes) -> bytes | None:
        if self.pattern is not None:
            return self._group(head, "database")
        match = _AT.search(head)
        return match["database"] if match else None

    def time(self, head: bytes) -> datetime | None:
        """When it was logged; the time zone is left aside, as it is the same in all entries."""
        epoch = self._group(head, "epoch")
        if epoch:
            return datetime.fromtimestamp(float(epoch), UTC).replace(tzinfo=None)
        match = _ANY_TIME.search(head)
        if match is None:
            return None
        try:
            return datetime.fromisoformat(match["time"].decode())
        except ValueError:
            return None


def heads(prefix: str | None) -> Heads:
    """A reader for a log_line_prefix. Raises InputError for an escape that does not exist."""
    if prefix is None:
        return Heads()
    pattern = b""
    at = 0
    seen: set[str] = set()
    while at < len(prefix):
        if prefix[at] != "%":
            pattern += re.escape(prefix[at].encode())
            at += 1
            continue
        match = re.match(r"%(-?\d*)(\w|%)", prefix[at:])
        if match is None or (match[2] != "q" and match[2] not in _ESCAPES):
            raise InputError(
                f"log_line_prefix {prefix!r}: {prefix[at : at + 2]!r} is no escape of it"
            )
        at += match.end()
        if match[2] == "q":
            continue
        escape = _ESCAPES[match[2]]
        # A group may be named once; padding puts blanks on either side.
        escape = re.sub(rb"\?P<(\w+)>", lambda m: _once(m, seen), escape)
        pattern += rb" *" + escape + rb" *" if match[1] else escape
    return Heads(re.compile(pattern))


def _once(match: re.Match[bytes], seen: set[str]) -> bytes:
    name = match[1].decode()
    if name in seen:
        return b"?:"
    seen.add(name)
    return match[0]
