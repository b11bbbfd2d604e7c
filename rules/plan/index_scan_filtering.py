"""An index scan fetches many rows that its filter then throws away.

Why: the index narrows by its leading columns only; the rest of the condition is tested row by row
    after reading the table. The index lacks a column, or has its columns in the wrong order.
Fix: an index that has the filtered column too, equality columns first (index/missing prices it).
Silent when: half of the fetched rows are kept, fewer than 1,000 are thrown away, or the node takes
    no time worth saving.
Source: PostgreSQL manual, 11.3 "Multicolumn Indexes" and 14.1 "Using EXPLAIN".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.figures import ms
from sqladvisor.finding import Finding
from sqladvisor.plan.node import Plan
from sqladvisor.plan.weigh import figures, matters
from sqladvisor.rule import PLAN, rule

SETUP = """
CREATE TABLE t (id int PRIMARY KEY, a int, b int, c text);
INSERT INTO t SELECT i, i % 2, i % 997, repeat('x', 100) FROM generate_series(1, 300000) i;
CREATE INDEX ON t (a);
CREATE INDEX ON t (b, a);
VACUUM ANALYZE;
"""
BAD = [
    """SET max_parallel_workers_per_gather = 0; SET enable_seqscan = off; SET enable_bitmapscan = off;
       SELECT count(c) FROM t WHERE a = 1 AND c LIKE '%y%'""",
    """SET max_parallel_workers_per_gather = 0; SET enable_seqscan = off;
       SELECT count(*) FROM t WHERE a = 0 AND c LIKE '%z%'""",
]
GOOD = ["SELECT count(c) FROM t WHERE a = 1 AND b = 5", "SELECT * FROM t WHERE id = 3 AND c = 'y'"]


@rule(
    PLAN,
    severity="warning",
    needs=("analyze",),
    thresholds={"min_removed_rows": 1000, "min_removed_share": 0.5},  # the field's thresholds
)
def check(plan: Plan, ctx: Context) -> Iterator[Finding]:
    for node in plan.nodes():
        if node.node_type not in ("Index Scan", "Bitmap Heap Scan", "Index Only Scan"):
            continue
        if "Index Cond" not in node.raw and node.node_type != "Bitmap Heap Scan":
            continue  # read for its order, not to narrow: plan/limit-abort
        removed = node.removed_by_filter
        if not node.executed or not matters(plan, node):
            continue
        read = removed + (node.rows_out or 0)
        if removed < ctx.threshold("min_removed_rows"):
            continue
        if removed / read >= ctx.threshold("min_removed_share"):
            through = f" through {node.index}" if node.index else ""
            yield ctx.finding(
                node,
                f"fetches {read:,.0f} rows of {node.relation}{through} to keep "
                f"{read - removed:,.0f} by {node.filter}: the index lacks that column",
                level="measured",
                figures={**figures(plan, node), "rows_removed": round(removed)},
                notes=(f"{ms(node.self_ms)} of {ms(plan.execution_ms)}",),
            )
