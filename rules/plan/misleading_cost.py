"""The planner's settings make it read a whole table where an index on it would be faster.

Why: random_page_cost = 4 says that a random page costs four times a sequential one: true of spinning
    disks, not of SSDs or of pages in memory. The planner then prefers sequential scans too long.
Fix: random_page_cost = 1.1, as the field uses for SSDs, for the database.
Silent when: the statement was not faster with it when tried; there is nothing to try it on.
Source: PostgreSQL manual, random_page_cost in 19.7.2 "Planner Cost Constants".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.finding import Finding
from sqladvisor.plan.memory import with_setting
from sqladvisor.plan.node import Plan
from sqladvisor.plan.weigh import figures, matters
from sqladvisor.rule import PLAN, rule

SETUP = """
CREATE TABLE t (id int PRIMARY KEY, a int, pad text);
INSERT INTO t SELECT i, (i::bigint * 7919) % 1000, repeat('x', 100) FROM generate_series(1, 300000) i;
CREATE INDEX t_a ON t (a);
CREATE TABLE bare (id int, a int, pad text);
INSERT INTO bare SELECT * FROM t;
VACUUM ANALYZE;
"""
_SERIAL = "SET max_parallel_workers_per_gather = 0; SET enable_bitmapscan = off; "
BAD = [
    _SERIAL + "SELECT count(pad) FROM t WHERE a < 20",
    _SERIAL + "SELECT count(pad) FROM t WHERE a BETWEEN 100 AND 115 AND pad LIKE 'x%'",
]
GOOD = [
    _SERIAL + "SELECT count(pad) FROM bare WHERE a < 20",
    _SERIAL + "SELECT count(pad) FROM t WHERE a < 700",
    _SERIAL + "SET random_page_cost = 1.1; SELECT count(pad) FROM t WHERE a < 20",
    "SELECT pad FROM t WHERE id = 5",
]


@rule(
    PLAN,
    severity="info",
    needs=("schema", "analyze"),
    thresholds={"max_kept_share": 0.1},  # beyond it a sequential scan is right on any storage
)
def check(plan: Plan, ctx: Context) -> Iterator[Finding]:
    if "random_page_cost" in plan.settings:
        return
    for node in plan.nodes():
        if node.node_type != "Seq Scan" or not node.filter or not matters(plan, node):
            continue
        removed, kept = node.removed_by_filter, node.rows_out or 0
        relation = ctx.catalog.find(str(node.relation), node.schema)
        if relation is None or kept > ctx.threshold("max_kept_share") * (removed + kept):
            continue
        leading = {
            i.keys[0] for i in relation.indexes if i.valid and i.method == "btree" and i.keys
        }
        served = sorted(k for k in leading if k and _mentions(node.filter, k))
        if not served or node.self_shared_read:
            continue
        fixes, experiment = with_setting(
            ctx, "random_page_cost", "1.1", "price pages as an SSD or a warm cache has them"
        )
        if experiment is not None:
            yield ctx.finding(
                node,
                f"every page of {node.relation} is read, all from memory, although an index on "
                f"{served[0]} leads to the {kept:,.0f} rows wanted",
                fixes=fixes,
                experiment=experiment,
                level="measured",
                figures=figures(plan, node),
            )
            return


def _mentions(condition: str, column: str) -> bool:
    before, found, after = condition.partition(column)
    return (
        bool(found) and not before[-1:].isalnum() and not (after[:1].isalnum() or after[:1] == "_")
    )
