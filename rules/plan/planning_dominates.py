"""Planning takes longer than execution.

Why: with many joins or partitions PostgreSQL searches long for a plan that then runs in no time;
    sent as a new text each time, that is paid on every call.
Fix: a prepared statement (one generic plan), fewer partitions or joins, join_collapse_limit.
Silent when: planning takes under 10 ms: then nothing is worth saving.
Source: PostgreSQL manual, PREPARE, and 5.12.6 "Best Practices for Declarative Partitioning".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.figures import ms
from sqladvisor.finding import Finding
from sqladvisor.plan.node import Plan
from sqladvisor.rule import PLAN, rule

SETUP = """
CREATE TABLE t (id int);
INSERT INTO t SELECT generate_series(1, 100);
ANALYZE;
"""
_MANY = "SET join_collapse_limit = 12; SET geqo = off;"
BAD = [
    _MANY + "SELECT * FROM t a JOIN t b USING (id) JOIN t c USING (id) JOIN t d USING (id) "
    "JOIN t e USING (id) JOIN t f USING (id) JOIN t g USING (id) JOIN t h USING (id) "
    "JOIN t i USING (id) JOIN t j USING (id)",
    _MANY + "SELECT count(*) FROM t a JOIN t b USING (id) JOIN t c USING (id) JOIN t d USING (id) "
    "JOIN t e USING (id) JOIN t f USING (id) JOIN t g USING (id) JOIN t h USING (id) "
    "JOIN t i USING (id) JOIN t j USING (id) WHERE a.id > 90",
]
GOOD = ["SELECT * FROM t WHERE id = 5", "SELECT count(*) FROM t a JOIN t b USING (id)"]


@rule(
    PLAN,
    severity="info",
    needs=("analyze",),
    thresholds={"min_planning_ms": 10},  # an everyday statement plans in 0.1 to 2 ms
)
def check(plan: Plan, ctx: Context) -> Iterator[Finding]:
    planning, execution = plan.planning_ms, plan.execution_ms
    if planning is None or execution is None or planning <= execution:
        return
    if planning >= ctx.threshold("min_planning_ms"):
        yield ctx.finding(
            None,
            f"planning takes {ms(planning)}, execution {ms(execution)}",
            level="measured",
            figures={"planning_ms": round(planning, 3), "execution_ms": round(execution, 3)},
        )
