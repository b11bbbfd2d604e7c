"""What the monitor's tests share: databases to watch, and ticks of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from itertools import count

import psycopg

from sqladvisor.monitor.family import Tick
from sqladvisor.monitor.sample import Sampler
from sqladvisor.server.embedded import Cluster

_numbers = count(1)
MAX_ENTRIES = 120
"""pg_stat_statements.max: small, so that entries are evicted."""


def make(cluster: Cluster) -> Iterator[str]:
    name = f"monitored_{next(_numbers)}"
    cluster.create_database(name)
    with cluster.connect(name) as admin:
        admin.execute("CREATE EXTENSION pg_stat_statements")
    yield cluster.dsn(name)
    cluster.drop_database(name)


def run(dsn: str, sql: str, times: int = 1) -> None:
    """Run a statement in a session of its own, and wait until what it did is counted: the end."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        pid = connection.info.backend_pid
        for _ in range(times):
            connection.execute(sql.encode())
    with psycopg.connect(dsn, autocommit=True) as other:
        gone = "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = %s)"
        until(lambda: (other.execute(gone, [pid]).fetchone() or (False,))[0])


def ticks(sampler: Sampler, *between: Callable[[], object]) -> list[Tick]:
    """A first tick, and one after each of the calls."""

    async def look() -> list[Tick]:
        found = [await sampler.tick()]
        for act in between:
            act()  # in this thread: a cluster that another one starts dies with it
            found.append(await sampler.tick())
        await sampler.close()
        return found

    return asyncio.run(look())


def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait for something that is to happen soon."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
