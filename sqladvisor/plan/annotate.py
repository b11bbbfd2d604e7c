"""What to show beside each node of a plan: its own time, how far its estimate was off, what it read.

Figures only; how they look is the report's business.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqladvisor.finding import Finding
from sqladvisor.plan.node import Plan, PlanNode

NOTABLE_FACTOR = 10
"""Times an estimate is off before it is marked: less is everyday (the field's first step)."""


@dataclass(frozen=True, slots=True)
class Row:
    """One node as a line of the tree. What was not measured is None."""

    node: PlanNode
    last: tuple[bool, ...]
    """For the node and each node above it but the root: whether it is the last of its siblings."""
    hot: bool
    """On the way from the root to where most of the time (cost, where it was not run) goes."""
    share: float
    """Of the execution time, or of the planner's cost: what is the node's own, 0 to 1."""
    self_ms: float | None
    self_cost: float
    factor: float | None
    """Times the estimate was off, where that is notable: above 1 more rows came, below 1 fewer."""
    workers: tuple[int, int] | None
    """Launched and planned, where the node starts workers."""
    details: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Annotated:
    """A plan ready to be shown, with the findings on it."""

    plan: Plan
    path: str
    line: int
    query: str
    findings: tuple[Finding, ...] = ()

    def rows(self) -> Iterator[Row]:
        """The lines of the tree, in the order EXPLAIN prints them."""
        plan = self.plan
        hot = {node.path for node in plan.hot_path()}
        timed = plan.root.self_ms is not None
        whole = plan.root.total_cost
        stack: list[tuple[PlanNode, tuple[bool, ...]]] = [(plan.root, ())]
        while stack:
            node, last = stack.pop()
            cost = own_cost(node)
            yield Row(
                node=node,
                last=last,
                hot=node.path in hot,
                share=plan.self_share(node) if timed else min(1.0, cost / whole) if whole else 0.0,
                self_ms=node.self_ms,
                self_cost=cost,
                factor=None if _cut_short(plan, node) else _factor(node),
                workers=_workers(node),
                details=tuple(_details(node)),
            )
            count = len(node.children)
            below = [(c, (*last, i == count - 1)) for i, c in enumerate(node.children)]
            stack.extend(reversed(below))


def own_cost(node: PlanNode) -> float:
    """The planner's cost of a node's own work, as far as it can be told: never negative.

    Below LIMIT, and where a child is not read to its end, children cost more than their parent.
    """
    return max(0.0, node.total_cost - sum(c.total_cost for c in node.children))


def _factor(node: PlanNode) -> float | None:
    ratio = node.estimate_ratio
    if ratio is None or ratio < NOTABLE_FACTOR or not node.plan_rows:
        return None
    return ratio if (node.actual_rows or 0) > node.plan_rows else 1 / ratio


# Reads its input to the end before it gives a row: LIMIT above cannot stop what is below.
_READS_ALL = frozenset(("Sort", "Hash", "SetOp", "WindowAgg", "ModifyTable"))


def _cut_short(plan: Plan, node: PlanNode) -> bool:
    """Whether a LIMIT that was reached kept a node from giving all its rows: no estimate is off then."""
    if (node.actual_rows or 0) >= node.plan_rows:
        return False
    above = plan.parent_of(node)
    while above is not None:
        hashed = above.node_type == "Aggregate" and above.raw.get("Strategy") != "Sorted"
        if hashed or above.node_type in _READS_ALL:
            return False
        if above.node_type == "Limit" and (above.actual_rows or 0) >= above.plan_rows:
            return True
        above = plan.parent_of(above)
    return False


def _workers(node: PlanNode) -> tuple[int, int] | None:
    planned = node.raw.get("Workers Planned")
    if planned is None:
        return None
    return int(node.raw.get("Workers Launched", planned if not node.executed else 0)), int(planned)


# What explains a node, in the order in which it is worked through; the removed rows of a filter are
# said with it.
_CONDITIONS = (
    "Index Cond", "Recheck Cond", "Hash Cond", "Merge Cond", "TID Cond", "Order By", "Join Filter",
    "Filter", "One-Time Filter", "Run Condition", "Sort Key", "Presorted Key", "Group Key",
    "Cache Key", "Function Call", "Sampling Method", "Remote SQL", "Conflict Filter",
)  # fmt: skip
_REMOVED = {
    "Filter": "Rows Removed by Filter",
    "Join Filter": "Rows Removed by Join Filter",
    "Recheck Cond": "Rows Removed by Index Recheck",
}
_FIGURES = (
    ("Sort Method", "{}"),
    ("Sort Space Used", "{:,} kB"),
    ("Hash Batches", "{:,} batches"),
    ("HashAgg Batches", "{:,} batches"),
    ("Peak Memory Usage", "{:,} kB of memory"),
    ("Disk Usage", "{:,} kB on disk"),
    ("Heap Fetches", "{:,} heap fetches"),
    ("Exact Heap Blocks", "{:,} exact pages"),
    ("Lossy Heap Blocks", "{:,} lossy pages"),
    ("Subplans Removed", "{:,} subplans pruned"),
    ("Cache Hits", "{:,} cache hits"),
    ("Cache Misses", "{:,} misses"),
    ("Cache Evictions", "{:,} evictions"),
    ("Storage", "storage: {}"),
    ("Maximum Storage", "{:,} kB"),
)
_ONE = (("Hash Batches", 1), ("HashAgg Batches", 1))
_ALWAYS = ("Heap Fetches", "Cache Hits", "Cache Misses")


def _details(node: PlanNode) -> Iterator[tuple[str, str]]:
    """Name and text of what explains a node: conditions, keys, memory, waiting for disk."""
    raw = node.raw
    if node.subplan_name:
        yield "as", node.subplan_name
    for name in _CONDITIONS:
        if name in raw:
            text = _text(raw[name])
            removed = raw.get(_REMOVED.get(name, ""))
            yield name, f"{text}  removed {removed:,.0f} rows" if removed else text
    parts = [
        form.format(raw[name])
        for name, form in _FIGURES
        if _shown(raw.get(name))
        and (raw[name] or name in _ALWAYS)
        and (name, raw[name]) not in _ONE
    ]
    if parts:
        yield "", ", ".join(parts)
    waited = [raw.get(f"{kind}I/O Read Time") for kind in ("", "Shared ", "Temp ")]
    if any(waited):
        yield "I/O", f"{sum(w for w in waited if w):,.3f} ms reading"


def _shown(value: Any) -> bool:
    return isinstance(value, int | float | str) and not isinstance(value, bool) and value != ""


def _text(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(str, value))
    return str(value)
