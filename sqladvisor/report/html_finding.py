"""One finding as HTML: its line with the marked part, what it rests on, and what to do."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from sqladvisor.figures import ms
from sqladvisor.finding import Finding, Fix
from sqladvisor.report.html_charts import before_after
from sqladvisor.report.markup import Child, Markup, tag
from sqladvisor.report.text import MAX_QUOTED, Painter, evidence_lines, number, proof_line

_PLAIN = Painter(False)


@dataclass(frozen=True, slots=True)
class Gain:
    """What a figure was and becomes: ms where it was measured, else planner cost."""

    before: float
    after: float
    unit: str

    def chart(self) -> Markup:
        show = ms if self.unit == "ms" else number
        return before_after(
            self.before, self.after, f"{show(self.before)}, then {show(self.after)}"
        )


def gain_of(finding: Finding) -> Gain | None:
    """The figures of a finding that can be compared, or of its first fix's proof."""
    # A fix that changes the result does something else: its cost compares with nothing.
    proofs = [fix.proof for fix in finding.fixes[:1] if not fix.changes_result]
    for figures in (finding.evidence.figures, *proofs):
        for names, unit in ((("time_before_ms", "time_after_ms"), "ms"),
                            (("cost_before", "cost_after"), "cost")):  # fmt: skip
            before, after = (figures.get(name) for name in names)
            if isinstance(before, int | float) and isinstance(after, int | float):
                return Gain(float(before), float(after), unit)
    return None


def place_of(finding: Finding) -> str:
    """Path, line and column."""
    at = finding.location
    return f"{at.path}:{at.line}:{at.column}"


def anchor(finding: Finding) -> str:
    """An id within the document: the same finding has the same in every report."""
    at = finding.location
    text = f"{finding.rule}\0{finding.severity}\0{finding.fingerprint}\0{at.path}\0{at.line}\0{at.column}\0{finding.message}"
    return "f-" + hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:12]


def finding_card(finding: Finding, line: str, *, place: str | None = None) -> Markup:
    """A card. ``line`` is the source line that it stands on, ``place`` is said instead of its place."""
    gain = gain_of(finding)
    evidence = evidence_lines(finding.evidence, _PLAIN, False)
    notes = [text.removeprefix("· ") for text in evidence if text.startswith("· ")]
    said = [text for text in evidence if not text.startswith("· ")]
    chart = gain.chart() if gain and abs(gain.before - gain.after) > 0.01 * gain.before else None
    return tag(
        "article",
        tag(
            "h3",
            tag("span", finding.severity, class_=f"tag {finding.severity}"),
            tag("span", place_of(finding) if place is None else place, class_="place"),
            tag("span", finding.rule, class_="rule"),
        ),
        tag("p", finding.message, class_="message"),
        _quote(finding, line),
        tag("p", said, class_="evidence") if said else None,
        chart,
        tag("ul", [tag("li", note) for note in notes], class_="evidence") if notes else None,
        [_fix(fix) for fix in finding.fixes],
        _figures(finding),
        id=anchor(finding),
        class_=finding.severity,
    )


def _quote(finding: Finding, line: str) -> Markup | None:
    if not line.strip():
        return None
    at = finding.location
    start = min(at.column - 1, len(line))
    end = at.end_column - 1 if at.end_line == at.line else len(line)
    end = min(max(end, start + 1), len(line))
    lead = max(0, start - 40) if len(line) > MAX_QUOTED else 0
    stop = min(len(line), lead + MAX_QUOTED)
    end = min(end, stop)
    return tag(
        "pre",
        tag("span", str(at.line), class_="number"),
        "…" if lead else "",
        line[lead:start],
        tag("mark", line[start:end]),
        line[end:stop],
        "…" if stop < len(line) else "",
        class_="quote",
    )


def _fix(fix: Fix) -> Markup:
    sql = fix.sql.rstrip()
    if sql and not sql.endswith(";") and not sql.splitlines()[-1].lstrip().startswith("--"):
        sql += ";"
    proof = proof_line(fix.proof, _PLAIN)
    return tag(
        "div",
        tag("p", tag("b", "Fix: "), fix.description, _changes(fix)),
        tag("p", proof, class_="proof") if proof else None,
        tag("pre", sql) if sql else None,
        class_="fix",
    )


def _changes(fix: Fix) -> Child:
    if not fix.changes_result:
        return None
    return [" ", tag("span", f"changes the result: {fix.changes_result}", class_="tag warning")]


def _figures(finding: Finding) -> Markup | None:
    rows = [
        tag("tr", tag("th", key), tag("td", str(value)))
        for key, value in finding.evidence.figures.items()
        if isinstance(value, int | float | str) and not isinstance(value, bool)
    ]
    if not rows:
        return None
    return tag("details", tag("summary", "figures"), tag("table", rows, class_="figures"))
