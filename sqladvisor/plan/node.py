"""The typed plan tree: what EXPLAIN said, and the exclusive (self) time, buffers and rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class PlanNode:
    """One node of a plan.

    Times are ms, costs are planner cost units, blocks are 8192-byte pages.
    ``actual_*`` are None in a plan that was not run; a node never executed has ``loops == 0``.
    ``actual_rows`` and ``actual_total_ms`` are as EXPLAIN prints them: averages per loop.
    ``raw`` is the node's own dictionary (without ``Plans``), for what has no field here.
    """

    node_type: str
    children: tuple[PlanNode, ...]
    raw: dict[str, Any]
    parent_relationship: str | None
    subplan_name: str | None
    relation: str | None
    schema: str | None
    alias: str | None
    index: str | None
    startup_cost: float
    total_cost: float
    plan_rows: float
    plan_width: int
    actual_rows: float | None
    actual_loops: float | None
    actual_startup_ms: float | None
    actual_total_ms: float | None
    total_ms: float | None
    """Inclusive wall-clock time over all loops, parallel processes side by side (exclusive.py)."""
    self_ms: float | None
    """Exclusive wall-clock time: ``total_ms`` less what ran inside the node, never negative."""
    rows_out: float | None
    """Rows produced in all loops together (actual_rows × loops)."""
    shared_hit: int
    shared_read: int
    """Inclusive shared blocks hit and read."""
    self_shared_hit: int
    self_shared_read: int
    temp_read: int
    temp_written: int
    self_temp_read: int
    self_temp_written: int
    depth: int
    path: tuple[int, ...]
    """Child ordinals from the root: identifies the node within its plan."""
    line: int | None = None
    """The line of the input that the node stands on, where it was read from a file."""

    def walk(self) -> Iterator[PlanNode]:
        """This node and all below it, parents first, in the order EXPLAIN prints them."""
        stack = [self]
        while stack:
            node = stack.pop()
            yield node
            stack.extend(reversed(node.children))

    @property
    def id(self) -> str:
        """The node's place in its plan as text: ``0`` is the root, ``0.1`` its second child."""
        return ".".join(("0", *map(str, self.path)))

    @property
    def executed(self) -> bool:
        return bool(self.actual_loops)

    @property
    def filter(self) -> str | None:
        value = self.raw.get("Filter")
        return None if value is None else str(value)

    @property
    def removed_by_filter(self) -> float:
        """Rows read and then dropped by ``filter``, in all loops together; 0 where unknown.

        EXPLAIN prints the average per loop (show_instrumentation_count in explain.c), up to 17
        without decimals.
        """
        removed = self.raw.get("Rows Removed by Filter")
        return float(removed or 0) * (self.actual_loops or 0)

    @property
    def estimate_ratio(self) -> float | None:
        """How many times the planner was out, either way: 1 is exact. Rows of one loop.

        Both sides count at least one row, as the planner's estimates do (clamp_row_est in
        costsize.c). None when the node was not executed.
        """
        if not self.executed or self.actual_rows is None:
            return None
        actual, estimated = max(self.actual_rows, 1.0), max(self.plan_rows, 1.0)
        return max(actual / estimated, estimated / actual)

    @property
    def label(self) -> str:
        """The node as EXPLAIN's text format names it: ``Seq Scan on orders o``."""
        return f"{_operation(self)}{_index(self)}{_target(self)}"


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole plan. ``execution_ms`` is None for a plan that was not run, or run without timing.

    Where EXPLAIN did not print it (SUMMARY OFF), it is the time of the top node.
    """

    root: PlanNode
    planning_ms: float | None = None
    execution_ms: float | None = None
    triggers: tuple[dict[str, Any], ...] = ()
    jit: dict[str, Any] | None = None
    settings: dict[str, str] = field(default_factory=dict)
    query: str | None = None
    raw: dict[str, Any] = field(default_factory=dict)
    line: int | None = None
    """The line of the input that the plan begins on, where it was read from a file."""

    @property
    def total_cost(self) -> float:
        return self.root.total_cost

    @property
    def analyzed(self) -> bool:
        return self.root.actual_loops is not None

    def nodes(self) -> Iterator[PlanNode]:
        return self.root.walk()

    def parent_of(self, node: PlanNode) -> PlanNode | None:
        """The node whose child this is; None for the root."""
        current = self.root
        parent: PlanNode | None = None
        for step in node.path:
            parent, current = current, current.children[step]
        return parent

    def self_share(self, node: PlanNode) -> float:
        """The share of the execution time spent in the node itself, 0 to 1; 0 without timing."""
        whole = self.execution_ms or self.root.total_ms
        return min(1.0, node.self_ms / whole) if whole and node.self_ms else 0.0

    def hot_path(self) -> tuple[PlanNode, ...]:
        """From the root down the costliest children to the node that is costlier than they are.

        By the time spent in a child and below it, where it is printed: that of a CTE counts at the
        CTE, not at the scan that waited for it. By planner cost units where there was no timing.
        """
        weight: dict[tuple[int, ...], float] = {}
        for node in reversed(list(self.nodes())):
            if node.self_ms is None:
                weight[node.path] = node.total_cost
            else:
                weight[node.path] = node.self_ms + sum(weight[c.path] for c in node.children)
        path = [self.root]
        while path[-1].children:
            node = path[-1]
            hottest = max(node.children, key=lambda c: weight[c.path])
            own = node.self_ms
            if own is None:
                own = node.total_cost - sum(c.total_cost for c in node.children)
            if own > weight[hottest.path]:
                break
            path.append(hottest)
        return tuple(path)

    def shape(self) -> tuple[object, ...]:
        """What is done, without what it costs: equal for plans that execute the same."""
        return tuple(
            (n.path, n.node_type, n.relation, n.alias, n.index,
             *(str(n.raw.get(key, "")) for key in _DOES))
            for n in self.nodes()
        )  # fmt: skip

    def indexes_used(self) -> frozenset[str]:
        return frozenset(n.index for n in self.nodes() if n.index)


# What nodes of one type do differently (the output list apart, which only VERBOSE prints).
_DOES = (
    "Join Type", "Filter", "Join Filter", "Index Cond", "Recheck Cond", "Hash Cond", "Merge Cond",
    "Sort Key", "Group Key", "Strategy", "Workers Planned", "Scan Direction", "Command",
    "Subplan Name", "One-Time Filter", "Presorted Key", "Cache Key",
)  # fmt: skip

# How ExplainNode in src/backend/commands/explain.c names nodes in the text format.
_STRATEGIES = {
    ("Aggregate", "Sorted"): "GroupAggregate",
    ("Aggregate", "Hashed"): "HashAggregate",
    ("Aggregate", "Mixed"): "MixedAggregate",
    ("SetOp", "Hashed"): "HashSetOp",
}
_TARGETS = ("Relation Name", "Function Name", "Table Function Name", "CTE Name", "Tuplestore Name")


def _operation(node: PlanNode) -> str:
    raw = node.raw
    name = _STRATEGIES.get((node.node_type, str(raw.get("Strategy"))), node.node_type)
    if name == "ModifyTable" or (name == "Foreign Scan" and raw.get("Operation") != "Select"):
        operation = str(raw.get("Operation") or name)
        name = operation if name == "ModifyTable" else f"Foreign {operation}"
    if node.node_type == "SetOp":
        name = f"{name} {raw.get('Command', '')}".rstrip()
    if node.node_type == "Custom Scan":
        name = f"{name} ({raw.get('Custom Plan Provider', '')})"
    join = raw.get("Join Type", "Inner")
    if join != "Inner":
        name = f"{name.removesuffix(' Join')} {join} Join"
    if raw.get("Partial Mode", "Simple") != "Simple":
        name = f"{raw['Partial Mode']} {name}"
    if raw.get("Parallel Aware"):
        name = f"Parallel {name}"
    return f"Async {name}" if raw.get("Async Capable") else name


def _index(node: PlanNode) -> str:
    if node.index is None:
        return ""
    if node.node_type == "Bitmap Index Scan":
        return f" on {node.index}"
    backward = " Backward" if node.raw.get("Scan Direction") == "Backward" else ""
    return f"{backward} using {node.index}"


def _target(node: PlanNode) -> str:
    target = next((str(node.raw[k]) for k in _TARGETS if node.raw.get(k)), None)
    if target is None:
        return f" on {node.alias}" if node.alias else ""
    schema = f"{node.schema}." if node.schema else ""
    alias = f" {node.alias}" if node.alias and node.alias != target else ""
    return f" on {schema}{target}{alias}"
