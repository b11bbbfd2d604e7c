"""Index advice on live servers and snapshots: what they recorded, and the same set from either."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from sqladvisor.advise.recommend import Recommendation
from sqladvisor.auditor import Options as ServerOptions
from sqladvisor.catalog.snapshot import save
from sqladvisor.errors import InputError
from sqladvisor.indexer import Options, advise
from sqladvisor.report.model import Report
from sqladvisor.server.binaries import find_binaries
from sqladvisor.server.embedded import Cluster
from sqladvisor.server.snapshot import take_snapshot

SCHEMA = """
CREATE TABLE users (id int PRIMARY KEY, email text NOT NULL, status text NOT NULL);
CREATE TABLE orders (id int PRIMARY KEY, user_id int NOT NULL REFERENCES users, state text NOT NULL,
    total numeric NOT NULL, at timestamptz NOT NULL);
CREATE INDEX orders_state_idx ON orders (state);
INSERT INTO users SELECT i, 'user' || i || '@x.org', CASE WHEN i % 300 = 0 THEN 'Blocked' ELSE 'ok' END
    FROM generate_series(1, 20000) i;
INSERT INTO orders SELECT i, 1 + i * 7919 % 20000, CASE WHEN i % 250 = 0 THEN 'Open' ELSE 'done' END,
    i % 977, timestamptz '2020-01-01' + i * interval '11 min' FROM generate_series(1, 30000) i;
"""
QUERIES = """
SELECT id FROM users WHERE email = 'user7@x.org';
SELECT count(*) FROM users WHERE status = 'Blocked';
SELECT id, total FROM orders WHERE user_id = 12 ORDER BY at DESC LIMIT 5;
SELECT sum(total) FROM orders WHERE at >= '2020-03-01' AND at < '2020-03-02';
SELECT o.total FROM orders o JOIN users u ON u.id = o.user_id WHERE u.email = 'user9@x.org';
"""


@pytest.fixture(scope="module")
def recording() -> Iterator[Cluster]:
    """A server that records its statements."""
    with Cluster(find_binaries(None)) as cluster:
        with cluster.connect() as admin:
            admin.execute("ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'")
        cluster.restart()
        cluster.create_database("shop")
        with cluster.connect("shop") as connection:
            connection.execute("CREATE EXTENSION pg_stat_statements")
            connection.execute(SCHEMA)
            connection.execute("VACUUM ANALYZE")
            connection.execute("SELECT pg_stat_statements_reset()")
            for number in range(40):
                connection.execute(f"SELECT id FROM users WHERE email = 'user{number}@x.org'")
            connection.execute("SELECT sum(total) FROM orders WHERE at >= '2020-03-01'")
            connection.execute("UPDATE orders SET state = 'done' WHERE id = 5")
        yield cluster


def advised(report: Report) -> Recommendation:
    found: Recommendation = report.details["indexes"]
    return found


def test_the_workload_of_a_server_is_what_it_recorded(recording: Cluster) -> None:
    report = advise(Options(server=ServerOptions(dsn=recording.dsn("shop"))))
    found = advised(report)
    assert found.creates[0].name.startswith("users (email")
    (query,) = [q for q in found.queries if "email" in q.sql]
    assert query.calls == 40
    assert query.name.startswith("pg_stat_statements ")
    assert "$1" in query.sql
    assert "$1" not in query.variants[0].sql
    assert not [q for q in found.queries if "pg_" in q.sql]
    assert not found.drops  # counted for minutes only: nobody knows that orders_state_idx is unused


def test_a_server_that_records_nothing_says_what_is_missing(recording: Cluster) -> None:
    with pytest.raises(InputError, match="pg_stat_statements"):
        advise(Options(server=ServerOptions(dsn=recording.dsn("postgres"))))


def test_a_masked_snapshot_alone_gives_the_same_advice(recording: Cluster, tmp_path: Path) -> None:
    (tmp_path / "w.sql").write_text(QUERIES)
    workload = (str(tmp_path / "w.sql"),)
    dsn = recording.dsn("shop")
    path = str(tmp_path / "shop.json")
    save(take_snapshot(dsn, find_binaries(None)), path)
    assert "user7@x.org" not in Path(path).read_text()
    live = advised(advise(Options(workload, server=ServerOptions(dsn=dsn))))
    alone = advised(advise(Options(workload, server=ServerOptions(snapshot=path))))
    assert len(live.creates) >= 4
    assert {c.sql for c in alone.creates} == {c.sql for c in live.creates}
    assert alone.drops == live.drops
    recorded = advised(advise(Options(server=ServerOptions(snapshot=path))))
    assert recorded.creates[0].name.startswith("users (email")


def test_ctrl_c_answers_with_the_best_so_far(recording: Cluster, tmp_path: Path) -> None:
    (tmp_path / "w.sql").write_text(QUERIES)
    options = Options((str(tmp_path / "w.sql"),), server=ServerOptions(dsn=recording.dsn("shop")))

    def interrupt(text: str) -> None:
        if text.startswith("searching plans: round 2"):
            os.kill(os.getpid(), signal.SIGINT)

    report = advise(options, progress=interrupt)
    found = advised(report)
    assert any("interrupted: this is the best set found until then" in n for n in report.notes)
    assert found.creates  # round 1 has found plans, and the program picked from them
    assert not found.choice.complete
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
