"""An index that this schema lacks would make statements of this workload cheaper.

Why: without it PostgreSQL reads rows it then throws away, or sorts what an index would give in
    order. The advice is priced by the planner with the index in place (what-if), and where there
    are rows it was built and the statements were timed before and after.
Fix: CREATE INDEX CONCURRENTLY, which does not block writes while it builds.
Silent when: the planner would not use the index, saves less than a tenth with it, or the built
    index did not make the statement measurably faster.
Source: PostgreSQL manual, chapter 11 "Indexes"; costs are EXPLAIN's, on the same statistics.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sqladvisor.context import Context
from sqladvisor.finding import Finding, Fix
from sqladvisor.rule import ADVICE, rule

if TYPE_CHECKING:
    from sqladvisor.advise.select import IndexAdvice, Use


@rule(ADVICE, severity="warning", needs=("plan",))
def check(advice: IndexAdvice, ctx: Context) -> Iterator[Finding]:
    index, best = advice.index, advice.best
    listed = ", ".join(index.keys)
    shown = f"{index.table} ({listed})"
    if index.include:
        shown += f" INCLUDE ({', '.join(index.include)})"
    if index.predicate:
        shown += f" WHERE {index.predicate}"
    others = len(advice.uses) - 1
    also = f", and {others} more statement{'s' * (others > 1)}" if others else ""
    figures = {
        "index": shown,
        "cost_before": round(best.cost_before, 2),
        "cost_after": round(best.cost_after, 2),
        "size_bytes": advice.built_bytes or advice.size_bytes,
        "size_is_measured": advice.built_bytes is not None,
        "queries": [_figures(use) for use in advice.uses],
        "not_helpful": list(advice.useless),
    }
    if best.time_before_ms is not None:
        figures |= {
            "time_before_ms": round(best.time_before_ms, 3),
            "time_after_ms": round(best.time_after_ms or 0, 3),
            "buffers_before": best.buffers_before,
            "buffers_after": best.buffers_after,
        }
    notes = list(advice.notes)
    if others:
        lines = ", ".join(
            f"line {u.context.statement.line} ({_gain(u)})" for u in advice.uses if u is not best
        )
        notes.append(f"also helps {lines}")
    if best.companions:
        pair = "; ".join(f"{c.table} ({', '.join(c.keys)})" for c in best.companions)
        notes.append(f"measured together with the index on {pair}, which this plan uses too")
    if advice.useless:
        notes.append(
            "would not help this statement (planner cost unchanged, not used): an index on "
            + ", ".join(advice.useless)
        )
    what = "an index-only scan" if _index_only(best) else "an index"
    yield ctx.finding(
        None,
        f"{what} on {shown} would make this statement cheaper{also}",
        fixes=(Fix("build it without blocking writes", index.ddl(concurrently=True), "ddl"),),
        level="measured" if advice.measured else "estimated",
        figures=figures,
        notes=notes,
    )


def _index_only(use: Use) -> bool:
    return use.plan_after is not None and any(
        n.node_type == "Index Only Scan" and (n.index or "").startswith("sqladvisor")
        for n in use.plan_after.nodes()
    )


def _gain(use: Use) -> str:
    if use.time_before_ms is not None and use.time_after_ms:
        return f"{use.time_before_ms:.3g} → {use.time_after_ms:.3g} ms"
    return f"cost {use.cost_before:,.0f} → {use.cost_after:,.0f}"


def _figures(use: Use) -> dict[str, object]:
    statement = use.context.statement
    return {
        "path": statement.path,
        "line": statement.line,
        "fingerprint": use.context.fingerprint,
        "cost_before": round(use.cost_before, 2),
        "cost_after": round(use.cost_after, 2),
        "time_before_ms": use.time_before_ms,
        "time_after_ms": use.time_after_ms,
        "buffers_before": use.buffers_before,
        "buffers_after": use.buffers_after,
    }
