"""What `sqladvisor live` and `sqladvisor monitor` cost a server, and what pgbench feels of a run.

The robust figure is exact: the CPU time of the server's processes for one run (the kernel's count, no
sampling), as a share of the time that the run takes. One core's throughput cannot fall by more than
that share; a server with more cores feels less. For `monitor` it is the same of two minutes of watching.

The second figure is what was seen of it: paired rounds of pgbench, alone and looked at, in alternating
order, each as long as a run of live takes by itself, server and pgbench bound to the first core, the
advisor to the last. The ratio of each pair is by the CPU time that the server's processes spend on a
transaction, so that what else the machine does matters little; given is the mean with its 95 %
confidence interval (Student's t over the pairs), for the clock too.

    python benchmarks/harmless.py [--rounds 10] [--runs 5] [--watch 120] [--interval 10]
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from sqladvisor.modules import load_module
from sqladvisor.server.binaries import find_binaries
from sqladvisor.server.embedded import Cluster

ROOT = Path(__file__).resolve().parent.parent
PROMISE = 0.03
"""Share of the throughput that a run may cost."""


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


def cost_of_a_run(cluster: Cluster) -> tuple[float, float]:
    """CPU seconds of the server for one run, nothing else going on, and how long the run takes."""
    before, began = server_cpu(cluster), time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "sqladvisor", "live", cluster.dsn("shop")],
        stdout=subprocess.DEVNULL, cwd=ROOT, check=True,
    )  # fmt: skip
    took = time.monotonic() - began
    time.sleep(0.5)  # the last session's end
    return server_cpu(cluster) - before, took


def cost_of_watching(cluster: Cluster, seconds: float, interval_s: float) -> float:
    """CPU seconds of the server for so many seconds of `monitor`, its start included."""
    before = server_cpu(cluster)
    with tempfile.TemporaryDirectory(prefix="sqladvisor-bench-") as folder:
        monitor = subprocess.Popen(
            [sys.executable, "-m", "sqladvisor", "monitor", cluster.dsn("shop"), "--quiet",
             "--interval", f"{interval_s:g}s", "--findings", "never", "--store", f"{folder}/store"],
            stdout=subprocess.DEVNULL, cwd=ROOT,
        )  # fmt: skip
        time.sleep(seconds)
        monitor.send_signal(signal.SIGINT)
        monitor.wait(30)
    time.sleep(0.5)
    return server_cpu(cluster) - before


def interval(values: list[float]) -> tuple[float, float]:
    """Mean, and half of its 95 % confidence interval by Student's t."""
    n = len(values)
    if n < 2:
        return statistics.fmean(values), float("inf")
    table = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26}
    t = table.get(n - 1, 2.26 if n < 12 else 2.09 if n < 30 else 2.0)
    return statistics.fmean(values), t * statistics.stdev(values) / n**0.5


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=int, help="of a round [default: as long as a run takes]")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--watch", type=float, default=120.0, help="seconds of monitor")
    parser.add_argument("--interval", type=float, default=10.0, help="of monitor, in seconds")
    chosen = parser.parse_args()
    problems = load_module(str(ROOT / "fixtures" / "live" / "problems.py"), "problems")
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[0]})
    settings = problems.SETTINGS | {"fsync": "off", "autovacuum": "off"}
    with Cluster(find_binaries(None), settings=settings) as cluster:
        cluster.create_database("shop")
        problems.pgbench(cluster, "-i", "-q", "-s", "5")
        with cluster.connect("shop") as connection:
            connection.execute("CREATE EXTENSION pg_stat_statements")
        measure(cluster, 5, False, cores[-1])
        runs = [cost_of_a_run(cluster) for _ in range(chosen.runs)]
        spent = statistics.median(cpu for cpu, _ in runs)
        took = statistics.median(seconds for _, seconds in runs)
        share = spent / took
        print(
            f"live: {spent:.3f} s of the server's CPU a run (median of {len(runs)}: "
            f"{min(r[0] for r in runs):.2f} to {max(r[0] for r in runs):.2f}), which takes {took:.1f} s: "
            f"{share:.1%} of one core, {share / 4:.1%} of four",
            flush=True,
        )
        watched = cost_of_watching(cluster, chosen.watch, chosen.interval)
        looks = chosen.watch / chosen.interval
        print(
            f"monitor: {watched:.2f} s of the server's CPU in {chosen.watch:g} s at an interval of "
            f"{chosen.interval:g} s: {watched / looks * 1000:.1f} ms a look, {watched / chosen.watch:.2%} of "
            "one core",
            flush=True,
        )
        seconds = chosen.seconds or max(5, round(took))
        by_clock, by_cpu = [], []
        print("round   alone: tps   ms CPU   looked at: tps   ms CPU   ratio of tps   by CPU")
        for number in range(1, chosen.rounds + 1):
            order = (False, True) if number % 2 else (True, False)
            rounds = {side: measure(cluster, seconds, side, cores[-1]) for side in order}
            alone, looked = rounds[False], rounds[True]
            by_clock.append(looked.tps / alone.tps)
            by_cpu.append(alone.cpu_ms / looked.cpu_ms)
            print(
                f"{number:5}   {alone.tps:10.0f}   {alone.cpu_ms:6.2f}   {looked.tps:14.0f}   "
                f"{looked.cpu_ms:6.2f}   {by_clock[-1]:12.3f}   {by_cpu[-1]:6.3f}",
                flush=True,
            )
    missed = share > PROMISE
    for name, ratios in (("by the clock", by_clock), ("by CPU", by_cpu)):
        mean, half = interval(ratios)
        missed |= 1 - mean - half > PROMISE
        print(
            f"throughput {name}: {1 - mean:+.1%} lost, 95 % confidence {1 - mean - half:+.1%} to "
            f"{1 - mean + half:+.1%} ({len(ratios)} pairs of {seconds} s)"
        )
    busy = os.getloadavg()[0]
    if busy > len(cores) + 3:
        print(
            f"the load average is {busy:.1f} on {len(cores)} cores: others were at work, this says little"
        )
    print(
        f"at most {PROMISE:.0%} is promised, of a core and of the throughput: "
        f"{'missed' if missed else 'not missed'} (a loss is one where its whole interval is above)"
    )
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
