"""A sequential scan reads many rows to keep few.

Why: every row of the table is read and tested, and nearly all are thrown away. An index on the
    filtered columns would fetch only those that are kept.
Fix: an index on the columns of the filter (index/missing prices and tries it where it can).
Silent when: the scan keeps more than a tenth of the rows (an index would not pay), fewer than
    1,000 rows were removed, or the node takes no time worth saving.
Source: PostgreSQL manual, 14.1 "Using EXPLAIN" (Rows Removed by Filter).
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.finding import Finding
from sqladvisor.plan.node import Plan
from sqladvisor.plan.weigh import figures, matters
from sqladvisor.rule import PLAN, rule

SETUP = """
CREATE TABLE t (id int PRIMARY KEY, a int, b text);
INSERT INTO t SELECT i, i % 1000, repeat('x', 100) FROM generate_series(1, 300000) i;
CREATE TABLE small (id int, a int);
INSERT INTO small SELECT i, i FROM generate_series(1, 2000) i;
VACUUM ANALYZE;
"""
BAD = [
    "SET max_parallel_workers_per_gather = 0; SELECT * FROM t WHERE a = 7 AND md5(b) <> 'x' AND b LIKE '%xx'",
    "SET max_parallel_workers_per_gather = 0; SELECT count(*) FROM t WHERE b LIKE '%y%'",
]
GOOD = [
    "SELECT * FROM t WHERE id = 7",
    "SELECT count(*) FROM t WHERE a > 100",
    "SELECT * FROM small WHERE a = 7",
]


@rule(
    PLAN,
    severity="warning",
    needs=("analyze",),
    thresholds={
        "min_removed_rows": 1000,  # the field's floor (pganalyze, pgMustard)
        "min_removed_share": 0.9,  # an index scan pays below about a tenth of the rows
    },
)
def check(plan: Plan, ctx: Context) -> Iterator[Finding]:
    for node in plan.nodes():
        if node.node_type != "Seq Scan" or not node.executed or not matters(plan, node):
            continue
        removed, kept = node.removed_by_filter, node.rows_out or 0
        read = removed + kept
        if removed < ctx.threshold("min_removed_rows"):
            continue
        if removed / read >= ctx.threshold("min_removed_share"):
            yield ctx.finding(
                node,
                f"reads {read:,.0f} rows of {node.relation} to keep {kept:,.0f} by {node.filter}",
                level="measured",
                figures={**figures(plan, node), "rows_removed": round(removed)},
                notes=(f"{node.self_ms:.3g} ms of {plan.execution_ms:.3g} ms",),
            )
