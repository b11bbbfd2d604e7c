"""Nobody counts what statements cost, or there is no room to count them all.

Why: pg_stat_statements is how one knows which statements are worth a change. Without it advice rests
    on the schema alone; when it is too small, the least executed entries are dropped again and again,
    which costs time under an exclusive lock and loses their history.
Fix: load and create it; a larger pg_stat_statements.max.
Silent when: it is there and readable, and drops entries less than once an hour.
Source: PostgreSQL manual, F.32 "pg_stat_statements" (pg_stat_statements_info.dealloc).
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.database import DatabaseContext
from sqladvisor.finding import Finding, Fix
from sqladvisor.rule import COUNTED, rule
from sqladvisor.workload.weights import Workload


@rule(
    COUNTED,
    severity="warning",
    thresholds={"max_evictions_per_hour": 1},  # each drops a twentieth of the entries
)
def check(workload: Workload, ctx: DatabaseContext) -> Iterator[Finding]:
    collected = workload.collected
    if collected.missing:
        fixes: tuple[Fix, ...] = ()
        if collected.enable:
            fixes = (Fix("have it counted", "\n".join(collected.enable), "ddl"),)
        yield ctx.finding("pg_stat_statements", collected.missing, fixes=fixes)
        return
    hours = collected.hours
    if not collected.evicted or not hours or not collected.since_reset:
        return
    rate = collected.evicted / max(hours, 1.0)
    if rate > ctx.threshold("max_evictions_per_hour"):
        size = collected.max_entries or 5000
        yield ctx.finding(
            "pg_stat_statements",
            f"pg_stat_statements ({size:,} entries) dropped entries {collected.evicted:,} times in "
            f"{hours:,.1f} hours: it is too small for this workload",
            fixes=(
                Fix(
                    "make room (needs a restart)",
                    f"ALTER SYSTEM SET pg_stat_statements.max = {size * 4};",
                    "ddl",
                ),
            ),
            figures={"evictions": collected.evicted, "hours": round(hours, 2), "entries": size},
            notes=(
                "statements with lists of many lengths (IN (1, 2, 3)) fill it: = ANY ($1) is one entry",
            ),
        )
