"""Runners whose file names say the order and the direction."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence

from sqladvisor.migrate.files import Files, folders
from sqladvisor.migrate.model import Migration, TransactionMode
from sqladvisor.sql.statement import Statement


def natural(path: str) -> tuple[tuple[int, int, str], ...]:
    """A key that sorts ``2_b`` before ``10_a``: numbers in a name count as numbers."""
    return tuple(
        (0, int(part), "") if part.isdigit() else (1, 0, part)
        for part in re.split(r"(\d+)", path)
        if part
    )


def implicit(statements: Sequence[Statement]) -> TransactionMode:
    """The mode of a file whose whole text is sent as one message of the simple protocol.

    Several statements of one message share an implicit transaction (manual, 53.2.2.1 "Multiple
    Statements in a Simple Query").
    """
    return "file" if len(statements) > 1 else "statement"


def _stem(path: str, suffix: str = ".sql") -> tuple[str, str]:
    """Version and name of ``20240101_add_users.sql``."""
    base = os.path.basename(path)[: -len(suffix)]
    match = re.match(r"([0-9][0-9.]*)[_-]*(.*)", base)
    return (match[1], match[2]) if match else (base, base)


# Plain ------------------------------------------------------------------------------------------

_DOWN = r"(?i)[._-](?:down|undo|revert|rollback)\.sql$"
_UP = r"(?i)[._-](?:up|do)\.sql$"


def plain(files: Files, paths: Sequence[str]) -> list[Migration]:
    """SQL files by name, as psql would run them: each statement on its own unless they say BEGIN."""
    downs = {re.sub(_DOWN, "", p): p for p in paths if re.search(_DOWN, p)}
    ups = [p for p in paths if not re.search(_DOWN, p)]
    if len(ups) > 1:
        ups.sort(key=lambda p: (natural(os.path.dirname(p)), natural(os.path.basename(p))))
    result = []
    for path in ups:
        version, name = _stem(path)
        down = downs.get(re.sub(_UP, "", path)) or downs.get(path.removesuffix(".sql"))
        result.append(
            Migration(
                version,
                name,
                path,
                tuple(files.statements(path)),
                tuple(files.statements(down)) if down else None,
                down or "",
                "none",
                "none",
            )
        )
    return result


# Files named …up.sql and …down.sql: golang-migrate, sqlx ----------------------------------------

_GOLANG = r"(\d+)_(.+)\.(up|down)\.sql"
_SQLX = r"(\d+)_(.+?)(?:\.(up|down))?\.sql"
_NO_TRANSACTION = r"\s*--\s*no-transaction\b"


def is_golang(files: Files, paths: Sequence[str]) -> bool:
    return bool(paths) and all(
        p.endswith((".up.sql", ".down.sql")) and re.fullmatch(_GOLANG, os.path.basename(p))
        for p in paths
    )


def golang(files: Files, paths: Sequence[str]) -> list[Migration]:
    """golang-migrate sends each file as one message: an implicit transaction where it holds more

    than one statement (https://github.com/golang-migrate/migrate, database/postgres)."""
    return _paired(files, paths, _GOLANG, lambda _, statements: implicit(statements))


def is_sqlx(files: Files, paths: Sequence[str]) -> bool:
    if not paths or not os.path.basename(paths[0])[:1].isdigit():
        return False
    if not all(re.fullmatch(_SQLX, os.path.basename(p)) for p in paths):
        return False
    if any(b"no-transaction" in d[:200] for d in files.sql.values()) and any(
        re.match(_NO_TRANSACTION, files.text(p)) for p in paths
    ):
        return True
    folder = os.path.dirname(paths[0])
    up = os.path.dirname(folder) if folder else ".."
    return any(
        files.aux(os.path.join(place, name)) is not None
        for place in (up, os.path.join(up, ".."))
        for name in ("Cargo.toml", "sqlx.toml")
    )


def sqlx(files: Files, paths: Sequence[str]) -> list[Migration]:
    """sqlx wraps each file, unless it begins with ``-- no-transaction``; it is one message then."""

    def mode(path: str, statements: Sequence[Statement]) -> TransactionMode:
        bare = re.match(_NO_TRANSACTION, files.texts.get(path, ""))
        return implicit(statements) if bare else "file"

    return _paired(files, paths, _SQLX, mode)


def _paired(
    files: Files,
    paths: Sequence[str],
    pattern: str,
    mode: Callable[[str, Sequence[Statement]], TransactionMode],
) -> list[Migration]:
    pairs: dict[tuple[str, int, str], dict[str, str]] = {}
    for path in paths:
        match = re.fullmatch(pattern, os.path.basename(path))
        if match is None:
            files.notes.append(f"{path}: not named as a migration of this runner: left out")
            continue
        place = (os.path.dirname(path), int(match[1]), match[2])
        pairs.setdefault(place, {})[match[3] or "up"] = path
    result = []
    for (_, version, name), pair in sorted(pairs.items()):
        up, down = pair.get("up"), pair.get("down")
        ups = tuple(files.statements(up)) if up else ()
        downs = tuple(files.statements(down)) if down else None
        result.append(
            Migration(
                str(version),
                name,
                up or down or "",
                ups,
                downs,
                down or "",
                mode(up, ups) if up else "file",
                mode(down, downs) if down and downs is not None else "file",
            )
        )
    return result


# Flyway and refinery: V1__name.sql --------------------------------------------------------------

_FLYWAY = r"(?i)([VUBR])([0-9][0-9._]*)?__(.+)\.sql"
_IN_TRANSACTION = rb"(?m)^\s*executeInTransaction\s*=\s*(\w+)"


def is_flyway(files: Files, paths: Sequence[str]) -> bool:
    return bool(paths) and all(
        "__" in p and re.fullmatch(_FLYWAY, os.path.basename(p)) for p in paths
    )


def flyway(files: Files, paths: Sequence[str]) -> list[Migration]:
    """Flyway: versions in order, then the repeatable ones; U files undo, a B file is a baseline.

    One transaction a file, unless FILE.sql.conf says ``executeInTransaction=false``, or all of
    its statements are of the kind that refuses one (Flyway looks for CONCURRENTLY itself).
    """
    return _versioned(files, paths, _flyway_mode)


def _flyway_mode(files: Files, path: str, statements: Sequence[Statement]) -> TransactionMode:
    conf = files.aux(path + ".conf")
    match = re.search(_IN_TRANSACTION, conf) if conf else None
    if match is not None:
        return "file" if match[1].lower() == b"true" else "statement"
    lone = bool(statements) and all(no_transaction(s) for s in statements)
    return "statement" if lone else "file"


def no_transaction(statement: Statement) -> bool:
    """Whether PostgreSQL refuses the statement inside a transaction block."""
    kind, node = statement.kind, statement.tree
    if kind in ("IndexStmt", "DropStmt"):
        return bool(node.get("concurrent"))
    if kind == "ReindexStmt":
        return any(
            p.get("DefElem", {}).get("defname") == "concurrently" for p in node.get("params", ())
        )
    if kind == "VacuumStmt":
        return bool(node.get("is_vacuumcmd"))
    if kind == "AlterTableStmt":
        return any(
            c.get("AlterTableCmd", {}).get("def", {}).get("PartitionCmd", {}).get("concurrent")
            for c in node.get("cmds", ())
        )
    return kind in ("CreatedbStmt", "DropdbStmt", "AlterSystemStmt", "CreateTableSpaceStmt",
                    "DropTableSpaceStmt")  # fmt: skip


def is_refinery(files: Files, paths: Sequence[str]) -> bool:
    if not is_flyway(files, paths):
        return False
    folder = os.path.dirname(paths[0])
    places = [os.path.join(folder, *[".."] * n) for n in range(4)]
    return any(
        files.aux(os.path.join(place, name)) is not None
        for place in places
        for name in ("refinery.toml", "Cargo.toml")
    )


def refinery(files: Files, paths: Sequence[str]) -> list[Migration]:
    """refinery: V and U (unordered versions) files, each in a transaction; nothing undoes."""
    found = [
        p for p in paths if (m := re.fullmatch(_FLYWAY, os.path.basename(p))) and m[1] in "VvUu"
    ]
    found.sort(key=lambda p: (_version(p), p))
    return [
        Migration(".".join(map(str, _version(p))), _name(p), p, tuple(files.statements(p)))
        for p in found
    ]


def _version(path: str) -> tuple[int, ...]:
    match = re.fullmatch(_FLYWAY, os.path.basename(path))
    return tuple(int(n) for n in re.findall(r"\d+", match[2] or "")) if match else ()


def _name(path: str) -> str:
    match = re.fullmatch(_FLYWAY, os.path.basename(path))
    return match[3] if match else os.path.basename(path)


def _versioned(
    files: Files,
    paths: Sequence[str],
    mode: Callable[[Files, str, Sequence[Statement]], TransactionMode],
) -> list[Migration]:
    kinds: dict[str, list[str]] = {"V": [], "U": [], "B": [], "R": []}
    for path in paths:
        match = re.fullmatch(_FLYWAY, os.path.basename(path))
        if match is None:
            files.notes.append(f"{path}: not named as a migration of this runner: left out")
        else:
            kinds[match[1].upper()].append(path)
    undo = {_version(p): p for p in kinds["U"]}
    result = []
    versions = sorted(kinds["V"], key=lambda p: (_version(p), p))
    # A baseline stands for the versions up to its own: a new database gets it in their place.
    baseline = max(kinds["B"], key=_version, default=None)
    if baseline is not None:
        later = [p for p in versions if _version(p) > _version(baseline)]
        if later:
            statements = tuple(files.statements(baseline))
            result.append(
                Migration(
                    ".".join(map(str, _version(baseline))), _name(baseline), baseline, statements,
                    transaction=mode(files, baseline, statements), judged=False, baseline=True,
                )
            )  # fmt: skip
            replaced = len(versions) - len(later)
            versions = later
            files.notes.append(
                f"starts from the baseline {baseline}, which is not judged"
                + (
                    f"; nor {'are' if replaced > 1 else 'is'} the {replaced} "
                    f"version{'s' * (replaced > 1)} that it stands for"
                    if replaced
                    else ""
                )
            )
        else:
            files.notes.append(f"{len(kinds['B'])} baseline migration(s) (B…) are not judged")
    for path in versions:
        statements = tuple(files.statements(path))
        down = undo.get(_version(path))
        downs = tuple(files.statements(down)) if down else None
        result.append(
            Migration(
                ".".join(map(str, _version(path))),
                _name(path),
                path,
                statements,
                downs,
                down or "",
                mode(files, path, statements),
                mode(files, down, downs) if down and downs is not None else "file",
            )
        )
    for path in sorted(kinds["R"], key=_name):
        statements = tuple(files.statements(path))
        result.append(
            Migration(
                "R",
                _name(path),
                path,
                statements,
                transaction=mode(files, path, statements),
                repeatable=True,
            )
        )
    return result


# One folder a migration: diesel, Prisma ---------------------------------------------------------


_DIESEL = r"/\d[^/]*/(?:up|down)\.sql$"


def is_diesel(files: Files, paths: Sequence[str]) -> bool:
    return bool(paths) and all(
        p.endswith(("up.sql", "down.sql")) and re.search(_DIESEL, os.path.abspath(p)) for p in paths
    )


def diesel(files: Files, paths: Sequence[str]) -> list[Migration]:
    """diesel: VERSION_name/up.sql and down.sql, in a transaction unless metadata.toml says

    ``run_in_transaction = false``; then one message."""
    result = []
    for folder in sorted(folders(paths), key=lambda f: natural(os.path.basename(f))):
        up, down = os.path.join(folder, "up.sql"), os.path.join(folder, "down.sql")
        if up not in files.sql:
            continue
        ups = tuple(files.statements(up))
        downs = tuple(files.statements(down)) if down in files.sql else None
        metadata = files.aux(os.path.join(folder, "metadata.toml")) or b""
        bare = re.search(rb"^\s*run_in_transaction\s*=\s*false", metadata, re.MULTILINE)
        version, name = _stem(folder + ".sql")
        result.append(
            Migration(
                version,
                name,
                up,
                ups,
                downs,
                down if downs is not None else "",
                implicit(ups) if bare else "file",
                implicit(downs or ()) if bare else "file",
            )
        )
    return result


_PRISMA = r"/\d+[^/]*/migration\.sql$"


def is_prisma(files: Files, paths: Sequence[str]) -> bool:
    return bool(paths) and all(
        p.endswith("migration.sql") and re.search(_PRISMA, os.path.abspath(p)) for p in paths
    )


def prisma(files: Files, paths: Sequence[str]) -> list[Migration]:
    """Prisma: TIMESTAMP_name/migration.sql, each sent as one message; there are no downs."""
    result = []
    for path in sorted(paths, key=lambda p: natural(os.path.basename(os.path.dirname(p)))):
        version, name = _stem(os.path.dirname(path) + ".sql")
        statements = tuple(files.statements(path))
        result.append(Migration(version, name, path, statements, transaction=implicit(statements)))
    return result


# Supabase, Rails --------------------------------------------------------------------------------


def is_supabase(files: Files, paths: Sequence[str]) -> bool:
    return bool(paths) and all(
        "supabase" in os.path.abspath(p)
        and re.search(r"(?:^|/)supabase/migrations/\d+_[^/]*\.sql$", os.path.abspath(p))
        for p in paths
    )


def supabase(files: Files, paths: Sequence[str]) -> list[Migration]:
    """Supabase CLI: TIMESTAMP_name.sql, each sent as one batch: an implicit transaction."""
    result = []
    for path in sorted(paths, key=lambda p: natural(os.path.basename(p))):
        version, name = _stem(path)
        statements = tuple(files.statements(path))
        result.append(Migration(version, name, path, statements, transaction=implicit(statements)))
    return result


def is_rails(files: Files, paths: Sequence[str]) -> bool:
    return len(paths) == 1 and os.path.basename(paths[0]).endswith("structure.sql")


def rails(files: Files, paths: Sequence[str]) -> list[Migration]:
    """Rails' structure.sql: the whole schema as pg_dump wrote it, loaded by psql."""
    return [
        Migration("structure", "structure", p, tuple(files.statements(p)), transaction="none")
        for p in paths
    ]
