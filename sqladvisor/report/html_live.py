"""A live server's report as HTML: what matters most, where the time goes, then all findings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from sqladvisor.figures import ms
from sqladvisor.finding import Finding
from sqladvisor.plan.annotate import Annotated
from sqladvisor.report.html_charts import share
from sqladvisor.report.html_finding import anchor, finding_card
from sqladvisor.report.html_tree import tree
from sqladvisor.report.live import (
    HEADLINES,
    by_section,
    counted,
    index_lines,
    one_line,
    session_lines,
)
from sqladvisor.report.markup import Child, Markup, tag
from sqladvisor.report.model import Report
from sqladvisor.report.text import Painter, number
from sqladvisor.workload.weights import PLACE, tops

if TYPE_CHECKING:
    from sqladvisor.live import Seen
    from sqladvisor.live_changes import Change

_PLAIN = Painter(False)
MAX_TREES = 8
"""Statements whose plans are drawn, the dearest first."""


def sections(report: Report) -> Iterable[Child]:
    """The sections below the header."""
    seen: Seen = report.details["seen"]
    yield tag("p", counted(seen), class_="soft")
    yield _changes(report.details["changes"][:HEADLINES])
    yield _workload(seen, report.details["top"])
    yield _plans(seen)
    for name, findings in by_section(report.findings).items():
        own: list[str] = []
        if name == "Connections and pool":
            own = list(session_lines(seen, _PLAIN))
        elif name == "Indexes" and findings:
            own = list(index_lines(seen))
        said = [tag("p", line.strip()) for line in own if line.strip()]
        if findings or said:
            cards = [_card(f, seen) for f in findings]
            yield tag("section", tag("h2", name), said, cards, class_="findings")


def _plans(seen: Seen) -> Markup | None:
    """The plans of the dearest statements as trees, to be opened."""
    drawn = []
    for weighed in seen.workload.statements[:MAX_TREES]:
        plan = weighed.context.plan
        picture = tree(Annotated(plan, PLACE, weighed.rank, "")) if plan is not None else None
        if picture is not None:
            said = f"statement {weighed.rank}, {weighed.share:.1%} of the time: {one_line(weighed)}"
            drawn.append(tag("details", tag("summary", said), picture))
    if not drawn:
        return None
    first = "as the planner sees them today; the warmer a node, the larger its share of the cost"
    return tag("section", tag("h2", "Plans"), tag("p", first, class_="soft"), drawn)


def _changes(changes: Sequence[Change]) -> Markup | None:
    if not changes:
        return tag("section", tag("p", "Nothing to change was found."))
    items = []
    for change in changes:
        first = change.findings[0]
        saved: Child = None
        if change.saved_share >= 0.005:
            text = f"saves about {change.saved_share:.0%} of the time of all statements"
            if change.saved_ms_per_hour is not None:
                text += f", {ms(change.saved_ms_per_hour)} of each hour"
            saved = tag("p", share(change.saved_share), f" {text} ({first.evidence.level})")
        items.append(
            tag(
                "li",
                tag("a", tag("b", change.title), href=f"#{anchor(first)}"),
                tag("p", tag("span", "can stop the server or lose data", class_="tag error"))
                if change.outage
                else None,
                saved,
                tag("ul", [tag("li", e) for e in change.evidence[:4]], class_="evidence")
                if change.evidence
                else None,
                tag("p", tag("b", "Fix: "), change.fix.description) if change.fix else None,
                tag("pre", change.fix.sql) if change.fix and change.fix.sql else None,
            )
        )
    return tag(
        "section", tag("h2", "What matters most"), tag("ol", items, class_="changes"), class_="top"
    )


def _workload(seen: Seen, top: int) -> Markup | None:
    main = tops(seen.workload, top).get("total time", [])
    if not main:
        return None
    rows = [
        tag(
            "tr",
            tag("td", str(w.rank), class_="figure"),
            tag("td", share(w.share), f" {w.share:.1%}", class_="figure"),
            tag("td", "" if w.calls_per_hour is None else number(round(w.calls_per_hour)),
                class_="figure"),
            tag("td", ms(w.counted.mean_exec_ms), class_="figure"),
            tag("td", number(round(w.counted.rows / w.counted.calls, 1)) if w.counted.calls else "",
                class_="figure"),
            tag("td", tag("details", tag("summary", " ".join(w.context.statement.text.split())),
                          tag("pre", w.context.statement.text))),
        )
        for w in main
    ]  # fmt: skip
    names = ("#", "time", "calls/h", "mean", "rows", "statement")
    head = tag("tr", [tag("th", n, class_="figure" if n != "statement" else None) for n in names])
    table = tag("table", tag("thead", head), tag("tbody", rows), class_="workload")
    return tag("section", tag("h2", "Where the time goes"), tag("div", table, class_="wide"))


def _card(finding: Finding, seen: Seen) -> Markup:
    weighed = seen.workload.of(finding)
    if finding.location.path == PLACE and weighed is not None:
        place = f"statement {weighed.rank}, {weighed.share:.1%} of the time"
        return finding_card(finding, "", place=place)
    return finding_card(finding, "", place="")
