"""How fast log files are read as a workload, in MB/s of one core, beside bare reading of lines.

A generated log of a busy application: mostly prepared statements with their parameters, ad-hoc ones
with literals, a few plans of auto_explain, and lines that say nothing of statements. Peak memory is
the whole process's.

    python benchmarks/logs.py [MB]
"""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

PREPARED = [
    "SELECT id, name, email, created_at FROM users WHERE id = $1",
    "SELECT o.id, o.total, o.status FROM orders o WHERE o.user_id = $1 ORDER BY o.created_at DESC LIMIT 20",
    "UPDATE products SET stock = stock - $1, updated_at = now() WHERE id = $2",
    "INSERT INTO events (kind, user_id, payload) VALUES ($1, $2, $3)",
]
ADHOC = (
    "SELECT p.id, p.name, p.price FROM products p JOIN categories c ON c.id = p.category_id "
    "WHERE c.name = '{name}' AND p.price < {n} ORDER BY p.price LIMIT {m}",
    "SELECT count(*) FROM orders WHERE created_at >= '2026-01-{d:02} 00:00:00' AND status = 'paid'",
    "SELECT * FROM users WHERE id IN ({ids})",
)
PLAN = (
    "Query Text: SELECT * FROM orders WHERE total > {n}\n"
    "Seq Scan on orders  (cost=0.00..18334.00 rows=1000 width=48)\n  Filter: (total > {n})"
)


def messages(seed: int) -> Iterator[tuple[str, str]]:
    """(message, detail) without end."""
    numbers = random.Random(seed)
    while True:
        kind = numbers.random()
        ms = numbers.expovariate(1 / 3)
        if kind < 0.55:
            text = numbers.choice(PREPARED)
            detail = "Parameters: " + ", ".join(
                f"${i} = '{numbers.randrange(10**6)}'" for i in range(1, text.count("$") + 1)
            )
            yield f"duration: {ms:.3f} ms  execute S_{numbers.randrange(9)}: {text}", detail
        elif kind < 0.85:
            text = numbers.choice(ADHOC).format(
                name=f"category {numbers.randrange(500)}", n=numbers.randrange(1000),
                m=numbers.randrange(1, 100), d=numbers.randrange(1, 29),
                ids=", ".join(str(numbers.randrange(10**6)) for _ in range(numbers.randrange(1, 9))),
            )  # fmt: skip
            yield f"duration: {ms:.3f} ms  statement: {text}", ""
        elif kind < 0.86:
            yield f"duration: {ms:.3f} ms  plan:\n" + PLAN.format(n=numbers.randrange(999)), ""
        else:
            yield (
                f"connection authorized: user=app database=shop SSL enabled {numbers.random()}",
                "",
            )


def stderr_lines(seed: int) -> Iterator[str]:
    for n, (message, detail) in enumerate(messages(seed)):
        head = f"2026-11-28 {n // 36000 % 24:02}:{n // 600 % 60:02}:{n // 10 % 60:02}.{n % 1000:03} UTC [{n % 97}] app@shop "
        text = message.replace("\n", "\n\t")
        yield f"{head}LOG:  {text}\n"
        if detail:
            yield f"{head}DETAIL:  {detail}\n"


def csv_lines(seed: int) -> Iterator[str]:
    def quoted(text: str) -> str:
        return '"' + text.replace('"', '""') + '"' if text else ""

    for n, (message, detail) in enumerate(messages(seed)):
        yield (
            f'2026-11-28 10:00:00.{n % 1000:03} UTC,"app","shop",{n % 97},"10.0.0.1:5432",6f.1,{n},'
            f'"SELECT",2026-11-28 09:00:00 UTC,3/4,0,LOG,00000,{quoted(message)},{quoted(detail)},'
            ',,,,,,,"app","client backend",,0\n'
        )


def json_lines(seed: int) -> Iterator[str]:
    for n, (message, detail) in enumerate(messages(seed)):
        record = {
            "timestamp": f"2026-11-28 10:00:00.{n % 1000:03} UTC", "user": "app", "dbname": "shop",
            "pid": n % 97, "session_id": "6f.1", "line_num": n, "ps": "SELECT",
            "error_severity": "LOG", "message": message, "backend_type": "client backend",
        }  # fmt: skip
        yield (
            json.dumps(record | ({"detail": detail} if detail else {}), separators=(",", ":"))
            + "\n"
        )


def write(path: str, lines: Iterator[str], size: int) -> None:
    with open(path, "w", encoding="utf-8") as file:
        written = 0
        for line in lines:
            written += file.write(line)
            if written >= size:
                return


def fastest(job: Callable[[], object], runs: int = 3) -> float:
    """Processor seconds of the fastest run: another process's load is not counted."""
    times = []
    for _ in range(runs):
        start = time.process_time()
        job()
        times.append(time.process_time() - start)
    return min(times)


def lines_of(path: str) -> None:
    with open(path, "rb") as file:
        for _ in file:
            pass


def measure(path: str) -> None:
    """In a process of its own, for its memory: read one log, say how it went."""
    from sqladvisor.workload.logs import read_logs

    size = os.path.getsize(path) / 1e6
    bare = fastest(lambda: lines_of(path))
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    took = fastest(lambda: read_logs([path]))
    found = read_logs([path])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{os.path.basename(path):8} {size:6.0f} {size / took:8.0f} {size / bare:12.0f} "
        f"{found.entries:10,} {len(found.statements):10,} {base:8.0f} {peak:8.0f}"
    )


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        measure(sys.argv[2])
        return
    size = int(float(sys.argv[1] if len(sys.argv) > 1 else "100") * 1e6)
    print(
        f"{'log':8} {'MB':>6} {'MB/s':>8} {'lines MB/s':>12} {'entries':>10} {'statements':>10} "
        f"{'MB idle':>8} {'MB peak':>8}"
    )
    with tempfile.TemporaryDirectory() as folder:
        for name, lines in (("stderr", stderr_lines), ("csv", csv_lines), ("json", json_lines)):
            path = os.path.join(folder, name)
            write(path, lines(1), size)
            subprocess.run([sys.executable, __file__, "--one", path], check=True)
            os.remove(path)


if __name__ == "__main__":
    main()
