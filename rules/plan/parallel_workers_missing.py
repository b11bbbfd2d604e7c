"""A parallel plan got fewer workers than it was planned for.

Why: the plan was chosen for its workers' help; without them the leader does all the work.
Fix: more max_parallel_workers / max_worker_processes, or fewer parallel queries at the same time.
Silent when: all workers came, or the query takes no time worth saving.
Source: PostgreSQL manual, 15.1 "How Parallel Query Works" (Workers Planned, Workers Launched).
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.finding import Finding
from sqladvisor.plan.node import Plan
from sqladvisor.plan.weigh import figures, subtree_matters
from sqladvisor.rule import PLAN, rule

SETUP = """
CREATE TABLE t (id int, pad text);
INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, 300000) i;
VACUUM ANALYZE;
"""
_CHEAP = "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;"
BAD = [
    _CHEAP + "SET max_parallel_workers = 0; SELECT count(*) FROM t WHERE pad LIKE '%y%'",
    _CHEAP + "SET max_parallel_workers = 0; SELECT sum(id) FROM t WHERE length(pad) > 5",
]
GOOD = [
    _CHEAP + "SELECT count(*) FROM t WHERE pad LIKE '%y%'",
    "SET max_parallel_workers_per_gather = 0; SELECT count(*) FROM t WHERE pad LIKE '%y%'",
]


@rule(PLAN, severity="info", needs=("analyze",))
def check(plan: Plan, ctx: Context) -> Iterator[Finding]:
    for node in plan.nodes():
        planned = int(node.raw.get("Workers Planned", 0))
        launched = int(node.raw.get("Workers Launched", planned))
        if launched < planned and node.executed and subtree_matters(plan, node):
            yield ctx.finding(
                None,
                f"{launched} of {planned} planned parallel workers came",
                level="measured",
                figures={**figures(plan, node), "planned": planned, "launched": launched},
            )
