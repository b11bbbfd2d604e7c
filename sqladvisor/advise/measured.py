"""Builds the advised set where there are rows, times the workload with it, and takes it back."""

from __future__ import annotations

from collections.abc import Callable

import psycopg

from sqladvisor.advise.recommend import Measured, Recommendation
from sqladvisor.errors import ServerError
from sqladvisor.server.connect import one_line
from sqladvisor.server.measure import Timing, time_statement
from sqladvisor.sql.effects import writes
from sqladvisor.sql.libpg import parse

BUILD_TIMEOUT_MS = 600_000
"""For one index: the whole set is wanted, so the wait is long."""


def measure(
    connection: psycopg.Connection, found: Recommendation, say: Callable[[str], None]
) -> tuple[Measured, ...]:
    """Each text of the workload that only reads, timed without and with the advised set.

    All in one transaction that is rolled back, the tables' statistics renewed within it. Raises
    ServerError when the set cannot be built; a statement that fails is left out.
    """
    texts = [
        (query.name, variant, query.calls)
        for query in found.queries
        for variant in query.variants
        if not _writes(variant.sql)
    ]
    before = {}
    for number, (_, variant, _) in enumerate(texts, 1):
        say(f"timing query {number} of {len(texts)} as things are")
        before[variant.sql] = _time(connection, variant.sql)
    after: dict[str, Timing | None] = {}
    with connection.transaction(force_rollback=True):
        _build(connection, found, say)
        for number, (_, variant, _) in enumerate(texts, 1):
            say(f"timing query {number} of {len(texts)} with the advised indexes")
            after[variant.sql] = _time(connection, variant.sql)
    result = []
    for name, variant, calls in texts:
        first, second = before[variant.sql], after[variant.sql]
        if first is not None and second is not None:
            result.append(
                Measured(
                    name,
                    variant.label,
                    calls / sum(n == name for n, _, _ in texts),
                    variant.cost_before,
                    variant.cost_after,
                    first.median_ms,
                    second.median_ms,
                )
            )
    return tuple(result)


def _build(
    connection: psycopg.Connection, found: Recommendation, say: Callable[[str], None]
) -> None:
    try:
        connection.execute(f"SET LOCAL statement_timeout = {BUILD_TIMEOUT_MS}".encode())
        for number, create in enumerate(found.creates, 1):
            say(f"building index {number} of {len(found.creates)}")
            connection.execute(_in_transaction(create.sql))
        for gone in found.drops:
            connection.execute(_in_transaction(gone.sql))
        for table in sorted({_table(c.sql) for c in found.creates if "((" in c.sql}):
            connection.execute(f"ANALYZE {table}".encode())  # expressions have statistics then
    except psycopg.Error as error:
        raise ServerError(f"the advised set cannot be built: {one_line(error)}") from error


def _in_transaction(ddl: str) -> bytes:
    return ddl.replace(" INDEX CONCURRENTLY", " INDEX").encode()


def _table(ddl: str) -> str:
    return ddl.partition(" ON ")[2].partition(" (")[0].partition(" USING ")[0]


def _writes(sql: str) -> bool:
    found = parse(sql)
    return any(writes(p.kind, p.node) for p in found)


def _time(connection: psycopg.Connection, sql: str) -> Timing | None:
    try:
        return time_statement(connection, sql)
    except ServerError:
        if connection.closed:
            raise
        return None
