"""The databases that migrations are tried in: all copies of one, as it is before the judged set.

Each copy costs some 50 ms; none of them holds more rows than the migrations themselves put there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

from sqladvisor.migrate.model import Migration, MigrationSet
from sqladvisor.migrate.trace import STATEMENT_TIMEOUT_S, Step, apply_statements, place
from sqladvisor.migrate.trace_session import TraceSession
from sqladvisor.server.dump import dump_schema
from sqladvisor.server.embedded import plain_environment
from sqladvisor.server.sandbox import Sandbox

if TYPE_CHECKING:
    from sqladvisor.server.binaries import Binaries

Say = Callable[[str], None]


class Stage:
    """Gives out databases in the state before the judged migrations, or between two statements.

    ``start`` has the starting schema; those migrations of the set that are not judged are applied
    to it. ``notes`` says what of them could not be.
    """

    def __init__(
        self, binaries: Binaries, start: Sandbox, migrations: MigrationSet, say: Say
    ) -> None:
        self.binaries = binaries
        self.cluster = start.cluster
        self.start = start
        self.notes: list[str] = []
        self.migrations = replace(
            migrations, migrations=tuple(m for m in migrations.migrations if m.judged)
        )
        self._numbers = count(1)
        earlier = [m for m in migrations.migrations if not m.judged]
        if earlier:
            with TraceSession(start, STATEMENT_TIMEOUT_S) as session:
                for number, migration in enumerate(earlier, 1):
                    say(f"applying migration {number} of {len(earlier)}")
                    for step in apply_statements(session, migration):
                        self.notes.append(f"{place(step.statement)}: not applied: {step.failure}")

    @contextmanager
    def copy(self) -> Iterator[Sandbox]:
        """A database of one's own in the starting state; dropped afterwards."""
        name = f"{self.start.name}_{next(self._numbers)}"
        try:
            yield Sandbox(self.cluster, name, template=self.start)
        finally:
            self.cluster.drop_database(name)

    @contextmanager
    def after(self, statements: int | None = None) -> Iterator[Sandbox]:
        """A copy with the first so many judged statements applied (all of them: None)."""
        with self.copy() as sandbox:
            apply(sandbox, first(self.migrations.migrations, statements))
            yield sandbox

    def ddl(self, sandbox: Sandbox) -> str:
        """The schema of a database, by pg_dump. Raises ServerError."""
        return dump_schema(self.binaries, self.cluster.dsn(sandbox.name), plain_environment())


def apply(sandbox: Sandbox, migrations: Sequence[Migration], *, down: bool = False) -> list[Step]:
    """Run migrations in one direction, downs last first; the steps that failed."""
    failed: list[Step] = []
    with TraceSession(sandbox, STATEMENT_TIMEOUT_S) as session:
        for migration in reversed(migrations) if down else migrations:
            failed += apply_statements(session, migration, down=down)
    return failed


def first(migrations: Sequence[Migration], statements: int | None) -> list[Migration]:
    """The migrations cut off behind the first so many statements of all."""
    if statements is None:
        return list(migrations)
    found: list[Migration] = []
    for migration in migrations:
        if statements <= 0:
            break
        found.append(replace(migration, up=migration.up[:statements]))
        statements -= len(migration.up)
    return found
