"""A node other than a sort or hash keeps its rows in temporary files.

Why: a CTE, Materialize, window or function result that does not fit work_mem is written to disk and
    read back, for each rescan again.
Fix: a higher work_mem for this query, fewer columns, NOT MATERIALIZED for a CTE used once.
Silent when: nothing was written, the node takes no time worth saving, or more memory was tried
    and did not help.
Source: PostgreSQL manual, "Using EXPLAIN" (temp read/written) and work_mem in 19.4.1.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.finding import Finding
from sqladvisor.plan.memory import SORT_EXPANSION, more_memory
from sqladvisor.plan.node import Plan
from sqladvisor.plan.weigh import figures, matters
from sqladvisor.rule import PLAN, rule

SETUP = """
CREATE TABLE t (id int, pad text);
INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, 200000) i;
VACUUM ANALYZE;
"""
BAD = [
    "WITH c AS MATERIALIZED (SELECT * FROM t) SELECT count(*) FROM c",
    "SET work_mem = '64kB'; SELECT max(n) FROM (SELECT count(*) OVER () AS n, pad FROM t OFFSET 0) s",
]
GOOD = [
    "WITH c AS (SELECT * FROM t) SELECT count(*) FROM c",
    "WITH c AS MATERIALIZED (SELECT * FROM t WHERE id < 10) SELECT count(*) FROM c",
    "SELECT count(*) FROM t",
]

_BLOCK = 8192
_OWN_RULE = ("Sort", "Incremental Sort", "Hash", "Hash Join", "Aggregate")


@rule(PLAN, severity="info", needs=("analyze",))
def check(plan: Plan, ctx: Context) -> Iterator[Finding]:
    for node in plan.nodes():
        if node.node_type in _OWN_RULE or not node.self_temp_written or not matters(plan, node):
            continue
        written = node.self_temp_written * _BLOCK
        fixes, experiment = more_memory(ctx, written * SORT_EXPANSION)
        yield ctx.finding(
            node,
            f"{node.label} wrote {written / 1048576:,.1f} MB of temporary files: its rows did not fit "
            "work_mem",
            fixes=fixes,
            experiment=experiment,
            level="measured",
            figures={**figures(plan, node), "temp_written_bytes": written},
        )
