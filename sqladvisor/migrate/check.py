"""Runs the migration rules over a set, statement by statement, along with the schema's state."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from sqladvisor.engine import Engine
from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext, Settings, Table
from sqladvisor.migrate.locks import Lock
from sqladvisor.migrate.model import Migration, MigrationSet, TransactionMode
from sqladvisor.migrate.retry import opened
from sqladvisor.migrate.state import SetState
from sqladvisor.migrate.transactions import transactions
from sqladvisor.rule import MIGRATION, MIGRATION_SET
from sqladvisor.sql.statement import Statement

_NOT_TABLES = frozenset(("OBJECT_TYPE", "OBJECT_VIEW", "OBJECT_SEQUENCE"))
"""What else ALTER … is parsed as an AlterTableStmt for: has no subcommands of a table's."""


@dataclass(slots=True)
class Checked:
    """What the rules found, and the schema that the set ends in."""

    state: SetState
    findings: list[Finding] = field(default_factory=list)
    contexts: list[MigrationContext] = field(default_factory=list)


def check_set(
    migrations: MigrationSet,
    engine: Engine,
    settings: Settings,
    state: SetState,
    *,
    judge_down: bool = False,
) -> Checked:
    """Judge the set's up migrations in order (then, where asked, its downs, last first)."""
    checked = Checked(state)
    for number, migration in enumerate(migrations.migrations):
        _check(
            checked, migrations, migration, number, migration.up, migration.transaction, engine,
            settings,
        )  # fmt: skip
    if judge_down:
        # A down migration meets a schema that has been in use: nothing of it is new any more.
        state.created.clear()
        state.objects.clear()
        for number, migration in reversed(list(enumerate(migrations.migrations))):
            if migration.judged and migration.down is not None:
                _check(
                    checked, migrations, migration, number, migration.down,
                    migration.down_transaction, engine, settings,
                )  # fmt: skip
    if checked.contexts:
        checked.findings += engine.check_migration(
            MIGRATION_SET, checked.contexts, checked.contexts[0]
        )
    checked.findings = _distinct(checked.findings)
    return checked


def _check(
    checked: Checked,
    migrations: MigrationSet,
    migration: Migration,
    number: int,
    statements: Sequence[Statement],
    mode: TransactionMode,
    engine: Engine,
    settings: Settings,
) -> None:
    state = checked.state
    state.begin_migration()
    statements = opened(statements)
    if not migration.judged:
        for statement in statements:
            state.apply(statement, number, judged=False)
        return
    contexts: list[MigrationContext] = []
    held: dict[int, list[tuple[MigrationContext, Lock, Table]]] = {}
    for i, (statement, transaction) in enumerate(
        zip(statements, transactions(statements, mode), strict=True)
    ):
        context = MigrationContext(
            statement, migration, number, state, transaction, settings, migrations
        )
        context.siblings, context.statements, context.position = contexts, statements, i
        if transaction.inside:
            context.held = held.setdefault(transaction.number, [])
        kind, node = statement.kind, statement.tree
        if engine.wants(kind):
            checked.findings += engine.check_migration(kind, node, context)
        if kind == "AlterTableStmt" and node.get("objtype") not in _NOT_TABLES:
            commands = node.get("cmds", ())
            for ordinal, wrapped in enumerate(commands, 1):
                command = wrapped.get("AlterTableCmd", {})
                subtype = command.get("subtype", "AT_AddColumn")
                if engine.wants(subtype):
                    found = engine.check_migration(subtype, command, context)
                    if len(commands) > 1:
                        found = [_of_subcommand(f, ordinal) for f in found]
                    checked.findings += found
        contexts.append(context)
        if transaction.inside:
            held[transaction.number] += (
                (context, lock, table)
                for lock, table in context.locks
                if lock.strong and table.settled
            )
        if not transaction.rolled_back:
            state.apply(statement, number)
    if contexts:
        checked.findings += engine.check_migration(MIGRATION, contexts, contexts[0])
        checked.contexts += contexts


def _of_subcommand(finding: Finding, ordinal: int) -> Finding:
    """The finding with the subcommand it is about: ``--fix`` takes the others out of its way."""
    evidence = finding.evidence
    figures = {**evidence.figures, "subcommand": ordinal}
    return replace(finding, evidence=replace(evidence, figures=figures))


def _distinct(findings: Iterable[Finding]) -> list[Finding]:
    seen: dict[tuple[object, ...], Finding] = {}
    for finding in findings:
        seen.setdefault((finding.rule, finding.location, finding.message), finding)
    return list(seen.values())
