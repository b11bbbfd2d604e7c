"""Tries rewrites: do they plan, return the same rows, on the data at hand and on generated data?

One that gives something else is not offered as the same; what it was refuted by is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import psycopg

from sqladvisor.context import Context
from sqladvisor.errors import ServerError
from sqladvisor.finding import Fix
from sqladvisor.prove.parameters import same_numbers, same_places
from sqladvisor.prove.prover import OTHER_PLANS, prove
from sqladvisor.prove.results import Given, difference, order_of, run
from sqladvisor.server.connect import one_line
from sqladvisor.server.explain import ExplainError, explain
from sqladvisor.server.measure import contents, time_pair
from sqladvisor.server.parameters import bind, parameter_values
from sqladvisor.sql.source import read_source, statements

if TYPE_CHECKING:
    from sqladvisor.evidence import Planned
    from sqladvisor.server.target import Target

Say = Callable[[str], None]

MAX_COMPARED_ROWS = 10_000
"""Rows of a query with LIMIT that are fetched to see whether they differ in ties only."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of a rewrite. ``fix`` is the fix with its proof, None when it must not be offered.

    ``proven``: it was tried and always gave the same, on generated databases too. Otherwise
    ``reason`` says why not; ``rows`` are those of a counterexample.
    """

    fix: Fix | None
    proven: bool = False
    reason: str = ""
    rows: tuple[str, ...] = ()


def try_rewrite(target: Target, fix: Fix, item: Planned, say: Say, *, timed: bool = True) -> Tried:
    """Plan a rewrite, run it beside its original where that may be done, compare, and time both.

    ``timed`` False leaves the timing out.
    """
    rewritten = substituted(fix.sql, item)
    if rewritten is None:
        return Tried(fix, reason="it cannot be read as one statement with the same parameters")
    connection = target.connection
    try:
        before = explain(connection, item.sql, generic=item.generic, writes=item.writes)
        after = explain(connection, rewritten, generic=item.generic, writes=item.writes)
    except ExplainError as error:
        return Tried(None, reason=f"it does not plan: {error}")
    proof: dict[str, Any] = {}
    if target.can_build or target.name != "embedded server":
        proof = {"cost_before": before.total_cost, "cost_after": after.total_cost}
    different = ""
    if target.may_run and not item.generic and not item.writes:
        # Where the plan is the same, or the result meant to be another, time says nothing.
        timed = timed and not fix.changes_result and before.shape() != after.shape()
        different = _run_both(target, item, rewritten, proof, timed)
    if fix.changes_result:
        return Tried(replace(fix, proof=proof), reason="it changes the result")
    if different:
        return Tried(None, reason=different)
    return _on_generated(target, fix, item, proof, say)


def _on_generated(
    target: Target, fix: Fix, item: Planned, proof: dict[str, Any], say: Say
) -> Tried:
    try:
        outcome = prove(target.ground(say), item.context, fix.sql)
    except ServerError as error:
        return Tried(replace(fix, proof=proof), reason=str(error))
    except psycopg.Error as error:
        target.ground_lost(one_line(error))
        return Tried(replace(fix, proof=proof), reason=one_line(error))
    if outcome.refuted:
        return Tried(None, reason=f"it {outcome.refuted}", rows=outcome.counterexample)
    if outcome.impossible:
        reason = f"not tried on generated databases: {outcome.impossible}"
        proof.setdefault("note", reason)
        return Tried(replace(fix, proof=proof), reason=outcome.impossible)
    proof |= {"databases": outcome.databases, "generated_rows": outcome.rows}
    if not item.writes:
        proof["same_rows"] = True
    return Tried(replace(fix, proof=proof), proven=True)


def _run_both(
    target: Target, item: Planned, rewritten: str, proof: dict[str, Any], timed: bool
) -> str:
    """How the rewrite's rows differ from the original's, "" if they do not or cannot be had.

    Adds figures to ``proof``.
    """
    connection = target.connection
    different = ""
    try:
        with connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            first = contents(connection, item.sql)
            second = contents(connection, rewritten)
            if first == second:
                proof |= {"same_rows": True, "rows": first.rows}
            elif _left_open(connection, item, rewritten, first.rows):
                proof |= {"note": "which rows LIMIT takes of equal ones is not determined"}
            else:
                different = (
                    f"returns {second.rows:,} rows instead of {first.rows:,}"
                    if first.rows != second.rows
                    else f"returns {second.rows:,} rows with other values"
                )
                proof["note"] = different
        if timed:
            times = time_pair(connection, item.sql, rewritten, target.timings)
            proof |= {"time_before_ms": times[0].median_ms, "time_after_ms": times[1].median_ms}
            proof |= {"buffers_before": times[0].buffers, "buffers_after": times[1].buffers}
    except ExplainError as error:
        proof["note"] = f"not run: {error}"
    except psycopg.Error as error:
        if connection.closed:
            raise
        proof["note"] = f"not run: {one_line(error)}"
    return different


def _left_open(connection: psycopg.Connection, item: Planned, rewritten: str, rows: int) -> bool:
    """Whether the two differ only in what the original leaves open: ties under LIMIT, chance."""
    order = order_of(item.context)
    if order.limited and rows <= MAX_COMPARED_ROWS:
        one, other = (Given(run(connection, sql)) for sql in (item.sql, rewritten))
        if not one.result.error and not difference(order, one, other):
            return True
    expected = contents(connection, item.sql)
    for settings in OTHER_PLANS:
        with connection.transaction(force_rollback=True):
            for command in settings:
                connection.execute(command.encode())
            if contents(connection, item.sql) != expected:
                return True
    return False


def substituted(rewritten: str, item: Planned) -> str | None:
    """The rewritten statement with the planned one's parameter values; None if it takes others."""
    if item.sql == item.context.statement.text:
        return rewritten
    found, problems = statements(read_source("rewrite", rewritten.encode()))
    if problems or len(found) != 1:
        return None
    context = Context(found[0], item.context.catalog)
    if same_places(item.context, context):
        return None
    if item.generic:
        return found[0].sql
    values = parameter_values(item.context) or {}
    numbers = same_numbers(item.context, context)[1]
    return bind(context, {n: values[o] for n, o in numbers.items() if o in values})
