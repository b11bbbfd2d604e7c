"""Index advice and plans by value of a live server: as its own commands give them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from known_problems import ROOT
from needs import missing, postgres

from sqladvisor.auditor import Options
from sqladvisor.live import Watch, live
from sqladvisor.report.live import render_json
from sqladvisor.report.model import Report
from sqladvisor.server.embedded import Cluster

COUNTED = {
    "shared_preload_libraries": "pg_stat_statements",
    "pg_stat_statements.track_planning": "on",
    "autovacuum": "off",
}
HYPOPG = "/usr/share/postgresql/15/extension/hypopg.control"
SCHEMA = """
CREATE TABLE jobs (id int PRIMARY KEY, state text NOT NULL, tenant int NOT NULL, pad text);
INSERT INTO jobs SELECT i, CASE WHEN i % 20000 = 0 THEN 'failed' WHEN i % 3 = 0 THEN 'open' ELSE 'done' END,
    i % 5000, repeat('x', 100) FROM generate_series(1, 200000) i;
CREATE INDEX jobs_state ON jobs (state);
CREATE INDEX jobs_tenant ON jobs (tenant);
ALTER TABLE jobs ALTER state SET STATISTICS 1000;
"""


def asked(cluster: Cluster, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "sqladvisor", *arguments, "--format", "json"],
        capture_output=True, text=True, cwd=ROOT, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    loaded: dict[str, Any] = json.loads(done.stdout)
    return loaded


def test_live_and_indexes_advise_the_same_set(
    problem_server: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    dsn = problem_server.dsn("shop")
    # On a busy machine the search is not to be ended by the clock: that is another set.
    monkeypatch.setattr("sqladvisor.live.SEARCHED_S", 120.0)
    report = live(Options(dsn=dsn), Watch(window_s=0.2))
    seen = json.loads(render_json(report))
    alone = asked(problem_server, "indexes", "--dsn", dsn)
    sets = [{c["sql"] for c in side["create"]} for side in (seen["live"]["indexes"], alone)]
    assert sets[0] == sets[1]
    assert any("orders (user_id, created_at" in sql for sql in sets[0])
    shown = {
        f["fix"]["sql"].rstrip(";") for f in seen["findings"] if f["rule"].startswith("index/")
    }
    assert shown == {sql.rstrip(";") for sql in sets[0]}


@pytest.fixture(scope="module")
def counted() -> Iterator[Cluster]:
    with Cluster(postgres(None), settings=COUNTED) as cluster:
        cluster.create_database("work")
        with cluster.connect("work") as connection:
            connection.execute("CREATE EXTENSION pg_stat_statements")
            connection.execute(SCHEMA)
            connection.execute("VACUUM ANALYZE jobs")
        yield cluster


def look(cluster: Cluster, **thresholds: dict[str, float]) -> Report:
    named = {name.replace("__", "/").replace("_", "-"): v for name, v in thresholds.items()}
    return live(Options(dsn=cluster.dsn("work"), thresholds=named), Watch(window_s=0.2))


def afresh(cluster: Cluster) -> psycopg.Connection:
    connection = cluster.connect("work")
    connection.execute("SELECT pg_stat_statements_reset()")
    return connection


def test_an_unused_index_that_plans_use_is_not_to_be_dropped(counted: Cluster) -> None:
    with afresh(counted) as connection:
        connection.execute("SELECT pg_stat_reset()")
        connection.execute("UPDATE jobs SET pad = 'y' WHERE id < 100")
        for tenant in range(20):  # asked, but not by way of an index until now
            connection.execute("SET enable_indexscan = off; SET enable_bitmapscan = off")
            connection.execute(f"SELECT * FROM jobs WHERE tenant = {tenant}")
        connection.execute("SELECT pg_stat_force_next_flush()")
    look(counted)  # which makes no index pass for a used one
    report = look(counted, database__unused_index={"min_days": 0, "min_size_mb": 0})
    dropped = {
        f.evidence.figures["index"] for f in report.findings if f.rule == "database/unused-index"
    }
    assert dropped == {"public.jobs_state"}
    assert any("jobs_tenant" in note and "not advised to drop it" in note for note in report.notes)


def test_generic_plan_trap_is_found_where_a_plan_is_kept(counted: Cluster) -> None:
    sql = "SELECT id, pad FROM jobs WHERE state = %s ORDER BY id LIMIT 20"
    with afresh(counted) as connection:
        connection.execute("SET plan_cache_mode = force_generic_plan")
        for _ in range(30):
            connection.execute(sql, ["open"], prepare=True)
    found = [f for f in look(counted).findings if f.rule == "prepare/generic-plan-trap"]
    assert len(found) == 1
    assert "failed" in found[0].message
    assert found[0].evidence.figures["calls"] == 30
    assert found[0].evidence.figures["share_of_time"] > 0.5


def test_generic_plan_trap_is_silent_where_each_call_is_planned(counted: Cluster) -> None:
    with afresh(counted) as connection:
        for _ in range(30):
            connection.execute(
                "SELECT id, pad FROM jobs WHERE state = 'open' ORDER BY id LIMIT 20", prepare=False
            )
    report = look(counted)
    assert report.details["seen"].planned == 1
    assert not [f for f in report.findings if f.rule == "prepare/generic-plan-trap"]


def test_hypopg_on_the_server_locks_nothing_and_leaves_nothing() -> None:
    if not os.path.exists(HYPOPG):
        missing("needs HypoPG (Debian: apt install postgresql-15-hypopg)")
    with Cluster(postgres("system"), settings=COUNTED) as cluster:
        cluster.create_database("work")
        with cluster.connect("work") as connection:
            connection.execute("CREATE EXTENSION pg_stat_statements; CREATE EXTENSION hypopg")
            connection.execute(SCHEMA)
            connection.execute("DROP INDEX jobs_tenant")
            connection.execute("VACUUM ANALYZE jobs")
            connection.execute("SELECT pg_stat_statements_reset()")
            for tenant in range(20):
                connection.execute(f"SELECT pad FROM jobs WHERE tenant = {tenant}")
            connection.execute("UPDATE jobs SET pad = 'y' WHERE tenant = 7")
        report = live(Options(dsn=cluster.dsn("work")), Watch(window_s=0.2, what_if="hypopg"))
        advised = report.details["seen"].advised
        assert advised.planner.startswith("HypoPG")
        assert [c.sql for c in advised.found.creates] == [
            "CREATE INDEX CONCURRENTLY ON jobs (tenant);"
        ]
        with cluster.connect("work") as connection:
            (count,) = connection.execute(
                "SELECT count(*) FROM pg_indexes WHERE tablename = 'jobs'"
            ).fetchone() or (0,)
        assert count == 2
