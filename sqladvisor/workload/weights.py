"""The statements that a server has counted, parsed, and weighed by what they cost it.

Together they read like one file: the n-th line is the n-th dearest statement.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sqladvisor.context import Context
from sqladvisor.sql.source import read_source, statements
from sqladvisor.sql.tree import names
from sqladvisor.workload.statements import ours

if TYPE_CHECKING:
    from sqladvisor.catalog.model import Catalog, Relation
    from sqladvisor.finding import Finding
    from sqladvisor.workload.statements import Collected, Counted

PLACE = "pg_stat_statements"
"""Stands for the path of a file in what is found."""
# pg_stat_statements puts $1 in the place of the literal alone: `interval $1` is no SQL.
_TYPED = re.compile(
    r"\b(interval|date|timestamptz|timestamp(?: with(?:out)? time zone)?|time)\s+(\$\d+)", re.I
)
ACCESS_SHARE = 1
"""LOCK TABLE's weakest mode (lockdefs.h)."""
_SETTLING = frozenset(("VariableSetStmt", "VariableShowStmt", "ExplainStmt"))
# What functions that ask the server about itself begin with.
_ASKING = ("pg_", "has_", "to_reg", "current_", "set_config", "version")
_SYSTEM = frozenset(("pg_catalog", "information_schema", "pg_toast"))


@dataclass(frozen=True, slots=True)
class Weighed:
    """A statement with what it costs. ``rank`` counts from 1 by total time."""

    rank: int
    counted: Counted
    context: Context
    share: float
    """Of the time of all statements of this database but those over the system catalogs."""
    calls_per_hour: float | None
    ms_per_hour: float | None

    @property
    def relations(self) -> list[Relation]:
        """The tables and views it names that the catalog knows, each once."""
        found = {}
        for node in self.context.tree.of("RangeVar"):
            relation = self.context.catalog.find(node.get("relname", ""), node.get("schemaname"))
            if relation is not None:
                found[relation.schema, relation.name] = relation
        return list(found.values())


@dataclass(frozen=True, slots=True)
class Workload:
    """What a server does, most time first."""

    collected: Collected
    statements: tuple[Weighed, ...] = ()
    unparsed: int = 0
    """Texts that are cut off, or not SQL once their literals are gone."""
    system: int = 0
    """Statements over the system catalogs only: monitoring, ours among it."""
    by_rank: Mapping[int, Weighed] = field(default_factory=dict)

    def of(self, finding: Finding) -> Weighed | None:
        """The statement that a finding is about."""
        if finding.location.path != PLACE:
            return None
        return self.by_rank.get(finding.location.line)


def weigh(
    collected: Collected, catalog: Catalog, thresholds: Mapping[str, Mapping[str, float]]
) -> Workload:
    """Parse every text, each once, and give it its weight."""
    kept: list[tuple[Counted, Context]] = []
    unparsed = system = 0
    total = 0.0
    for counted in collected.statements:
        context = _context(counted.text, len(kept) + 1, catalog, thresholds)
        if context is not None and about_the_system(context):
            system += 1
            continue
        total += counted.total_ms
        if context is None:
            unparsed += 1
        else:
            kept.append((counted, context))
    found: list[Weighed] = []
    for counted, context in kept:
        found.append(
            Weighed(
                len(found) + 1,
                counted,
                context,
                counted.total_ms / total if total else 0.0,
                collected.per_hour(counted, counted.calls),
                collected.per_hour(counted, counted.total_ms),
            )
        )
    return Workload(collected, tuple(found), unparsed, system, {w.rank: w for w in found})


def parsed(
    text: str,
    catalog: Catalog,
    thresholds: Mapping[str, Mapping[str, float]] | None = None,
) -> Context | None:
    """A counted text as a statement; None where it is cut off, or no SQL without its literals."""
    return _context(text, 1, catalog, thresholds or {})


def _context(
    text: str, rank: int, catalog: Catalog, thresholds: Mapping[str, Mapping[str, float]]
) -> Context | None:
    for tried in dict.fromkeys((text, _TYPED.sub(_cast, text))):
        found, problems = statements(read_source(PLACE, tried.encode()))
        if len(found) == 1 and not problems:
            placed = replace(found[0], line=rank, column=1, run=rank)
            return Context(placed, catalog, thresholds=thresholds)
    return None


def _cast(match: re.Match[str]) -> str:
    return f"{match[2]}::{match[1]}"


def about_the_system(context: Context) -> bool:
    """Whether a statement reads nothing but system catalogs, or calls only their functions."""
    statement = context.statement
    if statement.kind in _SETTLING or ours(statement.text):
        return True
    if statement.kind == "LockStmt":
        return bool(statement.tree.get("mode") == ACCESS_SHARE)  # a dump's
    own = {n.get("ctename") for n in context.tree.of("CommonTableExpr")}
    real = [
        t for t in context.tree.of("RangeVar") if t.get("schemaname") or t.get("relname") not in own
    ]
    if not real:
        called = [names(f.get("funcname")) for f in context.tree.of("FuncCall")]
        return bool(called) and all(
            c[0] == "pg_catalog" or c[-1].startswith(_ASKING) for c in called if c
        )
    return all(
        t.get("schemaname") in _SYSTEM
        or str(t.get("relname", "")).startswith("pg_stat")
        or (not t.get("schemaname") and t["relname"].startswith("pg_"))
        for t in real
    )


def on_the_line(finding: Finding, workload: Workload) -> Finding:
    """A finding moved to its statement's line, with what the statement costs among its figures."""
    by_text = {w.context.statement.text: w for w in workload.statements}
    weighed = by_text.get(finding.statement)
    if weighed is None or finding.location.path != PLACE:
        return finding
    location = replace(
        finding.location, line=weighed.rank, column=1, end_line=weighed.rank, end_column=1
    )
    figures = dict(finding.evidence.figures)
    figures |= {
        "queryid": str(weighed.counted.queryid),
        "calls": weighed.counted.calls,
        "mean_time_ms": round(weighed.counted.mean_exec_ms, 3),
        "share_of_time": round(weighed.share, 4),
    }
    if weighed.calls_per_hour is not None and weighed.ms_per_hour is not None:
        figures["calls_per_hour"] = round(weighed.calls_per_hour, 1)
        figures["time_per_hour_ms"] = round(weighed.ms_per_hour, 1)
    return replace(finding, location=location, evidence=replace(finding.evidence, figures=figures))


def told(finding: Finding, weighed: Weighed) -> Finding:
    """A finding about the database, made one about a statement."""
    statement = weighed.context.statement
    return replace(
        finding,
        location=statement.locate(0, 0),
        statement=statement.text,
        fingerprint=weighed.context.fingerprint,
    )


def tops(workload: Workload, count: int) -> dict[str, list[Weighed]]:
    """The dearest statements by each measure; measures that nothing counts are left out."""
    measures: dict[str, Callable[[Counted], float]] = {
        "total time": lambda c: c.total_ms,
        "mean time": lambda c: c.mean_exec_ms,
        "calls": lambda c: c.calls,
        "blocks read": lambda c: c.read_blocks,
        "I/O time": lambda c: c.io_ms,
        "temporary blocks": lambda c: c.temp_blocks,
        "WAL": lambda c: c.wal_bytes,
        "planning time": lambda c: c.total_plan_ms,
        "variation": lambda c: c.variation if c.calls >= MIN_CALLS_FOR_VARIATION else 0,
    }
    result: dict[str, list[Weighed]] = {}
    for name, measure in measures.items():
        ranked: Sequence[Weighed] = sorted(
            workload.statements, key=lambda w: -float(measure(w.counted))
        )
        shown = [w for w in ranked[:count] if measure(w.counted) > 0]
        if shown:
            result[name] = shown
    return result


MIN_CALLS_FOR_VARIATION = 20
"""Calls. A standard deviation of fewer values says little."""
