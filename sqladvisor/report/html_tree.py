"""A plan as a drawn tree: inline SVG, the root on top, rows flowing upwards.

A node's colour says its own share of the plan's time (of its cost, where the plan was not run), an
edge's width how many rows pass it, on a logarithmic scale. Colours come from the page's style, so that
dark mode and print have theirs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqladvisor.figures import ms
from sqladvisor.plan.annotate import Annotated, Row
from sqladvisor.plan.node import Plan, PlanNode
from sqladvisor.report.markup import Child, Markup, tag
from sqladvisor.report.text import number

BOX_W, BOX_H, GAP_X, GAP_Y, MARGIN = 204, 76, 18, 34, 6
"""Pixels of a node and between nodes."""
MAX_NODES = 150
"""A larger tree is no picture any more: the list below it has all nodes."""
KIND, WHERE = 23, 29
"""Characters that fit into a box of a node's kind, in bold, and of what it reads."""
HEAT = (0.05, 0.2, 0.5)
"""Shares of the whole from which a node is warmer."""


_SPLIT = re.compile(r"(.*?)(?: ((?:using|on) )(.*))?$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Placed:
    node: PlanNode
    x: float
    depth: int


def tree(annotated: Annotated) -> Markup | None:
    """The picture of a plan; None for a plan of one node, or of too many."""
    plan = annotated.plan
    rows: dict[int, Row] = {id(r.node): r for r in annotated.rows()}
    if not 1 < len(rows) <= MAX_NODES:
        return None
    places: dict[int, _Placed] = {}
    leaves = _place(plan.root, 0, 0, places)
    width = leaves * (BOX_W + GAP_X) - GAP_X + 2 * MARGIN
    deepest = max(p.depth for p in places.values())
    height = (deepest + 1) * (BOX_H + GAP_Y) - GAP_Y + 2 * MARGIN
    return tag(
        "div",
        tag(
            "svg",
            tag("title", f"the plan as a tree of {len(rows)} nodes"),
            list(_edges(plan.root, places, plan.analyzed)),
            [_box(places[key], row, plan) for key, row in rows.items()],
            viewBox=f"0 0 {width} {height}", width=width, height=height, role="img",
        ),
        class_="plantree",
    )  # fmt: skip


def _place(node: PlanNode, depth: int, left: int, places: dict[int, _Placed]) -> int:
    """Place a subtree whose first leaf is column ``left``; returns how many columns it takes."""
    taken = 0
    for child in node.children:
        taken += _place(child, depth + 1, left + taken, places)
    if node.children:
        first, last = places[id(node.children[0])].x, places[id(node.children[-1])].x
        x = (first + last) / 2
    else:
        taken, x = 1, MARGIN + left * float(BOX_W + GAP_X)
    places[id(node)] = _Placed(node, x, depth)
    return taken


def _top(placed: _Placed) -> float:
    return MARGIN + placed.depth * float(BOX_H + GAP_Y)


def _edges(node: PlanNode, places: Mapping[int, _Placed], measured: bool) -> Iterable[Child]:
    here = places[id(node)]
    x1, y1 = here.x + BOX_W / 2, _top(here) + BOX_H
    for child in node.children:
        there = places[id(child)]
        x2, y2 = there.x + BOX_W / 2, _top(there)
        middle = (y1 + y2) / 2
        rows = _rows(child, measured)
        wide = 1 + min(math.log10(max(rows, 1.0)), 7)
        yield tag(
            "path",
            tag("title", f"{number(round(rows))} rows"),
            d=f"M{x2:.0f} {y2:.0f}C{x2:.0f} {middle:.0f} {x1:.0f} {middle:.0f} {x1:.0f} {y1:.0f}",
            class_="edge", stroke_width=f"{wide:.1f}",
        )  # fmt: skip
        yield from _edges(child, places, measured)


def _rows(node: PlanNode, measured: bool) -> float:
    """Rows that a node hands up, in all loops; as the planner expects where it was not run."""
    if measured and node.actual_rows is not None:
        return node.actual_rows * max(node.actual_loops or 0, 0)
    return node.plan_rows


def _box(placed: _Placed, row: Row, plan: Plan) -> Markup:
    node, x, y = placed.node, placed.x, _top(placed)
    idle = plan.analyzed and not node.executed
    heat = "idle" if idle else f"h{sum(row.share >= h for h in HEAT)}"
    kind, split, where = _SPLIT.match(node.label).groups()  # type: ignore[union-attr]
    first = next((value for _, value in row.details), "")
    whole = [node.label, *(f"{name}: {value}" if name else value for name, value in row.details)]
    return tag(
        "g",
        tag("title", "\n".join(whole)),
        tag("rect", x=f"{x:.0f}", y=f"{y:.0f}", width=BOX_W, height=BOX_H, rx=6, class_=heat),
        _text(x, y + 18, _cut(kind, KIND), "name"),
        _text(x, y + 34, _cut(f"{split}{where}" if where else first, WHERE), "rows"),
        _text(x, y + 51, "never run" if idle else _own(row), "own"),
        None if idle else _text(x, y + 67, _counted(row), _look(row)),
    )


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _text(x: float, y: float, text: str, look: str) -> Markup:
    return tag("text", text, x=f"{x + 10:.0f}", y=f"{y:.0f}", class_=look)


def _own(row: Row) -> str:
    own = f"cost {number(round(row.self_cost, 1))}" if row.self_ms is None else ms(row.self_ms)
    return f"{own} · {row.share:.0%}"


def _counted(row: Row) -> str:
    node = row.node
    expected = number(round(node.plan_rows))
    if node.actual_rows is None:
        return f"{expected} rows expected"
    loops = node.actual_loops or 0
    times = f"×{number(loops)}" if loops != 1 else ""
    actual = f"{number(round(node.actual_rows, 1))}{times}"
    return f"{actual} row{'s' * (actual != '1')}, {expected} exp."


def _look(row: Row) -> str:
    return "off" if row.factor is not None else "rows"
