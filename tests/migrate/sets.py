"""Migration sets made by hand, for tests."""

from __future__ import annotations

from sqladvisor.migrate.model import Migration, MigrationSet, TransactionMode
from sqladvisor.sql.source import read_source, statements


def migration(
    version: str,
    up: str,
    down: str | None = None,
    *,
    transaction: TransactionMode = "file",
    judged: bool = True,
) -> Migration:
    path = f"migrations/{version}.sql"
    found, problems = statements(read_source(path, up.encode()))
    assert not problems, problems
    back = None
    if down is not None:
        back, problems = statements(read_source(f"migrations/{version}.down.sql", down.encode()))
        assert not problems, problems
    return Migration(
        version,
        version,
        path,
        tuple(found),
        None if back is None else tuple(back),
        f"migrations/{version}.down.sql" if down is not None else "",
        transaction,
        transaction,
        judged=judged,
    )


def migration_set(*migrations: Migration, texts: dict[str, str] | None = None) -> MigrationSet:
    return MigrationSet("plain", migrations, texts or {})
