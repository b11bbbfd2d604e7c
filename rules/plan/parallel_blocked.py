"""A long query runs in one process because it calls a function that is not marked parallel safe.

Why: user-defined functions are PARALLEL UNSAFE unless declared otherwise, and one of them anywhere in
    a query keeps its whole plan from using workers.
Fix: ALTER FUNCTION … PARALLEL SAFE, if the function neither writes nor touches session state.
Silent when: the plan is parallel, runs under 100 ms, scans less than min_parallel_table_scan_size
    (8 MB), or no user function of the query is unsafe.
Source: PostgreSQL manual, 15.4 "Parallel Safety".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.figures import ms
from sqladvisor.finding import Finding
from sqladvisor.plan.node import Plan
from sqladvisor.rule import PLAN, rule
from sqladvisor.sql.tree import function_name

SETUP = """
CREATE TABLE t (id int, pad text);
INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, 300000) i;
CREATE FUNCTION unsafe(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN upper($1); END';
CREATE FUNCTION safe(text) RETURNS text LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    AS 'BEGIN RETURN upper($1); END';
VACUUM ANALYZE;
"""
BAD = [
    "SELECT count(*) FROM t WHERE unsafe(pad) = 'Y'",
    "SELECT max(unsafe(t.pad)) FROM t",
]
GOOD = [
    "SELECT count(*) FROM t WHERE safe(pad) = 'Y'",
    "SELECT count(*) FROM t WHERE pad LIKE '%y%'",
    "SELECT unsafe(pad) FROM t LIMIT 10",
]


@rule(
    PLAN,
    severity="info",
    needs=("schema", "analyze"),
    # Starting workers costs some ms each; the size is min_parallel_table_scan_size's default.
    thresholds={"min_ms": 100, "min_scan_blocks": 1024},
)
def check(plan: Plan, ctx: Context) -> Iterator[Finding]:
    if (plan.execution_ms or 0) < ctx.threshold("min_ms"):
        return
    if any(n.node_type in ("Gather", "Gather Merge") for n in plan.nodes()):
        return
    scans = [n for n in plan.nodes() if n.node_type == "Seq Scan"]
    if max((n.self_shared_hit + n.self_shared_read for n in scans), default=0) < ctx.threshold(
        "min_scan_blocks"
    ):
        return
    for call in ctx.tree.of("FuncCall"):
        known = ctx.catalog.functions.get(function_name(call))
        if known is not None and not known.parallel_safe:
            yield ctx.finding(
                {"FuncCall": call},
                f"{known.name}() is not marked PARALLEL SAFE: the query runs in one process, "
                f"{ms(plan.execution_ms)}",
                level="measured",
                figures={"function": known.name, "execution_ms": plan.execution_ms},
            )
            return
