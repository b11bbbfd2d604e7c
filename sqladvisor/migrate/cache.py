"""The outcome of a static gate, kept by the content of all it was made from.

One file an outcome below the user's cache directory, under a version: what cannot be read, or does
not carry its own checksum, is as if it were not there. Nothing in it is ever executed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from sqladvisor import __version__
from sqladvisor.finding import Evidence, Finding, Fix, InputProblem, Location
from sqladvisor.rule import builtin_pack

LAYOUT = 1
"""Of the files here; raised when it changes."""
KEPT = 64
"""Outcomes kept, the latest used: a working copy needs one, a branch or two more."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is worth keeping of a run. ``aux``: files looked for beside the migrations → digest."""

    runner: str
    statements: int
    findings: tuple[Finding, ...]
    problems: tuple[InputProblem, ...]
    notes: tuple[str, ...]
    suppressed: int
    aux: Mapping[str, str]


def folder() -> str:
    """Where outcomes are kept: XDG_CACHE_HOME, else ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "sqladvisor", f"gate-{LAYOUT}")


def digest(data: bytes | None) -> str:
    return "" if data is None else hashlib.blake2b(data, digest_size=16).hexdigest()


def key(contents: Mapping[str, bytes], settings: Iterable[object], packs: Sequence[str]) -> str:
    """The name of an outcome: of every file's path and bytes, the settings, the rules' code and ours."""
    whole = hashlib.blake2b(digest_size=20)
    whole.update(f"{__version__}\0{LAYOUT}\0".encode())
    for part in settings:
        whole.update(f"{part!r}\0".encode())
    for path, stamp in _code(packs):
        whole.update(f"{path}\0{stamp}\0".encode())
    for path, data in contents.items():
        whole.update(f"{path}\0{len(data)}\0".encode("utf-8", "surrogateescape"))
        whole.update(data)
    return whole.hexdigest()


def _code(packs: Sequence[str]) -> Iterable[tuple[str, int]]:
    """Each source file that judges, with the time it was changed."""
    here = os.path.dirname(os.path.abspath(__file__))
    package = os.path.dirname(here)
    folders = [os.path.join(pack, "migration") for pack in (builtin_pack(), *packs)]
    for place in (here, os.path.join(package, "catalog"), os.path.join(package, "sql"), *folders):
        try:
            entries = sorted(os.scandir(place), key=lambda e: e.name)
        except OSError:
            continue
        for entry in entries:
            if entry.name.endswith(".py"):
                yield entry.path, entry.stat().st_mtime_ns


def load(name: str, aux: Callable[[str], bytes | None]) -> Outcome | None:
    """The outcome of that name, if it is whole and the files beside the migrations are the same."""
    path = os.path.join(folder(), name)
    try:
        with open(path, "rb") as file:
            checksum, _, body = file.read().partition(b"\n")
        if checksum.decode("ascii", "replace") != digest(body):
            return None
        document = json.loads(body)
        outcome = Outcome(
            str(document["runner"]),
            int(document["statements"]),
            tuple(_finding(f) for f in document["findings"]),
            tuple(InputProblem(**p) for p in document["problems"]),
            tuple(document["notes"]),
            int(document["suppressed"]),
            dict(document["aux"]),
        )
        os.utime(path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if any(digest(aux(p)) != known for p, known in outcome.aux.items()):
        return None
    return outcome


def save(name: str, outcome: Outcome) -> None:
    """Keep an outcome; where that fails nothing is lost but time."""
    place = folder()
    try:
        document = {
            **{f: getattr(outcome, f) for f in ("runner", "statements", "notes", "suppressed")},
            "findings": [asdict(f) for f in outcome.findings],
            "problems": [asdict(p) for p in outcome.problems],
            "aux": dict(outcome.aux),
        }
        body = json.dumps(document, separators=(",", ":")).encode()
        os.makedirs(place, mode=0o700, exist_ok=True)
        temporary = os.path.join(place, f"{name}.{os.getpid()}")
        try:
            handle = os.open(
                temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600
            )
            with os.fdopen(handle, "wb") as file:
                file.write(digest(body).encode() + b"\n" + body)
            os.replace(temporary, os.path.join(place, name))
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
        _prune(place)
    except (OSError, TypeError, ValueError):
        return


def _prune(place: str) -> None:
    entries = sorted(os.scandir(place), key=lambda e: e.stat().st_mtime_ns, reverse=True)
    for entry in entries[KEPT:]:
        os.unlink(entry.path)


def _finding(document: dict[str, Any]) -> Finding:
    evidence = document["evidence"]
    return Finding(
        document["rule"],
        document["severity"],
        document["message"],
        Location(**document["location"]),
        document["statement"],
        document["fingerprint"],
        Evidence(evidence["level"], evidence["figures"], tuple(evidence["notes"])),
        tuple(Fix(**fix) for fix in document["fixes"]),
    )
