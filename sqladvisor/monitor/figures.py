"""Figures as the page needs them: a window cut into buckets, shares, estimated percentiles."""

from __future__ import annotations

import math
from dataclasses import dataclass

Figure = float | None
Series = list[Figure]


@dataclass(frozen=True, slots=True)
class Span:
    """A window cut into buckets of ``width_s``."""

    start: float
    width_s: float
    buckets: int
    interval_s: float
    """Between two samples, on average."""

    def times(self) -> list[float]:
        """The Unix time at the end of each bucket."""
        return [round(self.start + self.width_s * (i + 1), 1) for i in range(self.buckets)]


# z for the 50th, 95th and 99th percentile of the normal distribution.
_Z = {"p50": 0.0, "p95": 1.6449, "p99": 2.3263}


def percentiles(calls: Figure, ms: Figure, squared: Figure) -> dict[str, float]:
    """Mean and estimated percentiles in ms, from calls, their sum and their sum of squares.

    Log-normal with this mean and variance: σ² = ln(1 + variance / mean²), μ = ln(mean) − σ² / 2.
    """
    if not calls or ms is None or ms <= 0:
        return {}
    mean = ms / calls
    variance = max(0.0, (squared or 0.0) / calls - mean * mean)
    sigma2 = math.log1p(variance / (mean * mean))
    mu = math.log(mean) - sigma2 / 2
    found = {name: math.exp(mu + z * math.sqrt(sigma2)) for name, z in _Z.items()}
    return {"mean": mean, **found}


def over(value: Figure, by: Figure) -> Figure:
    """A quotient, None where it has none."""
    return value / by if value is not None and by else None


def share(part: Figure, rest: Figure) -> Figure:
    """``part`` of ``part + rest``, None where there is neither."""
    return part / (part + rest) if part is not None and rest is not None and part + rest else None


def rounded(value: Figure) -> Figure:
    """Six digits: enough for a curve, and half the bytes."""
    return None if value is None else float(f"{value:.6g}")
