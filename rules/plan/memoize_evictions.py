"""The cache of a Memoize node is too small: entries are thrown out before they are asked for again.

Why: Memoize keeps the inner rows of a nested loop by their key. Where the keys do not fit work_mem ×
    hash_mem_multiplier, entries are evicted and the inner side runs again for them.
Fix: a higher work_mem for this query.
Silent when: fewer than 1,000 entries were evicted, most lookups were hits all the same, the node's
    subtree takes no time worth saving, or more memory was tried and did not help.
Source: PostgreSQL manual, enable_memoize in 19.7.1 and hash_mem_multiplier in 19.4.1; nodeMemoize.c.
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
CREATE TABLE a (id int, b_id int);
CREATE TABLE b (id int PRIMARY KEY, pad text);
INSERT INTO b SELECT i, repeat('x', 500) FROM generate_series(1, 20000) i;
INSERT INTO a SELECT i, 1 + (i % 20000) FROM generate_series(1, 100000) i;
ALTER TABLE a ALTER b_id SET (n_distinct = 100);
VACUUM ANALYZE;
"""
_LOOP = (
    "SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_bitmapscan = off; "
    "SET max_parallel_workers_per_gather = 0; "
)
BAD = [
    _LOOP + "SET work_mem = '64kB'; SELECT count(b.pad) FROM a JOIN b ON b.id = a.b_id",
    _LOOP + "SET work_mem = '128kB'; SELECT max(b.pad) FROM a LEFT JOIN b ON b.id = a.b_id",
]
GOOD = [
    _LOOP + "SET work_mem = '256MB'; SELECT count(b.pad) FROM a JOIN b ON b.id = a.b_id",
    "SELECT count(*) FROM a JOIN b ON b.id = a.b_id WHERE a.id < 10",
]


@rule(
    PLAN,
    severity="warning",
    needs=("analyze",),
    thresholds={"min_evictions": 1000, "max_hit_share": 0.5},  # below it the cache does little good
)
def check(plan: Plan, ctx: Context) -> Iterator[Finding]:
    for node in plan.nodes():
        evictions = float(node.raw.get("Cache Evictions", 0))
        if evictions < ctx.threshold("min_evictions") or not subtree_matters(plan, node):
            continue
        hits, misses = (float(node.raw.get(f"Cache {k}", 0)) for k in ("Hits", "Misses"))
        if hits > ctx.threshold("max_hit_share") * (hits + misses):
            continue
        kilobytes = float(node.raw.get("Peak Memory Usage", 0))
        kept = max(misses - evictions, 1)
        fixes, experiment = more_memory(ctx, kilobytes * 1024 * misses / kept)
        at = next((n for n in node.walk() if n.relation), node)
        yield ctx.finding(
            at,
            f"the cache of {at.relation or 'the inner side'}'s rows by {node.raw.get('Cache Key')} is too "
            f"small: {evictions:,.0f} entries thrown out, {hits:,.0f} hits in {hits + misses:,.0f} lookups",
            fixes=fixes,
            experiment=experiment,
            level="measured",
            figures={**figures(plan, node), "evictions": evictions, "hits": hits, "misses": misses},
        )
