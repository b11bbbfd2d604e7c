"""The planner expected a very different number of rows, and chose the rest of the plan by it.

Why: join order, join method and memory are chosen from row estimates. An estimate off by a factor
    of a hundred picks a nested loop where a hash join was right, or the other way round. Only the
    node where the error starts is named, not each one above it that inherits it.
Fix: ANALYZE the table; for correlated columns CREATE STATISTICS; for an expression an expression
    index or statistics on it; for skew a higher statistics target.
Silent when: the estimate is within a factor of 100, the difference is under 1,000 rows, the error
    came from below, no join, sort or aggregate above was chosen by it, or these take no time worth
    saving.
Source: PostgreSQL manual, 14.2 "Statistics Used by the Planner".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.finding import Finding
from sqladvisor.plan.node import Plan, PlanNode
from sqladvisor.plan.weigh import figures, subtree_matters
from sqladvisor.rule import PLAN, rule

SETUP = """
CREATE TABLE t (id int PRIMARY KEY, a int, b int, c int, pad text);
INSERT INTO t SELECT i, i % 2000, i % 2000, i % 2000, repeat('x', 60)
    FROM generate_series(1, 200000) i;
UPDATE t SET a = 1, b = 1, c = 1 WHERE id % 20 = 0;
ALTER TABLE t ALTER a SET STATISTICS 1, ALTER b SET STATISTICS 1, ALTER c SET STATISTICS 1;
CREATE TABLE u (id int PRIMARY KEY, t_id int, pad text);
INSERT INTO u SELECT i, i, repeat('y', 60) FROM generate_series(1, 100000) i;
VACUUM ANALYZE;
"""
BAD = [
    """SET max_parallel_workers_per_gather = 0; SELECT count(*) FROM t JOIN u ON u.t_id = t.id
       WHERE t.a = 1 AND t.b = 1 AND t.c = 1 AND t.pad LIKE 'x%'""",
    "SELECT count(DISTINCT u.pad) FROM t JOIN u ON u.t_id = t.id WHERE t.a % 7 = t.b % 7 AND t.c + 0 = t.a + 0",
]
GOOD = [
    "SELECT count(*) FROM t JOIN u ON u.t_id = t.id",
    "SELECT * FROM t WHERE a = 5 AND b = 5",
    "SELECT count(*) FROM t WHERE a % 7 = b % 7 AND c + 0 = a + 0",
]


@rule(
    PLAN,
    severity="warning",
    needs=("analyze",),
    thresholds={
        "min_factor": 100,  # ×10 is everyday, ×100 changes plans (the field's middle step)
        "min_row_difference": 1000,
    },
)
def check(plan: Plan, ctx: Context) -> Iterator[Finding]:
    for node in plan.nodes():
        if not _off(node, ctx) or any(_off_tenth(child, ctx) for child in node.children):
            continue
        misled = _chosen_by(plan, node)
        if misled is None or not subtree_matters(plan, misled) or _stopped_early(plan, node):
            continue
        ratio = node.estimate_ratio or 1.0
        more = (node.actual_rows or 0) > node.plan_rows
        yield ctx.finding(
            node,
            f"{node.label}: the planner expected {node.plan_rows:,.0f} rows and got "
            f"{node.actual_rows:,.0f}, {ratio:,.0f} times {'more' if more else 'fewer'}",
            level="measured",
            figures={**figures(plan, node), "factor": round(ratio, 1)},
            notes=(f"the error starts here; {misled.label} above was chosen by it",),
        )


def _off(node: PlanNode, ctx: Context) -> bool:
    ratio = node.estimate_ratio
    if ratio is None or ratio < ctx.threshold("min_factor"):
        return False
    difference = abs((node.actual_rows or 0) - node.plan_rows) * (node.actual_loops or 1)
    return difference >= ctx.threshold("min_row_difference")


def _off_tenth(node: PlanNode, ctx: Context) -> bool:
    """A child that is off by a tenth of the factor already explains its parent."""
    ratio = node.estimate_ratio
    return ratio is not None and ratio >= ctx.threshold("min_factor") / 10


# What the planner picks by how many rows it expects: another estimate, another method or order.
_CHOSEN_BY_ROWS = frozenset(
    ("Nested Loop", "Hash Join", "Merge Join", "Sort", "Incremental Sort", "Memoize")
)


def _chosen_by(plan: Plan, node: PlanNode) -> PlanNode | None:
    """The nearest node above whose method or place depends on this node's row estimate."""
    above = plan.parent_of(node)
    while above is not None:
        grouped = above.node_type == "Aggregate" and above.raw.get("Group Key")
        if above.node_type in _CHOSEN_BY_ROWS or grouped:
            return above
        above = plan.parent_of(above)
    return None


def _stopped_early(plan: Plan, node: PlanNode) -> bool:
    """Below a LIMIT, a semi-join or EXISTS the node is not read to its end: no misestimate."""
    if (node.actual_rows or 0) > node.plan_rows:
        return False
    current: PlanNode | None = node
    while current is not None:
        if current.node_type == "Limit" or current.raw.get("Join Type") in ("Semi", "Anti"):
            return True
        if current.parent_relationship == "SubPlan" or current.node_type in ("Merge Join",):
            return True
        current = plan.parent_of(current)
    return False
