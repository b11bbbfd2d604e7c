"""From PATH arguments to files: directories, globs, standard input. No pathlib: start-up counts."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import lru_cache

from sqladvisor.finding import InputProblem

STDIN = "<stdin>"
SQL = (".sql",)
PROGRAMS = (
    ".py", ".go", ".js", ".jsx", ".mjs", ".cjs", ".ts", ".tsx", ".mts", ".cts", ".java", ".kt", ".kts",
    ".rb", ".php", ".rs", ".cs",
)  # fmt: skip
"""Files whose string literals are read for SQL, by the rooms of ``sqladvisor.source``."""
_SKIPPED = frozenset(("node_modules", "__pycache__", "venv", "site-packages", "bower_components"))
_BUILT = frozenset(("vendor", "dist", "build", "target", "third_party"))
"""Where others' programs and generated ones live: no programs are read there, .sql files are."""
_GENERATED = (".min.js", ".d.ts", ".bundle.js")


def expand(
    paths: Sequence[str], suffixes: tuple[str, ...] = SQL
) -> tuple[list[str], list[InputProblem]]:
    """The files that the arguments name, in order, each once; ``-`` is standard input.

    A directory stands for the files below it that have one of the suffixes, sorted; hidden
    directories and what others wrote (node_modules and the like) are left out.
    """
    files: dict[str, None] = {}
    problems: list[InputProblem] = []
    for path in paths:
        if path == "-":
            files[path] = None
        elif os.path.isdir(path):
            unreadable: list[InputProblem] = []
            found = sorted(_below(path, set(), suffixes, unreadable))
            problems += unreadable
            if not found and not unreadable:
                nor = "" if suffixes == SQL else ", nor programs"
                problems.append(InputProblem(path, f"no .sql files in this directory{nor}"))
            files.update(dict.fromkeys(found))
        elif os.path.lexists(path):
            program = path.lower().endswith(PROGRAMS)  # one without SQL is nothing to report
            if not program and os.path.isfile(path) and not os.path.getsize(path):
                problems.append(InputProblem(path, "empty file"))
            else:
                files[os.path.normpath(path)] = None
        elif any(c in path for c in "*?["):
            import glob

            matched = sorted(m for m in glob.glob(path, recursive=True) if os.path.isfile(m))
            if not matched:
                problems.append(InputProblem(path, "no file matches this pattern"))
            files.update(dict.fromkeys(os.path.normpath(m) for m in matched))
        else:
            problems.append(InputProblem(path, "no such file or directory"))
    # A symbolic link into the same tree, or two patterns that meet, name a file once.
    distinct: dict[str, str] = {}
    for path in files:
        distinct.setdefault(path if path == "-" else _real(path), path)
    return list(distinct.values()), problems


_real_folder = lru_cache(maxsize=256)(os.path.realpath)


def _real(path: str) -> str:
    """The real path of a file; that of its directory is looked up once."""
    if os.path.islink(path):
        return os.path.realpath(path)
    folder, name = os.path.split(path)
    return os.path.join(_real_folder(folder or "."), name)


_BLOCK = 1024 * 1024
"""Bytes read at once of what has no size."""
MAX_FILE = 512 * 1024 * 1024
"""Bytes. Reading a file takes about three times its size in memory."""


def load(path: str) -> bytes | InputProblem:
    """The bytes of a file, or why it cannot be read."""
    try:
        # By descriptor, and asked for what there is: a file object, or room for MAX_FILE, takes longer
        # to make than a small file to read.
        file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            data = _all(file)
        finally:
            os.close(file)
    except OSError as error:
        return InputProblem(path, f"cannot be read: {error.strerror or error}")
    if len(data) > MAX_FILE:
        return InputProblem(path, f"not read: more than {MAX_FILE // 1048576} MB")
    return data


def _all(file: int) -> bytes:
    """What a file or pipe holds, but no more than a byte beyond MAX_FILE."""
    size = os.fstat(file).st_size
    parts: list[bytes] = []
    left = MAX_FILE + 1
    while left and (part := os.read(file, min(size + 1 if size and not parts else _BLOCK, left))):
        parts.append(part)
        left -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _below(
    folder: str,
    seen: set[tuple[int, int]],
    suffixes: tuple[str, ...],
    problems: list[InputProblem],
) -> Iterator[str]:
    try:
        status = os.stat(folder)
        entries = list(os.scandir(folder))
    except OSError as error:
        problems.append(InputProblem(folder, f"cannot be read: {error.strerror or error}"))
        return
    identity = (status.st_dev, status.st_ino)
    if identity in seen:
        return  # a symbolic link back up
    seen.add(identity)
    for entry in entries:
        if entry.name.startswith("."):
            continue
        # The directory says what an entry is; only a link has to be looked at.
        link = entry.is_symlink()
        if os.path.isdir(entry.path) if link else entry.is_dir():
            if entry.name not in _SKIPPED:
                inner = SQL if entry.name in _BUILT else suffixes
                yield from _below(entry.path, seen, inner, problems)
        elif (
            entry.name.lower().endswith(suffixes)
            and not entry.name.endswith(_GENERATED)
            # Not pipes and sockets, which would be waited for; a link to nothing is reported.
            and (link or entry.is_file())
        ):
            yield os.path.normpath(entry.path)
