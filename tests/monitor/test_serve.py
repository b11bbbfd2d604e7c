"""The page's server: who may ask, what is answered, and that it asks nobody for it."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from prometheus_client.parser import text_string_to_metric_families
from serving import HOSTILE, TARGET, Serving, fill, serving

from sqladvisor.errors import InputError
from sqladvisor.monitor.figures import percentiles
from sqladvisor.monitor.guard import Access
from sqladvisor.monitor.serve import check_access
from sqladvisor.monitor.store import Store
from sqladvisor.monitor.view import detail

TOKEN = "correct horse battery staple"
DETAIL = f"/api/target?name={quote(TARGET)}&window=15m"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    made = str(tmp_path_factory.mktemp("serve") / "store.sqlite")
    with Store(made, write=True) as store:
        fill(store)
        store.save_findings(TARGET, 1.0, [("database/x", "warning", HOSTILE, "VACUUM t")])
        alert = {"target": TARGET, "rule": "lock-queue", "label": "", "state": "firing",
                 "severity": "error", "since": 1.0, "at": 1.0, "value": 5.0,
                 "message": HOSTILE}  # fmt: skip
        store.save_alerts([alert], [], [])
    return made


@pytest.fixture(scope="module")
def open_server(path: str) -> Iterator[Serving]:
    with serving(path) as running:
        yield running


@pytest.fixture(scope="module")
def locked(path: str) -> Iterator[Serving]:
    with serving(path, token=TOKEN) as running:
        yield running


# -- what is answered --------------------------------------------------------------------------


def test_the_overview_lists_targets_and_alerts(open_server: Serving) -> None:
    document = json.loads(open_server.get("/api/overview").body)
    target = document["targets"][0]
    assert (target["name"], target["version"], target["alerts"]) == (TARGET, "18.1", 1)
    assert target["transactions_per_s"] == pytest.approx(10)
    assert target["cache_hit"] == pytest.approx(0.95)


def test_a_targets_figures(open_server: Serving) -> None:
    data = json.loads(open_server.get(DETAIL).body)
    assert data["totals"]["transactions_per_s"] == pytest.approx(10)
    assert data["totals"]["rollback_ratio"] == pytest.approx(0.1)
    known = [v for v in data["throughput"]["commits"] if v is not None]
    assert known and all(v == pytest.approx(9) for v in known)
    assert any(data["down"]) and data["target"]["reachable"]
    statement = data["statements"][0]
    assert statement["queryid"] == "42" and statement["calls"] == 2800
    assert statement["mean"] < statement["p95"] < statement["p99"]
    assert statement["cache_hit"] == pytest.approx(0.9)
    assert statement["rows_per_call"] == 3
    assert data["waits"]["Lock"][-1] == pytest.approx(1)
    assert data["wait_events"][0] == {"type": "CPU", "event": "running", "sessions": 2}
    table = data["tables"][0]
    assert table["grown_bytes"] == pytest.approx(1.5e6) and table["seq_scan"] == 2
    assert data["size"]["table"][-1] == pytest.approx(2.5e6)
    change = data["plan_changes"][0]
    assert (change["tree_before"], change["tree"]) == ("Seq Scan", "Index Scan")
    assert change["mean_ms"] > change["mean_ms_before"]
    assert data["findings"][0]["fix"] == "VACUUM t"


def test_a_dropped_table_is_not_listed(store: Store) -> None:
    from sqladvisor.monitor.family import Row, Sampled, Tick
    from sqladvisor.monitor.queries import SIZE

    now = fill(store, 16)
    gone = Row(("table", "public", HOSTILE, ""), (None,))
    store.save(Tick(TARGET, now + 1, {"size": Sampled(SIZE, 10.0, (gone,))}))
    data = detail(store, TARGET, "15m", now + 2)
    assert data is not None and data["tables"] == [] and len(data["indexes"]) == 1
    # After a restart of the monitor, whatever is not in the first reading is gone too.
    store.save(Tick(TARGET, now + 3, {"size": Sampled(SIZE, None, ())}))
    data = detail(store, TARGET, "15m", now + 4)
    assert data is not None and data["indexes"] == []
    assert data["size"]["table"][-1] == data["size"]["index"][-1] == 0


def test_percentiles_are_those_of_a_log_normal() -> None:
    found = percentiles(1000, 1000 * 10.0, 1000 * (100.0 + 25.0))  # mean 10, deviation 5
    assert found["mean"] == 10
    assert found["p50"] == pytest.approx(8.944, rel=1e-3)
    assert found["p95"] == pytest.approx(19.46, rel=1e-3)
    same = percentiles(7, 70.0, 699.9999)  # rounding below the mean's own square
    assert same["p99"] == pytest.approx(10)
    assert percentiles(0, 0.0, 0.0) == percentiles(None, None, None) == {}


def test_bad_requests(open_server: Serving) -> None:
    assert open_server.get("/api/target?name=nobody").status == 404
    assert open_server.get(f"/api/target?name={quote(TARGET)}&window=1y").status == 400
    assert open_server.get("/assets/nothing.js").status == 404
    for path in ("/assets/..%2fserve.py", "/assets/../serve.py", "/etc/passwd"):
        assert open_server.get(path).status == 404
    assert open_server.get("/api/overview", method="POST").status == 405
    assert open_server.get("/metrics", method="DELETE").status == 405


def test_metrics_are_prometheuss(open_server: Serving, path: str) -> None:
    open_server.get("/metrics")
    body = open_server.get("/metrics").body
    found = {
        (sample.name, sample.labels.get("state") or sample.labels.get("kind")): sample.value
        for family in text_string_to_metric_families(body)
        for sample in family.samples
    }
    assert found["sqladvisor_up", None] == 1
    assert found["sqladvisor_sessions", "active"] == 3
    assert found["sqladvisor_size_bytes", "table"] == pytest.approx(2.5e6)
    assert found["sqladvisor_alert_firing", None] == 1
    assert found["sqladvisor_clients", None] == 7


def test_metrics_count_what_is_stored_meanwhile(store: Store) -> None:
    from sqladvisor.monitor.metrics import Metrics

    def total(body: bytes) -> float:
        line = next(
            li
            for li in body.decode().splitlines()
            if li.startswith("sqladvisor_transactions_total")
        )
        return float(line.split()[-1])

    metrics = Metrics()
    fill(store, 5)
    assert total(metrics.render(store)) == 0
    fill(store, 5)
    assert total(metrics.render(store)) == 500
    assert total(metrics.render(store)) == 500


def test_requests_do_not_ask_the_store(path: str) -> None:
    import asyncio

    from sqladvisor.monitor.snapshots import Snapshots

    async def job() -> tuple[int, int]:
        snapshots = Snapshots(path, refresh_s=60)
        for _ in range(200):
            await asyncio.gather(snapshots.overview(), snapshots.detail(TARGET, "1h"))
        many = snapshots.built
        await asyncio.gather(*(snapshots.detail(TARGET, "6h") for _ in range(50)))
        once = snapshots.built - many
        snapshots.close()
        return many, once

    assert asyncio.run(job()) == (2, 1)


def test_answers_follow_the_store(path: str, tmp_path: Path) -> None:
    import asyncio
    import time

    from sqladvisor.monitor.snapshots import Snapshots

    made = str(tmp_path / "s.sqlite")
    with Store(made, write=True) as store:
        fill(store, 3, "a")

        async def names(snapshots: Snapshots) -> list[str]:
            return [t["name"] for t in json.loads(await snapshots.overview())["targets"]]

        async def job() -> None:
            snapshots = Snapshots(made, refresh_s=0.01)
            assert await names(snapshots) == ["a"]
            fill(store, 3, "b")
            deadline = time.monotonic() + 5
            while await names(snapshots) != ["a", "b"]:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.02)
            snapshots.close()

        asyncio.run(job())


# -- who may ask -------------------------------------------------------------------------------


def test_every_answer_has_the_safe_headers(open_server: Serving, locked: Serving) -> None:
    answers = [open_server.get(p) for p in ("/", "/api/overview", "/metrics", "/nothing")]
    answers += [locked.get("/api/overview"), open_server.get("/", Host="evil.example")]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cache-control"] == "no-store"
        assert "server" not in answer.headers


def test_only_names_of_ours_are_answered(open_server: Serving) -> None:
    for host in ("localhost", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST:1"):
        assert open_server.get("/healthz", Host=host).status == 200
    for host in ("evil.example", "localhost.evil.example", "192.168.1.1", "", "127.0.0.1.nip.io"):
        assert open_server.get("/api/overview", Host=host).status == 421


def test_a_further_name_can_be_allowed() -> None:
    access = Access("127.0.0.1", None, ["db-watch.corp"])
    assert access.knows_host("DB-Watch.corp:8000") and not access.knows_host("other.corp")
    outside = Access("0.0.0.0", TOKEN)
    assert outside.knows_host("10.1.2.3:8000") and not outside.knows_host("evil.example")


def test_nothing_without_the_token(locked: Serving) -> None:
    for path in ("/api/overview", "/metrics", DETAIL, "/assets/app.js", "/nothing"):
        answer = locked.get(path)
        assert answer.status == 401 and TARGET not in answer.body
        assert locked.get(path, Authorization="Bearer wrong").status == 401
        assert locked.get(path, Authorization=f"Basic {TOKEN}").status == 401
        assert locked.get(path, Cookie="sqladvisor=wrong").status == 401
        assert locked.get(f"{path}?token={quote(TOKEN)}").status == 401
    assert locked.get("/").headers["location"] == "/login"
    assert locked.get("/healthz").body == "ok\n"


def test_the_token_opens(locked: Serving) -> None:
    assert locked.get("/api/overview", Authorization=f"Bearer {TOKEN}").status == 200
    wrong = locked.get("/login", "POST", "token=wrong")
    assert wrong.headers["location"] == "/login?wrong" and "set-cookie" not in wrong.headers
    right = locked.get("/login", "POST", f"token={quote(TOKEN)}")
    cookie = right.headers["set-cookie"]
    assert right.status == 303 and right.headers["location"] == "/"
    assert "HttpOnly" in cookie and "samesite=strict" in cookie.lower()
    assert TOKEN not in cookie
    assert locked.get("/api/overview", Cookie=cookie.partition(";")[0]).status == 200
    assert (
        locked.get("/login", "POST", "token=" + "x" * 100_000).headers["location"] == "/login?wrong"
    )


def test_others_cannot_reach_it_without_a_token(path: str) -> None:
    for host in ("0.0.0.0", "::", "192.168.1.5", "db.corp"):
        with pytest.raises(InputError, match="give a token"):
            check_access(host, None)
        check_access(host, TOKEN)
    for host in ("127.0.0.1", "127.5.5.5", "::1", "localhost"):
        check_access(host, None)
    with pytest.raises(InputError, match="too short"):
        check_access("127.0.0.1", "short")
    for arguments, said in (
        (("--host", "0.0.0.0"), "give a token"),
        (("--token", "short"), "too short"),
        (("--store", "/no/such/store"), "no such store"),
        (("--host", "no such host", "--token", TOKEN), "no such host: "),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "sqladvisor", "serve", "--store", path, *arguments],
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1


def test_a_port_that_is_taken_is_said(path: str, open_server: Serving) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sqladvisor", "serve", "--store", path, "--port",
         str(open_server.port)],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and "Address already in use" in done.stderr


def test_garbage_does_not_end_it(open_server: Serving) -> None:
    for rubbish in (b"\x00\xff\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET " + b"a" * 70_000):
        with socket.create_connection(("127.0.0.1", open_server.port), timeout=5) as raw:
            raw.sendall(rubbish)
            raw.settimeout(1)
            with contextlib.suppress(OSError):
                raw.recv(1000)
    assert open_server.get("/healthz").status == 200


def test_many_at_once(open_server: Serving) -> None:
    found: list[int] = []

    def ask() -> None:
        found.extend(open_server.get(DETAIL).status for _ in range(20))

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [200] * 240


def test_no_secret_of_a_dsn_is_in_the_store_or_the_answers(tmp_path: Path) -> None:
    made = tmp_path / "s.sqlite"
    subprocess.run(
        [sys.executable, "-m", "sqladvisor", "monitor", "--once", "--store", str(made),
         "postgresql://me:hunter22@127.0.0.1:1/shop?sslpassword=hunter23"],
        capture_output=True, timeout=30, check=False,
    )  # fmt: skip
    with serving(str(made)) as running:
        for path in ("/api/overview", "/metrics", "/api/target?name=me%40127.0.0.1%3A1%2Fshop"):
            answer = running.get(path)
            assert answer.status == 200 and "hunter2" not in answer.body
            assert "me@127.0.0.1:1/shop" in answer.body
    assert b"hunter2" not in made.read_bytes()
