"""A server of a store, as a process, and plain requests to it."""

from __future__ import annotations

import contextlib
import http.client
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from sqladvisor.monitor.family import Row, Sampled, SeenPlan, Tick
from sqladvisor.monitor.queries import ACTIVITY, DATABASE, SERVER, SIZE, STATEMENT, TABLE
from sqladvisor.monitor.store import Store

HOSTILE = "<img src=x onerror=document.title='owned'>\"'&\x1b[31m"
TARGET = "me@db:5432/shop"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: str


@dataclass(frozen=True)
class Serving:
    port: int

    def get(
        self, path: str, method: str = "GET", body: str | None = None, **headers: str
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, sent)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, text)


@contextlib.contextmanager
def serving(path: str, *arguments: str, token: str = "") -> Iterator[Serving]:
    """`sqladvisor serve` on any free port."""
    environment = {**os.environ, "SQLADVISOR_TOKEN": token}
    process = subprocess.Popen(
        [sys.executable, "-m", "sqladvisor", "serve", "--store", path, "--port", "0", *arguments],
        stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith("http://"), line
        yield Serving(int(line.split("/ ")[0].rpartition(":")[2]))
    finally:
        process.terminate()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def fill(store: Store, ticks: int = 30, name: str = TARGET) -> float:
    """Ticks ten seconds apart up to now, with an outage; when the last one was."""
    now = time.time()
    for n in range(ticks):
        at = now - (ticks - 1 - n) * 10
        if n in (10, 11):
            store.save(Tick(name, at, error="connection refused"))
            continue
        store.save(_tick(name, at, n))
    return now


def _tick(name: str, at: float, n: int) -> Tick:
    calls, mean = 100.0, 2.0 + n / 10
    squares = calls * (mean**2 + 1.0)  # a deviation of 1 ms
    known = {"calls": calls, "exec_ms": calls * mean, "exec_ms_squared": squares, "rows": 300.0,
             "shared_blks_hit": 900.0, "shared_blks_read": 100.0}  # fmt: skip
    statement = tuple(known.get(c, 0.0) for c in STATEMENT.columns)
    done = {"xact_commit": 90.0, "xact_rollback": 10.0, "blks_hit": 950.0, "blks_read": 50.0}
    database = tuple(done.get(c, 0.0) for c in DATABASE.columns)
    families = {
        "statement": Sampled(STATEMENT, 10.0, (Row(("42",), statement),)),
        "database": Sampled(DATABASE, 10.0, (Row((), database),)),
        "server": Sampled(SERVER, 10.0, (Row((), (8192.0, 7.0, 97.0, 5.0, 5.0, 0.0, None, 99.0)),)),
        "activity": Sampled(ACTIVITY, 10.0, (
            Row(("client backend", "active", "", ""), (2.0, 1.0, 1.0)),
            Row(("client backend", "active", "Lock", "relation"), (1.0, 1.0, 1.0)),
            Row(("client backend", "idle", "Client", "ClientRead"), (4.0, None, 1.0)),
        )),
    }  # fmt: skip
    if n % 15 == 0:
        families["size"] = Sampled(SIZE, None if n == 0 else 150.0, (
            Row(("table", "public", HOSTILE, ""), (1e6 + n * 1e5,)),
            Row(("index", "public", HOSTILE, "i"), (8192.0,)),
        ))  # fmt: skip
        families["table"] = Sampled(
            TABLE, 150.0, (Row(("public", HOSTILE), (1.0,) * len(TABLE.columns)),)
        )
    plan = SeenPlan("42", "a" if n < 20 else "b", "Seq Scan" if n < 20 else "Index Scan", 5.0)
    return Tick(
        name, at, families, version=180001,
        statements={"42": f"SELECT {HOSTILE} FROM t WHERE id = $1"} if n == 0 else {},
        plans=(plan,),
    )  # fmt: skip
