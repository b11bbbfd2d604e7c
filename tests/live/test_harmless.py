"""`sqladvisor live` does no harm: what it locks, writes, leaves behind, and does when it is cut off."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
from known_problems import ROOT, problems

from sqladvisor.auditor import Options
from sqladvisor.live import Watch, live
from sqladvisor.server.binaries import find_binaries
from sqladvisor.server.embedded import Cluster
from sqladvisor.server.session import LiveSession

RUNNING_TRANSACTIONS = 150
"""Bytes of the server's own WAL record of running transactions, with what goes before it."""
SCANNED = "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'pgbench_accounts'"
OURS = "application_name IN ('sqladvisor', 'pg_dump')"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """pgbench's tables, small, on a server that does nothing by itself."""
    settings = problems.SETTINGS | {"autovacuum": "off", "shared_buffers": "64MB"}
    with Cluster(find_binaries(None), settings=settings) as running:
        running.create_database("shop")
        problems.pgbench(running, "-i", "-q", "-s", "2")
        with running.connect("shop") as connection:
            connection.execute("CREATE EXTENSION pg_stat_statements")
        problems.pgbench(running, "-t", "200")
        yield running


@contextmanager
def load(cluster: Cluster) -> Iterator[None]:
    """pgbench's transactions, two sessions, until the block ends."""
    program = Path(cluster.bin_dir) / "pgbench"
    process = subprocess.Popen(
        [str(program), "-c", "2", "-T", "60", "-h", str(cluster.directory), "-U", "postgres", "shop"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(10)


def start(cluster: Cluster, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "sqladvisor", "live", cluster.dsn("shop"), *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip


def one(connection: psycopg.Connection, sql: str) -> object:
    row = connection.execute(sql.encode()).fetchone()
    return row[0] if row else None


def test_nothing_stronger_than_access_share_is_locked(cluster: Cluster) -> None:
    seen: set[tuple[str, str, str]] = set()
    samples = 0
    with load(cluster), cluster.connect("shop") as watcher:
        process = start(cluster, "--window", "2", "--quiet", "--format", "json")
        while process.poll() is None:
            rows = watcher.execute(
                f"""SELECT l.locktype, l.mode, coalesce(c.relname, '') FROM pg_locks l
                JOIN pg_stat_activity a ON a.pid = l.pid AND {OURS}
                LEFT JOIN pg_class c ON c.oid = l.relation
                -- Whoever connects locks the database's name for a moment (InitPostgres).
                WHERE l.classid IS DISTINCT FROM 'pg_database'::regclass""".encode()
            ).fetchall()
            samples += bool(rows)
            seen |= set(rows)
        out, err = process.communicate()
    assert process.returncode == 0, err
    assert json.loads(out)["errors"] == []
    assert samples > 20, "our sessions were hardly seen"
    # A transaction's own virtual id is the only thing that a reader holds exclusively.
    strong = {s for s in seen if s[1] != "AccessShareLock" and s[0] != "virtualxid"}
    assert not strong
    assert any(s[0] == "relation" for s in seen)


def test_nothing_is_written(cluster: Cluster) -> None:
    with cluster.connect("shop") as watcher:
        # Whoever reads a page with dead rows tidies it up, and logs that: leave none.
        watcher.execute("VACUUM")
        watcher.execute("CHECKPOINT")
        scanned = one(watcher, SCANNED)
        written = {}
        for run in ("alone", "looked at"):
            before = one(watcher, "SELECT pg_current_wal_insert_lsn()")
            next_id = one(watcher, "SELECT pg_snapshot_xmax(pg_current_snapshot())::text")
            if run == "looked at":
                out, err = start(cluster, "--window", "1").communicate()
                assert "checks of the database" in out, err
            else:
                time.sleep(1)
            assert one(watcher, "SELECT pg_snapshot_xmax(pg_current_snapshot())::text") == next_id
            written[run] = one(
                watcher, f"SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '{before}')::int"
            )
        assert one(watcher, SCANNED) == scanned, "a table was read whole"
    # The background writer logs which transactions run, each 15 s after something was written
    # (bgwriter.c, LOG_SNAPSHOT_INTERVAL_MS): once at most.
    assert written["looked at"] <= RUNNING_TRANSACTIONS, written


def test_sessions_end_by_themselves_when_the_advisor_is_killed(cluster: Cluster) -> None:
    process = start(cluster, "--window", "30")
    with cluster.connect("shop") as watcher:
        deadline = time.monotonic() + 20
        count = f"SELECT count(*) FROM pg_stat_activity WHERE {OURS}"
        while not one(watcher, count) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert one(watcher, count)
        time.sleep(0.5)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        while one(watcher, count) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert one(watcher, count) == 0


def test_an_interrupt_ends_it_cleanly(cluster: Cluster) -> None:
    process = start(cluster, "--window", "30")
    with cluster.connect("shop") as watcher:
        deadline = time.monotonic() + 20
        count = f"SELECT count(*) FROM pg_stat_activity WHERE {OURS}"
        while not one(watcher, count) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=15)
        assert process.returncode == 130, err
        assert "Traceback" not in err
        while one(watcher, count) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert one(watcher, count) == 0


def test_a_session_that_is_ended_is_made_again_and_that_is_said(cluster: Cluster) -> None:
    # Ended behind its last query a session is missed by nobody: then once more.
    said = any(_ended_midway(cluster) for _ in range(5))
    assert said


def _ended_midway(cluster: Cluster) -> bool:
    """Look while our sessions are ended; whether it is said that one was made again."""
    ended = threading.Event()

    def end_them() -> None:
        with cluster.connect("shop") as admin:
            for _ in range(2000):
                # Midway: those that have got as far as reading the catalogs.
                killed = one(
                    admin,
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                    f"WHERE {OURS} AND query LIKE '%/* sqladvisor */'",
                )
                if killed:
                    ended.set()
                    return
                time.sleep(0.002)

    killer = threading.Thread(target=end_them)
    killer.start()
    report = live(Options(dsn=cluster.dsn("shop")), Watch(1.0))
    killer.join()
    assert ended.is_set()
    assert not report.problems, report.problems
    assert report.details["seen"].health.checked > 40
    return any("the connection was lost" in n and "connected again" in n for n in report.notes)


def test_a_server_that_ends_every_session_is_given_up_in_one_line(cluster: Cluster) -> None:
    with LiveSession(cluster.dsn("shop"), statement_timeout_ms=1_000) as session:

        def ends(connection: psycopg.Connection) -> None:
            with cluster.connect("shop") as admin:
                admin.execute("SELECT pg_terminate_backend(%s)", [connection.info.backend_pid])
            connection.execute("SELECT 1")

        with pytest.raises(Exception, match="the connection was lost again"):
            session.run(ends)
        assert len(session.notes) == 3


def test_statements_and_locks_are_waited_for_only_so_long(cluster: Cluster) -> None:
    with LiveSession(cluster.dsn("shop"), statement_timeout_ms=200, lock_timeout_ms=100) as session:
        began = time.monotonic()
        with pytest.raises(psycopg.errors.QueryCanceled):
            session.run(lambda c: c.execute("SELECT pg_sleep(5)"))
        with cluster.connect("shop", autocommit=False) as holder:
            holder.execute("LOCK TABLE pgbench_accounts IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                session.run(lambda c: c.execute("SELECT FROM public.pgbench_accounts LIMIT 1"))
            holder.rollback()
        assert time.monotonic() - began < 3
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            session.run(lambda c: c.execute("CREATE TABLE public.never (a int)"))


def test_a_server_that_is_not_there_is_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sqladvisor", "live", "postgresql://u:geheim@127.0.0.1:1/x"],
        capture_output=True, text=True, cwd=ROOT, check=False,
        env={k: v for k, v in os.environ.items() if not k.startswith("PG")},
    )  # fmt: skip
    assert done.returncode == 2
    assert "geheim" not in done.stderr + done.stdout
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr
    with suppress(FileNotFoundError):
        assert not done.stdout
