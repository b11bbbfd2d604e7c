"""Rows kept by a Materialize node are gone through again and again.

Why: Materialize saves the inner side of a join once so that it need not be made anew, but every
    outer row still goes through all that was saved. Rows × loops comparisons are made, and where
    the rows did not fit work_mem they are read back from a temporary file each time.
Fix: a join condition with an equality that can be hashed or merged (an OR of equalities is none: a
    UNION ALL of joins has them; an equality of ranges or of rounded values may stand in for a
    difference), or an index on the inner side that each outer row can look into.
Silent when: under a million rows were gone through, there were under 100 passes, or it takes less
    than a tenth of the time; where the nested loop has 1,000 passes or more and most of the time,
    plan/nested-loop-blowup says it.
Source: nodeMaterial.c and cost_rescan() in costsize.c; PostgreSQL manual, 14.1.2 "EXPLAIN ANALYZE".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.figures import ms
from sqladvisor.finding import Finding
from sqladvisor.plan.node import Plan, PlanNode
from sqladvisor.plan.weigh import MIN_MS, MIN_SHARE, figures
from sqladvisor.rule import PLAN, rule

SETUP = """
CREATE TABLE small (id int PRIMARY KEY, lo int, hi int);
CREATE TABLE big (id int PRIMARY KEY, v int, w int);
INSERT INTO small SELECT i, i * 10, i * 10 + 5 FROM generate_series(1, 400) i;
INSERT INTO big SELECT i, i % 5000, i % 4999 FROM generate_series(1, 20000) i;
VACUUM ANALYZE;
"""
_SERIAL = "SET max_parallel_workers_per_gather = 0; "
BAD = [
    _SERIAL + "SELECT count(*) FROM small s LEFT JOIN big b ON b.v BETWEEN s.lo AND s.hi",
    _SERIAL + "SELECT count(*) FROM small s LEFT JOIN big b ON b.v = s.lo OR b.w = s.lo",
]
GOOD = [
    _SERIAL + "SELECT count(*) FROM small s JOIN big b ON b.v = s.lo",
    _SERIAL + "SELECT count(*) FROM small s JOIN small t ON t.lo < s.hi WHERE s.id < 20",
    _SERIAL + "SELECT count(*) FROM small s JOIN big b ON b.id = s.id",
]
BLOWUP_LOOPS, BLOWUP_SHARE = 1000, 0.4
"""From here on plan/nested-loop-blowup speaks of the same join."""


@rule(
    PLAN,
    severity="warning",
    needs=("analyze",),
    # A million rows out of a tuplestore take some 30 ms; fewer passes are what Materialize is for.
    thresholds={"min_rows": 1_000_000, "min_loops": 100},
)
def check(plan: Plan, ctx: Context) -> Iterator[Finding]:
    for node in plan.nodes():
        if node.node_type != "Materialize" or (node.actual_loops or 0) < ctx.threshold("min_loops"):
            continue
        rows, loops = node.rows_out or 0, node.actual_loops or 0
        join = plan.parent_of(node)
        if rows < ctx.threshold("min_rows") or join is None or "Join" not in _kind(join):
            continue
        spent = (node.self_ms or 0) + (join.self_ms or 0)
        whole = plan.execution_ms or 0
        if spent < MIN_MS or spent < MIN_SHARE * whole:
            continue
        if loops >= BLOWUP_LOOPS and spent >= BLOWUP_SHARE * whole:
            continue
        at = next((n for n in node.walk() if n.relation), node)
        condition = join.raw.get("Join Filter")
        yield ctx.finding(
            at,
            f"the {node.actual_rows:,.0f} rows kept of {at.relation or 'the inner side'} are gone through "
            f"{loops:,.0f} times"
            + (f": {condition} can be neither hashed nor looked up" if condition else ""),
            level="measured",
            figures={
                **figures(plan, node),
                "rows_gone_through": rows,
                "spent_ms": round(spent, 3),
                "temp_blocks_read": node.temp_read,
            },
            notes=(f"{ms(spent)} of {ms(whole)}",),
        )


def _kind(node: PlanNode) -> str:
    return "Join" if node.node_type == "Nested Loop" else node.node_type
