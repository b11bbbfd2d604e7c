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


def _parts(text: str, pattern: str) -> list[Part]:
    """The sections of a file by their directives (groups: direction, options)."""
    return [
        (text.count("\n", 0, m.start()) + 1, m[1].lower(), (m[2] or "").lower())
        for m in re.finditer(pattern, text)
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


def _claims(pattern: str, word: str) -> Callable[[Files, Sequence[str]], bool]:
    def claims(files: Files, paths: Sequence[str]) -> bool:
        # A few files without marks (a README of a migration) do not make it another runner's.
        return any(word in files.text(p) and re.search(pattern, files.text(p)) for p in paths[:8])

    return claims


def _marked(
    files: Files,
    paths: Sequence[str],
    pattern: str,
    mode: Callable[[str, Sequence[Part], str, Sequence[Statement]], TransactionMode],
    *,
    whole: bool = False,
) -> list[Migration]:
    """``whole``: the runner sends a section as one message."""
    result = []
    for path in sorted(paths, key=lambda p: (natural(p.rpartition("/")[2]), p)):
        statements = files.statements(path, pattern if whole else "")
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

# A pattern that begins with its dashes is looked for by them: in a third of the time of one with ^.
_GOOSE = r"(?mi)--(?<![^\n]--)\s*\+goose\s+(Up|Down)\b(.*)$"
_GOOSE_BARE = r"(?mi)--(?<![^\n]--)\s*\+goose\s+NO\s+TRANSACTION\b"
is_goose = _claims(_GOOSE, "+goose")


def goose(files: Files, paths: Sequence[str]) -> list[Migration]:
    """goose: ``-- +goose Up``/``Down``, one transaction each unless ``-- +goose NO TRANSACTION``;

    it sends the statements one by one."""
    return _marked(
        files,
        paths,
        _GOOSE,
        lambda text, *_: "statement" if re.search(_GOOSE_BARE, text) else "file",
    )


# dbmate -----------------------------------------------------------------------------------------

_DBMATE = r"(?m)^--\s*migrate:(up|down)\b(.*)$"
is_dbmate = _claims(_DBMATE, "migrate:up")


def dbmate(files: Files, paths: Sequence[str]) -> list[Migration]:
    """dbmate: ``-- migrate:up``/``down``, one transaction each; with ``transaction:false`` the

    section is sent as one message."""

    def mode(
        _: str, parts: Sequence[Part], what: str, statements: Sequence[Statement]
    ) -> TransactionMode:
        bare = any(p[1] == what and "transaction:false" in p[2].replace(" ", "") for p in parts)
        return implicit(statements) if bare else "file"

    return _marked(files, paths, _DBMATE, mode, whole=True)


# node-pg-migrate --------------------------------------------------------------------------------

_NODE = r"(?mi)^\s*--[\s-]*(up|down)\s+migration()"
is_node_pg = _claims(_NODE, "igration")


def node_pg(files: Files, paths: Sequence[str]) -> list[Migration]:
    """node-pg-migrate's SQL files: ``-- Up Migration``/``-- Down Migration``, in a transaction."""
    return _marked(files, paths, _NODE, lambda *_: "file", whole=True)


# Alembic and Django, offline --------------------------------------------------------------------

_ALEMBIC = r"(?m)^-- Running (upgrade|downgrade)\s+(\S*)\s*->\s*(\S+)"
is_alembic = _claims(_ALEMBIC, "-- Running ")


def alembic(files: Files, paths: Sequence[str]) -> list[Migration]:
    """Alembic's ``upgrade --sql``: many migrations in one text, with BEGIN and COMMIT of its own."""
    result = []
    for path in sorted(paths, key=natural):
        statements = files.statements(path)
        text = files.texts[path]
        marks = [
            (text.count("\n", 0, m.start()) + 1, m[1], m[3]) for m in re.finditer(_ALEMBIC, text)
        ]
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


_DJANGO = (
    r"(?m)^--\n-- (?:Create model|Add field|Alter field|Remove field|Delete model|Rename field|Rename "
    r"model|Create index|Remove index|Rename index|Add index|Alter unique_together|Alter "
    r"index_together|Create constraint|Remove constraint|Raw SQL|Raw Python|Alter|Add|Remove|Custom "
    r"state/database change|Concurrently)"
)
is_django = _claims(_DJANGO, "--\n-- ")


def django(files: Files, paths: Sequence[str]) -> list[Migration]:
    """Django's ``sqlmigrate``: BEGIN and COMMIT are written out where the migration is atomic."""
    result = []
    for path in sorted(paths, key=natural):
        version, name = _stem(path)
        statements = tuple(files.statements(path))
        result.append(Migration(version, name, path, statements, transaction="none"))
    return result
