"""The loop and the command: many databases, outages, alerts out of the door, exit codes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from watching import make, run, until

from sqladvisor.errors import InputError
from sqladvisor.monitor.alert_file import AlertConfig, read_alerts
from sqladvisor.monitor.store import Store
from sqladvisor.monitor.watch import Settings, Watch
from sqladvisor.server.connect import APPLICATION
from sqladvisor.server.embedded import Cluster

MANY = 10


@pytest.fixture
def many(watched: Cluster) -> Iterator[list[str]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(contextlib.contextmanager(make)(watched)) for _ in range(MANY)]


def monitor(*arguments: str, seconds: float = 30) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sqladvisor", "monitor", *arguments],
        capture_output=True, text=True, timeout=seconds, check=False,
    )  # fmt: skip


def watch(dsns: list[str], store: Store, settings: Settings, seconds: float) -> list[str]:
    """Watch for a while; what was said and noted."""
    heard: list[str] = []

    async def job() -> None:
        stop = asyncio.Event()
        task = asyncio.create_task(
            Watch(dsns, store, AlertConfig(()), settings, heard.append, heard.append).run(stop)
        )
        await asyncio.sleep(seconds)
        stop.set()
        await task

    asyncio.run(job())
    return heard


def test_many_databases_share_a_few_slots(watched: Cluster, many: list[str], store: Store) -> None:
    heard = watch(many, store, Settings(interval_s=1.0, concurrency=3), 3.5)
    # The small pg_stat_statements.max of these tests makes entries go.
    assert all("evicts entries" in line or "were reset" in line for line in heard), heard
    ticks = store.query("SELECT target_id, count(*) FROM tick WHERE reachable GROUP BY 1")
    assert len(ticks) == MANY and all(n >= 2 for _, n in ticks)
    with watched.connect() as admin:
        row = admin.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", [APPLICATION]
        ).fetchone()
    assert row == (0,)


def test_a_server_that_goes_away_is_noted_once_and_comes_back(
    watched: Cluster, database: str, tmp_path: Path
) -> None:
    path = tmp_path / "s.sqlite"

    def states() -> list[int]:
        with contextlib.suppress(InputError), Store(str(path), write=False) as read:
            return [row[0] for row in read.query("SELECT reachable FROM tick ORDER BY id")] or [-1]
        return [-1]

    process = subprocess.Popen(
        [sys.executable, "-m", "sqladvisor", "monitor", database, "--interval", "1s",
         "--store", str(path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        until(lambda: states()[:1] == [1])
        watched.stop()
        until(lambda: states()[-1] == 0)
        watched.start()
        until(lambda: states()[-1] == 1)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=10)
    finally:
        process.kill()
        process.wait()
        if not watched.running():
            watched.start()
    assert process.returncode == 0
    assert err.count("unreachable: ") == 1 and err.count("back after ") == 1
    assert "the server was started anew" in err and "Traceback" not in err


def test_once_for_cron(database: str, tmp_path: Path) -> None:
    store = str(tmp_path / "s.sqlite")
    alerts = tmp_path / "alerts.toml"
    alerts.write_text(
        '[[alert]]\nname = "idle"\nmeasure = "idle_in_transaction_s"\nabove = 0.05\n'
        'severity = "error"\nmessage = "somebody holds things up"\n'
    )
    common = ("--store", store, "--once", "--alerts", str(alerts))
    first = monitor(database, *common)
    assert (first.returncode, first.stdout) == (0, ""), first
    with psycopg.connect(database) as holder:
        holder.execute("SELECT 1")
        time.sleep(0.2)
        second = monitor(database, *common)
    assert second.returncode == 1, second
    assert "somebody holds things up (idle_in_transaction_s = " in second.stdout
    third = monitor(database, *common)
    assert third.returncode == 0 and "idle is over" in third.stdout
    nobody = monitor(database, "postgresql://u:hunter22@127.0.0.1:1/x", *common)
    assert nobody.returncode == 2 and "unreachable" in nobody.stderr
    assert "hunter22" not in nobody.stdout + nobody.stderr
    with Store(store, write=False) as read:
        # The second run went on from where the first had stopped.
        rows = read.query(
            "SELECT elapsed_s IS NOT NULL FROM sampled JOIN tick ON tick.id = tick_id "
            "WHERE family = 'database' ORDER BY at"
        )
        assert [r[0] for r in rows] == [0, 1, 1, 1]
        events = [r[0] for r in read.query("SELECT event FROM alert_event ORDER BY id")]
        assert events[:2] == ["firing", "resolved"]


def test_an_alert_reaches_its_command(database: str, tmp_path: Path) -> None:
    out = tmp_path / "said"
    alerts = tmp_path / "alerts.toml"
    alerts.write_text(
        '[[alert]]\nname = "any"\nmeasure = "up"\nabove = 0\nmessage = "it is up"\n'
        f'[[sink]]\ntype = "command"\ncommand = ["sh", "-c", \'printenv SQLADVISOR_ALERT_TEXT > "$0"\', "{out}"]\n'
        '[[sink]]\ntype = "webhook"\nurl = "http://127.0.0.1:1/secret"\nseverity = "error"\n'
    )
    done = monitor(database, "--store", str(tmp_path / "s"), "--once", "--alerts", str(alerts))
    assert done.returncode == 1
    assert out.read_text().rstrip().endswith("it is up (up = 1)")
    assert done.stderr == ""  # the webhook wants errors only


def test_a_store_that_cannot_be_written_is_said_and_watching_goes_on(
    database: str, store: Store
) -> None:
    store.query("PRAGMA query_only = on")
    heard = watch([database], store, Settings(interval_s=1.0), 1.5)
    assert any("not stored: attempt to write a readonly database" in line for line in heard)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--interval", "10ms", "x"), "--interval: at least 1 s"),
        (("--interval", "soon", "x"), "--interval: not a duration"),
        (("postgresql://a:b@c@d/x",), "the DSN is malformed"),
        (("host=a dbname=b", "host=a dbname=b"), "is given twice"),
        (("--dsn-file", "/no/such/file"), "/no/such/file: No such file"),
        (("--alerts", "/no/such/file", "host=a"), "/no/such/file: cannot be read"),
        (("--store", "/proc/x/y", "host=a"), "cannot be used as a store"),
    ],
)
def test_bad_usage_is_one_line(arguments: tuple[str, ...], said: str) -> None:
    done = monitor("--once", *arguments)
    assert done.returncode == 2 and said in done.stderr
    assert done.stderr.count("\n") == 1


def test_findings_are_kept_for_the_page(database: str, store: Store) -> None:
    run(database, "CREATE TABLE no_key (a int)")
    watch([database], store, Settings(interval_s=1.0, findings_every_s=60.0), 6)
    rules = {row[0] for row in store.query("SELECT rule FROM finding")}
    assert "database/missing-primary-key" in rules


def test_dsns_from_a_file(database: str, tmp_path: Path) -> None:
    listed = tmp_path / "dsns"
    listed.write_text(f"# ours\n\n  {database}  \n")
    done = monitor("--once", "--dsn-file", str(listed), "--store", str(tmp_path / "s"))
    assert done.returncode == 0
    with Store(str(tmp_path / "s"), write=False) as read:
        assert len(read.targets()) == 1


def test_the_built_in_rules_are_quiet_on_a_healthy_server(database: str, store: Store) -> None:
    run(database, "CREATE TABLE t AS SELECT g FROM generate_series(1, 1000) g")
    heard: list[str] = []

    async def job() -> None:
        stop = asyncio.Event()
        loop = Watch(
            [database], store, read_alerts(), Settings(interval_s=1.0), heard.append, lambda _: None
        )
        task = asyncio.create_task(loop.run(stop))
        await asyncio.sleep(3)
        stop.set()
        await task

    asyncio.run(job())
    assert heard == [], heard
    assert os.path.getsize(store.path)
