"""An index that this schema lacks would make statements of this workload cheaper.

Why: without it PostgreSQL reads rows it then throws away, or sorts what an index would give in
    order. The advice is priced by the planner with the index in place (what-if), and where there
    are rows it was built and the statements were timed before and after.
Fix: CREATE INDEX CONCURRENTLY, which does not block writes while it builds.
Silent when: the planner would not use the index, saves less than a tenth with it, or the built
    index did not make the statement measurably faster. An index that saves less than 5 ms is info.
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
    from sqladvisor.plan.node import Plan


@rule(
    ADVICE,
    severity="warning",
    needs=("plan",),
    thresholds={"min_warning_ms": 5},  # as for plan nodes: less is felt only at thousands a second
)
def check(advice: IndexAdvice, ctx: Context) -> Iterator[Finding]:
    index = advice.index
    shown = f"{index.table} ({', '.join(index.keys)})"
    if index.include:
        shown += f" INCLUDE ({', '.join(index.include)})"
    if index.predicate:
        shown += f" WHERE {index.predicate}"
    spoken_of = {advice.best.context.fingerprint}
    yield _finding(advice, advice.best, shown, ctx)
    for use in advice.uses:
        # A rewritten statement is spoken of where the rewrite is advised; repeats once.
        if not use.rewritten and use.context.fingerprint not in spoken_of:
            spoken_of.add(use.context.fingerprint)
            yield _finding(advice, use, shown, ctx)


def _finding(advice: IndexAdvice, use: Use, shown: str, ctx: Context) -> Finding:
    best = advice.best
    figures = {
        "index": shown,
        "table": advice.index.table.rpartition(".")[2].strip('"'),
        "cost_before": round(use.cost_before, 2),
        "cost_after": round(use.cost_after, 2),
        "size_bytes": advice.built_bytes or advice.size_bytes,
        "size_is_measured": advice.built_bytes is not None,
        "queries": [_figures(u) for u in advice.uses],
        "not_helpful": list(use.useless),
        "removes_sort": _sorts(use.plan_before) and not _sorts(use.plan_after),
    }
    saved = None
    if use.time_before_ms is not None and use.time_after_ms is not None:
        saved = use.time_before_ms - use.time_after_ms
        figures |= {
            "time_before_ms": round(use.time_before_ms, 3),
            "time_after_ms": round(use.time_after_ms, 3),
            "buffers_before": use.buffers_before,
            "buffers_after": use.buffers_after,
        }
    only = " by an index-only scan" if _index_only(use) else ""
    own = use.context
    own.rule = ctx.rule
    return own.finding(
        None,
        f"no index serves this statement; {shown} would{only}",
        severity="info" if saved is not None and saved < own.threshold("min_warning_ms") else None,
        fixes=(
            Fix(
                "build it without blocking writes",
                advice.index.ddl(concurrently=True),
                "ddl",
            ),
        ),
        level="measured" if saved is not None else "estimated",
        figures=figures,
        notes=[*advice.notes, *_notes(advice, use, best)],
    )


def _notes(advice: IndexAdvice, use: Use, best: Use) -> Iterator[str]:
    if use.rewritten:
        yield "for the statement rewritten as advised there, not as it is"
    others = [u for u in advice.uses if u is not use]
    if others and use is best:
        lines = ", ".join(
            f"line {u.context.statement.line}{', rewritten as advised' * u.rewritten} ({_gain(u)})"
            for u in others
        )
        yield f"the same index serves {lines}"
    elif others:
        yield f"it is the index advised for line {best.context.statement.line} too: one serves both"
    if use.companions:
        pair = "; ".join(f"{c.table} ({', '.join(c.keys)})" for c in use.companions)
        yield f"measured together with the index on {pair}, which this plan uses too"
    if use.useless:
        yield (
            "would not help this statement (planner cost unchanged, not used): an index on "
            + ", ".join(use.useless)
        )


def _sorts(plan: Plan | None) -> bool:
    return plan is not None and any(n.node_type == "Sort" for n in plan.nodes())


def _index_only(use: Use) -> bool:
    return use.plan_after is not None and any(
        n.node_type == "Index Only Scan" and (n.index or "").startswith("sqladvisor")
        for n in use.plan_after.nodes()
    )


def _gain(use: Use) -> str:
    if use.time_before_ms is not None and use.time_after_ms is not None:
        return f"{use.time_before_ms:.3g} → {use.time_after_ms:.3g} ms"
    return f"cost {use.cost_before:,.0f} → {use.cost_after:,.0f}"


def _figures(use: Use) -> dict[str, object]:
    statement = use.context.statement
    return {
        "path": statement.path,
        "line": statement.line,
        "fingerprint": use.context.fingerprint,
        "rewrite_of": use.original_fingerprint,
        "cost_before": round(use.cost_before, 2),
        "cost_after": round(use.cost_after, 2),
        "time_before_ms": use.time_before_ms,
        "time_after_ms": use.time_after_ms,
        "buffers_before": use.buffers_before,
        "buffers_after": use.buffers_after,
    }
