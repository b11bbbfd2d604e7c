"""What `sqladvisor live` costs a server under load: pgbench's throughput with and without it.

Rounds alternate (alone, looked at; looked at, alone), so that what else the machine does falls on both
sides. Server and pgbench are bound to the first core, the advisor (with its own copy of the planner) to
the last: it is the server that must not feel it, and in life the advisor runs elsewhere. In each round
that is looked at, `live` runs once, for as long as the round lasts.

    python benchmarks/harmless.py [--rounds 10] [--seconds 8]
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

from sqladvisor.server.binaries import find_binaries
from sqladvisor.server.embedded import Cluster

ROOT = Path(__file__).resolve().parent.parent
PROMISE = 0.03
"""Share of the throughput that a run may cost."""


def fixture() -> ModuleType:
    loader = SourceFileLoader("problems", str(ROOT / "fixtures" / "live" / "problems.py"))
    spec = spec_from_loader("problems", loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Round:
    """Transactions a second, and CPU milliseconds of the server for each."""

    tps: float
    cpu_ms: float


def measure(cluster: Cluster, seconds: int, looked_at: bool, core: int) -> Round:
    """One round of two pgbench clients."""
    before, advisor = server_cpu(cluster), None
    if looked_at:
        advisor = subprocess.Popen(
            [sys.executable, "-m", "sqladvisor", "live", cluster.dsn("shop"), "--quiet"],
            stdout=subprocess.DEVNULL, cwd=ROOT, preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )  # fmt: skip
    done = subprocess.run(
        [str(Path(cluster.bin_dir) / "pgbench"), "-n", "-c", "2", "-T", str(seconds), "-h", str(cluster.directory),
         "-U", "postgres", "shop"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    if advisor is not None:
        assert advisor.wait(60) == 0
    time.sleep(0.3)  # the last session's end
    tps = re.search(r"tps = ([\d.]+)", done.stdout)
    count = re.search(r"actually processed: (\d+)", done.stdout)
    assert tps is not None and count is not None
    return Round(float(tps[1]), (server_cpu(cluster) - before) * 1000 / int(count[1]))


def server_cpu(cluster: Cluster) -> float:
    """CPU seconds of the server's processes that have ended."""
    pid = (cluster.data_directory / "postmaster.pid").read_text().split()[0]
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


def cost_of_a_run(cluster: Cluster) -> float:
    """CPU seconds of the server for one run, nothing else going on."""
    before = server_cpu(cluster)
    subprocess.run(
        [sys.executable, "-m", "sqladvisor", "live", cluster.dsn("shop")],
        stdout=subprocess.DEVNULL, cwd=ROOT, check=True,
    )  # fmt: skip
    time.sleep(0.5)  # the last session's end
    return server_cpu(cluster) - before


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=int, default=15)
    chosen = parser.parse_args()
    problems = fixture()
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[0]})
    settings = problems.SETTINGS | {"fsync": "off", "autovacuum": "off"}
    with Cluster(find_binaries(None), settings=settings) as cluster:
        cluster.create_database("shop")
        problems.pgbench(cluster, "-i", "-q", "-s", "5")
        with cluster.connect("shop") as connection:
            connection.execute("CREATE EXTENSION pg_stat_statements")
        measure(cluster, 5, False, cores[-1])
        spent = cost_of_a_run(cluster)
        print(
            f"one run takes {spent:.2f} s of the server's CPU: {spent / chosen.seconds:.1%} of one core "
            f"over {chosen.seconds} s, {spent / chosen.seconds / 4:.1%} of four"
        )
        by_clock, by_cpu = [], []
        print("round   alone: tps   ms CPU   looked at: tps   ms CPU   ratio of tps   by CPU")
        for number in range(1, chosen.rounds + 1):
            order = (False, True) if number % 2 else (True, False)
            rounds = {side: measure(cluster, chosen.seconds, side, cores[-1]) for side in order}
            alone, looked = rounds[False], rounds[True]
            by_clock.append(looked.tps / alone.tps)
            by_cpu.append(alone.cpu_ms / looked.cpu_ms)
            print(
                f"{number:5}   {alone.tps:10.0f}   {alone.cpu_ms:6.2f}   {looked.tps:14.0f}   "
                f"{looked.cpu_ms:6.2f}   {by_clock[-1]:12.3f}   {by_cpu[-1]:6.3f}",
                flush=True,
            )
    for name, ratios in (("by the clock", by_clock), ("by CPU", by_cpu)):
        spread = statistics.stdev(ratios) / len(ratios) ** 0.5 if len(ratios) > 1 else 0.0
        print(
            f"{name}: median {statistics.median(ratios):.3f}, mean {statistics.fmean(ratios):.3f} ± {2 * spread:.3f}"
        )
    busy = os.getloadavg()[0]
    if busy > len(cores) + 3:
        print(
            f"the load average is {busy:.1f} on {len(cores)} cores: others were at work, this says little"
        )
    fell = max(0.0, 1 - statistics.median(by_cpu))
    print(f"throughput fell by {fell:.1%} by CPU (at most {PROMISE:.0%} is promised)")
    return int(fell > PROMISE)


if __name__ == "__main__":
    sys.exit(main())
