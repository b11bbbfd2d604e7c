"""Up, down and up again: what a down migration does not undo, and what a retry stumbles over."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqladvisor.finding import Evidence, Finding, Location, Severity
from sqladvisor.migrate.describe import Difference, describe, differences
from sqladvisor.migrate.model import Migration
from sqladvisor.migrate.reconcile import UNDEFINED, fingerprint, first_line
from sqladvisor.migrate.trace import STATEMENT_TIMEOUT_S, Step, apply_statements
from sqladvisor.migrate.trace_session import TraceSession

if TYPE_CHECKING:
    import psycopg

    from sqladvisor.migrate.stage import Stage
    from sqladvisor.sql.statement import Statement

NOT_UNDONE = "migration/down-does-not-undo"
RETRY = "migration/leftover-blocks-retry"
MAX_DIFFERENCES = 8
"""Differences that a finding names; its figures have all of them."""


@dataclass(slots=True)
class Undone:
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    checked: int = 0


def check_downs(stage: Stage, say: Callable[[str], None] = lambda _: None) -> Undone:
    """Run the judged migrations up, down and up again, and compare the schemas.

    All of them in one go first; where that does not end where it began, one after the other, to see
    which it is. That a migration has no down is what a rule says. Raises psycopg.Error when the
    server is lost.
    """
    result = Undone()
    judged = stage.migrations.migrations
    downs = sum(bool(m.down) for m in judged)
    if not downs and not any(map(_builds, judged)):
        return result
    if not any(map(_builds, judged)) and _all_at_once(stage, say):
        result.checked = downs
    else:
        with _session(stage) as (session, admin):
            for number, migration in enumerate(judged, 1):
                say(f"up, down and up: migration {number} of {len(judged)}")
                _one(migration, session, admin, result, known=not stage.migrations.variables)
    if result.checked:
        result.notes.append(
            f"{result.checked} down migration{'s' if result.checked != 1 else ''} run and compared"
        )
    return result


@contextmanager
def _session(stage: Stage) -> Iterator[tuple[TraceSession, psycopg.Connection]]:
    with (
        stage.copy() as sandbox,
        stage.cluster.connect(sandbox.name) as admin,
        TraceSession(sandbox, STATEMENT_TIMEOUT_S) as session,
    ):
        yield session, admin


def _all_at_once(stage: Stage, say: Callable[[str], None]) -> bool:
    """Whether all ups, all downs and all ups again end in the schemas that they should.

    What cannot run here cannot either time.
    """
    judged = stage.migrations.migrations
    say("up, down and up: all migrations")
    with _session(stage) as (session, admin):
        before = describe(admin)
        failures = sum(len(apply_statements(session, m)) for m in judged)
        after = describe(admin)
        for migration in reversed(judged):
            if migration.down and apply_statements(session, migration, down=True):
                return False
        if differences(before, describe(admin)):
            return False
        again = sum(len(apply_statements(session, m)) for m in judged)
        return again == failures and not differences(after, describe(admin))


def _one(
    migration: Migration,
    session: TraceSession,
    admin: psycopg.Connection,
    result: Undone,
    *,
    known: bool,
) -> None:
    """``known``: every name is written out, none is a variable's whose value nobody has told."""
    before = describe(admin) if migration.down else {}
    if apply_statements(session, migration):
        return  # what cannot be run here says nothing about its down
    if not migration.down:
        _retry(migration, session, admin, result)
        return
    result.checked += 1
    after = describe(admin)
    if failed := apply_statements(session, migration, down=True):
        if known or failed[0].sqlstate not in UNDEFINED:
            result.findings.append(_failed(failed[0], migration))
        return
    if left := differences(before, describe(admin)):
        result.findings.append(_not_undone(migration, left))
    failed = apply_statements(session, migration)
    if failed and not left:  # else it fails because of what is left
        result.findings.append(
            _finding(
                NOT_UNDONE, "warning", failed[0].statement,
                f"Applied again after its down, this statement fails: {failed[0].failure}",
                {"error": failed[0].failure, "sqlstate": failed[0].sqlstate},
            )
        )  # fmt: skip
    elif not failed and not left and (other := differences(after, describe(admin))):
        result.findings.append(
            _finding(
                NOT_UNDONE, "warning", migration.up[0],
                f"Applied again after its down, the migration ends in another schema: {_list(other)}",
                {"differences": [str(d) for d in other]},
            )
        )  # fmt: skip
    _retry(migration, session, admin, result)


def _not_undone(migration: Migration, left: Sequence[Difference]) -> Finding:
    assert migration.down
    return _finding(
        NOT_UNDONE,
        "warning",
        migration.down[0],
        f"The down migration does not undo {migration.path}: {_list(left)}",
        {"migration": migration.version, "differences": [str(d) for d in left]},
    )


def _failed(step: Step, migration: Migration) -> Finding:
    return _finding(
        NOT_UNDONE,
        "error",
        step.statement,
        f"The down migration of {migration.path} fails: {step.failure}",
        {"migration": migration.version, "error": step.failure, "sqlstate": step.sqlstate},
    )


_INVALIDATE = """
UPDATE pg_index SET indisvalid = false FROM pg_class c
WHERE c.oid = indexrelid AND c.oid >= 16384 AND c.relname = ANY (%s) RETURNING c.oid::int8"""


def _builds(migration: Migration) -> list[Statement]:
    """The named indexes that are built concurrently, and so can be left invalid."""
    return [
        s
        for s in migration.up
        if s.kind == "IndexStmt" and s.tree.get("concurrent") and s.tree.get("idxname")
    ]


def _retry(
    migration: Migration, session: TraceSession, admin: psycopg.Connection, result: Undone
) -> None:
    """Run again a migration whose CREATE INDEX CONCURRENTLY seems to have failed the first time."""
    builds = _builds(migration)
    if not builds:
        return
    for build in builds:
        name = str(build.tree["idxname"])
        invalid = [r[0] for r in admin.execute(_INVALIDATE.encode(), [[name]]).fetchall()]
        if not invalid:
            continue
        failed = apply_statements(session, migration)
        still = admin.execute(
            "SELECT count(*) FROM pg_index WHERE NOT indisvalid AND indexrelid = ANY (%s::int8[]::oid[])",
            [invalid],
        ).fetchone()
        if failed:
            result.findings.append(
                _finding(
                    RETRY, "warning", build,
                    f"When this build fails it leaves the invalid index {name} behind, and the next "
                    f"run stops: {failed[0].failure}",
                    {"index": name, "error": failed[0].failure},
                    ["DROP INDEX CONCURRENTLY IF EXISTS before it makes it repeatable"],
                )
            )  # fmt: skip
        elif still and still[0]:
            result.findings.append(
                _finding(
                    RETRY, "warning", build,
                    f"When this build fails it leaves the invalid index {name} behind, and IF NOT "
                    "EXISTS takes it for the finished one in the next run",
                    {"index": name},
                    ["DROP INDEX CONCURRENTLY IF EXISTS before it makes it repeatable"],
                )
            )  # fmt: skip
        admin.execute(
            "UPDATE pg_index SET indisvalid = true WHERE indexrelid = ANY (%s::int8[]::oid[])",
            [invalid],
        )
        return


def _list(found: Sequence[Difference]) -> str:
    more = len(found) - MAX_DIFFERENCES
    text = "; ".join(str(d) for d in found[:MAX_DIFFERENCES])
    return text + (f"; and {more} more" if more > 0 else "")


def _finding(
    rule: str,
    severity: Severity,
    statement: Statement,
    message: str,
    figures: dict[str, object],
    notes: Sequence[str] = (),
) -> Finding:
    at: Location = first_line(statement)
    return Finding(
        rule,
        severity,
        message,
        at,
        statement.text,
        fingerprint(statement),
        Evidence("measured", figures, tuple(notes)),
    )
