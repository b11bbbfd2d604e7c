"""Which files a branch adds, edits or deletes: ``--base REF``, by git."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from sqladvisor.errors import InputError

GIT_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Change:
    """A file that differs from the base. ``old_path`` is set where it was renamed."""

    status: Literal["added", "edited", "deleted", "renamed"]
    path: str
    old_path: str = ""


def changes_since(base: str, paths: Sequence[str]) -> list[Change]:
    """What changed below the paths since the branch left ``base``, committed or not.

    Paths come back as relative to the working directory as the arguments are. Raises InputError
    where git, the repository or the reference is not to be had.
    """
    folder = _folder(paths)
    top = _git(folder, "rev-parse", "--show-toplevel").strip()
    if base.startswith("-"):
        raise InputError(f"--base {base}: not a name of a commit")
    try:
        start = _git(folder, "merge-base", base, "HEAD").strip()
    except InputError as error:
        # A shallow clone has no common commit; the reference itself is the next best start.
        try:
            start = _git(folder, "rev-parse", "--verify", "--quiet", f"{base}^{{commit}}").strip()
        except InputError:
            raise InputError(
                f"--base {base}: git does not know this commit (in CI, fetch it first: "
                f"git fetch origin {base.removeprefix('origin/')})"
            ) from error
    where = [os.path.abspath(_plain(p)) for p in paths if p != "-"]
    listed = _git(folder, "diff", "--name-status", "-z", "-M", start, "--", *where)
    new = _git(
        folder, "ls-files", "--others", "--exclude-standard", "-z", "--full-name", "--", *where
    )
    found = list(_parse(listed, top))
    found += [Change("added", _shown(top, name)) for name in new.split("\0") if name]
    return found


def contents_at(base: str, path: str) -> bytes | None:
    """The bytes a file had at the base, None where it was not there."""
    folder = _folder([path])
    try:
        top = _git(folder, "rev-parse", "--show-toplevel").strip()
        name = os.path.relpath(os.path.realpath(path), os.path.realpath(top))
        return _git(folder, "show", f"{base}:{name}").encode()
    except InputError:
        return None


def _parse(listed: str, top: str) -> Iterable[Change]:
    fields = iter(listed.split("\0"))
    for status in fields:
        if not status:
            continue
        path = next(fields, "")
        if status[0] in "RC":
            new = next(fields, "")
            if status[0] == "R":
                yield Change("renamed", _shown(top, new), _shown(top, path))
            else:
                yield Change("added", _shown(top, new))
        elif status[0] == "A":
            yield Change("added", _shown(top, path))
        elif status[0] == "D":
            yield Change("deleted", _shown(top, path))
        else:
            yield Change("edited", _shown(top, path))


def _shown(top: str, name: str) -> str:
    """A path of git's as the user's arguments would have it."""
    return os.path.relpath(os.path.join(top, name))


def _plain(path: str) -> str:
    """The directory of a glob, else the path itself."""
    if any(c in path for c in "*?[") and not os.path.lexists(path):
        while any(c in path for c in "*?["):
            path = os.path.dirname(path)
    return path or "."


def _folder(paths: Sequence[str]) -> str:
    for path in paths:
        if path != "-":
            path = os.path.abspath(_plain(path))
            while path != "/" and not os.path.isdir(path):
                path = os.path.dirname(path)
            return path
    return "."


def _git(folder: str, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", folder, *arguments],
            capture_output=True,
            timeout=GIT_TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError:
        raise InputError("--base needs git, which is not installed") from None
    except subprocess.TimeoutExpired:
        raise InputError(f"--base: git {arguments[0]} did not answer") from None
    if done.returncode:
        cause = done.stderr.decode("utf-8", "replace").strip().partition("\n")[0]
        raise InputError(f"--base: {cause.removeprefix('fatal: ') or 'git failed'}")
    return done.stdout.decode("utf-8", "surrogateescape")
