"""A plan was made with a planner method switched off.

Why: enable_* settings are for finding out, not for running: what is switched off for one query makes
    others worse, and hides that the planner had a reason (mostly a wrong estimate) to choose it.
Fix: RESET the setting, and mend the estimate or cost that misled the planner.
Silent when: no enable_* setting is off, or the statement takes no time worth a word.
Source: PostgreSQL manual, 19.7.1 "Planner Method Configuration".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.finding import Finding, Fix
from sqladvisor.plan.node import Plan
from sqladvisor.plan.weigh import MIN_MS
from sqladvisor.rule import PLAN, rule

SETUP = """
CREATE TABLE t (id int PRIMARY KEY, pad text);
INSERT INTO t SELECT i, repeat('x', 50) FROM generate_series(1, 200000) i;
VACUUM ANALYZE;
"""
BAD = [
    "SET enable_hashjoin = off; SELECT count(*) FROM t a JOIN t b ON b.id = a.id + 1",
    "SET enable_sort = off; SET enable_seqscan = off; SELECT count(*) FROM t WHERE pad LIKE '%y%'",
]
GOOD = [
    "SELECT count(*) FROM t WHERE pad LIKE '%y%'",
    "SET work_mem = '64MB'; SELECT count(*) FROM t WHERE pad LIKE '%y%'",
    "SET enable_seqscan = off; SELECT pad FROM t WHERE id = 5",
]


@rule(PLAN, severity="info", needs=("analyze",))
def check(plan: Plan, ctx: Context) -> Iterator[Finding]:
    off = sorted(
        name
        for name, value in plan.settings.items()
        if name.startswith("enable_")
        and value == "off"
        and not name.startswith("enable_partitionwise")
    )
    if off and (plan.execution_ms or 0) >= MIN_MS:
        yield ctx.finding(
            None,
            f"planned with {', '.join(off)} = off: the planner was kept from what it would choose",
            fixes=(Fix("let it choose", "\n".join(f"RESET {n};" for n in off), "advice"),),
            level="measured",
            figures={"settings": off},
        )
