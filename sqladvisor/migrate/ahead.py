"""Parses the later half of many migration files in a second process, where a core is free for it.

Only a child made by fork pays: it has the files' bytes already, and what it sends back (by marshal, in
memory) is read in a third of the time that parsing takes. Where there is no such thing, nothing is
parsed ahead and the reader parses as ever.
"""

from __future__ import annotations

import marshal
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from sqladvisor.sql.libpg import Parsed
from sqladvisor.sql.source import parse_plain, read_source
from sqladvisor.sql.statement import Node

SHARE = 0.55
"""Of the bytes that the child parses: this process has more to do with each file."""
WORTH = 400_000
"""Bytes of SQL. Of fewer, half is parsed sooner than a process is made and heard (measured)."""

Answer = dict[str, list[tuple[int, int, str, Node]]]
"""The fields of ``Parsed``, of each statement of a file."""


@dataclass(slots=True)
class Ahead:
    """What a child process has been asked to parse."""

    child: int
    answer: int
    paths: frozenset[str]
    parsed: Answer | None = None

    def take(self, path: str) -> list[Parsed] | None:
        """The statements of a file; None where it is not among the parsed ones. Waits for them."""
        if path not in self.paths:
            return None
        if self.parsed is None:
            self.parsed = self._wait()
        found = self.parsed.pop(path, None)
        return None if found is None else [Parsed(*each) for each in found]

    def _wait(self) -> Answer:
        _, status = os.waitpid(self.child, 0)
        self.child = 0
        if status:
            return {}  # killed, or out of memory: this process parses them itself
        with os.fdopen(os.dup(self.answer), "rb") as file:
            file.seek(0)
            # Not load(): it asks the file for every few bytes.
            answer: Answer = marshal.loads(file.read())  # noqa: S302 (our own child's)
        return answer

    def close(self) -> None:
        """End the child, if it is still there."""
        if self.child:
            import signal

            os.kill(self.child, signal.SIGKILL)
            os.waitpid(self.child, 0)
        os.close(self.answer)


@contextmanager
def parsing_ahead(files: Mapping[str, bytes]) -> Iterator[Ahead | None]:
    """Parse the later half of the files beside what the caller does meanwhile."""
    ahead = _start(files) if _worth(files) else None
    try:
        yield ahead
    finally:
        if ahead is not None:
            ahead.close()


def _worth(files: Mapping[str, bytes]) -> bool:
    if not hasattr(os, "memfd_create") or sum(map(len, files.values())) < WORTH:
        return False
    threading = sys.modules.get("threading")
    # A lock that another thread holds stays locked in a child for ever.
    return len(os.sched_getaffinity(0)) > 1 and (not threading or threading.active_count() == 1)


def _start(files: Mapping[str, bytes]) -> Ahead | None:
    later, left = [], sum(map(len, files.values())) * SHARE
    for path, data in reversed(tuple(files.items())):
        later.append(path)
        left -= len(data)
        if left <= 0:
            break
    try:
        answer = os.memfd_create("sqladvisor-parsed")
    except OSError:
        return None
    try:
        child = os.fork()
    except OSError:
        os.close(answer)
        return None
    if not child:
        _parse(files, later, answer)
    return Ahead(child, answer, frozenset(later))


def _parse(files: Mapping[str, bytes], paths: list[str], answer: int) -> None:
    """The child's work. Does not return."""
    code = 1
    try:
        parsed = {}
        for path in paths:
            source = read_source(path, files[path])
            found = None if source.problem else parse_plain(source.text)
            if found is not None:
                parsed[path] = [tuple(each) for each in found]
        with os.fdopen(answer, "wb") as file:
            file.write(marshal.dumps(parsed))
        code = 0
    finally:
        os._exit(code)
