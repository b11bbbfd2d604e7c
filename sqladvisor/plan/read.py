"""Reads what EXPLAIN printed into a Plan. Nothing here connects or judges.

``read_json`` takes the JSON format. A reader of another format only has to make the same
dictionary of EXPLAIN's own property names (they are the same in JSON, YAML and XML) and hand it to
``plan_of``.
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
    return Plan(
        root=_nodes(_outline(document["Plan"])),
        planning_ms=_number(document, "Planning Time"),
        execution_ms=_number(document, "Execution Time"),
        triggers=tuple(t for t in triggers if isinstance(t, dict)),
        jit=jit if isinstance(jit, dict) else None,
        settings={str(k): str(v) for k, v in settings.items()},
        query=query if isinstance(query, str) else None,
        raw=document,
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
        for key in ("Actual Loops", "Actual Total Time", "Actual Startup Time", *_COUNTERS):
            _number(raw, key)
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
            parent_relationship=raw.get("Parent Relationship"),
            subplan_name=raw.get("Subplan Name"),
            relation=raw.get("Relation Name"),
            schema=raw.get("Schema"),
            alias=raw.get("Alias"),
            index=raw.get("Index Name"),
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
        )
    return nodes[0]


def _number(raw: dict[str, Any], key: str) -> float | None:
    value = raw.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f'not an EXPLAIN plan: "{key}" is not a number')
    return float(value)
