"""How fast a static audit is, as ratios to the bare parser and the bare interpreter in one run.

Ratios, because machines differ and this one may be busy: what matters is how much time sqladvisor
adds to parsing the same text with PostgreSQL's own parser. Medians of whole processes for start-up,
of calls for throughput.

    python benchmarks/static.py
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
QUERIES = ROOT / "fixtures" / "shop" / "queries.sql"
RUNS = 9
COPIES = 50
"""The shop's queries repeated: a file of about 3,600 statements."""


def process(*arguments: str) -> float:
    """Median wall ms of a whole process."""
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=False)
        times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times)


def call(function: Callable[[], object], runs: int = 5) -> float:
    """Median wall ms of a call."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        function()
        times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times)


def start_up(folder: Path) -> None:
    one = folder / "one.sql"
    one.write_text("SELECT id FROM users WHERE date(created_at) = '2024-01-01';\n")
    python = process("-c", "pass")
    parser = process("-c", "import pglast.parser")
    print("start-up, whole process      wall ms   ratio to python   ratio to python + pglast")
    for name, path in (("audit of one query", one), ("audit of the shop's file", QUERIES)):
        ms = process("-m", "sqladvisor", "audit", str(path))
        print(f"{name:28} {ms:7.0f}   {ms / python:15.1f}   {ms / parser:24.1f}")


def throughput(folder: Path) -> None:
    from pglast.parser import parse_sql_json

    from sqladvisor.auditor import audit

    text = QUERIES.read_text(encoding="utf-8")
    # Without psql variables, so that the bare parser can read it at all.
    plain = "\n".join(
        f"-- copy {n}\n" + text.replace(":user_id", "4711").replace(":since", "'2024-01-01'")
        for n in range(COPIES)
    )
    many = folder / "many.sql"
    many.write_text(plain, encoding="utf-8")
    megabytes = len(plain.encode()) / 1e6
    parsed = call(lambda: parse_sql_json(plain))
    audited = call(lambda: audit([str(many)]), runs=3)
    print("\nthroughput, one large file       ms     MB/s   ratio to the bare parser")
    print(f"{'parse_sql_json':28} {parsed:8.0f} {megabytes / parsed * 1000:8.1f}   {1:>24.1f}")
    print(
        f"{'static audit, all rules':28} {audited:8.0f} {megabytes / audited * 1000:8.1f}   "
        f"{audited / parsed:>24.1f}"
    )


def main() -> None:
    os.environ["PYTHONPATH"] = str(ROOT)
    with tempfile.TemporaryDirectory() as folder:
        start_up(Path(folder))
        throughput(Path(folder))


if __name__ == "__main__":
    main()
