"""`sqladvisor monitor` over many databases: are all sampled in each interval, and at what price?

One embedded server with so many databases (each with a table and pg_stat_statements), a monitor over
all of them for so long: printed are the looks at each database, the widest gap between two of them,
the monitor's memory and CPU time, the sessions on the server, the server's CPU time and the store's size.

    python benchmarks/fleet.py [--databases 200] [--seconds 60] [--interval 10]
"""

from __future__ import annotations

import argparse
import itertools
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harmless import server_cpu

from sqladvisor.server.binaries import find_binaries
from sqladvisor.server.embedded import Cluster

LATE = 1.5
"""Times the interval: a database not looked at for longer was left out once."""


def resident_mb(pid: int) -> float:
    """Resident memory of a process in MB, the most it had."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--databases", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--interval", type=float, default=10.0)
    chosen = parser.parse_args()
    names = [f"db{n:03}" for n in range(chosen.databases)]
    settings = {
        "max_connections": str(chosen.databases + 20),
        "shared_preload_libraries": "pg_stat_statements",
        "autovacuum": "off",
    }
    with (
        Cluster(find_binaries(None), settings=settings) as cluster,
        tempfile.TemporaryDirectory(prefix="sqladvisor-bench-") as folder,
    ):
        cluster.create_database("template")
        with cluster.connect("template") as connection:
            connection.execute("CREATE EXTENSION pg_stat_statements")
            connection.execute("CREATE TABLE t AS SELECT i FROM generate_series(1, 1000) i")
        with cluster.connect() as admin:
            for name in names:
                admin.execute(
                    f"CREATE DATABASE {name} TEMPLATE template STRATEGY file_copy".encode()
                )
        dsns, store = Path(folder) / "dsns", Path(folder) / "store"
        dsns.write_text("\n".join(cluster.dsn(n) for n in names) + "\n")
        before = server_cpu(cluster)
        monitor = subprocess.Popen(
            [sys.executable, "-m", "sqladvisor", "monitor", "--dsn-file", str(dsns), "--quiet",
             "--interval", f"{chosen.interval:g}s", "--findings", "never", "--store", str(store)],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        sessions = 0
        end = time.monotonic() + chosen.seconds
        with cluster.connect() as admin:
            while time.monotonic() < end:
                time.sleep(1.0)
                row = admin.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'sqladvisor'"
                ).fetchone()
                sessions = max(sessions, int(row[0]) if row else 0)
        memory = resident_mb(monitor.pid)
        monitor.send_signal(signal.SIGINT)
        monitor.wait(60)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        time.sleep(0.5)
        spent = server_cpu(cluster) - before
        size = sum(f.stat().st_size for f in Path(folder).glob("store*")) / 1e6
        with sqlite3.connect(store) as db:
            ticks = db.execute(
                "SELECT target_id, at FROM tick WHERE reachable ORDER BY target_id, at"
            ).fetchall()
        by_target: dict[int, list[float]] = {}
        for target, at in ticks:
            by_target.setdefault(target, []).append(at)
        counts = sorted(map(len, by_target.values()))
        gaps = [b - a for times in by_target.values() for a, b in itertools.pairwise(times)]
    print(
        f"{len(by_target)} of {chosen.databases} databases looked at, {counts[0]} to {counts[-1]} times in {chosen.seconds:g} s"
    )
    print(
        f"the widest gap between two looks was {max(gaps, default=0):.1f} s (interval {chosen.interval:g} s)"
    )
    print(
        f"monitor: {memory:.0f} MB at most, {used.ru_utime + used.ru_stime:.1f} s of CPU; store {size:.1f} MB"
    )
    print(
        f"server: {sessions} sessions at most, {spent:.1f} s of CPU, {spent / max(len(ticks), 1) * 1000:.1f} ms a look"
    )
    print(f"load average {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} cores")
    return int(len(by_target) < chosen.databases or max(gaps, default=0) > LATE * chosen.interval)


if __name__ == "__main__":
    sys.exit(main())
