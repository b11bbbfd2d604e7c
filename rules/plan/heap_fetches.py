"""An index-only scan reads the table after all: its visibility map is out of date.

Why: PostgreSQL may skip the table only for pages that VACUUM marked all-visible. Pages changed
    since are fetched one by one to see whether the row is visible.
Fix: VACUUM the table; autovacuum_vacuum_insert_scale_factor / autovacuum_vacuum_scale_factor lower
    for this table if it happens again.
Silent when: under a tenth of the rows needed a fetch, under 1,000 fetches, or no time is lost.
Source: PostgreSQL manual, 11.9 "Index-Only Scans and Covering Indexes" and 24.1.4.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.finding import Finding, Fix
from sqladvisor.plan.node import Plan
from sqladvisor.plan.weigh import figures, matters
from sqladvisor.rule import PLAN, rule
from sqladvisor.sql.quote import qualified

SETUP = """
CREATE TABLE t (id int PRIMARY KEY, pad text);
INSERT INTO t SELECT i, repeat('x', 200) FROM generate_series(1, 300000) i;
ANALYZE t;
CREATE TABLE clean (id int PRIMARY KEY, pad text);
INSERT INTO clean SELECT i, repeat('x', 200) FROM generate_series(1, 300000) i;
VACUUM ANALYZE clean;
"""
_ONLY = "SET enable_seqscan = off; SET enable_bitmapscan = off; SET max_parallel_workers_per_gather = 0;"
BAD = [
    _ONLY + "SELECT count(*) FROM t WHERE id > 1000",
    _ONLY + "SELECT count(id) FROM t WHERE id BETWEEN 1 AND 200000",
]
GOOD = [
    _ONLY + "SELECT count(*) FROM clean WHERE id > 1000",
    _ONLY + "SELECT count(*) FROM t WHERE id < 500",
]


@rule(
    PLAN,
    severity="warning",
    needs=("analyze",),
    thresholds={"min_fetches": 1000, "min_share": 0.1},  # the field's: heap fetches > 10 %
)
def check(plan: Plan, ctx: Context) -> Iterator[Finding]:
    for node in plan.nodes():
        if node.node_type != "Index Only Scan" or not matters(plan, node):
            continue
        fetches = float(node.raw.get("Heap Fetches", 0)) * (node.actual_loops or 1)
        rows = (node.rows_out or 0) + node.removed_by_filter
        if fetches < ctx.threshold("min_fetches") or fetches < ctx.threshold("min_share") * rows:
            continue
        table = qualified(node.schema, str(node.relation))
        yield ctx.finding(
            node,
            f"the index-only scan of {node.relation} fetched {fetches:,.0f} rows from the table: "
            "its pages are not marked all-visible",
            fixes=(Fix("bring the visibility map up to date", f"VACUUM (ANALYZE) {table}", "ddl"),),
            level="measured",
            figures={**figures(plan, node), "heap_fetches": fetches},
        )
