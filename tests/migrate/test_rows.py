"""Size decides: severity and the time that a lock is held."""

from __future__ import annotations

from sqladvisor.catalog.model import Catalog, Relation, Writes
from sqladvisor.finding import Evidence, Finding, Location
from sqladvisor.migrate.rows import (
    Rates,
    Size,
    calibrate,
    concerned,
    duration,
    sizes_of_catalog,
    weigh,
)
from sqladvisor.server.embedded import Cluster

RATES = Rates(100e6, 50e6, 1e6)
FINDING = Finding(
    "migration/alter-column-type",
    "error",
    "…",
    Location("1.sql", 1, 1, 1, 5),
    "ALTER TABLE orders ALTER id TYPE bigint",
    "",
    Evidence(
        "static", {"relation": "public.orders", "lock": "ACCESS EXCLUSIVE", "work": "rewrite"}
    ),
)


def test_few_rows_make_information_of_an_error() -> None:
    sizes = {("public", "orders"): Size(40, 8192)}
    (found,) = weigh([FINDING], sizes, RATES, 10_000)
    assert found.severity == "info"
    assert found.evidence.notes == ("the table has 40 rows only",)
    assert not concerned([FINDING], sizes, 10_000)
    (found,) = weigh([FINDING], sizes, RATES, 10)
    assert found.severity == "error"


def test_many_rows_tell_the_time_and_the_writes_that_wait() -> None:
    sizes = {("public", "orders"): Size(40e6, 5_000_000_000, indexes=2, writes_per_s=50)}
    assert concerned([FINDING], sizes, 10_000)
    (found,) = weigh([FINDING], sizes, RATES, 10_000)
    assert found.severity == "error"
    assert found.evidence.figures["estimated_lock_s"] == 5000 / 50 + 2 * 40
    assert found.evidence.notes == (
        "estimate: ACCESS EXCLUSIVE held for about 3 min, rewriting 40,000,000 rows (5,000 MB) at "
        "the embedded server's speed; about 9,000 row writes come in meanwhile and wait",
    )


def test_unknown_tables_stay_as_they_are() -> None:
    assert weigh([FINDING], {}, RATES, 10_000) == [FINDING]


def test_the_embedded_server_is_measured(cluster: Cluster) -> None:
    rates = calibrate(cluster)
    assert 1e6 < rates.rewrite_bytes_per_s < 1e10
    assert rates.scan_bytes_per_s > rates.rewrite_bytes_per_s
    assert 1e4 < rates.build_rows_per_s < 1e8


def test_durations() -> None:
    assert [duration(s) for s in (0.42, 31, 600, 10800)] == ["0.4 s", "31 s", "10 min", "3 h"]


def test_writes_are_known_from_counters_of_an_hour_or_more() -> None:
    table = Relation(
        "public", "orders", "table", (), rows=100.0, pages=2, writes=Writes(86_400, 0, 0, 0)
    )
    for days, rate in ((1.0, 1.0), (0.01, None), (None, None)):
        catalog = Catalog({("public", "orders"): table}, counted_days=days)
        assert sizes_of_catalog(catalog)["public", "orders"].writes_per_s == rate
