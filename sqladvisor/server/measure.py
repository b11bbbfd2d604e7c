"""Runs statements to time them: warm, several times, the median. Only on a sandbox, or on a
target where running was asked for.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from sqladvisor.server.explain import refusal

RUNS = 5
"""Timed runs after a warm-up; fewer when they are slow."""
BUDGET_MS = 800.0
"""Time given to the runs of one statement, ms: slow statements get fewer runs, never none."""
FEWEST_RUNS = 2
"""Timed runs of a statement that takes less than the whole budget."""
NEAR = 1.5
"""A ratio of two timings below which the machine's load may have made it: both are then taken one
right after the other."""


@dataclass(frozen=True, slots=True)
class Timing:
    """One statement's measured execution.

    ``median_ms`` is PostgreSQL's own Execution Time (no network, no client); ``buffers`` are the
    8192-byte shared blocks hit or read by the last run; ``rows`` what the top node returned.
    """

    median_ms: float
    runs: int
    buffers: int
    rows: int


@dataclass(frozen=True, slots=True)
class Contents:
    """What a query returns: the row count and an order-independent checksum of the rows."""

    rows: int
    checksum: str


def time_statement(
    connection: psycopg.Connection, sql: str, *, writes: bool = False, runs: int = RUNS
) -> Timing:
    """Median execution time of a statement, warm. A writing statement is rolled back each time.

    What is not said to write runs in a read-only transaction. Raises ExplainError when it fails or
    exceeds the session's statement_timeout, ServerError when the connection is lost.
    """
    command = f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, SUMMARY, FORMAT JSON) {sql}".encode()
    times: list[float] = []
    document: dict[str, Any] = {}
    spent = 0.0
    try:
        for attempt in range(runs + 1):
            with connection.transaction(force_rollback=writes):
                if not writes:
                    connection.execute("SET TRANSACTION READ ONLY")
                row = _one(connection, command)
            assert row is not None
            document = row[0][0]
            elapsed = float(document["Execution Time"])
            spent += elapsed
            # The first run warms the cache; it counts only if there is no time for a second.
            if attempt or spent > BUDGET_MS:
                times.append(elapsed)
            if spent > BUDGET_MS and (len(times) >= FEWEST_RUNS or elapsed > BUDGET_MS):
                break
    except psycopg.Error as error:
        raise refusal(connection, error) from error
    plan = document["Plan"]
    return Timing(
        statistics.median(times),
        len(times),
        int(plan.get("Shared Hit Blocks", 0)) + int(plan.get("Shared Read Blocks", 0)),
        round(float(plan.get("Actual Rows", 0))),
    )


def _one(connection: psycopg.Connection, command: bytes) -> Any:
    """Run one statement for its one row, by the extended protocol: a second one is an error."""
    with connection.cursor(binary=True) as cursor:
        return cursor.execute(command, prepare=False).fetchone()


def time_pair(
    connection: psycopg.Connection, before: str, after: str, known: dict[str, Timing]
) -> tuple[Timing, Timing]:
    """The timings of a statement and of what would replace it.

    ``known`` keeps what was timed before on this connection; where the two are close, the first is
    timed anew beside the second. Raises ServerError.
    """
    fresh = before not in known
    first = known[before] if not fresh else time_statement(connection, before)
    second = time_statement(connection, after)
    if not fresh and first.median_ms < NEAR * second.median_ms < NEAR**2 * first.median_ms:
        first = time_statement(connection, before)
    known[before] = first
    return first, second


def time_script(connection: psycopg.Connection, statements: Sequence[str], runs: int = 3) -> float:
    """Median wall-clock ms of running statements one after another in a rolled-back transaction.

    Wall clock at the client on a local socket: for batches and prepared statements the round trips
    are the point. Raises as time_statement() does.
    """
    times = []
    try:
        for attempt in range(runs + 1):
            with connection.transaction(force_rollback=True):
                start = time.perf_counter()
                for statement in statements:
                    connection.execute(statement.encode(), prepare=False)
                elapsed = (time.perf_counter() - start) * 1000
            if attempt:
                times.append(elapsed)
    except psycopg.Error as error:
        raise refusal(connection, error) from error
    return statistics.median(times)


def contents(connection: psycopg.Connection, query: str) -> Contents:
    """Row count and checksum of a query's result as a multiset (the order does not count).

    The checksum is the sum of the 64-bit hashes of the rows' text: equal multisets have equal
    sums, and different ones the same sum with probability 2^-64. Raises as time_statement() does.
    """
    command = (
        "SELECT count(*), coalesce(sum(hashtextextended(sqladvisor_row::text, 0)::numeric), 0)"
        f" FROM (\n{query}\n) AS sqladvisor_row"
    )
    try:
        row = _one(connection, command.encode())
    except psycopg.Error as error:
        raise refusal(connection, error) from error
    assert row is not None
    return Contents(int(row[0]), str(row[1]))
