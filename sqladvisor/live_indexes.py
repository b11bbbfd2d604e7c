"""Index advice of a live server: the optimiser of `sqladvisor indexes`, over what the server counted.

The same statements, weights, terms and planner, so that both commands advise the same set; only the
time is limited here. What it advises is made findings, by the rules over index advice, and what the
database/ rules say of indexes to drop is held against it.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from sqladvisor.advise.optimise import Stop
from sqladvisor.advise.recommend import Create, Recommendation, recommend
from sqladvisor.advise.select import IndexAdvice, Use, useless
from sqladvisor.advise.workload import Query, Variant, gather
from sqladvisor.advise.workload import Workload as Asked
from sqladvisor.auditor import Progress
from sqladvisor.context import Context
from sqladvisor.finding import Finding
from sqladvisor.indexer import Options, settings, table_writes, what_if
from sqladvisor.server.target import Target
from sqladvisor.server.whatif import WhatIf
from sqladvisor.workload.weights import Workload

LEAST_S = 3.0
"""Seconds that the search has at least, whatever came before it."""
_DROPS = frozenset(
    ("database/unused-index", "database/duplicate-index", "database/redundant-index")
)


@dataclass(slots=True)
class Advised:
    """What the optimiser says, the same as the index rules take it, and by which planner."""

    found: Recommendation
    planner: str
    entries: list[IndexAdvice] = field(default_factory=list)


def advise_live(
    target: Target, workload: Workload, options: Options, until: float, say: Progress
) -> Advised | None:
    """The indexes for the counted statements; None where there are none that could be planned.

    ``until`` is the time.monotonic() at which to answer with the best so far. Raises ServerError
    where there is no planner to be had.
    """
    asked = Asked(complete=True, weighed=True, hours=workload.collected.hours)
    with ExitStack() as stack:
        if not workload.statements:
            return None
        whatif, planner = what_if(options, target, stack, say)
        on_target = planner.startswith("HypoPG")
        gather(
            asked,
            (
                (w.context, w.counted.calls)
                for w in workload.statements
                if not (on_target and locks(w.context))
            ),
        )
        if not asked.queries:
            return None
        stop = Stop(max(until, time.monotonic() + LEAST_S))
        writes = table_writes(asked, target)
        found = recommend(asked, target.catalog, whatif, settings(options), stop, say, writes)
        if stop.now(whatif.calls):
            found.notes.append(
                "the search for indexes was ended for want of time: `sqladvisor indexes` ends it"
            )
        entries = [_entry(c, found, asked.queries, whatif) for c in found.creates]
        return Advised(found, planner, [e for e in entries if e.uses])


def locks(context: Context) -> bool:
    """Whether even EXPLAIN takes a stronger lock than a reader's: on what is written or locked."""
    written = ("InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt", "LockingClause")
    return any(context.tree.by_kind.get(kind) for kind in written)


def _entry(
    create: Create, found: Recommendation, queries: Sequence[Query], whatif: WhatIf
) -> IndexAdvice:
    """An index to make as the rules over index advice take it, with the plans that use it."""
    assert create.offered is not None and create.offered.index is not None
    entry = IndexAdvice(create.offered.index, create.size_bytes, sql=create.sql)
    handles = [h for c in found.creates if c.offered for h in c.offered.handles]
    own = {h.name for h in create.offered.handles}
    gone = [d.name.rpartition(".")[2].strip('"') for d in found.drops]
    for served in create.served:
        query = queries[served.query]
        variant = _serving(create, query, found)
        before = whatif.cost(variant.sql, (), generic=variant.generic)
        after = whatif.cost(variant.sql, handles, hidden_existing=gone, generic=variant.generic)
        used = after.indexes_used()
        entry.uses.append(
            Use(
                query.context,
                variant.sql,
                served.cost_before,
                served.cost_after,
                tuple(
                    dict.fromkeys(h.index for h in handles if h.name in used and h.name not in own)
                ),
                before,
                after,
                useless(
                    query.context,
                    variant.sql,
                    variant.generic,
                    before,
                    create.offered.handles,
                    whatif,
                ),
            )
        )
    return entry


def _serving(create: Create, query: Query, found: Recommendation) -> Variant:
    """The text of a query that gains most by an index: a rare value and a common one may differ."""
    (change,) = [
        q for q in found.queries if q.name == query.name and q.sql == query.context.statement.text
    ]
    gains = {
        v.sql: v.cost_before - v.cost_after for v in change.variants if create.name in v.indexes
    }
    return max(query.variants, key=lambda v: gains.get(v.sql, float("-inf")))


def agreed(health: Iterable[Finding], found: Recommendation) -> tuple[list[Finding], list[str]]:
    """The findings without those that would drop an index which the advice rests on, and why.

    An unused index that the planner would use for a counted statement stays, and so does the twin
    of an index that the optimiser lets go: never both of a pair go.
    """
    kept, notes = [], []
    dropped = {_plain(d.name) for d in found.drops}
    for finding in health:
        index = _plain(str(finding.evidence.figures.get("index", "")))
        twin = _plain(
            str(
                finding.evidence.figures.get("same_as")
                or finding.evidence.figures.get("covered_by")
            )
        )
        if finding.rule not in _DROPS or index in dropped:
            kept.append(finding)
        elif finding.rule == "database/unused-index" and index in _names(found.relied_on):
            notes.append(
                f"{index} was not scanned since the counters began, but plans of counted statements "
                "use it: it is not advised to drop it"
            )
        elif twin in dropped:
            notes.append(f"{index} stays, as {twin} goes: one of the two is enough")
        else:
            kept.append(finding)
    return kept, notes


def _names(names: Collection[str]) -> set[str]:
    return {_plain(n) for n in names}


def _plain(name: str) -> str:
    """An index's name as reports show it, without a schema in the search path."""
    return name.removeprefix("public.")


def superseded(found: Recommendation, health: Iterable[Finding]) -> dict[str, str]:
    """Indexes that may go for what the optimiser alone knows, each with the reason."""
    told = {_plain(str(f.evidence.figures.get("index"))) for f in health if f.rule in _DROPS}
    return {d.sql: d.reason for d in found.drops if _plain(d.name) not in told}


def with_drops(findings: list[Finding], drops: dict[str, str]) -> list[Finding]:
    """Index advice with what it lets go: an old index that a new one begins with."""
    result = []
    for finding in findings:
        own = {
            sql: why
            for sql, why in drops.items()
            if why.removesuffix(" serves what it serves") == finding.evidence.figures.get("index")
        }
        if own:
            more = tuple(f"then {sql} ({why})" for sql, why in own.items())
            evidence = replace(finding.evidence, notes=(*finding.evidence.notes, *more))
            finding = replace(finding, evidence=evidence)
        result.append(finding)
    return result
