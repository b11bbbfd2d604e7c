"""A nested loop repeats expensive work for each of many rows.

Why: the inner side runs once per outer row. That is right for a few rows or a cheap index lookup;
    it is a disaster when the inner side is a whole scan, mostly because the planner expected few
    outer rows.
Fix: an index on the inner side's join column, or correct estimates (ANALYZE, CREATE STATISTICS) so
    that the planner picks a hash join.
Silent when: there are fewer than 1,000 loops, the inner side is an index lookup or memoized, or it
    takes less than 40 % of the time.
Source: PostgreSQL manual, 14.1 "Using EXPLAIN" (nested loops, loops=).
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.figures import ms
from sqladvisor.finding import Finding
from sqladvisor.plan.node import Plan
from sqladvisor.plan.weigh import MIN_MS, figures
from sqladvisor.rule import PLAN, rule

SETUP = """
CREATE TABLE a (id int PRIMARY KEY, x int, pad text);
CREATE TABLE b (id int PRIMARY KEY, a_id int, y int);
INSERT INTO a SELECT i, i % 5, repeat('x', 50) FROM generate_series(1, 3000) i;
INSERT INTO b SELECT i, i, i % 7 FROM generate_series(1, 3000) i;
VACUUM ANALYZE;
"""
_LOOP = "SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_memoize = off;"
BAD = [
    _LOOP + "SELECT count(*) FROM a JOIN b ON b.y = a.x",
    "SELECT count(*) FROM a JOIN b ON b.y < a.x - 3 AND b.a_id <> a.id",
]
GOOD = [
    "SELECT count(*) FROM a JOIN b ON b.a_id = a.id",
    _LOOP + "SELECT count(*) FROM b JOIN a ON a.id = b.a_id WHERE b.id < 50",
]


@rule(
    PLAN,
    severity="warning",
    needs=("analyze",),
    thresholds={"min_loops": 1000, "min_share": 0.4},  # the field's: ≥ 1,000 loops, 40 % of time
)
def check(plan: Plan, ctx: Context) -> Iterator[Finding]:
    for node in plan.nodes():
        if node.node_type != "Nested Loop" or len(node.children) < 2 or not node.executed:
            continue
        outer, inner = node.children[0], node.children[1]
        loops = inner.actual_loops or 0
        scanned = [
            n
            for n in inner.walk()
            if n.node_type in ("Seq Scan", "Materialize", "CTE Scan", "Function Scan")
        ]
        if loops < ctx.threshold("min_loops") or not scanned:
            continue
        spent = (node.self_ms or 0) + (inner.total_ms or 0)
        if spent < MIN_MS or spent < ctx.threshold("min_share") * (plan.execution_ms or 0):
            continue
        at = next((n for n in scanned if n.relation), inner)
        expected = f" (the planner expected {outer.plan_rows:,.0f})"
        yield ctx.finding(
            at,
            f"the nested loop goes through {at.relation or inner.node_type} {loops:,.0f} times"
            + (expected if (outer.estimate_ratio or 1) >= 10 else "")
            + f": {ms(spent)} of {ms(plan.execution_ms)}",
            level="measured",
            figures={**figures(plan, node), "inner_loops": loops, "spent_ms": round(spent, 3)},
        )
