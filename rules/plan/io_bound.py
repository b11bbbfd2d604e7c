"""The query spends its time reading blocks from outside shared_buffers.

Why: the pages it needs are not cached. Times of such a query depend on the storage and on what ran
    before, and no other figure of its plan matters until it reads less.
Fix: an index or a narrower query that reads fewer pages; shared_buffers for the pages read all the
    time; an index-only scan.
Silent when: track_io_timing is off (then nobody knows), reading takes under half of the time or under
    50 ms.
Source: PostgreSQL manual, track_io_timing in 19.9.1 and 14.1 "Using EXPLAIN" (I/O Timings).
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.figures import ms
from sqladvisor.finding import Finding
from sqladvisor.plan.node import Plan, PlanNode
from sqladvisor.rule import PLAN, rule

SETUP = ""
BAD = ["-- plan: pg18-io_bound", "-- plan: pg15-io_bound"]
GOOD = ["-- plan: pg18-hash_batches", "-- plan: pg15-sort_spill"]


@rule(
    PLAN,
    severity="info",
    needs=("analyze",),
    thresholds={"min_share": 0.5, "min_ms": 50},
)
def check(plan: Plan, ctx: Context) -> Iterator[Finding]:
    total = plan.execution_ms or 0
    read_ms = _read_ms(plan.root)
    if read_ms < ctx.threshold("min_ms") or read_ms < ctx.threshold("min_share") * total:
        return
    readers = [n for n in plan.nodes() if n.self_shared_read and n.relation]
    most = max(readers, key=lambda n: n.self_shared_read, default=None)
    where = (
        f", {most.self_shared_read * 8 / 1024:,.0f} MB of them of {most.relation}" if most else ""
    )
    yield ctx.finding(
        most,
        f"{ms(read_ms)} of {ms(total)} go into reading "
        f"{plan.root.shared_read * 8 / 1024:,.0f} MB that were not in shared_buffers{where}",
        level="measured",
        figures={"read_ms": read_ms, "read_blocks": plan.root.shared_read},
    )


def _read_ms(node: PlanNode) -> float:
    """Time spent reading, ms: named Shared I/O Read Time since 17. Workers' times are summed."""
    return float(node.raw.get("Shared I/O Read Time") or node.raw.get("I/O Read Time") or 0)
