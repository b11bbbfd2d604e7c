"""Small charts as inline SVG: before and after, shares, a curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sqladvisor.report.markup import Markup, tag

_WIDTH = 300
_BAR = 9


def before_after(before: float, after: float, label: str) -> Markup:
    """Two bars, each as long as its figure: what was is grey, what is now green (or red)."""
    most = max(before, after) or 1.0
    look = "after" if after <= before else "worse"
    return tag(
        "svg",
        tag("title", label),
        _bar(0, before / most, "before"),
        _bar(_BAR + 3, after / most, look),
        class_="bars", viewBox=f"0 0 {_WIDTH} {2 * _BAR + 3}", role="img",
        preserveAspectRatio="none",
    )  # fmt: skip


def _bar(y: int, part: float, look: str) -> Markup:
    width = max(1.0, part * _WIDTH)
    return tag("rect", x=0, y=y, width=f"{width:.1f}", height=_BAR, rx=2, class_=look)


def share(part: float) -> Markup:
    """A part of a whole as a short bar."""
    width = min(1.0, max(0.0, part)) * 60
    return tag(
        "svg",
        tag("rect", width=60, height=8, rx=2, class_="track"),
        tag("rect", width=f"{width:.1f}", height=8, rx=2, class_="fill"),
        class_="share", viewBox="0 0 60 8", aria_hidden="true",
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Point:
    """A point of a curve, with what is said when it is pointed at."""

    x: float
    y: float
    title: str
    chosen: bool = False


def curve(points: Sequence[Point], bounds: Sequence[Point], x_label: str, y_label: str) -> Markup:
    """A falling step curve and the bound below it; x on a logarithmic scale, y from 0 to 1."""
    width, height, left, bottom = 640, 220, 46, 30
    known = sorted({p.x for p in points if p.x > 0})
    if not known:
        return Markup("")
    low, high = math.log(known[0]), math.log(known[-1])

    def place(point: Point) -> tuple[float, float]:
        part = (math.log(max(point.x, known[0])) - low) / (high - low) if high > low else 0.5
        return left + part * (width - left - 16), 10 + (1 - point.y) * (height - 10 - bottom)

    def line(of: Sequence[Point], look: str) -> Markup:
        text = " ".join("{:.1f},{:.1f}".format(*place(p)) for p in of)
        return tag("polyline", points=text, class_=look)

    grid = []
    for step in (0, 0.25, 0.5, 0.75, 1):
        y = 10 + (1 - step) * (height - 10 - bottom)
        grid.append(
            tag("line", x1=left, x2=width - 16, y1=f"{y:.1f}", y2=f"{y:.1f}", class_="grid")
        )
        grid.append(tag("text", f"{step:.2f}", x=left - 8, y=f"{y + 4:.1f}", text_anchor="end"))
    dots = []
    for point in points:
        x, y = place(point)
        look = "chosen" if point.chosen else "dot"
        dots.append(
            tag("circle", tag("title", point.title), cx=f"{x:.1f}", cy=f"{y:.1f}", r=4, class_=look)
        )
    return tag(
        "svg",
        grid,
        line(bounds, "bound") if bounds else None,
        line(points, "curve"),
        dots,
        tag("text", x_label, x=width - 16, y=height - 6, text_anchor="end"),
        tag("text", y_label, x=left, y=height - 6),
        class_="chart", viewBox=f"0 0 {width} {height}", role="img",
    )  # fmt: skip
