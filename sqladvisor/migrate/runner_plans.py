"""Runners that keep a plan, a journal or a checksum file beside their migrations."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence

from sqladvisor.finding import InputProblem
from sqladvisor.migrate.files import Files
from sqladvisor.migrate.model import Migration
from sqladvisor.migrate.runner_names import _stem, natural
from sqladvisor.sql.statement import Statement

# sqitch -----------------------------------------------------------------------------------------

_PLANNED = r"(?m)^([^\s%#@\[][^\s\[]*)"


def _sqitch_root(files: Files, paths: Sequence[str]) -> str | None:
    """The directory that holds sqitch.plan and deploy/, for files below it."""
    for path in paths:
        parts = path.split("/")
        for i in range(len(parts) - 1, -1, -1):
            if parts[i] in ("deploy", "revert", "verify"):
                root = "/".join(parts[:i])
                if files.aux(os.path.join(root, "sqitch.plan")) is not None:
                    return root
    return None


def is_sqitch(files: Files, paths: Sequence[str]) -> bool:
    return _sqitch_root(files, paths) is not None


def sqitch(files: Files, paths: Sequence[str]) -> list[Migration]:
    """sqitch: the changes of sqitch.plan in order; deploy/ is up, revert/ is down; psql runs them,

    and BEGIN and COMMIT are in the files."""
    root = _sqitch_root(files, paths)
    if root is None:
        files.problems.append(InputProblem(paths[0] if paths else ".", "no sqitch.plan found"))
        return []
    plan = (files.aux(os.path.join(root, "sqitch.plan")) or b"").decode("utf-8", "replace")
    result = []
    for change in dict.fromkeys(re.findall(_PLANNED, plan)):
        deploy = os.path.join(root, "deploy", change + ".sql")
        revert = os.path.join(root, "revert", change + ".sql")
        if deploy not in files.sql:
            continue
        downs = tuple(files.statements(revert)) if revert in files.sql else None
        result.append(
            Migration(
                change,
                change,
                deploy,
                tuple(files.statements(deploy)),
                downs,
                revert if downs is not None else "",
                "none",
                "none",
            )
        )
    known = {m.path for m in result}
    for path in paths:
        if "/deploy/" in f"/{path}" and path not in known:
            files.notes.append(f"{path}: not in sqitch.plan: left out")
    return result


# Atlas ------------------------------------------------------------------------------------------

_ATLAS_DIRECTIVE = r"(?m)^--\s*atlas:(\w+)\s+(\w+)"


def is_atlas(files: Files, paths: Sequence[str]) -> bool:
    return any(files.beside(p, "atlas.sum") is not None for p in paths[:1]) or any(
        "atlas:" in files.text(p) and re.search(_ATLAS_DIRECTIVE, files.text(p)) for p in paths[:8]
    )


def atlas(files: Files, paths: Sequence[str]) -> list[Migration]:
    """Atlas: VERSION_name.sql, one transaction a file unless ``-- atlas:txmode none``."""
    result = []
    for path in sorted(paths, key=lambda p: natural(os.path.basename(p))):
        statements = tuple(files.statements(path))
        version, name = _stem(path)
        directives = dict(re.findall(_ATLAS_DIRECTIVE, files.texts[path]))
        bare = directives.get("txmode") == "none"
        result.append(
            Migration(version, name, path, statements, transaction="statement" if bare else "file")
        )
    return result


# Drizzle ----------------------------------------------------------------------------------------


def _journal(files: Files, paths: Sequence[str]) -> list[dict[str, object]] | None:
    for path in paths[:1]:
        data = files.beside(path, os.path.join("meta", "_journal.json"))
        if data is not None:
            try:
                entries = json.loads(data)["entries"]
                return [e for e in entries if isinstance(e, dict)]
            except (ValueError, KeyError, TypeError):
                place = os.path.join(os.path.dirname(path), "meta", "_journal.json")
                files.problems.append(InputProblem(place, "not a Drizzle journal"))
    return None


def is_drizzle(files: Files, paths: Sequence[str]) -> bool:
    return any("--> statement-breakpoint" in files.text(p) for p in paths[:8]) or (
        any(files.beside(p, os.path.join("meta", "_journal.json")) is not None for p in paths[:1])
    )


def drizzle(files: Files, paths: Sequence[str]) -> list[Migration]:
    """Drizzle: in the order of meta/_journal.json; all that is pending runs in one transaction."""
    entries = _journal(files, paths)
    order: dict[str, int] = {}
    for i, entry in enumerate(entries or ()):
        order[str(entry.get("tag", ""))] = int(str(entry.get("idx", i)))
    result = []
    for path in sorted(paths, key=lambda p: (order.get(_tag(p), 1 << 30), natural(p))):
        if order and _tag(path) not in order:
            files.notes.append(f"{path}: not in meta/_journal.json: left out")
            continue
        statements: list[Statement] = files.statements(path)
        version, name = _stem(path)
        result.append(Migration(version, name, path, tuple(statements)))
    return result


def _tag(path: str) -> str:
    return os.path.basename(path).removesuffix(".sql")
