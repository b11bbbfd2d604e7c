"""A hash table did not fit its memory and was split into batches on disk.

Why: with more than one batch, both sides of the join are written to temporary files and read back.
Fix: a higher work_mem (or hash_mem_multiplier) for this query, fewer columns, or a filter earlier.
Silent when: there is one batch, the join takes no time worth saving, or more memory was tried and
    did not help.
Source: PostgreSQL manual, hash_mem_multiplier in 19.4.1; ExecChooseHashTableSize() in nodeHash.c.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.finding import Finding
from sqladvisor.plan.memory import more_memory
from sqladvisor.plan.node import Plan
from sqladvisor.plan.weigh import figures, subtree_matters
from sqladvisor.rule import PLAN, rule

SETUP = """
CREATE TABLE a (id int, pad text);
CREATE TABLE b (id int, pad text);
INSERT INTO a SELECT i, repeat('x', 100) FROM generate_series(1, 200000) i;
INSERT INTO b SELECT i, repeat('y', 100) FROM generate_series(1, 200000) i;
VACUUM ANALYZE;
"""
_HASH = "SET enable_mergejoin = off; SET max_parallel_workers_per_gather = 0;"
BAD = [
    _HASH + "SET work_mem = '1MB'; SELECT count(a.pad || b.pad) FROM a JOIN b USING (id)",
    _HASH + "SET work_mem = '512kB'; SELECT max(b.pad) FROM a LEFT JOIN b USING (id)",
]
GOOD = [
    _HASH + "SET work_mem = '128MB'; SELECT count(a.pad || b.pad) FROM a JOIN b USING (id)",
    "SELECT count(*) FROM a JOIN b USING (id) WHERE b.id < 100",
]


@rule(PLAN, severity="warning", needs=("analyze",))
def check(plan: Plan, ctx: Context) -> Iterator[Finding]:
    for node in plan.nodes():
        batches = int(node.raw.get("Hash Batches", node.raw.get("HashAgg Batches", 1)) or 1)
        if batches < 2 or not subtree_matters(plan, node):
            continue
        memory_kb = float(node.raw.get("Peak Memory Usage", 0))
        what = "aggregate's hash table" if "HashAgg Batches" in node.raw else "hash table"
        below = next((n for n in node.walk() if n.relation), node)
        # Each batch held about the peak; twice that, because hash_mem_multiplier may be 1 (before 15).
        fixes, experiment = more_memory(ctx, memory_kb * 1024 * batches * 2)
        yield ctx.finding(
            below,
            f"the {what} over {below.relation or node.node_type} was split into {batches} batches on "
            "disk: it did not fit work_mem × hash_mem_multiplier",
            fixes=fixes,
            experiment=experiment,
            level="measured",
            figures={
                **figures(plan, node),
                "batches": batches,
                "peak_memory_bytes": memory_kb * 1024,
            },
        )
