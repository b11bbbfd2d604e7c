"""How many requests a second ``sqladvisor serve`` answers on loopback, from a store of a day.

The client is a plain loop over keep-alive connections in another process on the same machine, so
the figures are of both together. Every answer is read to its end and its status checked.

    python benchmarks/serve.py
"""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time

from sqladvisor.monitor.family import Row, Sampled, Tick
from sqladvisor.monitor.queries import DATABASE, STATEMENT
from sqladvisor.monitor.store import Store

SECONDS = 3.0
CONNECTIONS = 16
TARGETS = 3
SAMPLES = 2_000
"""Ticks of each target, ten seconds apart: five and a half hours."""
STATEMENTS = 50


def fill(path: str) -> None:
    """A store with statements and database counters."""
    numbers = random.Random(1)
    start = time.time() - SAMPLES * 10
    with Store(path, write=True) as store:
        store.query("PRAGMA synchronous = OFF")
        for n in range(SAMPLES):
            for target in range(TARGETS):
                rows = tuple(
                    Row((str(q),), tuple(numbers.random() * 100 for _ in STATEMENT.columns))
                    for q in range(STATEMENTS)
                )
                whole = Row((), tuple(numbers.random() * 1000 for _ in DATABASE.columns))
                store.save(
                    Tick(
                        f"me@db{target}/shop",
                        start + n * 10,
                        {
                            "statement": Sampled(STATEMENT, 10.0, rows),
                            "database": Sampled(DATABASE, 10.0, (whole,)),
                        },
                        version=180000,
                    )
                )


async def ask(port: int, path: str, until: float, times: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request = f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode()
    while (start := time.perf_counter()) < until:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        await reader.readexactly(length)
        times.append(time.perf_counter() - start)
    writer.close()


async def measure(port: int, path: str) -> tuple[float, float, float]:
    """Requests a second, and the median and 99th percentile of their ms."""
    await ask(port, path, time.perf_counter() + 0.2, [])
    times: list[float] = []
    start = time.perf_counter()
    await asyncio.gather(*(ask(port, path, start + SECONDS, times) for _ in range(CONNECTIONS)))
    cuts = statistics.quantiles(times, n=100)
    return len(times) / (time.perf_counter() - start), cuts[49] * 1000, cuts[98] * 1000


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "store.sqlite")
        fill(path)
        server = subprocess.Popen(
            [sys.executable, "-m", "sqladvisor", "serve", "--store", path, "--port", "0"],
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert server.stderr is not None
            port = int(server.stderr.readline().split("/ ")[0].rpartition(":")[2])
            print(f"{os.path.getsize(path) / 1e6:.0f} MB of samples, {CONNECTIONS} connections")
            print(f"{'path':44} {'requests/s':>10} {'median ms':>10} {'p99 ms':>8}")
            target = "/api/target?name=me%40db0%2Fshop&window=1h"
            for what in ("/healthz", "/api/overview", target, "/metrics", "/"):
                rate, median, high = asyncio.run(measure(port, what))
                print(f"{what:44} {rate:10,.0f} {median:10.1f} {high:8.1f}")
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
