"""How large a connection pool should be, from what sessions were seen to do."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqladvisor.server.activity import Activity

PER_CORE = 2
"""Connections a core can keep at work while some wait for disks or the network
(wiki.postgresql.org, "Number Of Database Connections")."""
HEADROOM = 1.5
"""Times the most sessions that were active at once: a few seconds do not show the peak of a day."""
MIN_POOL = 4
LIFETIME_S = 1800
"""Seconds. A session's caches grow with every table it meets; half an hour bounds that, and spreads
connections after a fail-over."""
IDLE_TIMEOUT_S = 300


@dataclass(frozen=True, slots=True)
class Pool:
    """Settings of one pool for all of a server's clients together."""

    max_open: int
    max_idle: int
    lifetime_s: int
    idle_timeout_s: int

    def advice(self) -> str:
        """The settings in the words most pools use."""
        return (
            f"for all clients together: at most {self.max_open} open, {self.max_idle} idle, "
            f"lifetime {self.lifetime_s // 60} min, idle timeout {self.idle_timeout_s // 60} min"
        )

    def pgbouncer(self) -> str:
        """The same as PgBouncer's configuration."""
        return (
            f"-- pgbouncer.ini\n-- pool_mode = transaction\n-- default_pool_size = {self.max_open}\n"
            f"-- min_pool_size = {self.max_idle}\n-- server_lifetime = {self.lifetime_s}\n"
            f"-- server_idle_timeout = {self.idle_timeout_s}"
        )


def advised_pool(activity: Activity, cores: int | None) -> Pool:
    """The pool for the sessions seen. Without the number of cores only what was active counts."""
    wanted = ceil(activity.active_max * HEADROOM)
    if cores:
        # More than the machine can work on at once only queue inside it instead of in the pool.
        wanted = min(max(wanted, cores), PER_CORE * cores + 1)
    size = max(MIN_POOL, min(wanted, max(MIN_POOL, activity.max_connections - 10)))
    return Pool(size, max(1, min(size, ceil(activity.active) + 1)), LIFETIME_S, IDLE_TIMEOUT_S)
