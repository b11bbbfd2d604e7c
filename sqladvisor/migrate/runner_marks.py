"""Runners whose files say in comments what is up and what is down."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from sqladvisor.migrate.files import Files
from sqladvisor.migrate.model import Migration, TransactionMode
from sqladvisor.migrate.runner_names import _stem, implicit, natural
from sqladvisor.sql.statement import Statement

Part = tuple[int, str, str]
"""Where a section begins (line), what it is (``up``, ``down``) and the rest of its directive."""


def _parts(text: str, pattern: re.Pattern[str]) -> list[Part]:
    """The sections of a file by their directives (groups: direction, options)."""
    return [
        (text.count("\n", 0, m.start()) + 1, m[1].lower(), (m[2] or "").lower())
        for m in pattern.finditer(text)
    ]


def _within(
    statements: Sequence[Statement], parts: Sequence[Part], what: str
) -> tuple[Statement, ...] | None:
    """The statements of the sections of a direction; None where there is no such section."""
    if not any(part[1] == what for part in parts):
        return None
    found = []
    for statement in statements:
        section = ""
        for line, direction, _ in parts:
            if line <= statement.line:
                section = direction
        if section == what:
            found.append(statement)
    return tuple(found)


def _claims(pattern: re.Pattern[str]) -> Callable[[Files, Sequence[str]], bool]:
    def claims(files: Files, paths: Sequence[str]) -> bool:
        # A few files without marks (a README of a migration) do not make it another runner's.
        return any(pattern.search(files.text(p)) for p in paths[:8])

    return claims


def _marked(
    files: Files,
    paths: Sequence[str],
    pattern: re.Pattern[str],
    mode: Callable[[str, Sequence[Part], str, Sequence[Statement]], TransactionMode],
) -> list[Migration]:
    result = []
    for path in sorted(paths, key=lambda p: (natural(p.rpartition("/")[2]), p)):
        statements = files.statements(path)
        text = files.texts[path]
        parts = _parts(text, pattern)
        if not parts:
            files.notes.append(f"{path}: has no directive of this runner: read as an up migration")
        up = _within(statements, parts, "up") if parts else tuple(statements)
        down = _within(statements, parts, "down")
        version, name = _stem(path)
        result.append(
            Migration(
                version,
                name,
                path,
                up or (),
                down,
                path if down is not None else "",
                mode(text, parts, "up", up or ()),
                mode(text, parts, "down", down or ()),
            )
        )
    return result


# goose ------------------------------------------------------------------------------------------

_GOOSE = re.compile(r"^--\s*\+goose\s+(Up|Down)\b(.*)$", re.MULTILINE | re.IGNORECASE)
_GOOSE_BARE = re.compile(r"^--\s*\+goose\s+NO\s+TRANSACTION\b", re.MULTILINE | re.IGNORECASE)
is_goose = _claims(_GOOSE)


def goose(files: Files, paths: Sequence[str]) -> list[Migration]:
    """goose: ``-- +goose Up``/``Down``, one transaction each unless ``-- +goose NO TRANSACTION``;

    it sends the statements one by one."""
    return _marked(
        files, paths, _GOOSE, lambda text, *_: "statement" if _GOOSE_BARE.search(text) else "file"
    )


# dbmate -----------------------------------------------------------------------------------------

_DBMATE = re.compile(r"^--\s*migrate:(up|down)\b(.*)$", re.MULTILINE)
is_dbmate = _claims(_DBMATE)


def dbmate(files: Files, paths: Sequence[str]) -> list[Migration]:
    """dbmate: ``-- migrate:up``/``down``, one transaction each; with ``transaction:false`` the

    section is sent as one message."""

    def mode(
        _: str, parts: Sequence[Part], what: str, statements: Sequence[Statement]
    ) -> TransactionMode:
        bare = any(p[1] == what and "transaction:false" in p[2].replace(" ", "") for p in parts)
        return implicit(statements) if bare else "file"

    return _marked(files, paths, _DBMATE, mode)


# node-pg-migrate --------------------------------------------------------------------------------

_NODE = re.compile(r"^\s*--[\s-]*(up|down)\s+migration()", re.MULTILINE | re.IGNORECASE)
is_node_pg = _claims(_NODE)


def node_pg(files: Files, paths: Sequence[str]) -> list[Migration]:
    """node-pg-migrate's SQL files: ``-- Up Migration``/``-- Down Migration``, in a transaction."""
    return _marked(files, paths, _NODE, lambda *_: "file")


# Alembic and Django, offline --------------------------------------------------------------------

_ALEMBIC = re.compile(r"^-- Running (upgrade|downgrade)\s+(\S*)\s*->\s*(\S+)", re.MULTILINE)
is_alembic = _claims(_ALEMBIC)


def alembic(files: Files, paths: Sequence[str]) -> list[Migration]:
    """Alembic's ``upgrade --sql``: many migrations in one text, with BEGIN and COMMIT of its own."""
    result = []
    for path in sorted(paths, key=natural):
        statements = files.statements(path)
        text = files.texts[path]
        marks = [(text.count("\n", 0, m.start()) + 1, m[1], m[3]) for m in _ALEMBIC.finditer(text)]
        if not marks:
            marks = [(1, "upgrade", _stem(path)[0])]
        # What stands before the first mark (BEGIN, the version table) belongs to the first.
        starts = [0, *(line for line, _, _ in marks[1:]), 1 << 60]
        for i, (_, direction, version) in enumerate(marks):
            own = tuple(s for s in statements if starts[i] <= s.line < starts[i + 1])
            up, down = (own, None) if direction == "upgrade" else ((), own)
            mode: TransactionMode = "file" if _opened_before(statements, own) else "none"
            result.append(Migration(version, version, path, up, down, path, mode, mode))
    return result


def _opened_before(statements: Sequence[Statement], own: Sequence[Statement]) -> bool:
    """Whether a BEGIN of an earlier part is still open where these statements begin."""
    if not own or (own[0].kind == "TransactionStmt"):
        return False
    return own[0].in_transaction > 0


_DJANGO = re.compile(
    r"^--\n-- (?:Create model|Add field|Alter field|Remove field|Delete model|Rename field|Rename "
    r"model|Create index|Remove index|Rename index|Add index|Alter unique_together|Alter "
    r"index_together|Create constraint|Remove constraint|Raw SQL|Raw Python|Alter|Add|Remove|Custom "
    r"state/database change|Concurrently)",
    re.MULTILINE,
)
is_django = _claims(_DJANGO)


def django(files: Files, paths: Sequence[str]) -> list[Migration]:
    """Django's ``sqlmigrate``: BEGIN and COMMIT are written out where the migration is atomic."""
    result = []
    for path in sorted(paths, key=natural):
        version, name = _stem(path)
        statements = tuple(files.statements(path))
        result.append(Migration(version, name, path, statements, transaction="none"))
    return result
