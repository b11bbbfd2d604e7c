"""The outcome of a gate, kept by the content of all it was made from.

One file an outcome below the user's cache directory, under a version: what cannot be read, or does
not carry its own checksum, is as if it were not there. Nothing in it is ever executed.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from sqladvisor import __version__
from sqladvisor.finding import Evidence, Finding, Fix, InputProblem, Location
from sqladvisor.rule import builtin_pack
from sqladvisor.sql import libpg

LAYOUT = 2
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
    server: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


def folder() -> str:
    """Where outcomes are kept: XDG_CACHE_HOME, else ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "sqladvisor", f"gate-{LAYOUT}")


def digest(data: bytes | None) -> str:
    return "" if data is None else hashlib.blake2b(data, digest_size=16).hexdigest()


def key(
    contents: Mapping[str, bytes],
    settings: Iterable[object],
    packs: Sequence[str],
    *,
    traced: bool = False,
) -> str:
    """The name of an outcome: of every file's path and bytes, the settings, the rules' code and ours.

    ``traced``: all of our code is, not only what reads and judges.
    """
    whole = hashlib.blake2b(digest_size=20)
    whole.update(f"{__version__}\0{LAYOUT}\0".encode())
    for part in settings:
        whole.update(f"{part!r}\0".encode())
    for path, stamp in _code(packs, traced):
        whole.update(f"{path}\0{stamp}\0".encode())
    for path, data in contents.items():
        whole.update(f"{path}\0{len(data)}\0".encode("utf-8", "surrogateescape"))
        whole.update(data)
    return whole.hexdigest()


def _code(packs: Sequence[str], traced: bool) -> Iterable[tuple[str, int]]:
    """Each source file that judges, with the time it was changed; the parser among them."""
    here = os.path.dirname(os.path.abspath(__file__))
    package = os.path.dirname(here)
    places = [here, os.path.join(package, "catalog"), os.path.join(package, "sql")]
    if traced:
        places = [folder for folder, _, _ in os.walk(package) if not folder.endswith("__pycache__")]
    places += [os.path.join(pack, "migration") for pack in (builtin_pack(), *packs)]
    for place in places:
        try:
            entries = sorted(os.scandir(place), key=lambda e: e.name)
        except OSError:
            continue
        for entry in entries:
            if entry.name.endswith(".py"):
                yield entry.path, entry.stat().st_mtime_ns
    yield libpg.PARSER, os.stat(libpg.PARSER).st_mtime_ns


_EXTENSIONS = (
    "../share/extension", "../share/postgresql/extension", "../share/postgresql/*/extension",
    "/usr/share/postgresql/{major}/extension",
)  # fmt: skip


def machine(postgres_bin: str | None) -> list[object]:
    """What of this machine decides over a trace: the server, the extensions it has, time zone and locale.

    Raises ServerError where there is no server.
    """
    from sqladvisor.server.binaries import find_binaries

    found = find_binaries(postgres_bin)
    server = os.stat(os.path.join(found.bin_dir, "postgres"))
    stamp: list[object] = [found.bin_dir, found.version_num, server.st_size, server.st_mtime_ns]
    for pattern in _EXTENSIONS:
        place = pattern.format(major=found.version_num // 10000)
        for folder in sorted(glob.glob(os.path.join(found.bin_dir, place))):
            stamp += [folder, os.stat(folder).st_mtime_ns]
    return stamp + [
        (n, os.environ.get(n)) for n in ("TZ", "LANG", "LC_ALL", "LC_COLLATE", "LC_CTYPE")
    ]


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
            str(document["server"]),
            dict(document["details"]),
        )
        os.utime(path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if any(digest(aux(p)) != known for p, known in outcome.aux.items()):
        return None
    return outcome


_PLAIN = ("runner", "statements", "notes", "suppressed", "server", "details")


def save(name: str, outcome: Outcome) -> None:
    """Keep an outcome; where that fails nothing is lost but time."""
    place = folder()
    try:
        document = {
            **{f: getattr(outcome, f) for f in _PLAIN},
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
