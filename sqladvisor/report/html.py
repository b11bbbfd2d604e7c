"""The report as one HTML file: self-contained, without scripts, in light and dark, and on paper.

The summary comes first, then what saves most, then every finding with its line, evidence and fix.
A Content-Security-Policy allows the file's own style, by its hash, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache

from sqladvisor import __version__
from sqladvisor.figures import ms
from sqladvisor.finding import SEVERITIES, SEVERITY_RANK, Finding, InputProblem
from sqladvisor.report.html_finding import anchor, finding_card, gain_of, place_of
from sqladvisor.report.markup import Child, Markup, join, tag
from sqladvisor.report.model import Report
from sqladvisor.report.text import Painter, number, summary_line

MAX_GAINS = 12
"""Findings drawn in the chart of gains."""
_PLAIN = Painter(False)


def render(report: Report) -> str:
    """The whole document, ending in a newline."""
    body = join(_sections(report))
    style = _style()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", f"sqladvisor {report.command}"),
        Markup(f"<style>{style}</style>"),
    )
    page = tag(
        "body",
        tag("main", _header(report), body),
        tag("footer", f"sqladvisor {__version__} {report.command}, {made}"),
    )
    return f"<!doctype html>\n{tag('html', head, page, lang='en')}\n"


@cache
def _style() -> str:
    path = os.path.join(os.path.dirname(__file__), "html.css")
    with open(path, encoding="utf-8") as file:
        return file.read()


def _sections(report: Report) -> Iterable[Child]:
    """What stands below the header: a command's own part, then what all have."""
    yield _problems(report.problems)
    if report.command == "live" and "seen" in report.details:
        from sqladvisor.report.html_live import sections as live

        yield from live(report)
    elif report.command == "indexes" and "indexes" in report.details:
        from sqladvisor.report.html_indexes import sections as indexes

        yield from indexes(report)
        yield _findings(report, report.findings)
    elif report.command == "explain":
        from sqladvisor.report.html_plan import sections as plans

        shown = {id(f) for plan in report.details.get("plans", ()) for f in plan.findings}
        yield from plans(report)
        yield _findings(report, [f for f in report.findings if id(f) not in shown])
    else:
        yield _gains(report.findings)
        yield _findings(report, report.findings)
        if steps := report.details.get("timeline"):
            yield _timeline(steps)
    yield _notes(report.notes)


def _header(report: Report) -> Markup:
    counts = _tiles(report)
    return tag(
        "header",
        tag("h1", "sqladvisor ", tag("span", report.command)),
        tag("p", _subtitle(report)),
        tag("div", counts, class_="tiles"),
    )


def _tiles(report: Report) -> list[Markup]:
    if report.command == "indexes" and "indexes" in report.details:
        from sqladvisor.report.html_indexes import figures

        return [
            tag("div", tag("b", value), tag("span", name), class_="tile info")
            for name, value in figures(report)
        ]
    return [
        tag("div", tag("b", str(report.count(s))), tag("span", _plural(report.count(s), s)),
            class_=f"tile {s if report.count(s) else 'none'}")
        for s in SEVERITIES
    ]  # fmt: skip


def _subtitle(report: Report) -> str:
    if report.command == "explain":
        count = len(report.details.get("plans", ()))
        return f"{count} plan{'s' * (count != 1)}" + (
            f" ({report.server})" if report.server else ""
        )
    return report.server if report.command in ("live", "indexes") else summary_line(report, _PLAIN)


def _plural(count: int, severity: str) -> str:
    return severity if count == 1 or severity == "info" else f"{severity}s"


def _problems(problems: Sequence[InputProblem]) -> Markup | None:
    if not problems:
        return None
    items = []
    for problem in problems:
        place = problem.path + (f":{problem.line}" if problem.line is not None else "")
        items.append(tag("li", tag("b", place), " ", problem.message))
    return tag("section", tag("h2", "Could not be read"), tag("ul", items), class_="problems")


def _gains(findings: Sequence[Finding]) -> Markup | None:
    """Measured times before and after, those that save most first."""
    known = [(gain, f) for f in findings if (gain := gain_of(f)) and gain.unit == "ms"]
    known = [(g, f) for g, f in known if g.after < g.before]
    if len(known) < 2:
        return None
    known.sort(key=lambda pair: pair[0].after - pair[0].before)
    rows = []
    for gain, finding in known[:MAX_GAINS]:
        rows.append(
            tag(
                "tr",
                tag("td", tag("a", place_of(finding), href=f"#{anchor(finding)}")),
                tag("td", finding.rule, class_="rule"),
                tag("td", gain.chart()),
                tag("td", f"{ms(gain.before)} → {ms(gain.after)}", class_="figure"),
                tag(
                    "td",
                    f"{number(gain.before / gain.after)}×" if gain.after else "",
                    class_="figure",
                ),
            )
        )
    return tag(
        "section",
        tag("h2", "What saves most ", tag("small", "measured: as written, and as advised")),
        tag("table", rows, class_="gains"),
    )


def _findings(report: Report, findings: Sequence[Finding]) -> Markup | None:
    """By severity, then by what they cost, then as they stand in the files."""
    if not findings:
        return None
    ranked = sorted(findings, key=_weight)
    lines = _Lines(report.texts)
    parts: list[Child] = []
    for severity in SEVERITIES:
        own = [f for f in ranked if f.severity == severity]
        if own:
            title = f"{len(own)} {_plural(len(own), severity)}"
            parts.append(tag("h2", title, class_=severity))
            parts += [finding_card(f, lines.of(f)) for f in own]
    return tag("section", parts, class_="findings")


def _weight(finding: Finding) -> tuple[float, float, float]:
    gain = gain_of(finding)
    saved = (gain.before - gain.after) if gain else 0.0
    measured = saved if gain and gain.unit == "ms" else 0.0
    return -SEVERITY_RANK[finding.severity], -measured, -saved


class _Lines:
    """The lines of each file, split once."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts
        self._lines: dict[str, list[str]] = {}

    def of(self, finding: Finding) -> str:
        """The line that a finding stands on, "" where there is no text."""
        path = finding.location.path
        if path not in self._lines:
            self._lines[path] = self._texts.get(path, "").split("\n")
        lines = self._lines[path]
        at = finding.location.line - 1
        return lines[at].rstrip("\r") if 0 <= at < len(lines) else ""


def _timeline(steps: Sequence[Mapping[str, object]]) -> Markup:
    from sqladvisor.report.timeline import did, locks

    rows = [
        tag(
            "tr",
            tag("td", f"{step['path']}:{step['line']}"),
            tag("td", tag("code", str(step["statement"]))),
            tag("td", str(step["transaction"] or "none"), class_="figure"),
            tag("td", f"{step['duration_ms']:.1f}", class_="figure"),
            tag("td", locks(step), class_="lines"),
            tag("td", did(step), class_="lines"),
        )
        for step in steps
    ]
    names = ("line", "statement", "transaction", "ms (empty)", "locks taken", "did")
    head = tag("tr", [tag("th", name) for name in names])
    return tag(
        "section",
        tag("h2", "What each statement locks"),
        tag("div", tag("table", tag("thead", head), tag("tbody", rows)), class_="wide"),
    )


def _notes(notes: Sequence[str]) -> Markup | None:
    if not notes:
        return None
    return tag(
        "section", tag("h2", "To know"), tag("ul", [tag("li", n) for n in notes]), class_="notes"
    )
