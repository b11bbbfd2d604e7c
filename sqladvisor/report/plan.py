"""The report of ``explain``: the plan as a tree with the figures of each node, and its findings.

Renders what plan/annotate.py worked out; fits in 120 columns but for SQL that is to be pasted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqladvisor.figures import ms
from sqladvisor.finding import Finding
from sqladvisor.plan.annotate import Annotated, Row
from sqladvisor.plan.node import Plan
from sqladvisor.report import text
from sqladvisor.report.escape import printable
from sqladvisor.report.model import Report
from sqladvisor.report.text import Painter

WIDTH = 120
"""Columns."""
MIN_TREE = 40
"""Columns that the tree has at least; labels are cut to what is left beside the figures."""
MAX_GUIDES = 40
"""Columns of a deep tree's lines: beyond it the depth and the innermost are shown."""
MAX_DETAIL_LINES = 2
"""Lines of one condition, without --verbose."""
_STYLE = re.compile("\x1b\\[[0-9;]*m")
HOT = "●"
_HOT_SHARE = 0.25
_WARM_SHARE = 0.10
"""Shares of the time from which a node's own is shown red, and yellow."""


def render(report: Report, *, color: bool = False, verbose: bool = False) -> str:
    """The whole report as text, ending in a newline."""
    paint = Painter(color)
    lines: list[str] = []
    for problem in report.problems:
        place = printable(problem.path) + (f":{problem.line}" if problem.line else "")
        what = printable(problem.message)
        lines += [f"{paint('bold', place)}: {paint('error', 'cannot explain')}: {what}", ""]
    plans: Sequence[Annotated] = report.details.get("plans", ())
    known = {id(f) for f in report.findings}
    for plan in plans:
        findings = [f for f in plan.findings if id(f) in known]
        lines += [*_plan(plan, findings, paint, verbose), ""]
    shown = {id(f) for plan in plans for f in plan.findings}
    for finding in report.findings:
        if id(finding) not in shown:
            at = finding.location
            place = f"{printable(at.path)}:{at.line}:{at.column}"
            lines += [paint("bold", place), *_finding(finding, "  ", paint, verbose), ""]
    lines += _wrapped_notes(report.notes, paint)
    lines.append(_summary(report, plans, paint))
    return "\n".join(lines) + "\n"


def _wrapped_notes(notes: Sequence[str], paint: Painter) -> list[str]:
    lines = []
    for note in notes:
        folded = _fold(f"note: {printable(note)}", "", "      ")
        lines += [paint("dim", line) for line in folded]
    return lines


# -- one plan -------------------------------------------------------------------------------------


def _plan(
    annotated: Annotated, findings: Sequence[Finding], paint: Painter, verbose: bool
) -> Iterator[str]:
    plan = annotated.plan
    place = f"{printable(annotated.path)}:{annotated.line}"
    yield f"{paint('bold', place)}  {_headline(plan)}"
    query = " ".join(printable(annotated.query).split())
    if query:
        yield paint("dim", f"  {_cut(query, WIDTH - 2)}")
    yield ""
    at_node: dict[str, list[Finding]] = {}
    ids = {node.id for node in plan.nodes()}
    for finding in findings:
        node = str(finding.evidence.figures.get("plan_node", ""))
        at_node.setdefault(node if node in ids else "", []).append(finding)
    yield from _tree(annotated, at_node, paint, verbose)
    for finding in at_node.get("", ()):
        yield from _finding(finding, "  ", paint, verbose)
    yield from _footer(plan, paint)


def _headline(plan: Plan) -> str:
    if plan.execution_ms is None and not plan.analyzed:
        return f"not run: planner cost {text.number(plan.total_cost)}"
    parts = []
    if plan.execution_ms is not None:
        parts.append(f"execution {ms(plan.execution_ms)}")
    if plan.planning_ms is not None:
        parts.append(f"planning {ms(plan.planning_ms)}")
    if not plan.analyzed:
        parts.append("nodes not measured")
    elif plan.root.self_ms is None:
        parts.append("nodes not timed")
    return ", ".join(parts) or "no times"


Cell = tuple[str, str]
"""Text and style ("" for none)."""


def _tree(
    annotated: Annotated,
    findings: Mapping[str, Sequence[Finding]],
    paint: Painter,
    verbose: bool,
) -> Iterator[str]:
    rows = list(annotated.rows())
    cells = [_cells(annotated.plan, row) for row in rows]
    names = [n for n in _COLUMNS if any(n in c and c[n][0] for c in cells)]
    widths = {n: max(len(n), *(len(c.get(n, ("", ""))[0]) for c in cells)) for n in names}
    figures = sum(widths.values()) + 2 * len(names)
    room = max(MIN_TREE, WIDTH - figures)
    labels = [_label(row, room) for row in rows]
    tree = max(len(label) for label in labels)
    head = "".join(f"  {name:>{widths[name]}}" for name in names)
    yield paint("dim", f"{'':{tree}}{head}")
    for row, label, cell in zip(rows, labels, cells, strict=True):
        line = "".join(
            "  " + _painted(f"{cell.get(n, ('', ''))[0]:>{widths[n]}}", cell.get(n), paint)
            for n in names
        )
        shown = paint("bold", label) if row.hot else label
        if annotated.plan.analyzed and not row.node.executed:
            shown = paint("dim", label)
        yield (shown + " " * (tree - len(label)) + line).rstrip()
        margin = _margin(row)
        for name, value in row.details:
            yield from _detail(name, printable(value), margin, paint, verbose)
        for finding in findings.get(row.node.id, ()):
            yield from _finding(finding, margin, paint, verbose)


_COLUMNS = ("self", "share", "rows", "est.", "off", "loops", "hit", "read", "temp", "workers")


def _cells(plan: Plan, row: Row) -> dict[str, Cell]:
    node = row.node
    if plan.analyzed and not node.executed:
        return {"est.": (_short(node.plan_rows), "dim"), "rows": ("never run", "dim")}
    heat = "bad" if row.share >= _HOT_SHARE else "warning" if row.share >= _WARM_SHARE else ""
    own = f"cost {_short(row.self_cost)}" if row.self_ms is None else ms(row.self_ms)
    cells: dict[str, Cell] = {"self": (own, heat), "est.": (_short(node.plan_rows), "")}
    if row.share or row.self_ms is not None:
        cells["share"] = (f"{row.share:.0%}", heat)
    if node.actual_rows is not None:
        cells["rows"] = (_short(node.actual_rows), "")
        cells["loops"] = (_short(node.actual_loops or 0) if node.actual_loops != 1 else "", "")
    if row.factor is not None:
        arrow, factor = ("↑", row.factor) if row.factor > 1 else ("↓", 1 / row.factor)
        cells["off"] = (f"{arrow}{_short(factor)}×", "bad" if factor >= _FAR_OFF else "warning")
    for name, pages in (
        ("hit", node.self_shared_hit),
        ("read", node.self_shared_read),
        ("temp", node.self_temp_read + node.self_temp_written),
    ):
        cells[name] = (_short(pages) if pages else "", "warning" if name == "temp" else "")
    if row.workers:
        launched, planned = row.workers
        style = "warning" if launched < planned and node.executed else ""
        cells["workers"] = (f"{launched}/{planned}" if node.executed else f"{planned}", style)
    return cells


_FAR_OFF = 100
"""Times off from which an estimate changes plans (the field's second step)."""


def _label(row: Row, room: int) -> str:
    mark = f"{HOT} " if row.hot else "  "
    guides = "".join("  " if last else "│ " for last in row.last[:-1])
    if len(guides) > MAX_GUIDES:
        guides = f"…{len(row.last)} " + guides[-MAX_GUIDES:]
    branch = ("└ " if row.last[-1] else "├ ") if row.last else ""
    return _cut(mark + guides + branch + printable(row.node.label).replace("\n", " "), room)


def _margin(row: Row) -> str:
    """What stands before a line below a node: the tree's lines go on beside it."""
    guides = "".join("  " if last else "│ " for last in row.last)
    if len(guides) > MAX_GUIDES:
        guides = f"…{len(row.last)} " + guides[-MAX_GUIDES:]
    return f"  {guides}{'│ ' if row.node.children else '  '}  "


def _detail(name: str, value: str, margin: str, paint: Painter, verbose: bool) -> Iterator[str]:
    said = f"{name}: {value}" if name else value
    lines = _fold(" ".join(said.split()), margin, margin + "  ")
    if len(lines) > MAX_DETAIL_LINES and not verbose:
        lines = lines[:MAX_DETAIL_LINES]
        lines[-1] = (
            _cut(lines[-1] + " …", WIDTH) if len(lines[-1]) < WIDTH - 1 else lines[-1][:-1] + "…"
        )
    yield from (paint("dim", line) for line in lines)


def _finding(finding: Finding, margin: str, paint: Painter, verbose: bool) -> Iterator[str]:
    head, *more = _fold(
        f"▲ {finding.severity}  {printable(finding.message)}  [{finding.rule}]",
        margin,
        margin + "  ",
    )
    start = len(margin)
    mark = f"▲ {finding.severity}"
    yield head[:start] + paint(finding.severity, mark) + head[start + len(mark) :]
    yield from more
    inner = margin + "  "
    for line in text.evidence_lines(finding.evidence, paint, verbose):
        yield from _fold(line, inner, inner + "  ")
    for fix in finding.fixes:
        for line in text._fix(fix, finding.statement, paint):
            sql = line.startswith("    ")  # to be pasted: never folded
            yield from [inner + line[2:]] if sql else _fold(line[2:], inner, inner + "  ")


def _footer(plan: Plan, paint: Painter) -> Iterator[str]:
    lines = []
    for trigger in plan.triggers:
        name = trigger.get("Constraint Name") or trigger.get("Trigger Name")
        calls = f"{trigger.get('Calls', 0):,} calls"
        took = f"{ms(trigger['Time'])} in " if trigger.get("Time") is not None else ""
        lines.append(("trigger", f"{name}: {took}{calls}"))
    if plan.jit:
        lines.append(("jit", _jit(plan)))
    if plan.settings:
        lines.append(("settings", ", ".join(f"{k} = {v}" for k, v in plan.settings.items())))
    for name, value in lines:
        folded = _fold(f"  {name}: {printable(value)}", "", "    ")
        yield from (paint("dim", line) for line in folded)


def _jit(plan: Plan) -> str:
    jit = plan.jit or {}
    timing = jit.get("Timing")
    total = timing.get("Total") if isinstance(timing, dict) else None
    said = f"{jit.get('Functions', '?')} functions"
    if isinstance(total, int | float):
        share = f", {total / plan.execution_ms:.0%} of the execution" if plan.execution_ms else ""
        said += f" compiled in {ms(total)}{share}"
    options = jit.get("Options")
    if isinstance(options, dict):
        on = [str(k).lower() for k, v in options.items() if v is True]
        said += f" ({', '.join(on)})" if on else ""
    return said


def _summary(report: Report, plans: Sequence[Annotated], paint: Painter) -> str:
    counts = [
        paint(s, f"{n} {s}{'s' if n != 1 and s != 'info' else ''}")
        for s in ("error", "warning", "info")
        if (n := report.count(s))
    ]
    found = ", ".join(counts) if counts else paint("good", "no findings")
    line = f"{found} in {len(plans)} plan{'s' * (len(plans) != 1)}"
    if not plans:
        line = f"{found}, no plan" if counts else "no plan"
    if report.problems:
        line += f", {paint('error', f'{len(report.problems)} could not be explained')}"
    legend = f"{HOT} hot path; self: without the nodes below"
    if any(p.plan.analyzed for p in plans):
        legend += "; rows, est.: per loop; hit, read, temp: pages"
    server = f" ({report.server})" if report.server else ""
    return f"{line}{paint('dim', server)}" + (f"\n{paint('dim', legend)}" if plans else "")


# -- JSON -----------------------------------------------------------------------------------------


def render_json(report: Report) -> str:
    """The report as JSON: the audit's document with ``plans`` beside its findings."""
    import json

    from sqladvisor.report.json import document

    index = {id(f): i for i, f in enumerate(report.findings)}
    whole = document(report)
    whole["plans"] = [_json_plan(p, index) for p in report.details.get("plans", ())]
    return json.dumps(whole, indent=2, ensure_ascii=False, default=str) + "\n"


def _json_plan(annotated: Annotated, index: Mapping[int, int]) -> dict[str, Any]:
    plan = annotated.plan
    findings = [index[id(f)] for f in annotated.findings if id(f) in index]
    return {
        "path": annotated.path,
        "line": annotated.line,
        "query": annotated.query or None,
        "planning_ms": plan.planning_ms,
        "execution_ms": plan.execution_ms,
        "total_cost": plan.total_cost,
        "jit": plan.jit,
        "triggers": list(plan.triggers),
        "settings": plan.settings,
        "findings": findings,
        "nodes": [_json_node(row) for row in annotated.rows()],
    }


def _json_node(row: Row) -> dict[str, Any]:
    node = row.node
    return {
        "id": node.id,
        "label": node.label,
        "node_type": node.node_type,
        "relation": node.relation,
        "index": node.index,
        "line": node.line,
        "hot": row.hot,
        "self_ms": _rounded(row.self_ms),
        "total_ms": _rounded(node.total_ms),
        "self_cost": _rounded(row.self_cost),
        "total_cost": node.total_cost,
        "share": round(row.share, 4),
        "estimated_rows": node.plan_rows,
        "actual_rows": node.actual_rows,
        "loops": node.actual_loops,
        "estimate_off": None if node.estimate_ratio is None else round(node.estimate_ratio, 2),
        "self_hit_blocks": node.self_shared_hit,
        "self_read_blocks": node.self_shared_read,
        "self_temp_blocks": node.self_temp_read + node.self_temp_written,
        "workers_launched": row.workers[0] if row.workers else None,
        "workers_planned": row.workers[1] if row.workers else None,
        "details": {name or "figures": value for name, value in row.details},
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


# -- text -----------------------------------------------------------------------------------------


def _fold(said: str, first: str, rest: str) -> list[str]:
    """The words of a text on lines of WIDTH columns; styles take no room."""
    lines = [first]
    used = len(first)
    for word in said.split(" "):
        size = len(_STYLE.sub("", word))
        if used + size > WIDTH and lines[-1].strip():
            lines[-1] = lines[-1].rstrip()
            lines.append(rest)
            used = len(rest)
        while size > WIDTH - used and "\x1b" not in word:
            lines[-1] += word[: WIDTH - used]
            word = word[WIDTH - used :]
            lines.append(rest)
            used, size = len(rest), len(word)
        lines[-1] += word + " "
        used += size + 1
    return [line.rstrip() for line in lines]


def _cut(said: str, width: int) -> str:
    return said if len(said) <= width else said[: width - 1] + "…"


def _painted(said: str, cell: Cell | None, paint: Painter) -> str:
    return paint(cell[1], said) if cell and cell[1] else said


def _short(value: float) -> str:
    """A count in at most six characters: 0.25, 12, 1,234, 12.3k, 4.56M."""
    if value < 10 and not float(value).is_integer():
        return f"{value:.2g}"
    if value < 10_000:
        return f"{value:,.0f}"
    for unit in ("k", "M", "G", "T"):
        value /= 1000
        if value < 999.5:
            return f"{value:.3g}{unit}"
    return f"{value:.1e}"
