"""A migration set as its runner would apply it: data only, made by ``migrate.runner``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from sqladvisor.finding import InputProblem
from sqladvisor.sql.statement import Statement

TransactionMode = Literal["file", "statement", "none"]
"""How a runner wraps a file: all of it in one transaction, each statement in one of its own (psql's

autocommit), or as ``none``: no transaction of the runner's, BEGIN/COMMIT in the file are its own."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One version, in its order. ``up`` and ``down`` are the statements of either direction.

    ``judged`` is False for what is only applied to get to the starting schema (``--base``).
    ``down`` is None where the migration has no down part, which differs from an empty one.
    """

    version: str
    name: str
    path: str
    up: tuple[Statement, ...]
    down: tuple[Statement, ...] | None = None
    down_path: str = ""
    transaction: TransactionMode = "file"
    down_transaction: TransactionMode = "file"
    repeatable: bool = False
    judged: bool = True
    baseline: bool = False
    """Stands for earlier versions (Flyway's B files): applied to get to the starting schema only."""


@dataclass(frozen=True, slots=True)
class MigrationSet:
    """All migrations of one folder, in the order in which ``runner`` applies them."""

    runner: str
    """``plain``, ``golang-migrate``, ``goose``, ``flyway``… as ``migrate.runner`` names them."""
    migrations: tuple[Migration, ...]
    texts: dict[str, str] = field(default_factory=dict)
    """Decoded text by path, for quoting."""
    problems: tuple[InputProblem, ...] = ()
    """What of the files could not be read or parsed."""
    notes: tuple[str, ...] = ()
    one_transaction: bool = False
    """Whether the runner applies all pending migrations in a single transaction (Drizzle)."""
    variables: dict[str, str] = field(default_factory=dict)
    """Names that stand for the runner's variables (``${schema}``) → these as written."""
