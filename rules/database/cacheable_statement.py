"""A statement asks again and again for what hardly ever changes.

Why: the same rows are computed for every call, while the tables they come from are written so rarely
    that nearly every answer is the one before.
Fix: a materialized view that is refreshed when the tables change, where the statement takes long; a
    cache in the application, with a time to live of about the time between two writes, where it is
    short but frequent.
Silent when: the statement takes under a hundredth of the database's time or runs less than 60 times
    an hour; it has parameters, and the rows it asks for may be others each time (fewer than ten calls
    for each row of its table); it writes, locks rows or calls a volatile function; its tables are written more often
    than once in a hundred reads, or nobody knows how often.
Source: PostgreSQL manual, 39.3 "Materialized Views"; 27.2.18 "pg_stat_all_tables" for the writes.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.database import DatabaseContext
from sqladvisor.finding import Finding, Fix
from sqladvisor.rule import COUNTED, rule
from sqladvisor.workload.cache import Caching, caching, write_rates
from sqladvisor.workload.weights import PLACE, Weighed, Workload, told


@rule(
    COUNTED,
    severity="info",
    thresholds={
        "min_share": 0.01,  # of the time of all statements
        "min_calls_per_hour": 60,  # once a minute
        "min_reads_per_write": 100,  # fewer, and a cache is mostly out of date
        "min_view_ms": 20,  # a shorter statement is read from a view no faster
    },
)
def check(workload: Workload, ctx: DatabaseContext) -> Iterator[Finding]:
    days = ctx.catalog.counted_days if ctx.catalog else None
    if not days:
        return
    rates = write_rates(workload, days * 24)
    for weighed in workload.statements:
        if weighed.share < ctx.threshold("min_share"):
            break  # the rest cost less
        found = caching(weighed, rates)
        if (
            found is not None
            and found.calls_per_hour >= ctx.threshold("min_calls_per_hour")
            and found.reads_per_write >= ctx.threshold("min_reads_per_write")
        ):
            yield from _finding(weighed, found, ctx)


def _finding(weighed: Weighed, found: Caching, ctx: DatabaseContext) -> Iterator[Finding]:
    ms = weighed.counted.mean_exec_ms
    viewed = not found.parameters and ms >= ctx.threshold("min_view_ms")
    same = "the same" if not found.parameters else "a"
    written = (
        f"written {found.writes_per_hour:,.2g} times an hour"
        if found.writes_per_hour
        else "not written at all"
    )
    fixes = []
    if viewed:
        fixes.append(
            Fix(
                f"compute it once per change: refresh it when {', '.join(found.tables)} change",
                found.view_sql(),
                "ddl",
                changes_result="rows are as of the last refresh",
            )
        )
    fixes.append(
        Fix(
            f"keep it in the application for {found.ttl_s:,.0f} s"
            + (" by its parameters" if found.parameters else ""),
            "",
            "advice",
            changes_result=f"rows may be {found.ttl_s:,.0f} s old",
        )
    )
    finding = ctx.finding(
        f"{PLACE}:{weighed.rank}",
        f"{same} query of {ms:,.3g} ms is asked {found.calls_per_hour:,.0f} times an hour of "
        f"{', '.join(found.tables)}, {written}",
        fixes=fixes,
        level="estimated",
        figures={
            "calls_per_hour": round(found.calls_per_hour, 1),
            "writes_per_hour": round(found.writes_per_hour, 3),
            "ttl_s": round(found.ttl_s),
            "saved_ms_per_hour": round(found.saved_ms_per_hour, 1),
            "queryid": str(weighed.counted.queryid),
        },
    )
    yield told(finding, weighed)
