"""Tries advice about the schema itself where there are rows: with and without, then as it was.

Everything happens in transactions that are rolled back, or with an index that is dropped again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg

from sqladvisor.errors import ServerError
from sqladvisor.finding import Finding
from sqladvisor.server.connect import one_line
from sqladvisor.server.explain import explain
from sqladvisor.server.measure import Timing, time_statement

if TYPE_CHECKING:
    from sqladvisor.evidence import Planned
    from sqladvisor.server.target import Target

Say = Callable[[str], None]

MAX_LOSS = 0.10
"""Share of its planner cost that a statement may lose by a dropped index: estimates differ so."""
MIN_BETTER = 3.0
"""How many times nearer to the truth an estimate must come: less is within one sample's noise."""

_NEWEST_SIZE = "SELECT pg_relation_size(indexrelid) FROM pg_index ORDER BY indexrelid DESC LIMIT 1"


def verify_schema(
    target: Target, findings: Sequence[Finding], planned: Sequence[Planned], say: Say
) -> list[Finding]:
    """Try what schema rules advise. Returns the findings that stand, with what was seen."""
    result: list[Finding] = []
    for number, finding in enumerate(findings, 1):
        say(f"proving schema finding {number} of {len(findings)}")
        checked: Finding | None = finding
        try:
            if "covered_by" in finding.evidence.figures:
                checked = _dropped(target, finding, planned)
            elif "lookup" in finding.evidence.figures:
                checked = _looked_up(target, finding)
            elif "probe" in finding.evidence.figures:
                checked = _estimated(target, finding, planned)
        except (ServerError, psycopg.Error) as error:
            if target.connection.closed:
                raise
            cause = one_line(error) if isinstance(error, psycopg.Error) else str(error)
            checked = _noted(finding, f"not tried: {cause}")
        if checked is not None:
            result.append(checked)
    return result


def _dropped(target: Target, finding: Finding, planned: Sequence[Planned]) -> Finding | None:
    """The finding with what the statements that use an index cost without it; None if too much."""
    index, lines = str(finding.evidence.figures["index"]), []
    users = [p for p in planned if p.context.plan and index in p.context.plan.indexes_used()]
    ddl = finding.fixes[0].sql.replace(" CONCURRENTLY", "")
    before = after = 0.0
    for item in users:
        with target.connection.transaction(force_rollback=True):
            target.connection.execute(ddl.encode())
            plan = explain(target.connection, item.sql, generic=item.generic, writes=item.writes)
        assert item.context.plan is not None
        cost = item.context.plan.total_cost
        if plan.total_cost > cost * (1 + MAX_LOSS):
            return None
        before, after = before + cost, after + plan.total_cost
        lines.append(str(item.context.statement.line))
    if not users:
        return finding
    proof = {"cost_before": round(before, 2), "cost_after": round(after, 2)}
    fix = replace(finding.fixes[0], proof={**finding.fixes[0].proof, **proof})
    where = f"line{'s' * (len(lines) > 1)} {', '.join(lines)}"
    noted = _noted(finding, f"planned without it: {where}")
    level = replace(noted.evidence, level="estimated")
    return replace(noted, fixes=(fix,), evidence=level)


def _looked_up(target: Target, finding: Finding) -> Finding:
    """The finding with its look-up timed before and after its index is built."""
    connection, sql = target.connection, str(finding.evidence.figures["lookup"])
    before_plan, before = explain(connection, sql, writes=False), time_statement(connection, sql)
    (fix,) = finding.fixes
    with connection.transaction(force_rollback=True):
        connection.execute(fix.sql.replace(" CONCURRENTLY", "").encode())
        after_plan, after = explain(connection, sql, writes=False), time_statement(connection, sql)
        size = connection.execute(_NEWEST_SIZE).fetchone()
    proof = {
        "cost_before": before_plan.total_cost,
        "cost_after": after_plan.total_cost,
        **_timed(before, after),
        "size_bytes": int(size[0]) if size else 0,
    }
    evidence = replace(
        finding.evidence,
        level="measured",
        notes=(*finding.evidence.notes, "timed: the look-up for one deleted row"),
    )
    return replace(finding, fixes=(replace(fix, proof=proof),), evidence=evidence)


def _estimated(target: Target, finding: Finding, planned: Sequence[Planned]) -> Finding | None:
    """The finding with the estimate under its statistics; None where they do not help.

    Both estimates come after an ANALYZE of their own: stale statistics are another finding.
    """
    connection, figures = target.connection, finding.evidence.figures
    probe, (fix,) = str(figures["probe"]), finding.fixes
    create, analyze = (part.strip() for part in fix.sql.rstrip(";").split(";"))
    item = next((p for p in planned if p.context.statement.text == finding.statement), None)
    if item is None:
        return finding
    row = connection.execute(f"SELECT count(*) FROM ({probe}) AS probed".encode()).fetchone()
    actual = max(int(row[0]) if row else 0, 1)
    with connection.transaction(force_rollback=True):
        connection.execute(analyze.encode())
        without = explain(connection, probe, writes=False).root.plan_rows
        first = None if item.writes else time_statement(connection, item.sql)
        connection.execute(create.encode())
        connection.execute(analyze.encode())
        with_statistics = explain(connection, probe, writes=False).root.plan_rows
        second = None if item.writes else time_statement(connection, item.sql)
    if _off(with_statistics, actual) * MIN_BETTER > _off(without, actual):
        return None
    proof: dict[str, Any] = {
        "rows_estimated_before": without,
        "rows_estimated_after": with_statistics,
        "rows_actual": actual,
        "note": f"tried: the planner expects {with_statistics:,.0f} rows with it, {without:,.0f} "
        f"without; there are {actual:,}",
    }
    if first is not None and second is not None:
        proof |= _timed(first, second)
    return replace(finding, fixes=(replace(fix, proof=proof),))


def _off(estimate: float, actual: float) -> float:
    estimate = max(estimate, 1.0)
    return max(estimate / actual, actual / estimate)


def _timed(before: Timing, after: Timing) -> dict[str, Any]:
    return {
        "time_before_ms": round(before.median_ms, 3),
        "time_after_ms": round(after.median_ms, 3),
        "buffers_before": before.buffers,
        "buffers_after": after.buffers,
    }


def _noted(finding: Finding, note: str) -> Finding:
    evidence = replace(finding.evidence, notes=(*finding.evidence.notes, note))
    return replace(finding, evidence=evidence)
