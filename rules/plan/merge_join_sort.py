"""A merge join spends its time sorting its inputs.

Why: a merge join needs both sides in the order of the join key. Where no index gives that order, both
    are sorted first, and the sort costs more than the join.
Fix: an index on the join key that gives the order, or enough work_mem for a hash join.
Silent when: the sorts take under two fifths of the time, the query wants that order anyway, they take
    no time worth saving, or more memory was tried and did not help.
Source: PostgreSQL manual, 51.5.1 "Generating Possible Plans" (merge join).
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.figures import ms
from sqladvisor.finding import Finding
from sqladvisor.plan.memory import with_setting
from sqladvisor.plan.node import Plan
from sqladvisor.plan.weigh import MIN_MS, figures
from sqladvisor.rule import PLAN, rule

SETUP = """
CREATE TABLE a (id int, pad text);
CREATE TABLE b (id int, pad text);
INSERT INTO a SELECT (i::bigint * 7919) % 100003, repeat('x', 60) FROM generate_series(1, 100000) i;
INSERT INTO b SELECT (i::bigint * 6101) % 100003, repeat('y', 60) FROM generate_series(1, 100000) i;
VACUUM ANALYZE;
"""
_MERGE = "SET enable_hashjoin = off; SET enable_nestloop = off; SET max_parallel_workers_per_gather = 0; "
BAD = [
    _MERGE + "SELECT count(a.pad || b.pad) FROM a JOIN b ON b.id = a.id",
    _MERGE + "SELECT max(b.pad) FROM a LEFT JOIN b ON b.id = a.id",
]
GOOD = [
    "SET max_parallel_workers_per_gather = 0; SELECT count(a.pad || b.pad) FROM a JOIN b ON b.id = a.id",
    _MERGE + "SELECT * FROM a JOIN b ON b.id = a.id ORDER BY a.id",
]


@rule(
    PLAN,
    severity="info",
    needs=("analyze",),
    thresholds={"min_share": 0.4},  # the field's step for "the costliest node"
)
def check(plan: Plan, ctx: Context) -> Iterator[Finding]:
    ordered = "sortClause" in ctx.statement.tree
    for node in plan.nodes():
        if node.node_type != "Merge Join" or ordered or not node.executed:
            continue
        sorts = [n for c in node.children for n in c.walk() if n.node_type == "Sort"]
        spent = sum(n.self_ms or 0 for n in sorts)
        if spent < MIN_MS or spent < ctx.threshold("min_share") * (plan.execution_ms or 0):
            continue
        fixes, experiment = with_setting(
            ctx, "enable_mergejoin", "off", "see what another join method would take", diagnose=True
        )
        condition = node.raw.get("Merge Cond")
        yield ctx.finding(
            sorts[0].children[0] if sorts[0].children else sorts[0],
            f"the merge join on {condition} spends {ms(spent)} of {ms(plan.execution_ms)} sorting "
            "its inputs: no index gives the order",
            fixes=fixes,
            experiment=experiment,
            level="measured",
            figures={**figures(plan, node), "sort_ms": round(spent, 3)},
        )
