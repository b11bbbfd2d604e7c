"""Whether a plan node is worth a word: the time it takes itself, and its share of the whole.

A node that takes a tenth of a millisecond is never a finding, however bad its ratios look.
"""

from __future__ import annotations

from sqladvisor.plan.node import Plan, PlanNode

MIN_MS = 5.0
"""Self time in ms below which no node is mentioned: nobody can feel the gain."""
MIN_SHARE = 0.10
"""Share of the execution time: below a tenth, fixing the node cannot matter (Amdahl)."""


def matters(plan: Plan, node: PlanNode) -> bool:
    """Whether the node's own work takes at least 5 ms and a tenth of the execution time."""
    return _matters(plan, node.self_ms)


def subtree_matters(plan: Plan, node: PlanNode) -> bool:
    """The same for the node with everything below it."""
    return _matters(plan, node.total_ms)


def _matters(plan: Plan, time_ms: float | None) -> bool:
    if time_ms is None or not plan.execution_ms:
        return False
    return time_ms >= MIN_MS and time_ms >= MIN_SHARE * plan.execution_ms


def figures(plan: Plan, node: PlanNode) -> dict[str, object]:
    """The figures every plan finding carries: node, self time, share, rows."""
    share = (node.self_ms or 0) / plan.execution_ms if plan.execution_ms else None
    return {
        "node": node.node_type,
        "plan_node": node.id,
        "relation": node.relation,
        "self_time_ms": None if node.self_ms is None else round(node.self_ms, 3),
        "share_of_time": None if share is None else round(share, 3),
        "estimated_rows": node.plan_rows,
        "actual_rows": node.actual_rows,
        "loops": node.actual_loops,
    }
