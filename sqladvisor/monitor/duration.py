"""Durations as people write them: 10s, 5m, 14d."""

from __future__ import annotations

import re

from sqladvisor.errors import InputError

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_FORM = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|min|m|h|d|w)?\s*")


def seconds(text: str) -> float:
    """``10s``, ``1.5h`` or a bare number of seconds. Raises InputError."""
    match = _FORM.fullmatch(text)
    if match is None:
        raise InputError(f"not a duration: {text!r} (write 10s, 5m, 2h or 14d)")
    return float(match[1]) * _UNITS[match[2] or "s"]


def said(value: float) -> str:
    """Seconds for people, in the largest unit that leaves a whole part: 45 s, 12 min, 3.5 h."""
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.2g} s" if value < 10 else f"{value:.0f} s"
