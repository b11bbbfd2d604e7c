"""The schema that a migration set starts from: DDL files, or nothing known."""

from __future__ import annotations

from collections.abc import Iterable

from sqladvisor.migrate.state import SetState
from sqladvisor.sql.source import read_source, statements
from sqladvisor.sql.statement import Statement


def start_state(schema: str | Iterable[Statement]) -> SetState:
    """The state that a schema script (its text, or its statements) leaves behind.

    With an empty one nothing is known: every table that is named exists, with unknown rows.
    """
    state = SetState()
    if isinstance(schema, str):
        schema = statements(read_source("<schema>", schema.encode()))[0]
    for statement in schema:
        state.apply(statement, -1, judged=False)
        state.complete = True
    state.begin_migration()
    return state
