"""Compiling the query's expressions (JIT) takes a large part of the time it runs.

Why: JIT is switched on by the estimated cost. A cost that is overestimated, many partitions or many
    expressions make PostgreSQL compile for longer than the compiled code ever saves.
Fix: SET jit = off for this query, or a higher jit_above_cost for the database.
Silent when: compiling takes under a fifth of the time or under 20 ms, or running without it was tried
    and did not help.
Source: PostgreSQL manual, chapter 30 "Just-in-Time Compilation (JIT)".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.figures import ms
from sqladvisor.finding import Finding
from sqladvisor.plan.memory import with_setting
from sqladvisor.plan.node import Plan
from sqladvisor.rule import PLAN, rule

SETUP = ""
BAD = ["-- plan: pg15-jit_heavy", "-- plan: pg15-jit_parallel"]
GOOD = ["-- plan: pg15-jit", "-- plan: pg15-hash_batches"]


@rule(
    PLAN,
    severity="warning",
    needs=("analyze",),
    thresholds={"min_share": 0.2, "min_ms": 20},  # a fifth of the time; less is not felt
)
def check(plan: Plan, ctx: Context) -> Iterator[Finding]:
    # Summed over the leader and its workers (ExplainPrintJITSummary), who compile at the same time.
    launched = max((int(n.raw.get("Workers Launched", 0)) for n in plan.nodes()), default=0)
    jit_ms = float(((plan.jit or {}).get("Timing") or {}).get("Total") or 0) / (1 + launched)
    total = plan.execution_ms or 0
    if jit_ms < ctx.threshold("min_ms") or jit_ms < ctx.threshold("min_share") * total:
        return
    functions = int((plan.jit or {}).get("Functions", 0))
    fixes, experiment = with_setting(ctx, "jit", "off", "run this statement without JIT")
    yield ctx.finding(
        None,
        f"{ms(jit_ms)} of {ms(total)} go into compiling {functions} functions (JIT)",
        fixes=fixes,
        experiment=experiment,
        level="measured",
        figures={"jit_ms": jit_ms, "functions": functions},
    )
