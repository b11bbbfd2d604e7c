"""Which statements of a migration have a safe form that needs no decision, and what it is.

The forms are those that the rules offer as their fixes. A form that asks something of a human (a
comment in it, a changed result) is not one. Each is cut in two: what may stay where the statement
stood, and what must come later, outside of its transaction or in one of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqladvisor.finding import Finding, Fix
from sqladvisor.migrate.model import Migration
from sqladvisor.migrate.runner_names import no_transaction
from sqladvisor.migrate.subcommands import subcommands
from sqladvisor.sql.source import read_source, statements
from sqladvisor.sql.statement import Statement

REPLACED = (
    "migration/create-index", "migration/drop-index", "migration/reindex", "migration/add-unique",
    "migration/add-foreign-key", "migration/add-check", "migration/set-not-null",
    "migration/add-column-volatile-default", "migration/alter-domain-constraint",
    "migration/backfill-whole-table",
)  # fmt: skip
"""Rules whose fix stands for the whole statement."""
MOVED = ("migration/concurrently-in-transaction", "migration/validate-in-same-transaction")
"""Rules whose statement is right, in another transaction."""
BEFORE = ("migration/lock-timeout-missing",)
"""Rules whose fix is put before the statement."""
_COMMITS = re.compile(r"\bCOMMIT\b", re.IGNORECASE)
_COMMENT = re.compile(r"^\s*--", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Form:
    """The safe form of one statement. ``here`` stays in its place, ``later`` comes after the file's

    transaction, in this order. ``finding`` is what it mends.
    """

    migration: Migration
    statement: Statement
    finding: Finding
    here: tuple[str, ...]
    later: tuple[str, ...]
    also: tuple[Finding, ...] = ()
    """What else it mends: other subcommands of the same ALTER TABLE."""

    @property
    def findings(self) -> tuple[Finding, ...]:
        return (self.finding, *self.also)

    @property
    def describes(self) -> str:
        at = self.finding.location
        return f"{at.path}:{at.line}: {', '.join(dict.fromkeys(f.rule for f in self.findings))}"


def outside(sql: str) -> bool:
    """Whether a statement of a form refuses transactions."""
    found = _parsed(sql)
    return any(no_transaction(s) or (s.kind == "DoStmt" and _COMMITS.search(s.sql)) for s in found)


def forms(
    migrations: Sequence[Migration], findings: Sequence[Finding]
) -> tuple[list[Form], list[str]]:
    """The forms of all judged up statements in order, and why others have none."""
    by_place: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        by_place.setdefault((finding.location.path, finding.statement), []).append(finding)
    found: list[Form] = []
    left: list[str] = []
    for migration in migrations:
        for statement in migration.up:
            here = [
                f
                for f in by_place.get((statement.path, statement.text), ())
                if statement.line <= f.location.line <= statement.last_line and f.severity != "info"
            ]
            found += _forms_of(migration, statement, here, left)
    return found, left


def _forms_of(
    migration: Migration, statement: Statement, findings: Sequence[Finding], left: list[str]
) -> Iterator[Form]:
    order = {rule: i for i, rule in enumerate((*MOVED, *REPLACED))}
    chosen = sorted((f for f in findings if f.rule in order), key=lambda f: order[f.rule])
    for finding in (f for f in findings if f.rule in BEFORE):
        if finding.fixes:
            lines = _statements(finding.fixes[0])
            yield Form(migration, statement, finding, (*lines, statement.text), ())
    if not chosen:
        return
    if len(statement.tree.get("cmds", ())) > 1:
        yield from _of_several(migration, statement, chosen, left)
        return
    finding = chosen[0]
    if finding.rule in MOVED:
        yield Form(migration, statement, finding, (), (statement.text,))
        return
    steps = _steps(finding, left)
    if steps is not None:
        yield Form(migration, statement, finding, *steps)


def _of_several(
    migration: Migration, statement: Statement, chosen: Sequence[Finding], left: list[str]
) -> Iterator[Form]:
    """ALTER TABLE with several subcommands: the safe ones together, then each other's own form."""
    parts = subcommands(statement)
    if parts is None:
        left.append(
            f"{_place(chosen[0])} is not rewritten: ALTER TABLE that could not be taken apart"
        )
        return
    mended: list[Finding] = []
    here: list[str] = []
    later: list[str] = []
    taken: set[int] = set()
    for finding in chosen:
        ordinal = int(finding.evidence.figures.get("subcommand", 0))
        if not ordinal or ordinal in taken:
            continue
        if finding.rule in MOVED:
            steps: tuple[Sequence[str], Sequence[str]] | None = ((), (parts.of(ordinal),))
        else:
            steps = _steps(finding, left)
        if steps is None:
            continue
        taken.add(ordinal)
        mended.append(finding)
        here += steps[0]
        later += steps[1]
    if not mended:
        return
    rest = [i for i in range(1, len(parts.parts) + 1) if i not in taken]
    # ALTER TABLE itself drops and adds columns before it adds constraints.
    kept = (parts.of(*rest),) if rest else ()
    yield Form(migration, statement, mended[0], (*kept, *here), tuple(later), tuple(mended[1:]))


def _steps(finding: Finding, left: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """A finding's safe form, cut in two; None where there is none without a decision."""
    fix = next((f for f in finding.fixes if f.kind == "ddl"), None)
    if fix is None or fix.changes_result or _COMMENT.search(fix.sql):
        left.append(
            f"{_place(finding)} is not rewritten: it has no safe form without a decision of yours"
        )
        return None
    steps = _statements(fix)
    at = next((i for i, s in enumerate(steps) if outside(s) or _validates(s)), len(steps))
    return tuple(steps[:at]), tuple(steps[at:])


def _place(finding: Finding) -> str:
    return f"{finding.location.path}:{finding.location.line}: {finding.rule}"


def _validates(sql: str) -> bool:
    return any(
        command.get("AlterTableCmd", {}).get("subtype") == "AT_ValidateConstraint"
        for s in _parsed(sql)
        for command in s.tree.get("cmds", ())
    ) or any(s.kind == "AlterDomainStmt" and s.tree.get("subtype") == "V" for s in _parsed(sql))


def _statements(fix: Fix) -> list[str]:
    return [s.text for s in _parsed(fix.sql)]


def _parsed(sql: str) -> list[Statement]:
    return statements(read_source("fix", sql.encode()))[0]
