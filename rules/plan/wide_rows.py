"""Wide rows are sorted or hashed although few of their columns are needed for it.

Why: every column of the row is copied into the sort or hash, and spills with it. A sort of keys alone
    and a join back by the primary key move a fraction of the bytes.
Fix: select fewer columns below the sort; sort or limit the keys first, then join the wide columns.
Silent when: rows are under 500 bytes wide, fewer than 16 MB go through the node, or it takes no time
    worth saving.
Source: PostgreSQL manual, 14.1 "Using EXPLAIN" (width); tuplesort.c copies whole tuples.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.finding import Finding
from sqladvisor.plan.node import Plan
from sqladvisor.plan.weigh import figures, matters
from sqladvisor.rule import PLAN, rule

SETUP = """
CREATE TABLE t (id int PRIMARY KEY, a int, doc text);
INSERT INTO t SELECT i, (i::bigint * 7919) % 60013, repeat(md5(i::text), 25) FROM generate_series(1, 60000) i;
VACUUM ANALYZE;
"""
_SERIAL = "SET max_parallel_workers_per_gather = 0; SET enable_incremental_sort = off; "
BAD = [
    _SERIAL + "SELECT * FROM t ORDER BY a OFFSET 59990",
    _SERIAL + "SELECT count(*) FROM (SELECT DISTINCT ON (a) * FROM t ORDER BY a, doc OFFSET 0) s",
]
GOOD = [
    _SERIAL + "SELECT id, a FROM t ORDER BY a OFFSET 59990",
    _SERIAL + "SELECT * FROM t ORDER BY a LIMIT 10",
]


@rule(
    PLAN,
    severity="info",
    needs=("analyze",),
    thresholds={"min_width_bytes": 500, "min_mb": 16},  # 16 MB: four times the default work_mem
)
def check(plan: Plan, ctx: Context) -> Iterator[Finding]:
    for node in plan.nodes():
        if node.node_type not in ("Sort", "Hash") or not matters(plan, node) or not node.children:
            continue
        child = node.children[0]
        if node.raw.get("Sort Method") == "top-N heapsort":
            continue
        width, rows = node.plan_width, child.rows_out or 0
        if width < ctx.threshold("min_width_bytes"):
            continue
        if width * rows < ctx.threshold("min_mb") * 1048576:
            continue
        keys = ", ".join(map(str, node.raw.get("Sort Key", ())))
        by = f" to sort them by {keys}" if keys else ""
        yield ctx.finding(
            node,
            f"{rows:,.0f} rows of about {width:,} bytes are carried through the "
            f"{node.node_type.lower()}{by}: {width * rows / 1048576:,.0f} MB",
            level="measured",
            figures={**figures(plan, node), "width_bytes": width},
        )
