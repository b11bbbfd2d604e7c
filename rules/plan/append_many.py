"""Many scans are appended one after the other, and together they take the time of the query.

Why: each child of an Append is a scan of its own: its files are opened, its index is descended from
    the root, for a handful of rows or none. A lookup that takes 20 µs in one table takes 2 ms over
    a hundred partitions or a hundred branches of UNION ALL, for every execution.
Fix: a condition on the partition key, so that most are left out; an index that holds the rows of all
    (one table, larger partitions); one table with a column in place of one table per value.
Silent when: fewer than 50 children were read, they gave 100 rows each on average (then reading them
    is the work), or the whole takes no time worth saving.
Source: PostgreSQL manual, 5.12.6 "Best Practices for Declarative Partitioning"; nodeAppend.c.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.figures import ms
from sqladvisor.finding import Finding
from sqladvisor.plan.node import Plan
from sqladvisor.plan.weigh import figures, subtree_matters
from sqladvisor.rule import PLAN, rule

SETUP = """
CREATE TABLE p (id int PRIMARY KEY, a int) PARTITION BY HASH (id);
CREATE INDEX ON p (a);
DO $$ BEGIN FOR i IN 0..299 LOOP
    EXECUTE format('CREATE TABLE p_%s PARTITION OF p FOR VALUES WITH (MODULUS 300, REMAINDER %s)', i, i);
END LOOP; END $$;
INSERT INTO p SELECT i, i % 20000 FROM generate_series(1, 60000) i;
CREATE TABLE k (a int PRIMARY KEY);
INSERT INTO k SELECT generate_series(1, 200);
VACUUM ANALYZE;
"""
_SERIAL = "SET max_parallel_workers_per_gather = 0; "
_LOOKUPS = (
    _SERIAL + "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; "
)
BAD = [
    _LOOKUPS + "SELECT count(p.id) FROM k LEFT JOIN p ON p.a = k.a",
    _LOOKUPS + "SELECT k.a, (SELECT count(p.id) FROM p WHERE p.a = k.a) FROM k",
]
GOOD = [
    _SERIAL + "SELECT * FROM p WHERE id = 77",
    _SERIAL + "SELECT sum(a) FROM p",
    _SERIAL + "SELECT count(p.id) FROM p WHERE id IN (5, 6, 7)",
]


@rule(
    PLAN,
    severity="warning",
    needs=("analyze",),
    # Below 50 an index descent each is under a millisecond; above 100 rows the rows are the work.
    thresholds={"min_children": 50, "max_rows_each": 100},
)
def check(plan: Plan, ctx: Context) -> Iterator[Finding]:
    for node in plan.nodes():
        if node.node_type not in ("Append", "Merge Append") or not subtree_matters(plan, node):
            continue
        read = [c for c in node.children if c.executed]
        scans = sum(c.actual_loops or 0 for c in read)
        if len(read) < ctx.threshold("min_children"):
            continue
        rows = sum(c.rows_out or 0 for c in read)
        removed = sum(n.removed_by_filter for c in read for n in c.walk())
        if rows + removed > ctx.threshold("max_rows_each") * scans:
            continue
        names = list(dict.fromkeys(n.relation for c in read for n in c.walk() if n.relation))
        yield ctx.finding(
            None,
            f"{len(read)} scans ({names[0]} … {names[-1]}) are appended for {rows:,.0f} rows"
            if len(names) > 1
            else f"{len(read)} scans are appended for {rows:,.0f} rows",
            level="measured",
            figures={**figures(plan, node), "children": len(read), "scans": scans, "rows": rows},
            notes=(
                f"{ms(node.total_ms)} of {ms(plan.execution_ms)}, in {scans:,.0f} scans of "
                f"{rows / scans:.2g} rows each",
            ),
        )
