"""Seven plans with an obvious missing index: each has a finding, of the right size and kind.

Two other tools were run on such plans: one said "no issues" on six of seven, the other "critical
bloat" on all seven. Neither may happen here, with the plan alone or with the tables at hand.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sqladvisor.auditor import Options, audit
from sqladvisor.engine import Engine
from sqladvisor.finding import Finding
from sqladvisor.plan.context import PlanContext
from sqladvisor.plan.read import read_json
from sqladvisor.report.model import Report
from sqladvisor.rule import load_rules
from sqladvisor.server.embedded import Cluster

SCHEMA = """
CREATE TABLE users (id int PRIMARY KEY, email text NOT NULL, city text NOT NULL);
CREATE TABLE orders (id int PRIMARY KEY, user_id int NOT NULL, ref text NOT NULL, total numeric NOT NULL,
    created_at timestamptz NOT NULL, payload jsonb NOT NULL);
INSERT INTO users SELECT i, 'user' || i || '@example.org', 'city ' || i % 50 FROM generate_series(1, 2000) i;
INSERT INTO orders SELECT i, (i::bigint * 7919) % 2000 + 1, 'R' || i, i % 977,
    timestamptz '2024-01-01' + ((i::bigint * 6101) % 150000) * interval '1 min',
    jsonb_build_object('session', 's' || i) FROM generate_series(1, 150000) i;
"""
QUERIES = (
    "SELECT id, total FROM orders WHERE user_id = 77",
    "SELECT id FROM orders WHERE created_at >= '2024-03-01' AND created_at < '2024-03-02'",
    "SELECT id FROM orders WHERE ref = 'R77777' AND user_id > 0",
    "SELECT o.id FROM users u JOIN orders o ON o.user_id = u.id WHERE u.email = 'user7@example.org'",
    "UPDATE orders SET total = total + 1 WHERE ref = 'R4711'",
    "SELECT u.id, (SELECT max(o.total) FROM orders o WHERE o.user_id = u.id) FROM users u WHERE u.city = 'city 7'",
    'SELECT id FROM orders WHERE payload @> \'{"session": "s4711"}\'',
)


@pytest.fixture(scope="module")
def plans(cluster: Cluster) -> list[str]:
    """The JSON that EXPLAIN ANALYZE prints for each, on a database without those indexes."""
    cluster.create_database("missing_index")
    try:
        with cluster.connect("missing_index") as connection:
            for statement in SCHEMA.split(";\n"):
                connection.execute(statement.encode())
            connection.execute("VACUUM ANALYZE")
            connection.execute("SET max_parallel_workers_per_gather = 0")
            found = []
            for query in QUERIES:
                row = connection.execute(
                    f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}".encode()
                ).fetchone()
                assert row is not None
                found.append(json.dumps(row[0]))
            return found
    finally:
        cluster.drop_database("missing_index")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder: Path = tmp_path_factory.mktemp("missing")
    (folder / "schema.sql").write_text(SCHEMA)
    (folder / "q.sql").write_text(";\n".join(QUERIES) + ";\n")
    found = audit(
        [str(folder / "q.sql")],
        Options(schema=(str(folder / "schema.sql"),), analyze=True, allow_writes=True),
    )
    assert not found.problems
    return found


def of_plan(document: str) -> list[Finding]:
    context = PlanContext(read_json(document), "plan.json")
    return Engine(load_rules(("plan",)), strict=True).check_plan(context)


def test_the_plan_alone_shows_the_scan_that_is_to_blame(plans: list[str]) -> None:
    for query, document in zip(QUERIES, plans, strict=True):
        found = of_plan(document)
        assert found, f"no issues: {query}"
        assert any("orders" in f.message for f in found), query
        for finding in found:
            assert finding.severity != "error", finding.message
            assert "bloat" not in finding.message.lower()
            assert not finding.rule.endswith("bloat")


def test_with_the_tables_the_index_is_named_and_measured(report: Report) -> None:
    for line, query in enumerate(QUERIES, 1):
        advice = [
            f
            for f in report.findings
            if f.location.line == line and any("CREATE INDEX" in x.sql for x in f.fixes)
        ]
        assert advice, f"no index advised: {query}"
        assert all(f.severity != "error" for f in advice)
        if not query.startswith("UPDATE"):
            assert advice[0].evidence.level == "measured"
            figures = advice[0].evidence.figures
            assert figures["time_after_ms"] < figures["time_before_ms"] / 2
    assert not any("bloat" in f.message.lower() for f in report.findings)
