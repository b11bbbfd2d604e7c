"""Without --workload, what a server has counted is planned before and after."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sqladvisor.migrate.gate import GateOptions, gate
from sqladvisor.server.binaries import find_binaries
from sqladvisor.server.embedded import Cluster


@pytest.fixture(scope="module")
def counting() -> Iterator[Cluster]:
    with Cluster(find_binaries(None)) as cluster:
        with cluster.connect() as admin:
            admin.execute("ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'")
        cluster.restart()
        with cluster.connect() as connection:
            connection.execute(
                "CREATE EXTENSION pg_stat_statements;"
                "CREATE TABLE orders (id int PRIMARY KEY, code varchar(12) NOT NULL);"
                "INSERT INTO orders SELECT i, 'c' || i FROM generate_series(1, 50000) i;"
                "CREATE INDEX orders_code_idx ON orders (code);"
            )
            connection.execute("VACUUM ANALYZE orders")
            connection.execute("SELECT pg_stat_statements_reset()")
            connection.execute("SELECT id FROM orders WHERE code = 'c77'")
        yield cluster


def test_the_servers_own_statements_stand_for_a_workload(counting: Cluster, tmp_path: Path) -> None:
    (tmp_path / "1.sql").write_text(
        "SET lock_timeout = '1s';\nDROP INDEX CONCURRENTLY orders_code_idx;\n"
    )
    options = GateOptions(dsn=counting.dsn("postgres"), trace=True, cache=False)
    report = gate([str(tmp_path)], options)
    assert not report.problems
    (slower,) = [f for f in report.findings if f.rule == "migration/plan-regression"]
    assert slower.evidence.figures["query"] == "SELECT id FROM orders WHERE code = $1"
    assert any(
        n == "no --workload: the 1 statement of the server's pg_stat_statements stands for it"
        for n in report.notes
    ), report.notes
