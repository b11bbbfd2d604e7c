"""Planning this statement takes longer than running it, each time it is sent.

Why: PostgreSQL plans a statement text whenever it gets it. Where many tables, views or partitions
    are joined for a few rows, the search for the plan is the larger part of the answer time; a
    prepared statement has it once (and, after five executions, mostly keeps the plan).
Fix: PREPARE it, or let the driver: the text with its values as parameters is shown, and what it saves
    was measured where there are rows. Beside that, fewer joins or partitions.
Silent when: planning takes under 1 ms or less than execution; planned a second time, with the
    catalogs in the session's cache, it takes no longer than execution; prepared, it was measured and
    saves less than a tenth; the statement is one of those prepare/repeated-literal-statement names.
Source: PostgreSQL manual, PREPARE ("Notes"); pg_stat_statements' total_plan_time (F.32).
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.figures import ms
from sqladvisor.finding import Experiment, Finding, Fix
from sqladvisor.plan.node import Plan
from sqladvisor.rule import PLAN, rule
from sqladvisor.workload.prepared import compared, prepared
from sqladvisor.workload.repeats import Group

SETUP = """
CREATE TABLE t (id int, next int);
INSERT INTO t SELECT i, i + 1 FROM generate_series(1, 1000) i;
CREATE INDEX ON t (id);
CREATE INDEX ON t (next);
"""
BAD = [
    """SELECT a.next FROM t a JOIN t b USING (id) JOIN t c USING (id) JOIN t d USING (id) JOIN t e USING (id)
JOIN t f USING (id) JOIN t g USING (id) JOIN t h USING (id) WHERE a.next <> 990""",
    """SELECT count(*) FROM t a JOIN t b USING (id) JOIN t c USING (id) JOIN t d USING (id)
  JOIN t e USING (id) JOIN t f USING (id) JOIN t g USING (id) JOIN t h USING (id) WHERE b.next IN (7, 8)""",
]
GOOD = [
    "SELECT * FROM t WHERE id = 5",
    "SELECT count(*) FROM t a JOIN t b ON b.id = a.next",
    "SELECT a.id FROM t a JOIN t b ON b.id = a.next WHERE a.id = 5",
]

ROUNDS = 20
"""How often the statement is run to measure it: more than the five custom plans it begins with."""


@rule(
    PLAN,
    severity="info",
    needs=("analyze",),
    thresholds={"min_planning_ms": 1},  # an everyday look-up plans in a tenth of that
)
def check(plan: Plan, ctx: Context) -> Iterator[Finding]:
    planning, execution = plan.planning_ms, plan.execution_ms
    if planning is None or execution is None or planning <= execution:
        return
    if planning < ctx.threshold("min_planning_ms") or ctx.statement.kind != "SelectStmt":
        return
    fixes: tuple[Fix, ...] = ()
    experiment = None
    if not ctx.tree.by_kind.get("ParamRef"):
        name = "planned_once"
        once = prepared(Group((ctx,), compared(ctx)), name)
        if once is not None:
            prepare, (execute,) = once
            fixes = (
                Fix(
                    "prepare it once; from an application bind parameters and let the driver prepare",
                    f"{prepare};\n{execute}",
                    "advice",
                ),
            )
            experiment = Experiment(
                "prepare",
                (ctx.statement.sql,) * ROUNDS,
                (prepare, *(execute,) * ROUNDS, f"DEALLOCATE {name}"),
                "sent as it is",
                "prepared",
            )
    joined = sum(1 for n in plan.nodes() if n.relation)
    yield ctx.finding(
        None,
        f"planning takes {ms(planning)} and execution {ms(execution)}, for {joined} scans: most of "
        "the answer time is spent on the plan, each time the statement is sent",
        fixes=fixes,
        experiment=experiment,
        level="measured",
        figures={"planning_ms": round(planning, 3), "execution_ms": round(execution, 3)},
    )
