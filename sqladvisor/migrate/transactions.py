"""Where each statement of a migration stands in the transactions that its runner and itself open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sqladvisor.migrate.model import TransactionMode
from sqladvisor.sql.statement import Statement

_BEGIN = frozenset(("TRANS_STMT_BEGIN", "TRANS_STMT_START"))
_END = frozenset(("TRANS_STMT_COMMIT", "TRANS_STMT_ROLLBACK", "TRANS_STMT_PREPARE"))


@dataclass(frozen=True, slots=True)
class Transaction:
    """A transaction block of a migration: its ordinal (0: none, each statement is on its own) and

    who opened it, the ``runner`` around the file or the ``file`` with its BEGIN."""

    number: int = 0
    by: Literal["", "runner", "file"] = ""
    rolled_back: bool = False

    @property
    def inside(self) -> bool:
        """Whether statements here share a transaction: locks last until its end, and what cannot

        run inside a transaction block (CREATE INDEX CONCURRENTLY…) fails."""
        return self.number > 0


OUTSIDE = Transaction()


def transactions(statements: Sequence[Statement], mode: TransactionMode) -> list[Transaction]:
    """For each statement the transaction it runs in. BEGIN and COMMIT belong to what they delimit.

    A COMMIT in a file that the runner wraps ends the runner's transaction: what follows runs
    outside one, until the next BEGIN.
    """
    number = 1 if mode == "file" else 0
    current = Transaction(1, "runner") if mode == "file" else OUTSIDE
    found: list[Transaction] = []
    for statement in statements:
        if statement.kind == "TransactionStmt":
            what = str(statement.tree.get("kind", "TRANS_STMT_BEGIN"))
            if what in _BEGIN and not current.inside:
                number += 1
                current = Transaction(number, "file")
            elif what in _END:
                found.append(current)
                if what == "TRANS_STMT_ROLLBACK":
                    undone = Transaction(current.number, current.by, rolled_back=True)
                    found = [undone if t == current and t.inside else t for t in found]
                if not statement.tree.get("chain"):
                    current = OUTSIDE
                continue
        found.append(current)
    return found
