"""Everything is sorted although an index gives the order of the first sort keys.

Why: where the input is already in the order of the first sort keys, an incremental sort sorts one
    group of equal keys after the other: in little memory, and under a LIMIT only the first groups.
    A full sort reads everything before it gives its first row.
    The planner leaves it aside where it is switched off, and under a LIMIT where it takes the groups
    for much larger than they are.
Fix: enable_incremental_sort where it is off; ANALYZE, or a higher statistics target on the first key;
    an index on all the sort keys where the query is frequent.
Silent when: the sort takes no time worth saving, no index gives the order of its first keys, an index
    gives all of it (the planner had a reason then), there is neither a LIMIT nor the setting off, or
    an incremental sort was tried and is no faster.
Source: PostgreSQL manual, enable_incremental_sort in 19.7.1; nodeIncrementalSort.c.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.catalog.model import Index
from sqladvisor.context import Context
from sqladvisor.figures import ms
from sqladvisor.finding import Finding
from sqladvisor.plan.memory import with_setting
from sqladvisor.plan.node import Plan, PlanNode
from sqladvisor.plan.weigh import figures, matters
from sqladvisor.rule import PLAN, rule

SETUP = """
CREATE TABLE t (day int, v int, pad text);
INSERT INTO t SELECT i / 100, (i::bigint * 7919) % 1000003, repeat('x', 60)
    FROM generate_series(1, 200000) i;
CREATE INDEX t_day_idx ON t (day);
CREATE TABLE misled (day int, v int, pad text);
INSERT INTO misled SELECT * FROM t;
CREATE INDEX misled_day_idx ON misled (day);
ALTER TABLE misled ALTER day SET (n_distinct = 1);
VACUUM ANALYZE;
"""
_OFF = "SET max_parallel_workers_per_gather = 0; SET enable_incremental_sort = off; "
_SCAN = "SET enable_seqscan = off; SET enable_bitmapscan = off; "
BAD = [
    _OFF + _SCAN + "SELECT * FROM t WHERE day > 200 ORDER BY day, v LIMIT 10",
    _OFF + _SCAN + "SELECT * FROM t WHERE day > 100 ORDER BY t.day, t.v DESC OFFSET 1000 LIMIT 20",
    "SET max_parallel_workers_per_gather = 0; SELECT * FROM misled m ORDER BY m.day, m.v LIMIT 10",
]
GOOD = [
    "SELECT * FROM t ORDER BY day, v LIMIT 10",
    _OFF + _SCAN + "SELECT * FROM t WHERE day > 200 ORDER BY v, day LIMIT 10",
    _OFF + _SCAN + "SELECT * FROM t WHERE day = 77 ORDER BY day, v LIMIT 10",
]


@rule(PLAN, severity="info", needs=("analyze",))
def check(plan: Plan, ctx: Context) -> Iterator[Finding]:
    off = plan.settings.get("enable_incremental_sort") == "off"
    for node in plan.nodes():
        if node.node_type != "Sort" or not node.children or not matters(plan, node):
            continue
        above = plan.parent_of(node)
        limited = above is not None and above.node_type == "Limit"
        keys = [str(k) for k in node.raw.get("Sort Key", ())]
        scan = _scan(node.children[0])
        if len(keys) < 2 or scan is None or not (off or limited):
            continue
        index, presorted = _presorting(keys, scan, ctx)
        if index is None or presorted == len(keys):
            continue
        if off:
            fixes, experiment = with_setting(
                ctx, "enable_incremental_sort", "on", "allow incremental sorts for this statement"
            )
            why = "enable_incremental_sort is off"
        else:
            fixes, experiment = with_setting(
                ctx, "enable_sort", "off", "see what an incremental sort would take", diagnose=True
            )
            why = "an incremental sort would stop after the first groups"
        sorted_rows = node.children[0].rows_out or 0
        yield ctx.finding(
            scan,
            f"all {sorted_rows:,.0f} rows are sorted by {', '.join(keys)}, and {index.name} gives the order "
            f"of {', '.join(keys[:presorted])}: {why}",
            fixes=fixes,
            experiment=experiment,
            level="measured",
            figures={**figures(plan, node), "presorted_keys": presorted, "index": index.name},
            notes=(f"{ms(node.self_ms)} of {ms(plan.execution_ms)}",),
        )


def _scan(node: PlanNode) -> PlanNode | None:
    """The scan of a table whose rows the sort takes as they come."""
    while node.node_type in ("Subquery Scan", "Result", "LockRows") and len(node.children) == 1:
        node = node.children[0]
    return node if node.node_type in ("Seq Scan", "Index Scan", "Index Only Scan") else None


def _presorting(keys: list[str], scan: PlanNode, ctx: Context) -> tuple[Index | None, int]:
    """The index that gives the order of most leading sort keys, and of how many."""
    relation = ctx.catalog.find(scan.relation or "", scan.schema)
    found: tuple[Index | None, int] = (None, 0)
    for index in relation.indexes if relation else ():
        if index.method == "btree" and index.valid and not index.predicate:
            given = _in_order(keys, index)
            if given > found[1]:
                found = index, given
    return found


def _in_order(keys: list[str], index: Index) -> int:
    """How many leading sort keys the index gives in order, read either way."""
    definition = index.definition.partition("(")[2].split(",")
    given = 0
    backward = False
    for key, column, written in zip(keys, index.keys, definition, strict=False):
        bare = key.rpartition(".")[2].split(" ")[0].strip('"')
        against = (" DESC" in key) != (" DESC" in written)
        if bare != column or "NULLS" in key or (given and against != backward):
            break
        backward = against
        given += 1
    return given
