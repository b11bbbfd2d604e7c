"""The planner's row count of a whole table is far off: its statistics are out of date.

Why: every other estimate starts from the table's row count and its columns' statistics. When they
    describe the table as it was, all plans over it are chosen for a table that no longer exists.
Fix: ANALYZE the table; where it happens again, a lower autovacuum_analyze_scale_factor for it.
Silent when: the scan has a condition (then it is the condition's estimate: plan/row-misestimate), the
    count is within a factor of three, or the statement takes no time worth saving.
Source: PostgreSQL manual, 14.2 "Statistics Used by the Planner" and 24.1.3 "Updating Planner
    Statistics".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.finding import Finding, Fix
from sqladvisor.plan.node import Plan, PlanNode
from sqladvisor.plan.weigh import figures, subtree_matters
from sqladvisor.rule import PLAN, rule
from sqladvisor.sql.quote import identifier

SETUP = """
CREATE TABLE t (id int, pad text);
INSERT INTO t SELECT i, repeat('x', 20) FROM generate_series(1, 2000) i;
CREATE TABLE fresh (id int, pad text);
INSERT INTO fresh SELECT i, repeat('x', 20) FROM generate_series(1, 200000) i;
CREATE TABLE thin (id int, pad text);
INSERT INTO thin SELECT i, repeat('x', 400) FROM generate_series(1, 200000) i;
VACUUM ANALYZE;
TRUNCATE t;
INSERT INTO t SELECT i, NULL FROM generate_series(1, 400000) i;
UPDATE pg_class SET reltuples = 50, relpages = 40 WHERE relname = 't';
DELETE FROM thin WHERE id % 20 > 0;
"""
BAD = [
    "SELECT count(DISTINCT pad), count(*) FROM t",
    "SET max_parallel_workers_per_gather = 0; SELECT * FROM thin ORDER BY pad, id OFFSET 9999",
]
GOOD = [
    "SELECT count(*) FROM fresh",
    "SELECT count(*) FROM t WHERE id % 7 = 1",
    "SELECT * FROM thin LIMIT 10",
]


@rule(
    PLAN,
    severity="warning",
    needs=("analyze",),
    # Autovacuum analyzes after a tenth has changed: a factor of three is not its normal lag.
    thresholds={"min_factor": 3, "min_row_difference": 1000},
)
def check(plan: Plan, ctx: Context) -> Iterator[Finding]:
    named = set()
    for node in plan.nodes():
        if node.node_type != "Seq Scan" or node.filter or node.relation in named:
            continue
        expected, got = node.plan_rows, node.actual_rows or 0
        if (node.estimate_ratio or 1) < ctx.threshold("min_factor") or _cut_short(plan, node):
            continue
        if abs(got - expected) < ctx.threshold("min_row_difference"):
            continue
        if not subtree_matters(plan, plan.root):
            continue
        named.add(node.relation)
        table = identifier(str(node.relation))
        if node.schema not in (None, "public"):
            table = f"{identifier(str(node.schema))}.{table}"
        yield ctx.finding(
            node,
            f"the planner takes {node.relation} for {expected:,.0f} rows, it has {got:,.0f}: its "
            "statistics are out of date",
            fixes=(Fix("bring them up to date", f"ANALYZE {table}", "ddl"),),
            level="measured",
            figures=figures(plan, node),
        )


# Reads its input to the end before it gives a row: what is above cannot stop it early.
_READS_ALL = frozenset(("Sort", "Hash", "Aggregate", "SetOp", "WindowAgg"))


def _cut_short(plan: Plan, node: PlanNode) -> bool:
    """Whether the scan need not have been read to its end, or was shared out among workers."""
    read_to_end = False
    above = plan.parent_of(node)
    while above is not None:
        if above.node_type in ("Gather", "Gather Merge"):
            return True
        read_to_end = read_to_end or above.node_type in _READS_ALL
        if not read_to_end and (
            above.node_type in ("Limit", "Merge Join")
            or above.raw.get("Join Type") in ("Semi", "Anti")
            or above.parent_relationship == "SubPlan"
        ):
            return True
        above = plan.parent_of(above)
    return node.parent_relationship == "SubPlan"
