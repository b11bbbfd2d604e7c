"""What happened between two readings. Pure: no server, no clock, and never a negative difference.

An object's counters begin anew when somebody resets them, when its entry was evicted and came back,
when it was dropped and made again, or when the server crashed. Where the row says so (its epoch
changed) or a counter went down, what it holds now is all that is known to have happened since: the
difference is that, a lower bound. An object that was not there before began at nothing.
"""

from __future__ import annotations

from sqladvisor.monitor.family import Family, Key, Raw, Reading, Row, Sampled

ROUNDING = 1e-6
"""Relative decrease of a floating-point counter that is rounding."""


def difference(family: Family, before: Reading | None, now: Reading) -> Sampled:
    """The rows to keep of a reading, given the one before (None: the first, or a restart).

    Objects whose counters did not move are left out; one with gauges stays, of a sparse family
    only if they changed.
    """
    kept: dict[Key, list[float | None]] = {}
    current: dict[Key, tuple[float | None, ...]] = {}
    width = len(family.counters)
    resets = 0
    for identity, raw in now.rows.items():
        grown: tuple[float | None, ...] = (None,) * width
        old = before.rows.get(identity) if before is not None else None
        if before is not None:
            began_anew = old is not None and _began_anew(family, old, raw)
            resets += began_anew
            base = (None,) * width if old is None or began_anew else old.counters
            grown = tuple(_grown(a, b) for a, b in zip(base, raw.counters, strict=True))
        key = identity[: len(family.keys)]
        current[key] = raw.gauges
        same = not family.gauges or (family.sparse and old is not None and old.gauges == raw.gauges)
        if same and not any(grown):
            continue
        values = (*grown, *raw.gauges)
        kept[key] = _added(kept[key], values) if key in kept else list(values)
    elapsed = now.at - before.at if before is not None else None
    if before is not None and family.sparse and family.gauges:
        # Kept as nothing known: else its last row would hold for ever.
        gone = {identity[: len(family.keys)] for identity in before.rows} - current.keys()
        kept.update({key: [None] * len(family.columns) for key in gone})
    compared = len(before.rows.keys() & now.rows.keys()) if before is not None else 0
    rows = tuple(Row(key, tuple(values)) for key, values in kept.items())
    return Sampled(family, elapsed, rows, resets, compared, current)


def _began_anew(family: Family, old: Raw, raw: Raw) -> bool:
    if old.epoch != raw.epoch:
        return True
    for name, a, b in zip(family.counters, old.counters, raw.counters, strict=True):
        if a is None or b is None or b >= a:
            continue
        if name not in family.smooth or b < a * (1 - ROUNDING):
            return True
    return False


def _grown(before: float | None, now: float | None) -> float | None:
    return None if now is None else max(0, now - (before or 0))


def _added(old: list[float | None], new: tuple[float | None, ...]) -> list[float | None]:
    return [a if b is None else b if a is None else a + b for a, b in zip(old, new, strict=True)]
