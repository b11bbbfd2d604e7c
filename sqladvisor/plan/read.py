"""Reads what EXPLAIN printed into a Plan. Nothing here connects or judges.

``read_json`` takes the JSON format. The readers of the other formats (read_text.py, read_yaml.py,
read_xml.py) make the same dictionary of EXPLAIN's own property names and hand it to ``plan_of``;
read_file.py finds the plans in a file of any kind.
"""

from __future__ import annotations

import json
from typing import Any

from sqladvisor.errors import InputError
from sqladvisor.plan.exclusive import Outline, exclusive, inclusive_ms, outline_of, payers_of
from sqladvisor.plan.node import Plan, PlanNode

_COUNTERS = (
    "Shared Hit Blocks",
    "Shared Read Blocks",
    "Temp Read Blocks",
    "Temp Written Blocks",
)

# What rules and reports count with: checked once, here.
_FIGURES = (
    *_COUNTERS, "Actual Loops", "Actual Rows", "Actual Total Time", "Actual Startup Time",
    "Rows Removed by Filter", "Rows Removed by Join Filter", "Rows Removed by Index Recheck",
    "Workers Planned", "Workers Launched", "Heap Fetches", "Exact Heap Blocks", "Lossy Heap Blocks",
    "Sort Space Used", "Peak Memory Usage", "Hash Batches", "Original Hash Batches",
    "HashAgg Batches", "Disk Usage", "Cache Hits", "Cache Misses", "Cache Evictions",
    "Cache Overflows", "WAL Records", "WAL FPI", "WAL Bytes", "I/O Read Time", "I/O Write Time",
    "Shared I/O Read Time", "Shared I/O Write Time", "Subplans Removed", "Index Searches",
    "Maximum Storage",
)  # fmt: skip
_TEXT_LISTS = ("Output", "Sort Key", "Presorted Key", "Group Key", "Workers")
_LARGEST = 1e100
"""More than any figure of a plan: the planner itself counts no more rows (MAXIMUM_ROWCOUNT, costsize.c)."""


def read_json(document: Any) -> Plan:
    """The plan in the output of EXPLAIN (FORMAT JSON), of PostgreSQL 12 to 18 or auto_explain.

    ``document`` is the text, or what it decodes to: a list with one object, or that object. Of
    the several plans of a statement that rules rewrote into several, the costliest is taken.
    Raises InputError when it is something else.
    """
    if isinstance(document, str | bytes | bytearray):
        try:
            document = json.loads(document)
        except ValueError as error:
            raise InputError(f"not EXPLAIN (FORMAT JSON) output: {error}") from None
        except RecursionError:
            raise InputError("not EXPLAIN (FORMAT JSON) output: nested too deeply") from None
    objects = document if isinstance(document, list) else [document]
    plans = [plan_of(o) for o in objects if isinstance(o, dict) and "Plan" in o]
    if not plans:
        raise InputError(
            'no "Plan" in this JSON: it is not the output of EXPLAIN (FORMAT JSON),'
            " or the statement has no plan"
        )
    return max(plans, key=lambda p: p.total_cost)


def plan_of(document: dict[str, Any]) -> Plan:
    """The plan in one object of EXPLAIN's output. Raises InputError where a property is amiss."""
    triggers = document.get("Triggers") or ()
    settings = document.get("Settings") or {}
    jit = document.get("JIT")
    query = document.get("Query Text")
    if not isinstance(settings, dict) or not isinstance(triggers, list | tuple):
        raise InputError("not an EXPLAIN plan: Settings or Triggers are malformed")
    triggers = tuple(t for t in triggers if isinstance(t, dict))
    for trigger in triggers:
        _number(trigger, "Time")
        _number(trigger, "Calls")
    root = _nodes(_outline(document["Plan"]))
    execution = _number(document, "Execution Time")
    if execution is None and root.total_ms is not None:
        # SUMMARY OFF, or auto_explain's own JSON: the top node's time and that of the constraint
        # triggers, which fire after it.
        late = (_number(t, "Time") or 0 for t in triggers if t.get("Constraint Name"))
        execution = root.total_ms + sum(late)
    return Plan(
        root=root,
        planning_ms=_number(document, "Planning Time"),
        execution_ms=execution,
        triggers=triggers,
        jit=jit if isinstance(jit, dict) else None,
        settings={str(k): str(v) for k, v in settings.items()},
        query=query if isinstance(query, str) else None,
        raw=document,
        line=getattr(document, "line", None),
    )


def _outline(root: Any) -> Outline:
    """The nodes listed parents first; without recursion, however deep the plan."""
    raws: list[dict[str, Any]] = []
    parents: list[int] = []
    stack = [(root, -1)]
    while stack:
        raw, parent = stack.pop()
        if not isinstance(raw, dict) or not isinstance(raw.get("Node Type"), str):
            raise InputError('not an EXPLAIN plan: a node without "Node Type"')
        children = raw.get("Plans") or []
        if not isinstance(children, list):
            raise InputError('not an EXPLAIN plan: "Plans" is not a list')
        for key in _FIGURES:
            _number(raw, key)
        for key in _TEXT_LISTS:
            if not isinstance(raw.get(key, []), list):
                raise InputError(f'not an EXPLAIN plan: "{key}" is not a list')
        stack.extend((child, len(raws)) for child in reversed(children))
        raws.append(raw)
        parents.append(parent)
    return outline_of(raws, parents)


def _nodes(outline: Outline) -> PlanNode:
    total = inclusive_ms(outline)
    payers = payers_of(outline, total)
    own = exclusive(outline, total, payers)
    blocks = {}
    for counter in _COUNTERS:
        inclusive = [int(raw.get(counter) or 0) for raw in outline.raw]
        blocks[counter] = inclusive, [int(b) for b in exclusive(outline, inclusive, payers)]

    paths: list[tuple[int, ...]] = [()] * len(outline.raw)
    for i, children in enumerate(outline.children):
        for ordinal, child in enumerate(children):
            paths[child] = (*paths[i], ordinal)

    nodes: dict[int, PlanNode] = {}
    for i in reversed(range(len(outline.raw))):
        raw = outline.raw[i]
        loops, rows = _number(raw, "Actual Loops"), _number(raw, "Actual Rows")
        average = _number(raw, "Actual Total Time")
        (hit, own_hit), (read, own_read), (t_read, own_t_read), (written, own_written) = (
            (inclusive[i], self_[i]) for inclusive, self_ in blocks.values()
        )
        nodes[i] = PlanNode(
            node_type=raw["Node Type"],
            children=tuple(nodes.pop(c) for c in outline.children[i]),
            raw={k: v for k, v in raw.items() if k != "Plans"},
            parent_relationship=_text(raw, "Parent Relationship"),
            subplan_name=_text(raw, "Subplan Name"),
            relation=_text(raw, "Relation Name"),
            schema=_text(raw, "Schema"),
            alias=_text(raw, "Alias"),
            index=_text(raw, "Index Name"),
            startup_cost=_number(raw, "Startup Cost") or 0.0,
            total_cost=_number(raw, "Total Cost") or 0.0,
            plan_rows=_number(raw, "Plan Rows") or 0.0,
            plan_width=int(_number(raw, "Plan Width") or 0),
            actual_rows=rows,
            actual_loops=loops,
            actual_startup_ms=_number(raw, "Actual Startup Time"),
            actual_total_ms=average,
            total_ms=None if average is None else total[i],
            self_ms=None if average is None else own[i],
            rows_out=None if rows is None or loops is None else rows * loops,
            shared_hit=hit,
            shared_read=read,
            self_shared_hit=own_hit,
            self_shared_read=own_read,
            temp_read=t_read,
            temp_written=written,
            self_temp_read=own_t_read,
            self_temp_written=own_written,
            depth=outline.depth[i],
            path=paths[i],
            line=getattr(raw, "line", None),
        )
    return nodes[0]


def _number(raw: dict[str, Any], key: str) -> float | None:
    value = raw.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f'not an EXPLAIN plan: "{key}" is not a number')
    if not -_LARGEST <= value <= _LARGEST:
        raise InputError(f'not an EXPLAIN plan: "{key}" is out of range')
    return float(value)


def _text(raw: dict[str, Any], key: str) -> str | None:
    value = raw.get(key)
    if value is None or isinstance(value, str):
        return value
    raise InputError(f'not an EXPLAIN plan: "{key}" is not a text')
