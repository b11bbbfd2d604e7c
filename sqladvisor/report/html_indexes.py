"""Index advice as HTML: what to create and drop, whom it serves, and the whole budget curve."""

from __future__ import annotations

from collections.abc import Iterable

from sqladvisor.advise.recommend import Create, Recommendation
from sqladvisor.report.html_charts import Point, before_after, curve
from sqladvisor.report.indexes import change_of, cost_of
from sqladvisor.report.markup import Child, Markup, tag
from sqladvisor.report.model import Report
from sqladvisor.report.text import size_of

MAX_QUERIES = 60


def figures(report: Report) -> list[tuple[str, str]]:
    """What the advice comes to, as name and value."""
    found: Recommendation = report.details["indexes"]
    return [
        ("to create", str(len(found.creates))),
        ("to drop", str(len(found.drops))),
        ("index storage", size_of(found.choice.size_bytes)),
        ("planner cost of the workload", change_of(found.cost_before, found.choice.cost)),
        ("distinct queries", f"{len(found.queries):,}"),
    ]


def sections(report: Report) -> Iterable[Child]:
    """The sections below the header."""
    found: Recommendation = report.details["indexes"]
    statements = [*(c.sql for c in found.creates), *(d.sql for d in found.drops)]
    if statements:
        yield tag("section", tag("h2", "To run"), tag("pre", "\n".join(statements)), class_="top")
    else:
        yield tag("section", tag("p", "No change of indexes pays for this workload."))
    yield from (_create(c, found) for c in found.creates)
    if found.drops:
        rows = [
            tag("tr", tag("td", d.name), tag("td", size_of(d.size_bytes), class_="figure"),
                tag("td", d.reason))
            for d in found.drops
        ]  # fmt: skip
        yield tag("section", tag("h2", "To drop"), tag("table", rows))
    yield _queries(found)
    yield _curve(found)


def _create(create: Create, found: Recommendation) -> Markup:
    names = {q.number: q.name for q in found.queries}
    rows = [
        tag(
            "tr",
            tag("td", names.get(s.query, f"query {s.query + 1}")),
            tag("td", before_after(s.cost_before, s.cost_after, "planner cost before and after")),
            tag("td", f"{cost_of(s.cost_before)} → {cost_of(s.cost_after)}", class_="figure"),
        )
        for s in sorted(create.served, key=lambda s: s.cost_after - s.cost_before)
    ]
    return tag(
        "article",
        tag("h3", tag("span", create.name, class_="place"),
            tag("span", size_of(create.size_bytes), class_="rule")),
        tag("pre", create.sql),
        tag("table", rows, class_="gains") if rows else None,
    )  # fmt: skip


def _queries(found: Recommendation) -> Markup | None:
    ranked = sorted(found.queries, key=lambda q: q.calls * (q.cost_after - q.cost_before))
    rows = [
        tag(
            "tr",
            tag("td", q.name),
            tag("td", f"{q.calls:g}", class_="figure"),
            tag("td", before_after(q.cost_before, q.cost_after, "planner cost before and after")),
            tag("td", f"{cost_of(q.cost_before)} → {cost_of(q.cost_after)}", class_="figure"),
            tag("td", change_of(q.cost_before, q.cost_after), class_="figure"),
            tag("td", tag("details", tag("summary", " ".join(q.sql.split())), tag("pre", q.sql),
                          [tag("p", note) for note in q.notes])),
        )
        for q in ranked[:MAX_QUERIES]
    ]  # fmt: skip
    if not rows:
        return None
    names = ("query", "calls", "", "planner cost", "change", "statement")
    head = tag("tr", [tag("th", n) for n in names])
    table = tag("table", tag("thead", head), tag("tbody", rows), class_="workload")
    more = len(ranked) - len(rows)
    return tag(
        "section",
        tag("h2", "Queries"),
        tag("div", table, class_="wide"),
        tag("p", f"{more} more: --format json has them", class_="soft") if more > 0 else None,
    )


def _curve(found: Recommendation) -> Markup | None:
    before = found.cost_before
    if not before or len(found.curve) < 2:
        return None
    points, bounds = [], []
    for choice in found.curve:
        if not choice.budget_bytes:
            continue
        part = choice.cost / before
        title = (
            f"{size_of(choice.budget_bytes)}: {choice.created} indexes, relative cost {part:.4f}"
        )
        chosen = choice.budget_bytes == found.choice.budget_bytes
        points.append(Point(choice.budget_bytes, part, title, chosen))
        if choice.bound > 0:
            least = max(choice.cost * (1 - choice.gap), found.least) / before
            bounds.append(Point(choice.budget_bytes, least, ""))
    picture = curve(points, bounds, "storage budget (logarithmic)", "relative cost")
    if not picture:
        return None
    rows = [
        tag(
            "tr",
            tag(
                "td", "none" if c.budget_bytes is None else size_of(c.budget_bytes), class_="figure"
            ),
            tag("td", size_of(c.size_bytes), class_="figure"),
            tag("td", str(c.created), class_="figure"),
            tag("td", f"{c.cost / before:.4f}", class_="figure"),
        )
        for c in found.curve
    ]
    head = tag("tr", [tag("th", n, class_="figure") for n in ("budget", "used", "indexes", "cost")])
    return tag(
        "section",
        tag("h2", "What each budget buys ", tag("small", "dashed: no set can be cheaper")),
        picture,
        tag(
            "details",
            tag("summary", "as a table"),
            tag("table", tag("thead", head), tag("tbody", rows)),
        ),
    )
