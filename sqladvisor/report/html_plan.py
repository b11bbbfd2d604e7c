"""Plans as HTML: the tree of nodes with their own time, estimates that are off, and findings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqladvisor.figures import ms
from sqladvisor.finding import Finding
from sqladvisor.plan.annotate import Annotated, Row
from sqladvisor.plan.node import Plan
from sqladvisor.report.html_charts import share
from sqladvisor.report.html_finding import finding_card
from sqladvisor.report.html_tree import tree
from sqladvisor.report.markup import Child, Markup, tag
from sqladvisor.report.model import Report
from sqladvisor.report.text import number

MAX_INDENT = 40
"""Steps to the right; deeper nodes say their depth."""
FAR_OFF = 100
"""Times off from which an estimate changes plans (as in the text report)."""


def sections(report: Report) -> Iterable[Markup]:
    """A section for each plan."""
    known = {id(f) for f in report.findings}
    for plan in report.details.get("plans", ()):
        yield _plan(plan, [f for f in plan.findings if id(f) in known])


def _plan(annotated: Annotated, findings: Sequence[Finding]) -> Markup:
    plan = annotated.plan
    ids = {node.id for node in plan.nodes()}
    at_node: dict[str, list[Finding]] = {}
    for finding in findings:
        node = str(finding.evidence.figures.get("plan_node", ""))
        at_node.setdefault(node if node in ids else "", []).append(finding)
    query = annotated.query.strip()
    return tag(
        "section",
        tag("h2", f"{annotated.path}:{annotated.line} ", tag("small", _headline(plan))),
        tag("pre", query) if query else None,
        tree(annotated),
        tag("div", [_row(row, plan, at_node.get(row.node.id, ())) for row in annotated.rows()],
            class_="plan"),
        [finding_card(f, "") for f in at_node.get("", ())],
        _footer(plan),
    )  # fmt: skip


def _headline(plan: Plan) -> str:
    parts = []
    if plan.execution_ms is not None:
        parts.append(f"execution {ms(plan.execution_ms)}")
    if plan.planning_ms is not None:
        parts.append(f"planning {ms(plan.planning_ms)}")
    return ", ".join(parts) or f"not run: planner cost {number(plan.total_cost)}"


def _row(row: Row, plan: Plan, findings: Sequence[Finding]) -> Markup:
    node = row.node
    depth = len(row.last)
    unused = plan.analyzed and not node.executed
    look = " ".join(
        name for name, is_so in (("node", True), ("hot", row.hot), ("unused", unused)) if is_so
    )
    label: list[Child] = [tag("b", node.label)]
    if depth > MAX_INDENT:
        label.insert(0, tag("span", f"depth {depth} ", class_="soft"))
    details = [
        tag("p", tag("span", f"{name}: " if name else "", class_="soft"), value, class_="detail")
        for name, value in row.details
    ]
    return tag(
        "div",
        tag(
            "div",
            tag("div", label, tag("span", _figures(row, plan), class_="chips"), class_="head"),
            details,
            [finding_card(f, "", place="") for f in findings],
            class_=look,
        ),
        class_=f"step d{min(depth, MAX_INDENT)}",
    )


def _figures(row: Row, plan: Plan) -> Iterable[Child]:
    node = row.node
    if plan.analyzed and not node.executed:
        yield tag("span", "never run", class_="chip")
        return
    own = f"cost {number(round(row.self_cost, 1))}" if row.self_ms is None else ms(row.self_ms)
    yield tag("span", share(row.share), f" {own}, {row.share:.0%}", class_="chip own")
    rows = f"{number(round(node.plan_rows))} rows expected"
    if node.actual_rows is not None:
        loops = node.actual_loops or 0
        times = f" × {number(loops)}" if loops != 1 else ""
        rows = f"{number(round(node.actual_rows, 2))}{times} rows, {rows}"
    yield tag("span", rows, class_="chip")
    if row.factor is not None:
        factor = row.factor if row.factor > 1 else 1 / row.factor
        word = "more" if row.factor > 1 else "fewer"
        look = "error" if factor >= FAR_OFF else "warning"
        yield tag("span", f"{number(round(factor))}× {word} than expected", class_=f"tag {look}")
    pages = (("hit", node.self_shared_hit), ("read", node.self_shared_read),
             ("temp", node.self_temp_read + node.self_temp_written))  # fmt: skip
    shown = [f"{number(count)} {name}" for name, count in pages if count]
    if shown:
        yield tag("span", f"pages: {', '.join(shown)}", class_="chip")
    if row.workers:
        yield tag("span", f"workers {row.workers[0]} of {row.workers[1]}", class_="chip")


def _footer(plan: Plan) -> Markup | None:
    lines = []
    for trigger in plan.triggers:
        name = trigger.get("Constraint Name") or trigger.get("Trigger Name")
        took = f"{ms(trigger['Time'])} in " if trigger.get("Time") is not None else ""
        lines.append(f"trigger {name}: {took}{trigger.get('Calls', 0):,} calls")
    if plan.jit:
        lines.append(f"jit: {plan.jit.get('Functions', '?')} functions")
    if plan.settings:
        lines.append("settings: " + ", ".join(f"{k} = {v}" for k, v in plan.settings.items()))
    return tag("ul", [tag("li", line) for line in lines], class_="notes") if lines else None
