"""The schema that a migration set starts from: DDL files, earlier migrations, a server, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqladvisor.catalog.ddl_state import Key
from sqladvisor.catalog.model import Catalog
from sqladvisor.errors import InputError
from sqladvisor.finding import InputProblem
from sqladvisor.migrate.files import Files
from sqladvisor.migrate.runner import load_files, read_files
from sqladvisor.migrate.start_details import Details, read_details
from sqladvisor.migrate.state import SetState
from sqladvisor.sql.source import read_source, statements
from sqladvisor.sql.statement import Statement

if TYPE_CHECKING:
    from sqladvisor.catalog.snapshot import Snapshot


@dataclass(slots=True)
class Start:
    """What is there before the first judged migration.

    ``files``: the paths of schema files; those of them that are migrations of the set are not
    judged. ``rows``: row counts by (schema, name), where a server or a snapshot tells.
    """

    statements: tuple[Statement, ...] = ()
    catalog: Catalog | None = None
    details: Details | None = None
    """Of a server: what the gate asks beyond its catalog."""
    pg_version: int | None = None
    rows: Mapping[Key, float] = field(default_factory=dict)
    files: frozenset[str] = frozenset()
    contents: Mapping[str, bytes] = field(default_factory=dict)
    problems: list[InputProblem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    description: str = ""
    """What it was read from, in words, where that is a server."""
    snapshot: Snapshot | None = None

    def state(self) -> SetState:
        """A state to apply the set to."""
        return start_state(self.statements, self.catalog, self.details)


def read_start(
    schema: Sequence[str],
    dsn: str | None,
    migrations: Files,
    say: Callable[[str], None],
    snapshot: str | None = None,
) -> Start:
    """Read ``--schema`` (files, directories of earlier migrations), ``--dsn`` or ``--snapshot``.

    Raises InputError for two at once, ServerError for a server that cannot be had.
    """
    given = [name for name, value in (("--schema", schema), ("--dsn", dsn), ("--snapshot", snapshot))
             if value]  # fmt: skip
    if len(given) > 1:
        raise InputError(f"{' and '.join(given)} both say what is there before: give one of them")
    if dsn is not None:
        return _from_server(dsn, say)
    if snapshot is not None:
        return _from_snapshot(snapshot)
    if not schema:
        return Start()
    files = load_files(schema)
    contents = dict(files.sql)
    read = files.aux

    def noting(path: str) -> bytes | None:
        data = read(path)
        contents[f"beside {path}"] = b"" if data is None else b"=" + data
        return data

    files.aux = noting
    found = read_files(files)
    return Start(
        tuple(s for m in found.migrations for s in m.up),
        files=frozenset(files.sql),
        contents=contents,
        problems=list(found.problems),
        texts=dict(found.texts),
    )


def _from_server(dsn: str, say: Callable[[str], None]) -> Start:
    from sqladvisor.auditor import Options
    from sqladvisor.server.target import open_live

    with open_live(Options(dsn=dsn), say) as target:
        catalog = target.catalog
        version = target.connection.info.server_version // 10000
        rows = {k: r.rows for k, r in catalog.relations.items() if r.rows is not None}
        return Start(
            catalog=catalog,
            details=read_details(target.connection),
            pg_version=version,
            rows=rows,
            notes=list(target.notes),
            description=f"static, from the schema of {target.description}",
        )


def _from_snapshot(path: str) -> Start:
    from sqladvisor.catalog.snapshot import load
    from sqladvisor.catalog.snapshot_diff import stale_notes
    from sqladvisor.sql.inputs import load as read_bytes

    snapshot = load(path)
    found, problems = statements(read_source(path, snapshot.schema.encode()))
    statistics = snapshot.statistics
    return Start(
        tuple(found),
        pg_version=statistics.version // 10000,
        rows={(r.schema, r.name): r.reltuples for r in statistics.relations
              if r.kind in ("r", "p", "m") and r.reltuples >= 0},
        contents={path: whole if isinstance(whole := read_bytes(path), bytes) else b""},
        notes=[
            *stale_notes(snapshot),
            *(f"the snapshot's schema: {p.message}" for p in problems[:1]),
        ],
        description=f"static, from the snapshot {path}",
        snapshot=snapshot,
    )  # fmt: skip


def start_state(
    schema: str | Iterable[Statement],
    catalog: Catalog | None = None,
    details: Details | None = None,
) -> SetState:
    """The state that a schema script (its text, or its statements) leaves behind.

    With an empty one nothing is known: every table that is named exists, with unknown rows.
    """
    state = SetState(catalog, details)
    if isinstance(schema, str):
        schema = statements(read_source("<schema>", schema.encode()))[0]
    for statement in schema:
        state.apply(statement, -1, judged=False)
        state.complete = True
    state.begin_migration()
    return state
