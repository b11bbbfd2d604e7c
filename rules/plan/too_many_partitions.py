"""A plan touches so many partitions that planning it costs more than it should.

Why: each partition that is not pruned while planning is opened, locked and planned like a table of its
    own: planning time and memory grow with their number, for every execution.
Fix: fewer, larger partitions; a condition on the partition key; a prepared statement, whose generic
    plan prunes at run time.
Silent when: there are fewer than 100 partitions in the plan, or planning takes under 10 ms or under a
    quarter of the whole.
Source: PostgreSQL manual, 5.12.6 "Best Practices for Declarative Partitioning".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.figures import ms
from sqladvisor.finding import Finding
from sqladvisor.plan.node import Plan
from sqladvisor.rule import PLAN, rule

SETUP = """
CREATE TABLE p (id int PRIMARY KEY, a int) PARTITION BY HASH (id);
CREATE INDEX ON p (a);
DO $$ BEGIN FOR i IN 0..399 LOOP
    EXECUTE format('CREATE TABLE p_%s PARTITION OF p FOR VALUES WITH (MODULUS 400, REMAINDER %s)', i, i);
END LOOP; END $$;
INSERT INTO p SELECT i, i % 100 FROM generate_series(1, 20000) i;
ANALYZE p;
"""
_JOINED = (
    "SELECT * FROM p x JOIN p y ON y.a = x.id JOIN p z ON z.a = y.id JOIN p w ON w.a = z.id "
    "JOIN p v ON v.a = w.id"
)
BAD = [_JOINED + " WHERE x.a = 7", _JOINED + " AND w.a = y.a LIMIT 1"]
GOOD = ["SELECT * FROM p WHERE id = 7", "SELECT count(*) FROM p WHERE id IN (1, 2, 3)"]


@rule(
    PLAN,
    severity="info",
    needs=("analyze",),
    # Hundreds of partitions plan "fairly well" (the manual); it must also be felt.
    thresholds={"min_partitions": 100, "min_planning_ms": 10, "min_planning_share": 0.25},
)
def check(plan: Plan, ctx: Context) -> Iterator[Finding]:
    planning = plan.planning_ms or 0
    whole = planning + (plan.execution_ms or 0)
    if planning < ctx.threshold("min_planning_ms"):
        return
    if planning < ctx.threshold("min_planning_share") * whole:
        return
    most = max(
        (len(n.children) for n in plan.nodes() if n.node_type in ("Append", "Merge Append")),
        default=0,
    )
    if most >= ctx.threshold("min_partitions"):
        yield ctx.finding(
            None,
            f"planning {most} partitions takes {ms(planning)}, execution "
            f"{ms(plan.execution_ms or 0)}",
            level="measured",
            figures={"partitions": most, "planning_ms": planning},
        )
