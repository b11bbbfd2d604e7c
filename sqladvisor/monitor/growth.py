"""How tables and indexes grow, and what is done with them.

Sizes and row counts are kept where they changed: an object's last row holds until the next.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from typing import Any

from sqladvisor.monitor.figures import Figure, Series, Span
from sqladvisor.monitor.store import Store

TOP = 25
"""Tables and indexes listed."""


def relations(store: Store, target: int, span: Span) -> dict[str, Any]:
    """Sizes now, how they grew, and what was done with tables and indexes in the window."""
    changes = store.query(
        "SELECT o.id, o.key, t.at, s.bytes FROM sample_size s JOIN object o ON o.id = s.object_id "
        "JOIN tick t ON t.id = s.tick_id WHERE o.target_id = ? ORDER BY t.at",
        (target,),
    )
    start: dict[int, float] = {}
    now: dict[int, Figure] = {}
    keys: dict[int, tuple[str, ...]] = {}
    totals = _Totals(span)
    for at, key, when, size in changes:
        keys[at] = tuple(json.loads(key))
        totals.add(keys[at][0], when, (size or 0) - (now.get(at) or 0))
        now[at] = size
        if size is not None and (when <= span.start or at not in start):
            start[at] = size
    used = _used(store, target, span)
    listed: dict[str, list[dict[str, Any]]] = {"table": [], "index": []}
    for at, (kind, schema, relation, index) in keys.items():
        size = now[at]
        if size is None:
            continue
        known = {"schema": schema, "relation": relation, "index": index, "bytes": size,
                 "grown_bytes": size - start[at]}  # fmt: skip
        listed[kind].append(known | used.get((kind, schema, relation, index), {}))
    for rows in listed.values():
        rows.sort(key=lambda r: (abs(r["grown_bytes"]), r["bytes"]), reverse=True)
    return {
        "size": totals.series(),
        "tables": listed["table"][:TOP],
        "indexes": listed["index"][:TOP],
        "relations": {kind: len(rows) for kind, rows in listed.items()},
    }


def _used(store: Store, target: int, span: Span) -> dict[tuple[str, ...], dict[str, Figure]]:
    found: dict[tuple[str, ...], dict[str, Figure]] = {}
    tables = store.query(
        "SELECT o.key, sum(s.seq_scan), sum(s.idx_scan), sum(s.tup_inserted), "
        "sum(s.tup_updated), sum(s.tup_deleted) FROM tick t "
        "JOIN sample_table s ON s.tick_id = t.id JOIN object o ON o.id = s.object_id "
        "WHERE t.target_id = ?1 AND t.at >= ?2 GROUP BY 1",
        (target, span.start),
    )
    names = ("seq_scan", "idx_scan", "inserted", "updated", "deleted")
    for key, *values in tables:
        schema, relation = json.loads(key)
        found["table", schema, relation, ""] = dict(zip(names, values, strict=True))
    rows = store.query(
        "SELECT o.key, s.live_rows, s.dead_rows, max(s.tick_id) FROM sample_table s "
        "JOIN object o ON o.id = s.object_id WHERE o.target_id = ? GROUP BY o.id",
        (target,),
    )
    for key, live, dead, _ in rows:
        schema, relation = json.loads(key)
        entry = found.setdefault(("table", schema, relation, ""), {})
        entry.update({"live_rows": live, "dead_rows": dead})
    indexes = store.query(
        "SELECT o.key, sum(s.idx_scan) FROM tick t JOIN sample_index s ON s.tick_id = t.id "
        "JOIN object o ON o.id = s.object_id WHERE t.target_id = ?1 AND t.at >= ?2 GROUP BY 1",
        (target, span.start),
    )
    for key, scans in indexes:
        schema, relation, index = json.loads(key)
        found["index", schema, relation, index] = {"scans": scans}
    return found


class _Totals:
    """Running totals of sizes by kind, at the end of each bucket."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self._steps: dict[str, dict[int, float]] = {
            "table": defaultdict(float), "index": defaultdict(float),
        }  # fmt: skip
        self._first: int | None = None

    def add(self, kind: str, when: float, grown: float) -> None:
        bucket = max(0, math.floor((when - self._span.start) / self._span.width_s))
        self._steps[kind][bucket] += grown
        self._first = bucket if self._first is None else min(self._first, bucket)

    def series(self) -> dict[str, Series]:
        found: dict[str, Series] = {}
        for kind, steps in self._steps.items():
            total = 0.0
            points: Series = []
            for b in range(self._span.buckets):
                total += steps.get(b, 0.0)
                known = self._first is not None and b >= self._first
                points.append(total if known else None)
            found[kind] = points
        return found
