"""pg_stat_statements: missing, unreadable, reset, too small, in parts; and what is made of its texts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from known_problems import problems
from needs import postgres

from sqladvisor.auditor import Options
from sqladvisor.catalog.live import read_catalog
from sqladvisor.live import Watch, live
from sqladvisor.report.live import render, render_json
from sqladvisor.server.activity import Activity
from sqladvisor.server.binaries import find_binaries
from sqladvisor.server.embedded import Cluster
from sqladvisor.workload.cache import caching, write_rates
from sqladvisor.workload.pool import advised_pool
from sqladvisor.workload.statements import Collected, read_statements
from sqladvisor.workload.weights import Workload, tops, weigh


@pytest.fixture(scope="module", params=[None, "system"], ids=["embedded", "system"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    settings = problems.SETTINGS | {"pg_stat_statements.max": "250", "autovacuum": "off"}
    with Cluster(postgres(request.param), settings=settings) as running:
        yield running


@pytest.fixture
def database(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[psycopg.Connection]:
    name = f"s{abs(hash(request.node.name)) % 10**8}"
    cluster.create_database(name)
    with cluster.connect(name) as connection:
        connection.execute("CREATE EXTENSION pg_stat_statements")
        connection.execute("CREATE TABLE t (id int PRIMARY KEY, a int, at timestamptz)")
        connection.execute("INSERT INTO t SELECT i, i, now() FROM generate_series(1, 2000) i")
        connection.execute("ANALYZE t")
        connection.execute("SELECT pg_stat_statements_reset()")
        yield connection
    cluster.drop_database(name)


def collected(connection: psycopg.Connection) -> tuple[Collected, Workload]:
    found = read_statements(connection)
    return found, weigh(found, read_catalog(connection), {})


def test_counters_are_those_of_the_view(database: psycopg.Connection) -> None:
    for n in range(30):
        database.execute("SELECT a FROM t WHERE id = %s", [n], prepare=False)
    database.execute("UPDATE t SET a = 0 WHERE id < 100")
    found, workload = collected(database)
    assert not found.missing
    assert found.since_reset and found.hours is not None and found.hours < 0.1
    one = next(s for s in found.statements if "WHERE id = $1" in s.text)
    assert (one.calls, one.rows) == (30, 29)
    assert one.mean_exec_ms == pytest.approx(one.total_exec_ms / 30)
    assert one.plans > 0 and one.total_plan_ms > 0
    update = next(w for w in workload.statements if w.context.statement.kind == "UpdateStmt")
    assert update.counted.wal_bytes > 0
    assert sum(w.share for w in workload.statements) == pytest.approx(1)
    ranked = tops(workload, 3)
    assert ranked["calls"][0].counted.calls == 30
    assert ranked["WAL"][0] is update


def test_roles_that_send_one_query_are_one_statement(
    cluster: Cluster, database: psycopg.Connection
) -> None:
    database.execute("CREATE ROLE other LOGIN; GRANT SELECT ON t TO other")
    for user in ("postgres", "other"):
        with cluster.connect(database.info.dbname, user=user) as connection:
            for _ in range(5):
                connection.execute("SELECT max(a) FROM t")
    found, _ = collected(database)
    one = next(s for s in found.statements if "max(a)" in s.text)
    assert one.calls == 10
    assert one.users == ("other", "postgres")
    assert one.min_exec_ms <= one.mean_exec_ms <= one.max_exec_ms
    database.execute("DROP OWNED BY other; DROP ROLE other")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*) FROM t WHERE at > now() - interval '1 day'",
        "SELECT count(*) FROM t WHERE at > timestamptz '2024-01-01'",
        "SELECT count(*) FROM t WHERE at::date = date '2024-01-01'",
        "SELECT extract(epoch FROM at) FROM t LIMIT 5 OFFSET 3",
        "SELECT a FROM t WHERE id IN (1, 2, 3, 4)",
    ],
)
def test_texts_without_their_literals_are_parsed(database: psycopg.Connection, sql: str) -> None:
    database.execute(sql.encode())
    _, workload = collected(database)
    texts = [w.context.statement.text for w in workload.statements]
    assert any("$1" in text and " t" in text for text in texts), texts
    assert workload.unparsed == 0


def test_statements_over_the_catalogs_are_left_out(database: psycopg.Connection) -> None:
    database.execute("SELECT count(*) FROM pg_class")
    database.execute("SELECT count(*) FROM pg_catalog.pg_attribute JOIN pg_class ON true LIMIT 1")
    database.execute("SELECT count(*) FROM t")
    _, workload = collected(database)
    texts = [w.context.statement.text for w in workload.statements]
    assert not [t for t in texts if "pg_" in t], texts
    assert workload.system >= 2


def test_evictions_are_noticed(cluster: Cluster, database: psycopg.Connection) -> None:
    for n in range(300):
        columns = ", ".join(f"{i} AS c{i}" for i in range(n + 1))
        database.execute(f"SELECT {columns} FROM t AS x{n} LIMIT 1".encode())
    found, _ = collected(database)
    assert found.evicted > 0
    report = live(Options(dsn=cluster.dsn(database.info.dbname)), Watch(0.2))
    (finding,) = [f for f in report.findings if f.rule == "database/statement-statistics"]
    assert "pg_stat_statements (250 entries) dropped entries" in finding.message
    assert finding.fixes[0].sql == "ALTER SYSTEM SET pg_stat_statements.max = 1000;"
    assert "the rarest dropped" in render(report)


def test_not_created_in_this_database(cluster: Cluster, database: psycopg.Connection) -> None:
    database.execute("DROP EXTENSION pg_stat_statements")
    report = live(Options(dsn=cluster.dsn(database.info.dbname)), Watch(0.2))
    (finding,) = [f for f in report.findings if f.rule == "database/statement-statistics"]
    assert finding.fixes[0].sql == "CREATE EXTENSION pg_stat_statements;"
    assert "not created in this database" in finding.message
    assert not report.problems
    assert "46 checks" in render(report) or "45 checks" in render(report)


@pytest.fixture(scope="module")
def bare() -> Iterator[Cluster]:
    with Cluster(find_binaries(None)) as running:
        yield running


@pytest.mark.parametrize("created", [False, True])
def test_not_loaded_by_the_server(bare: Cluster, created: bool) -> None:
    with bare.connect() as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS t (a int)")
        if created:
            connection.execute("CREATE EXTENSION pg_stat_statements")
        report = live(Options(dsn=bare.dsn()), Watch(0.2))
        (finding,) = [f for f in report.findings if f.rule == "database/statement-statistics"]
        assert "shared_preload_libraries = 'pg_stat_statements'" in finding.fixes[0].sql
        assert ("CREATE EXTENSION" in finding.fixes[0].sql) is not created
        assert not report.problems
        assert {f.rule for f in report.findings} >= {"database/missing-primary-key"}
        render_json(report)


def test_a_role_that_may_not_read_it_is_told_what_to_ask_for(
    cluster: Cluster, database: psycopg.Connection
) -> None:
    database.execute("CREATE ROLE poor LOGIN")
    database.execute("REVOKE ALL ON pg_stat_statements FROM PUBLIC")
    try:
        report = live(Options(dsn=cluster.dsn(database.info.dbname, "poor")), Watch(0.2))
        (finding,) = [f for f in report.findings if f.rule == "database/statement-statistics"]
        assert finding.fixes[0].sql == "GRANT pg_monitor TO poor;"
        assert not report.problems
    finally:
        database.execute("DROP ROLE poor")


def test_a_query_that_repeats_itself_is_worth_a_cache(database: psycopg.Connection) -> None:
    for n in range(200):
        database.execute("SELECT count(*) FROM t WHERE a > 5", prepare=False)
        database.execute("SELECT a FROM t WHERE id = %s", [n], prepare=False)
        database.execute("SELECT count(*), random() FROM t", prepare=False)
    database.execute("UPDATE t SET a = a WHERE id = 1")
    _, workload = collected(database)
    rates = write_rates(workload, 1.0)
    found = {w.context.statement.text: caching(w, rates) for w in workload.statements}
    assert [t for t, c in found.items() if c is not None] == []  # a > $1 may be another each time
    database.execute("SELECT pg_stat_statements_reset()")
    for _ in range(200):
        database.execute("SELECT count(*) FROM t", prepare=False)
    database.execute("UPDATE t SET a = a WHERE id = 1")
    _, workload = collected(database)
    rates = write_rates(workload, 1.0)
    (kept,) = [c for w in workload.statements if (c := caching(w, rates)) is not None]
    assert kept.tables == ("t",)
    assert kept.reads_per_write == pytest.approx(200)
    assert kept.ttl_s == pytest.approx(3600 / kept.writes_per_hour)
    with database.transaction(force_rollback=True):
        for statement in kept.view_sql().split(";"):
            if statement.strip():
                database.execute(statement.encode())


def activity(**changes: Any) -> Activity:
    base: dict[str, Any] = {
        "samples": 50, "window_s": 5.0, "connections": 10.0, "active": 2.0, "active_max": 4,
        "on_cpu": 1.5, "idle": 8.0, "idle_in_transaction": 0.0, "unseen": 0.0, "max_connections": 100,
    }  # fmt: skip
    return Activity(**(base | changes))


@pytest.mark.parametrize(
    ("active_max", "cores", "size"),
    [(4, 8, 8), (12, 8, 17), (100, 8, 17), (1, None, 4), (20, None, 30), (200, None, 90)],
)
def test_pool_follows_from_cores_and_sessions(
    active_max: int, cores: int | None, size: int
) -> None:
    pool = advised_pool(activity(active_max=active_max), cores)
    assert pool.max_open == size
    assert pool.max_idle <= pool.max_open
    assert f"at most {size} open" in pool.advice()


def test_too_many_connections_are_named(cluster: Cluster, database: psycopg.Connection) -> None:
    idle = [cluster.connect(database.info.dbname) for _ in range(22)]
    try:
        report = live(Options(dsn=cluster.dsn(database.info.dbname)), Watch(0.5, cores=1))
    finally:
        for connection in idle:
            connection.close()
    (finding,) = [
        f
        for f in report.findings
        if f.rule == "database/pool-size" and f.evidence.figures["object"] == "pool"
    ]
    assert "23 connections are open" in finding.message
    assert "4 would do" in finding.message
    assert "default_pool_size = 4" in finding.fixes[0].sql


def test_a_lookup_for_each_row_of_another_query_is_named(
    cluster: Cluster, database: psycopg.Connection
) -> None:
    database.execute("CREATE TABLE child (id int PRIMARY KEY, t_id int REFERENCES t, v text)")
    database.execute("INSERT INTO child SELECT i, i, 'x' FROM generate_series(1, 2000) i; ANALYZE")
    database.execute("SELECT pg_stat_statements_reset()")
    for page in range(12):
        rows = database.execute(
            "SELECT id FROM t WHERE a > %s ORDER BY id LIMIT 100", [page * 100], prepare=False
        )
        for (key,) in rows.fetchall():
            database.execute("SELECT v FROM child WHERE t_id = %s", [key], prepare=False)
            database.execute("INSERT INTO t (id, a) VALUES (%s, 1)", [key + 10_000], prepare=False)
    report = live(Options(dsn=cluster.dsn(database.info.dbname)), Watch(0.2))
    (finding,) = [f for f in report.findings if f.rule == "batch/called-per-row"]
    assert "called 1,200 times, once for each of the 1,200 rows" in finding.message
    assert finding.fixes[0].sql == "SELECT v FROM child WHERE t_id = ANY ($1)"
    (finding,) = [f for f in report.findings if f.rule == "batch/frequent-single-row-inserts"]
    assert finding.fixes[0].sql == (
        "INSERT INTO t (id, a) SELECT * FROM unnest($1::integer[], $2::integer[]);"
    )
    database.execute(
        finding.fixes[0].sql.replace("$1", "'{-1,-2}'").replace("$2", "'{7,8}'").encode()
    )


def test_a_second_look_does_not_see_the_first(
    cluster: Cluster, database: psycopg.Connection
) -> None:
    database.execute("SELECT count(*) FROM t WHERE at::date = %s::date", ["2024-01-01"])
    dsn = cluster.dsn(database.info.dbname)
    seen = [
        {w.context.statement.text for w in report.details["seen"].workload.statements}
        for report in (live(Options(dsn=dsn), Watch(0.2)), live(Options(dsn=dsn), Watch(0.2)))
    ]
    assert seen[1] - {"BEGIN"} == seen[0]  # pg_dump's transaction
    assert any("at::date" in text for text in seen[0])
