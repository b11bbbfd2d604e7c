"""A LIMIT hoped to stop early on an index's order, and read far on to find its rows.

Why: with ORDER BY … LIMIT the planner may walk an index in the wanted order and test the other
    conditions row by row, expecting to meet enough matching rows soon. When the matching rows lie at
    the other end, or are rarer than it thinks, it reads nearly the whole table, one row at a time.
Fix: an index with the filtered column first and the ORDER BY column second finds the rows at once
    (index/missing prices it).
Silent when: fewer than 1,000 rows were thrown away, a tenth of those read were kept, or the node takes
    no time worth saving.
Source: PostgreSQL manual, 11.4 "Indexes and ORDER BY" and 14.1 "Using EXPLAIN" (LIMIT).
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.figures import ms
from sqladvisor.finding import Finding
from sqladvisor.plan.node import Plan, PlanNode
from sqladvisor.plan.weigh import figures, matters
from sqladvisor.rule import PLAN, rule

SETUP = """
CREATE TABLE t (id int PRIMARY KEY, a int, created_at timestamptz, pad text);
INSERT INTO t SELECT i, CASE WHEN i < 3000 THEN 1 ELSE 0 END,
    timestamptz '2020-01-01' + i * interval '1 min', repeat('x', 60) FROM generate_series(1, 300000) i;
CREATE INDEX t_created_at ON t (created_at);
VACUUM ANALYZE;
"""
_SERIAL = "SET max_parallel_workers_per_gather = 0; "
BAD = [
    _SERIAL + "SELECT id FROM t WHERE a = 1 ORDER BY created_at DESC LIMIT 10",
    _SERIAL + "SELECT * FROM t WHERE a = 1 AND pad LIKE 'x%' ORDER BY created_at DESC LIMIT 5",
]
GOOD = [
    _SERIAL + "SELECT id FROM t WHERE a = 0 ORDER BY created_at DESC LIMIT 10",
    _SERIAL + "SELECT id FROM t WHERE a = 1 ORDER BY created_at LIMIT 10",
    "SELECT count(*) FROM t WHERE a = 1",
]


@rule(
    PLAN,
    severity="warning",
    needs=("analyze",),
    thresholds={"min_removed_rows": 1000, "max_kept_share": 0.1},  # as plan/index-scan-filtering
)
def check(plan: Plan, ctx: Context) -> Iterator[Finding]:
    for node in plan.nodes():
        limit = below_limit(plan, node)
        if limit is None or not node.executed or not matters(plan, node):
            continue
        removed, kept = node.removed_by_filter, node.rows_out or 0
        if removed < ctx.threshold("min_removed_rows"):
            continue
        if kept > ctx.threshold("max_kept_share") * (removed + kept):
            continue
        yield ctx.finding(
            node,
            f"LIMIT hoped to find {limit.plan_rows:,.0f} rows soon by walking {node.index}, and read "
            f"{removed + kept:,.0f} rows of {node.relation} to find {kept:,.0f} that pass {node.filter}",
            level="measured",
            figures={**figures(plan, node), "rows_removed": round(removed)},
            notes=(f"{ms(node.self_ms)} of {ms(plan.execution_ms)}",),
        )


def below_limit(plan: Plan, node: PlanNode) -> PlanNode | None:
    """The LIMIT for whose order an index scan was chosen: nothing in between reads it to its end."""
    if node.node_type not in ("Index Scan", "Index Only Scan") or "Index Cond" in node.raw:
        return None
    above = plan.parent_of(node)
    while above is not None:
        if above.node_type == "Limit":
            return above
        if above.node_type not in ("Gather Merge", "Nested Loop", "LockRows", "Incremental Sort",
                                   "Subquery Scan", "Merge Append", "Memoize", "Result"):  # fmt: skip
            return None
        above = plan.parent_of(above)
    return None
