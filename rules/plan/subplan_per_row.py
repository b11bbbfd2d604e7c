"""A subquery is executed once for each row of the outer query.

Why: a correlated subquery that PostgreSQL cannot turn into a join is a hidden nested loop.
Fix: a join with the aggregated subquery, LEFT JOIN LATERAL, or an index that makes each run cheap.
Silent when: it ran fewer than 1,000 times, is hashed (once), or takes under a tenth of the time.
Source: PostgreSQL manual, 14.1 "Using EXPLAIN" (SubPlan, loops).
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.figures import ms
from sqladvisor.finding import Finding
from sqladvisor.plan.node import Plan
from sqladvisor.plan.weigh import figures, subtree_matters
from sqladvisor.rule import PLAN, rule

SETUP = """
CREATE TABLE a (id int PRIMARY KEY, x int);
CREATE TABLE b (id int PRIMARY KEY, a_id int, y int);
INSERT INTO a SELECT i, i FROM generate_series(1, 3000) i;
INSERT INTO b SELECT i, i % 3000, i FROM generate_series(1, 6000) i;
VACUUM ANALYZE;
"""
BAD = [
    "SELECT a.id, (SELECT sum(b.y) FROM b WHERE b.a_id = a.id) FROM a",
    "SELECT a.id FROM a WHERE a.x > (SELECT avg(b.y) FROM b WHERE b.a_id = a.id)",
]
GOOD = [
    "SELECT a.id, s.y FROM a LEFT JOIN (SELECT a_id, sum(y) AS y FROM b GROUP BY a_id) s ON s.a_id = a.id",
    "SELECT a.id FROM a WHERE a.id IN (SELECT b.a_id FROM b)",
    "SELECT a.id, (SELECT max(y) FROM b) FROM a",
]


@rule(
    PLAN,
    severity="warning",
    needs=("analyze",),
    thresholds={"min_loops": 1000},  # the field's floor for repeated inner work
)
def check(plan: Plan, ctx: Context) -> Iterator[Finding]:
    for node in plan.nodes():
        if node.parent_relationship != "SubPlan" or not (node.subplan_name or "").startswith(
            "SubPlan"
        ):
            continue
        loops = node.actual_loops or 0
        if loops < ctx.threshold("min_loops") or not subtree_matters(plan, node):
            continue
        at = next((n for n in node.walk() if n.relation), node)
        yield ctx.finding(
            at,
            f"the subquery over {at.relation or node.node_type} runs {loops:,.0f} times, once per "
            f"outer row: {ms(node.total_ms)} of {ms(plan.execution_ms)}",
            level="measured",
            figures={**figures(plan, node), "subplan_ms": round(node.total_ms or 0, 3)},
        )
