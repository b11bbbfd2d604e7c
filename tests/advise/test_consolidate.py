"""Two indexes that begin alike: when they become one, and when the second pays. On real rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from sqladvisor.advise.consolidate import begin_alike, merged, worth_a_second
from sqladvisor.advise.optimise import Stop
from sqladvisor.advise.recommend import Recommendation
from sqladvisor.auditor import Options as ServerOptions
from sqladvisor.auditor import audit
from sqladvisor.indexer import Options, advise_on
from sqladvisor.server.target import open_sandbox
from sqladvisor.server.whatif import HypotheticalIndex

SCHEMA = """
CREATE TABLE orders (id bigint PRIMARY KEY, user_id int NOT NULL, total numeric NOT NULL,
    status text NOT NULL, at timestamptz NOT NULL, note text NOT NULL);
INSERT INTO orders SELECT i, 1 + i * 7919 % 3000, i % 977, 'done', timestamptz '2020-01-01' +
    i * interval '9 min', repeat('x', 120) FROM generate_series(1, 60000) i;
"""
OF_A_USER = """
SELECT id, total FROM orders WHERE user_id = 12 ORDER BY at DESC LIMIT 5;
SELECT count(*) FROM orders WHERE user_id = 44 AND status = 'open';
SELECT sum(total) FROM orders WHERE user_id = 71;
SELECT user_id, count(id) FROM orders WHERE at >= '2020-05-01' GROUP BY user_id ORDER BY 2 LIMIT 5;
"""
OF_A_TIME = """
SELECT sum(total) FROM orders WHERE at >= '2020-03-01' AND at < '2020-03-02';
SELECT id, user_id FROM orders WHERE at >= '2020-02-01' AND at < '2020-02-02';
SELECT count(*) FROM orders WHERE extract(year FROM at) = 2019;
SELECT avg(total) FROM orders WHERE date(at) = '2020-03-05';
"""


def index(
    *keys: str, include: tuple[str, ...] = (), predicate: str | None = None
) -> HypotheticalIndex:
    return HypotheticalIndex("orders", keys, include, predicate)


def test_an_index_and_a_longer_one_become_one_that_carries_what_both_do() -> None:
    longer = index("user_id", "at", include=("id",))
    shorter = index("user_id", include=("id", "total", "at"))
    both = index("user_id", "at", include=("id", "total"))
    assert merged(longer, shorter, 4, 4) == merged(shorter, longer, 4, 4) == both
    assert merged(longer, shorter, 1, 4) is None
    assert merged(longer, shorter, 4, 1) is None


@pytest.mark.parametrize(
    "other",
    [
        index("at", "user_id"),
        index("user_id", "total"),  # neither begins with the other
        index("user_id", predicate="total > 5"),
        HypotheticalIndex("users", ("user_id",)),
        HypotheticalIndex("orders", ("user_id",), method="gin"),
        index("user_id"),  # (user_id, at) serves as it does
    ],
)
def test_what_cannot_be_one_stays_two(other: HypotheticalIndex) -> None:
    assert merged(index("user_id", "at"), other, 4, 4) is None


def test_direction_is_no_other_column() -> None:
    assert begin_alike(index('"At" DESC'), index('"At"', "total"))
    assert not begin_alike(index('"At"'), index("at"))
    assert not begin_alike(index("at"), index("at"))


def test_a_second_index_must_halve_a_statement() -> None:
    assert worth_a_second(400.0, 1_000.0)
    assert not worth_a_second(600.0, 1_000.0)
    assert not worth_a_second(1.0, 90.0)  # who notices a millisecond


def of_workload(tmp_path: Path, sql: str) -> Recommendation:
    (tmp_path / "schema.sql").write_text(SCHEMA)
    (tmp_path / "w.sql").write_text(sql)
    with open_sandbox(ServerOptions(schema=(str(tmp_path / "schema.sql"),)), print) as target:
        report = advise_on(target, Options((str(tmp_path / "w.sql"),)), Stop(), print)
    found: Recommendation = report.details["indexes"]
    return found


def by_audit(tmp_path: Path, sql: str) -> dict[str, list[tuple[float, float]]]:
    """Advised indexes with the costs before and after of what they serve."""
    (tmp_path / "schema.sql").write_text(SCHEMA)
    (tmp_path / "w.sql").write_text(sql)
    options = ServerOptions(schema=(str(tmp_path / "schema.sql"),))
    report = audit([str(tmp_path / "w.sql")], options)
    return {
        f.evidence.figures["index"]: [
            (q["cost_before"], q["cost_after"]) for q in f.evidence.figures["queries"]
        ]
        for f in report.findings
        if f.rule.startswith("index/missing")
    }


@pytest.mark.parametrize("sql", [OF_A_USER, OF_A_TIME])
def test_one_index_serves_what_begins_alike(tmp_path: Path, sql: str) -> None:
    first = "user_id" if sql is OF_A_USER else "at"
    found = of_workload(tmp_path, sql)
    assert [c.name.startswith(f"orders ({first}") for c in found.creates].count(True) == 1
    assert all(q.cost_after <= q.cost_before for q in found.queries)
    assert found.choice.created == len(found.creates)
    assert found.choice.size_bytes == sum(c.size_bytes for c in found.creates)
    audited = by_audit(tmp_path, sql)
    assert [name.startswith(f"orders ({first}") for name in audited].count(True) == 1
    assert all(after < before for uses in audited.values() for before, after in uses)


def test_a_second_index_that_pays_stays(tmp_path: Path) -> None:
    # Sorted by time within a user, or by amount: the one sorts thousands of rows without the other.
    sql = """
    SELECT id FROM orders WHERE status = 'done' ORDER BY at LIMIT 5;
    SELECT id FROM orders WHERE status = 'done' ORDER BY total LIMIT 5;
    """
    found = of_workload(tmp_path, sql)
    assert len(found.creates) == 2
    assert not [n for n in found.notes if n.startswith("left out")]
