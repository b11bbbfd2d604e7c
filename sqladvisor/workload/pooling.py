"""How connections are pooled, as the project's own PgBouncer configuration says."""

from __future__ import annotations

import configparser
import os
from dataclasses import dataclass
from functools import cache

NAME = "pgbouncer.ini"
_BESIDE = ("", "pgbouncer", "config", "deploy", "docker", "etc", "conf", "infra")
"""Where projects keep it, seen from one of the directories above a file."""
_ROOTS = (".git", ".hg", "pyproject.toml", "package.json", "go.mod", "Cargo.toml", "pom.xml")
_MAX_BYTES = 1_000_000
SUPPORTED_SINCE = "1.21"
"""The first PgBouncer that follows protocol-level prepared statements through transaction pooling,
where max_prepared_statements is set (its default is 0 there, 200 from 1.22 on)."""


@dataclass(frozen=True, slots=True)
class Pooling:
    """PgBouncer's ``pool_mode`` and ``max_prepared_statements`` (None: not set), and the file."""

    path: str
    mode: str
    prepared: int | None


def pooling(path: str) -> Pooling | None:
    """The PgBouncer configuration of the project that a file belongs to, None where it has none.

    Looked for beside the file and in the directories above it, up to the project's root.
    """
    if path == "-":
        return None
    return _above(os.path.dirname(os.path.abspath(path)))


@cache
def _above(folder: str) -> Pooling | None:
    parent = os.path.dirname(folder)
    if parent == folder:
        return None  # what the machine itself runs is not the project's
    for below in _BESIDE:
        found = _read(os.path.join(folder, below, NAME))
        if found is not None:
            return found
    at_root = any(os.path.exists(os.path.join(folder, mark)) for mark in _ROOTS)
    return None if at_root else _above(parent)


def _read(path: str) -> Pooling | None:
    try:
        if not os.path.isfile(path) or os.path.getsize(path) > _MAX_BYTES:
            return None
        with open(path, encoding="utf-8", errors="replace") as file:
            parser = configparser.RawConfigParser(
                strict=False, allow_no_value=True, inline_comment_prefixes=None
            )
            parser.read_file(line for line in file if not line.startswith("%include"))
    except (OSError, configparser.Error):
        return None
    mode = parser.get("pgbouncer", "pool_mode", fallback="session") or "session"
    if any("pool_mode=transaction" in (v or "").replace(" ", "") for v in _databases(parser)):
        mode = "transaction"
    number = parser.get("pgbouncer", "max_prepared_statements", fallback="") or ""
    return Pooling(path, mode.strip().lower(), int(number) if number.strip().isdigit() else None)


def _databases(parser: configparser.RawConfigParser) -> list[str | None]:
    return [v for _, v in parser.items("databases")] if parser.has_section("databases") else []
