"""A sequential scan reads many rows to keep few.

Why: every row of the table is read and tested, and nearly all are thrown away, by the scan's own filter
    or by the join above it, whose other side has few rows. An index on the filtered or joined
    columns would fetch only those that are kept.
Fix: an index on the columns of the filter or the join (index/missing prices and tries it where it can).
Silent when: more than a tenth of the rows are kept (an index would not pay), fewer than 1,000 rows were
    removed, or the node takes no time worth saving; in a join, where the other side has more than a
    hundredth as many rows, or unmatched rows are wanted as well.
Source: PostgreSQL manual, 14.1 "Using EXPLAIN" (Rows Removed by Filter).
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.figures import ms
from sqladvisor.finding import Finding
from sqladvisor.plan.node import Plan, PlanNode
from sqladvisor.plan.weigh import MIN_MS, MIN_SHARE, figures, matters
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
    "SET max_parallel_workers_per_gather = 0; SELECT count(*) FROM small s JOIN t ON t.a = s.a WHERE s.id IN (5, 7)",
]
GOOD = [
    "SELECT * FROM t WHERE id = 7",
    "SET max_parallel_workers_per_gather = 0; SELECT count(*) FROM small s JOIN t ON t.a = s.a",
    "SET max_parallel_workers_per_gather = 0; SELECT count(*) FROM t LEFT JOIN small s ON t.a = s.a AND s.id IN (5, 7)",
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
        "max_other_share": 0.01,  # as many look-ups as that take no longer than the scan
    },
)
def check(plan: Plan, ctx: Context) -> Iterator[Finding]:
    for node in plan.nodes():
        if node.node_type != "Seq Scan" or not node.executed:
            continue
        removed, kept = node.removed_by_filter, node.rows_out or 0
        read = removed + kept
        join = _joined(plan, node, ctx)
        if join is not None:
            yield from _by_join(plan, node, join, read, ctx)
        if join is not None or not matters(plan, node):
            continue
        if removed < ctx.threshold("min_removed_rows"):
            continue
        if removed / read >= ctx.threshold("min_removed_share"):
            yield ctx.finding(
                node,
                f"reads {read:,.0f} rows of {node.relation} to keep {kept:,.0f} by {node.filter}",
                level="measured",
                figures={**figures(plan, node), "rows_removed": round(removed)},
                notes=(f"{ms(node.self_ms)} of {ms(plan.execution_ms)}",),
            )


def _by_join(
    plan: Plan, node: PlanNode, join: PlanNode, read: float, ctx: Context
) -> Iterator[Finding]:
    left = join.rows_out or 0
    spent = (node.self_ms or 0) + (join.self_ms or 0)
    if spent < MIN_MS or spent < MIN_SHARE * (plan.execution_ms or 0):
        return
    if read - left < max(
        ctx.threshold("min_removed_rows"), ctx.threshold("min_removed_share") * read
    ):
        return
    yield ctx.finding(
        node,
        f"reads {read:,.0f} rows of {node.relation}, of which the join on {_condition(join)} keeps "
        f"{left:,.0f}",
        level="measured",
        figures={**figures(plan, node), "rows_removed": round(read - left)},
        notes=(f"{ms(spent)} of {ms(plan.execution_ms)}",),
    )


def _joined(plan: Plan, node: PlanNode, ctx: Context) -> PlanNode | None:
    """The join of a scan with so few rows that each could have been looked up in an index instead."""
    child, join = node, plan.parent_of(node)
    while join is not None and join.node_type in ("Hash", "Sort"):
        child, join = join, plan.parent_of(join)
    if join is None or join.node_type not in ("Hash Join", "Merge Join"):
        return None
    if join.raw.get("Join Type", "Inner") not in ("Inner", "Semi") or len(join.children) != 2:
        return None
    other = join.children[0] if join.children[1] is child else join.children[1]
    few = (other.rows_out or 0) <= ctx.threshold("max_other_share") * (node.rows_out or 0)
    return join if few and other.executed else None


def _condition(join: PlanNode) -> object:
    return join.raw.get("Hash Cond") or join.raw.get("Merge Cond")
