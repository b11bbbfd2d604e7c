"""Where the time and the buffers of a plan went: inclusive figures made wall-clock and exclusive.

What EXPLAIN prints (src/backend/commands/explain.c, ExplainNode; src/backend/executor/instrument.c;
the manual's "Using EXPLAIN", section "EXPLAIN ANALYZE"):

- a node's times are averages per loop and include all nodes that ran inside it:
  inclusive = Actual Total Time × Actual Loops;
- below Gather and Gather Merge, loops and times are sums over the participating processes
  (InstrAggNode), which ran side by side. Each took part once for each execution of the Gather, so
  participants = loops of the Gather's child / loops of the Gather, and the wall-clock share of all
  below is inclusive / participants. Block counts are sums too, and need no division: the Gather's
  own count has the workers' added (InstrAccumParallelQuery);
- an InitPlan runs when its value is first needed (ExecSetParamPlan) and a CTE when a CTE Scan pulls
  a row: inside that node, not inside the one they are printed under. A Gather evaluates what its
  workers need before it starts them (ExecInitParallelPlan);
- a data-modifying CTE that nobody reads to its end is finished after the plan's top node
  (ExecPostprocessPlan): inside no node, but inside Execution Time. AFTER triggers likewise.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

ROUNDING_MS = 0.0005
"""Half of the last digit of Actual Total Time (three decimals of a ms, explain.c)."""

# Node types that cannot compute expressions of an output list: is_projection_capable_plan in
# src/backend/optimizer/plan/createplan.c, and those that return no rows of their own.
_NOT_PROJECTING = frozenset(
    ("Hash", "Materialize", "Memoize", "Sort", "Incremental Sort", "Unique", "SetOp", "LockRows",
     "Limit", "ModifyTable", "Append", "Merge Append", "Recursive Union", "Bitmap Index Scan",
     "BitmapAnd", "BitmapOr")
)  # fmt: skip

_PARAMETER = re.compile(r"\$\d+|InitPlan \d+")


@dataclass(frozen=True, slots=True)
class Outline:
    """The nodes of a plan as EXPLAIN's own dictionaries, parents first, by position in the list.

    ``parent`` is -1 for the root; ``end`` is the position after the node's last descendant.
    """

    raw: Sequence[dict[str, Any]]
    parent: Sequence[int]
    children: Sequence[Sequence[int]]
    end: Sequence[int]
    depth: Sequence[int]

    def loops(self, node: int) -> float:
        return float(self.raw[node].get("Actual Loops") or 0)

    def startup_ms(self, node: int) -> float:
        """Until the first row, over all loops (and processes)."""
        return float(self.raw[node].get("Actual Startup Time") or 0) * self.loops(node)

    def inside(self, node: int) -> list[int]:
        """The children whose time passes inside this node: all but InitPlans and CTEs."""
        return [c for c in self.children[node] if not self.detached(c)]

    def detached(self, node: int) -> bool:
        return self.raw[node].get("Parent Relationship") == "InitPlan"


def inclusive_ms(outline: Outline) -> list[float]:
    """Wall-clock ms of each node over all loops, its children included; 0 where never executed.

    An average of 1 µs over a million loops may be half a second out. Where children come out longer
    than the node they ran in, it is lengthened and they are shortened as far as rounding allows.
    """
    participants = _participants(outline)
    total: list[float] = []
    least: list[float] = []
    for i, raw in enumerate(outline.raw):
        loops = outline.loops(i) / participants[i]
        average = float(raw.get("Actual Total Time") or 0)
        total.append(average * loops)
        least.append(max(0.0, average - ROUNDING_MS) * loops)
    for node in reversed(range(len(total))):
        most = total[node] + ROUNDING_MS * outline.loops(node) / participants[node]
        needed = min(most, sum(least[c] for c in outline.inside(node)))
        least[node] = max(least[node], needed)
        total[node] = max(total[node], needed)
    for node in range(len(total)):
        children = outline.inside(node)
        if _gathers(outline.raw[node]) and len(children) > 1:
            # The leader may evaluate a SubPlan (printed last) while its workers work: what they did
            # meanwhile took no time of its own.
            workers, *subplans = children
            room = max(0.0, total[node] - sum(total[c] for c in subplans))
            if total[workers] > room:
                share = room / total[workers]
                for below in range(workers, outline.end[workers]):
                    total[below] *= share
                    least[below] *= share
        excess = sum(total[c] for c in children) - total[node]
        slack = sum(total[c] - least[c] for c in children)
        if excess > 0 and slack > 0:
            share = min(1.0, excess / slack)
            for child in children:
                total[child] -= share * (total[child] - least[child])
    return total


def exclusive(
    outline: Outline, inclusive: Sequence[float], payers: dict[int, list[int]]
) -> list[float]:
    """Each node's inclusive figure less what passed inside it; never negative.

    ``payers`` are the nodes in which each InitPlan and CTE ran (see ``payers_of``).
    """
    own = [
        max(0, inclusive[i] - sum(inclusive[c] for c in outline.inside(i)))
        for i in range(len(inclusive))
    ]
    for subplan, nodes in payers.items():
        due = inclusive[subplan]
        for node in nodes:
            part = min(due, own[node])
            own[node] -= part
            due -= part
    return own


def payers_of(outline: Outline, inclusive: Sequence[float]) -> dict[int, list[int]]:
    """For each InitPlan and CTE the nodes it can have run in, the likeliest first.

    A CTE ran in its CTE Scans: the one that took longest pulled the rows, the others read them
    from memory. An InitPlan ran in a node whose expressions name it, or above that one (a Gather,
    an Append that prunes by it). Output lists are not printed without VERBOSE: where nothing names
    it, it is in one, and the topmost node that computes any is meant. Startup times decide: the
    first row came after the InitPlan was done.
    """
    if not any(outline.detached(i) for i in range(len(outline.raw))):
        return {}
    scans = _scans_of_ctes(outline)
    named = _named(outline)
    payers: dict[int, list[int]] = {}
    for subplan in range(len(outline.raw)):
        if not outline.detached(subplan):
            continue
        name = str(outline.raw[subplan].get("Subplan Name", ""))
        if name.startswith("CTE "):
            payers[subplan] = sorted(scans.get(subplan, ()), key=lambda n: -inclusive[n])
        else:
            users = {n for mark in _PARAMETER.findall(name) for n in named.get(mark, ())}
            payers[subplan] = _ran_initplan(outline, subplan, users, inclusive[subplan])
    return payers


def _participants(outline: Outline) -> list[float]:
    count: list[float] = []
    for node, parent in enumerate(outline.parent):
        inherited = count[parent] if parent >= 0 else 1.0
        if (
            parent >= 0
            and _gathers(outline.raw[parent])
            and outline.raw[node].get("Parent Relationship") == "Outer"
            and outline.loops(parent)
        ):
            inherited *= max(1.0, outline.loops(node) / outline.loops(parent))
        count.append(inherited)
    return count


def _scans_of_ctes(outline: Outline) -> dict[int, list[int]]:
    """The CTE Scans of each CTE: names may repeat, the innermost one around a scan is meant."""
    by_owner = {
        (outline.parent[i], str(raw.get("Subplan Name", ""))): i
        for i, raw in enumerate(outline.raw)
        if outline.detached(i)
    }
    scans: dict[int, list[int]] = {}
    for i, raw in enumerate(outline.raw):
        if raw.get("Node Type") != "CTE Scan":
            continue
        owner, name = i, f"CTE {raw.get('CTE Name')}"
        while owner >= 0 and (owner, name) not in by_owner:
            owner = outline.parent[owner]
        if owner >= 0:
            scans.setdefault(by_owner[owner, name], []).append(i)
    return scans


def _named(outline: Outline) -> dict[str, list[int]]:
    """The nodes whose expressions mention ``$0`` (up to 16) or ``InitPlan 1`` (from 17)."""
    found: dict[str, list[int]] = {}
    for i, raw in enumerate(outline.raw):
        text = " ".join(str(v) for k, v in raw.items() if k not in ("Plans", "Subplan Name"))
        for mark in set(_PARAMETER.findall(text)):
            found.setdefault(mark, []).append(i)
    return found


def _ran_initplan(outline: Outline, subplan: int, users: set[int], due: float) -> list[int]:
    """The nodes an InitPlan of ``due`` ms can have run in, the likeliest first."""
    owner = outline.parent[subplan]
    inside = range(owner, outline.end[owner])
    own = range(subplan, outline.end[subplan])
    users = {n for n in users if n in inside and n not in own}
    if not users:
        return sorted(
            _without_detached(outline, owner),
            key=lambda n: (
                outline.startup_ms(n) < due,
                outline.raw[n]["Node Type"] in _NOT_PROJECTING,
                outline.depth[n],
            ),
        )
    pool: set[int] = set()
    evaluators: set[int] = set()
    for user in users:
        path = [user]
        while path[-1] != owner:
            path.append(outline.parent[path[-1]])
        gathers = [k for k, n in enumerate(path) if _gathers(outline.raw[n])]
        path = path[max(gathers, default=0) :]
        evaluators.add(path[0])
        pool.update(path)
    return sorted(
        pool, key=lambda n: (outline.startup_ms(n) < due, n not in evaluators, -outline.depth[n])
    )


def _without_detached(outline: Outline, node: int) -> list[int]:
    found: list[int] = []
    stack = [node]
    while stack:
        found.append(stack.pop())
        stack.extend(outline.inside(found[-1]))
    return found


def _gathers(raw: dict[str, Any]) -> bool:
    return raw["Node Type"] in ("Gather", "Gather Merge")


def outline_of(raw: Sequence[dict[str, Any]], parent: Sequence[int]) -> Outline:
    """The outline of nodes listed parents first, with the position of each one's parent."""
    children: list[list[int]] = [[] for _ in raw]
    depth = [0] * len(raw)
    end = list(range(1, len(raw) + 1))
    for i, above in enumerate(parent):
        if above >= 0:
            children[above].append(i)
            depth[i] = depth[above] + 1
    for i in reversed(range(1, len(raw))):
        end[parent[i]] = max(end[parent[i]], end[i])
    return Outline(raw, parent, children, end, depth)
