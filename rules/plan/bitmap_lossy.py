"""A bitmap scan ran out of work_mem and remembers whole pages instead of rows.

Why: with a lossy bitmap every row of each remembered page is fetched and tested again.
Fix: a higher work_mem for this query (SET work_mem), or a more selective index.
Silent when: under a tenth of the pages are lossy, the node takes no time worth saving, or more
    memory was tried and did not help.
Source: PostgreSQL manual, 11.5 "Combining Multiple Indexes" and work_mem in 19.4.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.finding import Finding
from sqladvisor.plan.memory import more_memory
from sqladvisor.plan.node import Plan
from sqladvisor.plan.weigh import figures, matters
from sqladvisor.rule import PLAN, rule

SETUP = """
CREATE TABLE t (id int, a int, pad text);
INSERT INTO t SELECT i, (i::bigint * 7919) % 100, repeat('x', 200) FROM generate_series(1, 300000) i;
CREATE INDEX ON t (a);
VACUUM ANALYZE;
"""
_SMALL = "SET work_mem = '64kB'; SET enable_seqscan = off; SET enable_indexscan = off;"
BAD = [
    _SMALL + "SET max_parallel_workers_per_gather = 0; SELECT count(pad) FROM t WHERE a < 30",
    _SMALL + "SET max_parallel_workers_per_gather = 0; SELECT sum(id) FROM t WHERE a < 50",
]
GOOD = [
    "SET enable_seqscan = off; SET work_mem = '64MB'; SELECT count(pad) FROM t WHERE a < 30",
    "SELECT count(pad) FROM t WHERE a = 3",
]

BITMAP_ENTRY_BYTES = 128
"""A page in an exact bitmap: a PagetableEntry and its share of a hash table that is at most half
full (tidbitmap.c, tbm_calculate_entries)."""


@rule(PLAN, severity="warning", needs=("analyze",), thresholds={"min_lossy_share": 0.1})
def check(plan: Plan, ctx: Context) -> Iterator[Finding]:
    for node in plan.nodes():
        lossy = float(node.raw.get("Lossy Heap Blocks", 0))
        exact = float(node.raw.get("Exact Heap Blocks", 0))
        if not lossy or lossy / (lossy + exact) < ctx.threshold("min_lossy_share"):
            continue
        if matters(plan, node):
            fixes, experiment = more_memory(ctx, (lossy + exact) * BITMAP_ENTRY_BYTES)
            yield ctx.finding(
                node,
                f"the bitmap of {node.relation} did not fit work_mem: {lossy:,.0f} of "
                f"{lossy + exact:,.0f} pages are remembered whole, and their rows tested again",
                fixes=fixes,
                experiment=experiment,
                level="measured",
                figures={**figures(plan, node), "lossy_pages": lossy, "exact_pages": exact},
            )
