"""A sort did not fit work_mem and went through temporary files.

Why: an external merge writes and reads every row on disk.
Fix: a higher work_mem for this query, an index that gives the order, or fewer and narrower rows.
Silent when: the sort stayed in memory, takes no time worth saving, or more memory was tried and
    did not help.
Source: PostgreSQL manual, work_mem in 19.4.1 and "Using EXPLAIN" (Sort Method).
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.figures import ms
from sqladvisor.finding import Finding
from sqladvisor.plan.memory import SORT_EXPANSION, more_memory
from sqladvisor.plan.node import Plan
from sqladvisor.plan.weigh import figures, matters
from sqladvisor.rule import PLAN, rule

SETUP = """
CREATE TABLE t (id int, a int, pad text);
INSERT INTO t SELECT i, (i::bigint * 7919) % 300007, repeat('x', 100) FROM generate_series(1, 300000) i;
CREATE INDEX ON t (id);
VACUUM ANALYZE;
"""
BAD = [
    "SELECT * FROM t ORDER BY a, pad OFFSET 299999",
    "SET max_parallel_workers_per_gather = 0; SELECT count(*) FROM (SELECT * FROM t ORDER BY pad, a OFFSET 0) s",
]
GOOD = [
    "SELECT * FROM t ORDER BY a LIMIT 10",
    "SET work_mem = '256MB'; SELECT * FROM t ORDER BY a, pad OFFSET 299999",
]


@rule(PLAN, severity="warning", needs=("analyze",))
def check(plan: Plan, ctx: Context) -> Iterator[Finding]:
    for node in plan.nodes():
        if node.raw.get("Sort Space Type") != "Disk" or not matters(plan, node):
            continue
        used_kb = float(node.raw.get("Sort Space Used", 0))
        keys = ", ".join(map(str, node.raw.get("Sort Key", ())))
        fixes, experiment = more_memory(ctx, used_kb * 1024 * SORT_EXPANSION)
        yield ctx.finding(
            node,
            f"the sort by {keys} wrote {used_kb / 1024:,.1f} MB of temporary files: it did not fit "
            "work_mem",
            fixes=fixes,
            experiment=experiment,
            level="measured",
            figures={**figures(plan, node), "disk_bytes": int(used_kb * 1024)},
            notes=(f"{ms(node.self_ms)} of {ms(plan.execution_ms)}",),
        )
