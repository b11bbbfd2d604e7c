"""A common table expression is computed in full, and its reader throws most of it away.

Why: a CTE that is MATERIALIZED, or used more than once, is computed before anybody asks for a part of
    it: its reader's condition cannot reach the tables inside.
Fix: NOT MATERIALIZED (query/cte-fence writes it), or the condition inside the CTE.
Silent when: a tenth of its rows are kept, fewer than 1,000 are thrown away, or computing it takes no
    time worth saving.
Source: PostgreSQL manual, 7.8.3 "Common Table Expression Materialization".
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
CREATE TABLE t (id int PRIMARY KEY, a int, pad text);
INSERT INTO t SELECT i, i % 1000, repeat('x', 50) FROM generate_series(1, 200000) i;
VACUUM ANALYZE;
"""
BAD = [
    "WITH c AS MATERIALIZED (SELECT * FROM t) SELECT * FROM c WHERE id = 7",
    """WITH c AS (SELECT id, a, upper(pad) AS p FROM t)
       SELECT x.id FROM c x JOIN c y ON y.id = x.a WHERE x.id < 50 AND y.id < 50""",
]
GOOD = [
    "WITH c AS (SELECT * FROM t) SELECT * FROM c WHERE id = 7",
    "WITH c AS MATERIALIZED (SELECT * FROM t WHERE id = 7) SELECT * FROM c",
    "WITH c AS MATERIALIZED (SELECT * FROM t) SELECT count(*) FROM c WHERE a > 100",
]


@rule(
    PLAN,
    severity="warning",
    needs=("analyze",),
    thresholds={"min_removed_rows": 1000, "max_kept_share": 0.1},  # as plan/seq-scan-filtering
)
def check(plan: Plan, ctx: Context) -> Iterator[Finding]:
    named = set()
    for node in plan.nodes():
        name = str(node.raw.get("CTE Name", ""))
        if node.node_type != "CTE Scan" or not node.executed or name in named:
            continue
        source = _source(plan, name)
        removed, kept = node.removed_by_filter, node.rows_out or 0
        if removed < ctx.threshold("min_removed_rows") or source is None:
            continue
        if kept > ctx.threshold("max_kept_share") * (removed + kept):
            continue
        if source.node_type == "Recursive Union" or not subtree_matters(plan, source):
            continue
        named.add(name)
        yield ctx.finding(
            node,
            f"{name} is computed in full, {removed + kept:,.0f} rows, to keep {kept:,.0f} by "
            f"{node.filter}",
            level="measured",
            figures={**figures(plan, node), "rows_removed": round(removed)},
            notes=(f"{ms(source.total_ms)} of {ms(plan.execution_ms)}",),
        )


def _source(plan: Plan, name: str) -> PlanNode | None:
    return next((n for n in plan.nodes() if n.subplan_name == f"CTE {name}"), None)
