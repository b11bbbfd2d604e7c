"""What the size of tables makes of findings: severity, and how long a lock is likely to be held.

The times are estimates: bytes and rows of the table as its server knows them, at the speed at which
our own server reads, rewrites and indexes a table that fits into memory. A busy server with slower disks
takes longer.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sqladvisor.finding import Evidence, Finding
from sqladvisor.migrate.trace import parts

if TYPE_CHECKING:
    from sqladvisor.catalog.model import Catalog
    from sqladvisor.catalog.snapshot import Snapshot
    from sqladvisor.server.embedded import Cluster

Key = tuple[str, str]
PAGE = 8192
SAMPLE_ROWS = 200_000
"""Rows of the table that the speed is measured on: some 25 MB, read and rewritten in 0.1 s or so."""
SECONDS_A_DAY = 86_400.0
COUNTED_AT_LEAST_S = 3600.0
"""Seconds that counters of writes must cover: over less, a load or a quiet night is taken for the rule."""
WORTH_SAYING_S = 0.1
"""Seconds. Shorter waits are not told."""


@dataclass(frozen=True, slots=True)
class Size:
    """A table's size; ``writes_per_s`` are rows inserted, updated and deleted, None where unknown."""

    rows: float
    bytes: int
    index_bytes: int = 0
    indexes: int = 0
    writes_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class Rates:
    """How fast the embedded server works: bytes of heap a second, and rows a second for an index."""

    scan_bytes_per_s: float
    rewrite_bytes_per_s: float
    build_rows_per_s: float

    def seconds(self, work: str, size: Size) -> float:
        """Estimated time for a scan, a rewrite (with all indexes) or one index build."""
        if work == "scan":
            return size.bytes / self.scan_bytes_per_s
        if work == "build":
            return size.rows / self.build_rows_per_s
        if work == "rewrite":
            build = size.indexes * size.rows / self.build_rows_per_s
            return size.bytes / self.rewrite_bytes_per_s + build
        return 0.0


def sizes_of_catalog(catalog: Catalog) -> dict[Key, Size]:
    """Sizes of the tables of a live server, as far as its statistics tell them."""
    found = {}
    for key, relation in catalog.relations.items():
        if relation.rows is None or relation.kind not in ("table", "matview"):
            continue
        w = relation.writes
        rate = _rate(w.inserted + w.updated + w.deleted, catalog.counted_days) if w else None
        found[key] = Size(
            relation.rows,
            (relation.pages or 0) * PAGE,
            sum(i.size_bytes or 0 for i in relation.indexes),
            len(relation.indexes),
            rate,
        )
    return found


def _rate(written: int, counted_days: float | None) -> float | None:
    seconds = (counted_days or 0.0) * SECONDS_A_DAY
    return written / seconds if seconds >= COUNTED_AT_LEAST_S else None


def sizes_of_snapshot(snapshot: Snapshot) -> dict[Key, Size]:
    """Sizes of the tables of a snapshot, and its counters of writes."""
    relations = snapshot.statistics.relations
    indexes: dict[Key, list[int]] = {}
    for r in relations:
        if r.kind == "i" and r.table:
            indexes.setdefault((r.schema, r.table), []).append((r.pages or r.relpages) * PAGE)
    rates = {
        (t.schema, t.name): _rate(t.inserted + t.updated + t.deleted, snapshot.counted_days)
        for t in snapshot.tables
    }
    return {
        (key := (r.schema, r.name)): Size(
            r.reltuples,
            (r.pages or r.relpages) * PAGE,
            sum(indexes.get(key, ())),
            len(indexes.get(key, ())),
            rates.get(key),
        )
        for r in relations
        if r.kind in ("r", "m") and r.reltuples >= 0
    }


def calibrate(cluster: Cluster) -> Rates:
    """Measure the embedded server, in a database of its own. Takes about a second."""
    name = "calibration"
    cluster.create_database(name)
    try:
        with cluster.connect(name) as connection:
            connection.execute(
                "CREATE TABLE t AS SELECT i AS id, (i * 7919) % 1000003 AS k, repeat('x', 80) AS filler "
                f"FROM generate_series(1, {SAMPLE_ROWS}) AS i"
            )
            connection.execute("VACUUM ANALYZE t")
            row = connection.execute("SELECT pg_relation_size('t')").fetchone()
            size = int(row[0]) if row else 0

            def timed(statement: str) -> float:
                began = time.perf_counter()
                connection.execute(statement.encode())
                return max(time.perf_counter() - began, 1e-4)

            scan = min(timed(f"ALTER TABLE t ADD CHECK (k >= -{n})") for n in (1, 2, 3))
            rewrite = timed("ALTER TABLE t ALTER COLUMN id TYPE bigint")
            build = timed("CREATE INDEX ON t (k)")
    finally:
        cluster.drop_database(name)
    return Rates(size / scan, size / rewrite, SAMPLE_ROWS / build)


def concerned(findings: Sequence[Finding], sizes: Mapping[Key, Size], min_rows: float) -> bool:
    """Whether any finding is about work on a table of which we know that it is large."""
    return any(
        (size := _size(f, sizes)) is not None and size.rows >= min_rows and _work(f)
        for f in findings
    )


def weigh(
    findings: Sequence[Finding],
    sizes: Mapping[Key, Size],
    rates: Rates | None,
    min_rows: float,
) -> list[Finding]:
    """The findings with what the size of their tables means for them.

    About a table of fewer rows than ``min_rows`` they are information only.
    """
    return [_weighed(f, sizes, rates, min_rows) for f in findings]


def _weighed(
    finding: Finding, sizes: Mapping[Key, Size], rates: Rates | None, min_rows: float
) -> Finding:
    size = _size(finding, sizes)
    if size is None or "lock" not in finding.evidence.figures:
        return finding
    figures: dict[str, Any] = {"rows": int(size.rows)}
    if size.bytes:
        figures["table_bytes"] = size.bytes
    if size.writes_per_s is not None:
        figures["writes_per_s"] = round(size.writes_per_s, 2)
    notes: list[str] = []
    severity = finding.severity
    if size.rows < min_rows:
        severity = "info"
        if finding.severity != "info":
            notes.append(f"the table has {size.rows:,.0f} rows only")
    elif rates is not None and (work := _work(finding)):
        seconds = rates.seconds(work, size)
        figures["estimated_lock_s"] = round(seconds, 3)
        if seconds >= WORTH_SAYING_S:
            notes.append(_held(finding, work, size, seconds))
    evidence = finding.evidence
    return replace(
        finding,
        severity=severity,
        evidence=Evidence(
            evidence.level, {**evidence.figures, **figures}, (*evidence.notes, *notes)
        ),
    )


_DOING = {"scan": "reading", "rewrite": "rewriting", "build": "indexing"}


def _held(finding: Finding, work: str, size: Size, seconds: float) -> str:
    lock = finding.evidence.figures["lock"]
    text = (
        f"estimate: {lock} held for about {duration(seconds)}, {_DOING[work]} {size.rows:,.0f} rows "
        f"({size.bytes / 1e6:,.0f} MB) at the embedded server's speed"
    )
    if size.writes_per_s and size.writes_per_s * seconds >= 1:
        text += f"; about {size.writes_per_s * seconds:,.0f} row writes come in meanwhile and wait"
    return text


def duration(seconds: float) -> str:
    """Seconds for people: 0.4 s, 12 s, 3 min, 2 h."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h"


def _size(finding: Finding, sizes: Mapping[Key, Size]) -> Size | None:
    relation = finding.evidence.figures.get("relation")
    return None if relation is None else sizes.get(parts(str(relation)))


def _work(finding: Finding) -> str:
    work = str(finding.evidence.figures.get("work", ""))
    return work if work in _DOING else ""
