"""Figures for people, as every report and message writes them."""

from __future__ import annotations


def ms(value: float | None) -> str:
    """A time in ms for people: 0.083 ms, 12.3 ms, 4.21 s; that of a node nobody timed is unknown."""
    if value is None:
        return "unknown"
    if value >= 1000:
        return f"{value / 1000:,.3g} s" if value < 1_000_000 else f"{value / 1000:,.0f} s"
    return f"{value:.2g} ms" if value < 1 else f"{value:.3g} ms"
