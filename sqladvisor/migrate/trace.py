"""What a migration does when it runs: the locks, rewrites, scans and objects of each statement.

Runs the set on a sandbox in the transactions that its runner would use, and writes down what the
server did. Tables are empty there, which changes neither locks nor rewrites nor what is scanned:
only how long it takes. Data and its maker; judging is for ``migrate.reconcile``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sqladvisor.migrate.locks import STRENGTH, WAITED_FOR
from sqladvisor.migrate.model import Migration, MigrationSet
from sqladvisor.migrate.trace_session import LookedAt, TraceSession
from sqladvisor.server.sandbox import only_owner
from sqladvisor.sql.statement import Statement

if TYPE_CHECKING:
    from sqladvisor.server.sandbox import Sandbox

STATEMENT_TIMEOUT_S = 30.0
"""For one statement on empty tables: one that takes longer is a program of its own, or waits."""

_PART = re.compile(r'"(?:[^"]|"")*"|[^.]+')

# Say who owns what or change the machine, not the schema; the sandbox has neither.
_LEFT_OUT = frozenset(
    ("AlterOwnerStmt", "CreateRoleStmt", "AlterRoleStmt", "AlterRoleSetStmt", "DropRoleStmt",
     "GrantRoleStmt", "CreatedbStmt", "DropdbStmt", "AlterDatabaseStmt", "AlterDatabaseSetStmt",
     "AlterSystemStmt", "CreateTableSpaceStmt", "DropTableSpaceStmt", "CreateSubscriptionStmt",
     "AlterSubscriptionStmt", "DropSubscriptionStmt", "CheckPointStmt", "ReassignOwnedStmt",
     "DropOwnedStmt", "CreateEventTrigStmt", "AlterEventTrigStmt")
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock on a relation that was there before the set. ``mode`` as the manual writes it."""

    relation: str
    """``schema.name``, quoted where needed."""
    mode: str
    kind: str
    """``table``, ``index``, ``view``, ``materialized view``, ``sequence`` …"""

    @property
    def strong(self) -> bool:
        """Whether it keeps others from writing to the table, or from reading as well."""
        return self.kind != "index" and STRENGTH[self.mode] >= WAITED_FOR


@dataclass(frozen=True, slots=True)
class Change:
    """An object that a statement made, changed or dropped, as event triggers name it."""

    action: str
    """``created``, ``changed`` or ``dropped``."""
    type: str
    name: str
    cascaded: bool = False
    """Dropped because something that it depends on was (CASCADE), and not a part of that."""
    inner: bool = False
    """A part of something else that was dropped: a table's index, row type, toast table."""


@dataclass(frozen=True, slots=True)
class IndexBuild:
    index: str
    table: str


@dataclass(frozen=True, slots=True)
class Step:
    """One statement as it ran. Relations are those that were there before the set.

    ``transaction`` numbers the transactions of the run, 0 where it ran outside of any.
    ``duration_ms`` is wall-clock time on empty tables.
    """

    migration: Migration
    statement: Statement
    transaction: int = 0
    locks: tuple[Lock, ...] = ()
    """Taken by this statement, the strongest for each relation."""
    held: tuple[Lock, ...] = ()
    """Held already when it began, by earlier statements of its transaction."""
    rewritten: tuple[str, ...] = ()
    """Tables and materialized views that got new files (TRUNCATE too: see ``emptied``)."""
    scanned: tuple[str, ...] = ()
    """Tables read from end to end, to build an index, to check a constraint or to change rows."""
    built: tuple[IndexBuild, ...] = ()
    """Indexes built over tables that were there before, also anew by a rewrite."""
    changes: tuple[Change, ...] = ()
    duration_ms: float = 0.0
    failure: str = ""
    """Why it could not be run, in one line; nothing else is known of it then."""
    sqlstate: str = ""
    detail: str = ""
    """The server's DETAIL on a failure: the values that it met."""
    column: tuple[tuple[str, str], str] = (("", ""), "")
    """Schema and name of the table, and the column, that the server says a failure is about."""
    emptied: bool = False

    @property
    def traced(self) -> bool:
        return not self.failure

    def lock_on(self, relation: str) -> Lock | None:
        """The lock on a relation that it took, or ran under; None where there was none."""
        found = [k for k in (*self.locks, *self.held) if same_relation(k.relation, relation)]
        return max(found, key=lambda k: STRENGTH[k.mode], default=None)

    def strong(self) -> tuple[Lock, ...]:
        """The locks it took that keep others from writing, or from reading as well."""
        return tuple(k for k in self.locks if k.strong)


@dataclass(frozen=True, slots=True)
class Trace:
    """The whole run, in order; ``steps`` holds those of the judged migrations only."""

    steps: tuple[Step, ...] = ()
    notes: tuple[str, ...] = ()
    existing: Mapping[str, str] = field(default_factory=dict)
    """Relations that were there before the set, with their kinds; all others it made itself."""
    parents: Mapping[str, str] = field(default_factory=dict)
    """The table of a partition, by both their names."""
    version: int = 0
    """Major version of the server that it ran on."""


def same_relation(one: str, other: str) -> bool:
    """Whether two names may mean one relation: a missing schema fits any, quotes do not matter."""
    a, b = parts(one), parts(other)
    return a[1] == b[1] and (not a[0] or not b[0] or a[0] == b[0])


def parts(name: str) -> tuple[str, str]:
    """Schema ("" where none is said) and name of what is written ``schema.name``, without quotes."""
    found = [
        part[1:-1].replace('""', '"') if part.startswith('"') else part
        for part in _PART.findall(name)
    ]
    return (found[-2] if len(found) > 1 else "", found[-1] if found else "")


def trace(
    sandbox: Sandbox,
    migrations: MigrationSet,
    say: Callable[[str], None] = lambda _: None,
    *,
    each: bool = False,
) -> Trace:
    """Run the set on the sandbox, which has the starting schema. Raises ServerError, psycopg.Error.

    Those migrations that are not judged are applied before all others, as they are deployed before
    them; what they make counts as there before. With ``each``, what any earlier migration made does.
    """
    notes: list[str] = []
    steps: list[Step] = []
    judged = [m for m in migrations.migrations if m.judged]
    with TraceSession(sandbox, STATEMENT_TIMEOUT_S) as session:
        for migration in migrations.migrations:
            if not migration.judged:
                say(f"applying {migration.path}")
                failed = apply_statements(session, migration)
                notes += [f"{place(s.statement)}: not applied: {s.failure}" for s in failed]
        session.start()
        existing, parents = session.existing(), session.parents()
        together = migrations.one_transaction and not each
        for number, migration in enumerate(judged, 1):
            say(f"tracing migration {number} of {len(judged)}")
            if each and number > 1:
                session.start()
                existing |= session.existing()
                parents |= session.parents()
            steps += _run(
                session, migration, migration.up, migration.transaction,
                commit=not together or number == len(judged),
            )  # fmt: skip
    notes += sandbox.substitutes.said
    version = sandbox.cluster.version_num // 10000
    return Trace(tuple(steps), tuple(notes), existing, parents, version)


def apply_statements(
    session: TraceSession, migration: Migration, *, down: bool = False
) -> list[Step]:
    """Run one direction of a migration as its runner would; the steps that failed."""
    statements = (migration.down or ()) if down else migration.up
    mode = migration.down_transaction if down else migration.transaction
    return [s for s in _run(session, migration, statements, mode) if s.failure]


def place(statement: Statement) -> str:
    """A statement's file and line, for a note."""
    return f"{statement.path}:{statement.line}" if statement.line else statement.path


def _run(
    session: TraceSession,
    migration: Migration,
    statements: tuple[Statement, ...],
    mode: str,
    *,
    commit: bool = True,
) -> list[Step]:
    steps: list[Step] = []
    if not session.in_transaction():
        session.reset()
        if mode == "file" and statements:
            session.begin()
    done = tried = 0
    for number, statement in enumerate(statements):
        if number < done:
            continue
        if number >= tried and steps and steps[-1].traced:
            alike = _alike(steps[-1].statement, statements, number)
            tried = number + len(alike)
            if alike and session.run_alike(alike):
                # Autocommit: each takes the locks that the first one took.
                now = () if session.in_transaction() else steps[-1].locks
                steps += [replace(steps[-1], statement=s, locks=now, changes=()) for s in alike]
                done = tried
                continue
        if reason := _refused(statement):
            steps.append(Step(migration, statement, failure=reason))
        elif statement.kind == "TransactionStmt":
            seen = session.control(statement)
            steps.append(_step(migration, statement, seen))
        else:
            steps.append(_step(migration, statement, session.run(statement)))
    if commit and (failure := session.finish()):
        last = max((i for i, s in enumerate(steps) if s.traced), default=-1)
        if last >= 0:
            steps[last] = Step(migration, steps[last].statement, failure=failure)
    return steps


MAX_ALIKE = 500
"""INSERTs sent at once: some 50 kB."""


def _alike(before: Statement, statements: Sequence[Statement], number: int) -> Sequence[Statement]:
    """The statements from here on that put rows into the table that the one before has; seeds do.

    None where it is one or two: they are looked at one by one.
    """
    table = _filled(before)
    if table is None:
        return ()
    end = number
    while end < len(statements) and end - number < MAX_ALIKE and _filled(statements[end]) == table:
        end += 1
    return statements[number:end] if end - number > 2 else ()


def _filled(statement: Statement) -> tuple[object, ...] | None:
    """The table of a plain INSERT … VALUES; None for all else."""
    node = statement.tree
    if statement.kind != "InsertStmt" or statement.placeholders or "withClause" in node:
        return None
    if "valuesLists" not in node.get("selectStmt", {}).get("SelectStmt", {}):
        return None
    relation = node.get("relation", {})
    return relation.get("schemaname"), relation.get("relname")


def _refused(statement: Statement) -> str:
    if statement.kind in _LEFT_OUT:
        return "it is about roles, databases or the machine, which the sandbox does not have"
    if only_owner(statement.kind, statement.tree):
        return "it says who owns what: the sandbox has one role"
    if statement.kind == "CopyStmt":
        return "COPY is not run: whether its rows are there does not matter here"
    if unknown := [p.text for p in statement.placeholders if p.number]:
        return f"it has a variable whose value is not known here ({', '.join(unknown[:3])})"
    return ""


def _step(migration: Migration, statement: Statement, seen: LookedAt) -> Step:
    if seen.failure:
        return Step(
            migration,
            statement,
            transaction=seen.transaction,
            failure=seen.failure,
            sqlstate=seen.sqlstate,
            detail=seen.detail,
            column=seen.column,
            duration_ms=seen.duration_ms,
        )
    return Step(
        migration,
        statement,
        transaction=seen.transaction,
        locks=tuple(Lock(*lock) for lock in seen.locks),
        held=tuple(Lock(*lock) for lock in seen.held),
        rewritten=tuple(seen.rewritten),
        scanned=tuple(seen.scanned),
        built=tuple(IndexBuild(*pair) for pair in seen.built),
        changes=tuple(Change(*change) for change in seen.changes),
        duration_ms=seen.duration_ms,
        emptied=statement.kind == "TruncateStmt",
    )
