"""The changes that matter most: findings that one change settles, by what it saves or prevents.

What can stop the server comes first; then what saves most of the time that its statements take, as
far as the planner or a measurement tells; then what costs space or is a risk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqladvisor.figures import ms
from sqladvisor.finding import Finding, Fix
from sqladvisor.workload.weights import Workload

OUTAGES = (
    "database/xid-wraparound", "database/multixact-wraparound", "database/int-key-exhaustion",
     "database/sequence-issues", "database/blocking-locks", "database/slot-holding-wal",
     "database/archiver-failing", "database/checksum-failures", "database/connection-use",
     "database/settings-durability", "database/prepared-transactions", "database/idle-in-transaction",
     "database/autovacuum-lag", "database/missing-primary-key",
)  # fmt: skip
"""What a finding of severity error of these means: the server stops, refuses, or loses data. What cannot
wait comes first."""
UNKNOWN_GAIN = 0.3
"""Share of a statement's time that a rewrite is taken to save where nothing tells: between nothing and
all of it; below what plans show for what they can price."""
MIN_SAVED_SHARE = 0.01
"""Of the time of all statements. A change that saves less is no headline."""
_WEIGHT = {"error": 2.0, "warning": 1.0, "info": 0.2}


@dataclass(frozen=True, slots=True)
class Change:
    """One thing to do. ``saved_share`` is of the time that all statements of the database take."""

    title: str
    findings: tuple[Finding, ...]
    fix: Fix | None = None
    outage: bool = False
    saved_share: float = 0.0
    saved_ms_per_hour: float | None = None
    evidence: tuple[str, ...] = field(default=())


def rank(findings: Sequence[Finding], workload: Workload) -> list[Change]:
    """All changes, the one that matters most first."""
    groups: dict[tuple[str, ...], list[Finding]] = {}
    for finding in findings:
        groups.setdefault(_key(finding), []).append(finding)
    changes = [_change(group, workload) for group in groups.values()]
    return sorted(changes, key=_order)


def _order(change: Change) -> tuple[float, ...]:
    weight = max(_WEIGHT[f.severity] for f in change.findings)
    headline = change.saved_share >= MIN_SAVED_SHARE
    return (
        -change.outage,
        OUTAGES.index(change.findings[0].rule) if change.outage else 0,
        -headline,
        -change.saved_share if headline else 0.0,
        -weight,
        -_bytes(change),
    )


def _key(finding: Finding) -> tuple[str, ...]:
    if index := finding.evidence.figures.get("index"):
        return finding.rule, str(index)
    return finding.rule, finding.fingerprint, finding.message


def _change(group: list[Finding], workload: Workload) -> Change:
    share = saved = 0.0
    known = False
    evidence: list[str] = []
    for finding in group:
        weighed = workload.of(finding)
        if weighed is None:
            continue
        gain = _gain(finding)
        share += gain * weighed.share
        if weighed.ms_per_hour is not None:
            known = True
            saved += gain * weighed.ms_per_hour
        evidence.append(
            f"statement {weighed.rank} takes {weighed.share:.0%} of the time"
            + (
                f", called {weighed.calls_per_hour:,.0f} times an hour"
                if weighed.calls_per_hour is not None
                else ""
            )
            + f" for {ms(weighed.counted.mean_exec_ms)} each"
        )
    first = group[0]
    title = first.message
    if first.rule.startswith("index/") and "queries" in first.evidence.figures:
        served = sorted({f.location.line for f in group})
        title = (
            f"an index on {first.evidence.figures['index']} serves statement"
            f"{'s' * (len(served) > 1)} {', '.join(map(str, served))}"
        )
    return Change(
        title,
        tuple(group),
        first.fixes[0] if first.fixes else None,
        first.severity == "error" and first.rule in OUTAGES,
        share,
        saved if known else None,
        tuple(evidence),
    )


def _gain(finding: Finding) -> float:
    """Share of its statement's time that a finding's fix saves."""
    figures = finding.evidence.figures
    proofs = [figures, *(f.proof for f in finding.fixes[:1])]
    for known in proofs:
        for before, after in (("time_before_ms", "time_after_ms"), ("cost_before", "cost_after")):
            if known.get(before) and known.get(after) is not None:
                return max(0.0, 1 - float(known[after]) / float(known[before]))
    if "saved_ms_per_hour" in figures and figures.get("time_per_hour_ms"):
        return min(1.0, float(figures["saved_ms_per_hour"]) / float(figures["time_per_hour_ms"]))
    # What only tidies (severity info), or says what is wrong with the result, saves no time.
    return UNKNOWN_GAIN if finding.severity == "warning" and finding.fixes else 0.0


def _bytes(change: Change) -> float:
    figures = change.findings[0].evidence.figures
    return float(figures.get("waste_bytes") or figures.get("file_bytes") or 0)
