"""The number of connections does not fit what the sessions do.

Why: a server works on as many statements at once as it has cores (and disks to wait for); more
    sessions only take memory, and the time to look at each in every snapshot. New connections cost a
    process each. With more active sessions than cores they wait for one another.
Fix: a pool of about twice the cores, and at least what is active at peaks; the idle part bounded; a
    lifetime, so that a session's memory is given back.
Silent when: there are few connections, sessions stay, and no more are active than the machine can
    serve; other roles' sessions cannot be seen.
Source: wiki.postgresql.org, "Number Of Database Connections" ((cores * 2) + spindles); PostgreSQL
    manual, 27.2.17 "pg_stat_database" (sessions).
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from typing import TYPE_CHECKING

from sqladvisor.database import DatabaseContext
from sqladvisor.finding import Finding, Fix
from sqladvisor.rule import ACTIVITY, rule
from sqladvisor.workload.pool import advised_pool

if TYPE_CHECKING:
    from sqladvisor.server.activity import Activity


@rule(
    ACTIVITY,
    severity="warning",
    thresholds={
        "min_connections": 20,  # fewer cost nothing worth a word
        "max_times": 3,  # times the advised pool: beyond it most sessions never work
        "max_new_per_s": 1,  # a pool of that lifetime opens one in minutes
    },
)
def check(activity: Activity, ctx: DatabaseContext) -> Iterator[Finding]:
    pool = advised_pool(activity, ctx.cores)
    figures = {
        "connections": round(activity.connections, 1),
        "active_mean": round(activity.active, 2),
        "active_max": activity.active_max,
        "idle_mean": round(activity.idle, 1),
        "max_connections": activity.max_connections,
        "cores": ctx.cores,
        "pool_max_open": pool.max_open,
        "pool_max_idle": pool.max_idle,
        "pool_lifetime_s": pool.lifetime_s,
        "window_s": round(activity.window_s, 1),
    }
    fix = Fix(pool.advice(), pool.pgbouncer(), "advice")
    unseen = activity.unseen > 0.5 * activity.connections
    if (
        not unseen
        and activity.connections >= ctx.threshold("min_connections")
        and activity.connections > ctx.threshold("max_times") * pool.max_open
    ):
        yield ctx.finding(
            "pool",
            f"{activity.connections:,.0f} connections are open, of which {activity.active:,.1f} work on "
            f"average and {activity.active_max} at most: {pool.max_open} would do",
            fixes=(fix,),
            figures=figures,
        )
    if (activity.new_sessions_per_s or 0) > ctx.threshold("max_new_per_s"):
        yield ctx.finding(
            "connections",
            f"{activity.new_sessions_per_s:,.1f} sessions a second are opened: each costs a new process, "
            "and mostly more than its statements",
            fixes=(fix,),
            figures=figures | {"new_sessions_per_s": round(activity.new_sessions_per_s or 0, 2)},
        )
    if ctx.cores and activity.on_cpu > 2 * ctx.cores:
        yield ctx.finding(
            "active sessions",
            f"{activity.on_cpu:,.1f} sessions want a core at once, and there are {ctx.cores}: they wait "
            f"for one another; a pool of {ceil(2 * ctx.cores)} would let each finish sooner",
            fixes=(fix,),
            figures=figures | {"on_cpu_mean": round(activity.on_cpu, 1)},
        )
