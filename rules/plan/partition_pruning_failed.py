"""A query reads many partitions and finds rows in few of them.

Why: partitions are left out only where the query's condition on the partition key can be compared
    with their bounds: the bare key against a constant, a parameter or a stable function.
Fix: a condition on the bare partition key; no expression over it and no volatile function.
Silent when: fewer than 10 partitions were read, a fifth of them had rows for the query, or reading
    them takes no time worth saving.
Source: PostgreSQL manual, 5.12.4 "Partition Pruning".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.figures import ms
from sqladvisor.finding import Finding
from sqladvisor.plan.node import Plan, PlanNode
from sqladvisor.plan.weigh import figures, subtree_matters
from sqladvisor.rule import PLAN, rule

SETUP = """
CREATE TABLE p (day date NOT NULL, id int, pad text) PARTITION BY RANGE (day);
DO $$ BEGIN FOR i IN 0..23 LOOP
    EXECUTE format('CREATE TABLE p_%s PARTITION OF p FOR VALUES FROM (%L) TO (%L)', i,
        date '2022-01-01' + i * 31, date '2022-01-01' + (i + 1) * 31);
END LOOP; END $$;
INSERT INTO p SELECT date '2022-01-01' + i % 744, i, repeat('x', 50) FROM generate_series(1, 300000) i;
VACUUM ANALYZE;
"""
_SERIAL = "SET max_parallel_workers_per_gather = 0; "
BAD = [
    _SERIAL + "SELECT count(*) FROM p WHERE to_char(day, 'YYYY-MM-DD') = '2022-03-04'",
    _SERIAL + "SELECT max(pad) FROM p WHERE day + 1 = '2022-03-04'",
]
GOOD = [
    _SERIAL + "SELECT count(*) FROM p WHERE day = '2022-03-04'",
    _SERIAL + "SELECT count(*) FROM p",
    _SERIAL + "SELECT count(*) FROM p WHERE id % 3 = 1",
]


@rule(
    PLAN,
    severity="warning",
    needs=("analyze",),
    thresholds={"min_partitions": 10, "max_hit_share": 0.2},  # fewer are scanned in no time
)
def check(plan: Plan, ctx: Context) -> Iterator[Finding]:
    for node in plan.nodes():
        if node.node_type not in ("Append", "Merge Append") or not subtree_matters(plan, node):
            continue
        read = [c for c in node.children if c.executed and _scanned(c)]
        hit = [c for c in read if c.rows_out]
        if len(read) < ctx.threshold("min_partitions"):
            continue
        if len(hit) > ctx.threshold("max_hit_share") * len(read) or not hit:
            continue
        first = _scanned(read[0]) or read[0]
        condition = first.filter or first.raw.get("Index Cond") or first.raw.get("Recheck Cond")
        if not condition:
            continue
        yield ctx.finding(
            None,
            f"{len(read)} partitions are read and {len(hit)} hold rows for {condition}: it gives the "
            "planner nothing to compare with the partitions' bounds",
            level="measured",
            figures={
                **figures(plan, node),
                "partitions_read": len(read),
                "partitions_hit": len(hit),
            },
            notes=(f"{ms(node.total_ms)} of {ms(plan.execution_ms)}",),
        )


def _scanned(node: PlanNode) -> PlanNode | None:
    """The scan of a partition in an Append's child, None where that is something else."""
    relations = [n for n in node.walk() if n.relation]
    return relations[0] if len(relations) == 1 else None
