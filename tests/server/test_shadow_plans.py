"""The shadow plans like its source: every kind of relation and index, from a snapshot file."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sqladvisor.catalog.snapshot import decode, encode
from sqladvisor.server.binaries import find_binaries
from sqladvisor.server.embedded import Cluster
from sqladvisor.server.expression_statistics import RowSampler
from sqladvisor.server.shadow import Shadow, build_shadow
from sqladvisor.server.snapshot import take_snapshot
from sqladvisor.server.whatif import HypotheticalIndex, ShadowWhatIf

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import fidelity

DOCUMENTS = 4  # thousands
NAME = "kinds"


@pytest.fixture(scope="module")
def source(cluster: Cluster) -> Iterator[Cluster]:
    cluster.create_database(NAME)
    with cluster.connect(NAME) as connection:
        fidelity.load_kinds(connection, DOCUMENTS)
        connection.execute("CHECKPOINT")
        connection.execute("CREATE ROLE kinds_reader LOGIN")
        connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO kinds_reader")
    yield cluster
    cluster.drop_database(NAME)
    with cluster.connect() as admin:
        admin.execute("DROP ROLE kinds_reader")


@pytest.fixture(scope="module")
def real(source: Cluster) -> dict[str, dict[str, Any]]:
    with source.connect(NAME) as connection:
        plans = fidelity.plan_all(connection, fidelity.kinds_queries())
    assert not [p for p in plans.values() if isinstance(p, str)]
    return plans  # type: ignore[return-value]


@pytest.fixture
def shadow(source: Cluster) -> Iterator[Any]:
    made: list[str] = []

    def make(user: str, values: str) -> Shadow:
        taken = take_snapshot(source.dsn(NAME, user), find_binaries(None), values=values)
        snapshot = decode(encode(taken).encode(), "kinds.json")
        assert snapshot == taken
        made.append(f"shadow_{user}_{values}")
        found = build_shadow(source, made[-1], snapshot.schema, snapshot.statistics)
        assert found.left_out == []
        found.stand_ins = snapshot.stand_ins
        return found

    yield make
    for name in made:
        source.drop_database(name)


@pytest.mark.parametrize(
    ("user", "values", "shape", "near", "exact"),
    [
        ("postgres", "full", 1.0, 1.0, 1.0),
        ("kinds_reader", "full", 0.92, 0.7, 0.6),
        ("postgres", "masked", 0.95, 0.9, 0.9),
        ("postgres", "none", 0.7, 0.0, 0.0),
    ],
)
def test_plans_are_those_of_the_source(
    real: dict[str, dict[str, Any]],
    shadow: Any,
    user: str,
    values: str,
    shape: float,
    near: float,
    exact: float,
) -> None:
    with shadow(user, values).connect() as connection:
        found = fidelity.plan_all(connection, fidelity.kinds_queries())
    result = fidelity.compare(values, real, found)
    assert result.share(result.shapes) >= shape, result.differing
    assert result.share(result.near) >= near, result.differing
    assert result.share(result.costs) >= exact, result.differing


def test_hypothetical_indexes_are_as_large_and_as_used_as_real_ones(
    source: Cluster, shadow: Any
) -> None:
    with source.connect(NAME) as connection:
        whatif = ShadowWhatIf(shadow("postgres", "full"), RowSampler(connection))
        btrees = fidelity.price(connection, whatif, fidelity.BTREES)
        others = fidelity.price(connection, whatif, fidelity.OTHER_KINDS)
        whatif.close()
    assert len(btrees) == len(fidelity.BTREES)
    assert len(others) == len(fidelity.OTHER_KINDS)
    page = 8192
    for priced, bound in [(b, 0.10) for b in btrees] + [(o, 0.25) for o in others]:
        off = abs(priced.estimated - priced.real)
        # At this size, a page or two of splits more are a large share.
        assert off <= bound * priced.real + 3 * page, (priced.index.ddl(), priced.error)
    pairs = sum(o.pairs for o in others)
    assert pairs >= 40
    wrong = [text for o in others for text in o.disagreeing]
    assert len(wrong) <= pairs * 0.05, wrong


def test_an_index_on_a_partitioned_table_is_one_for_all_partitions(shadow: Any) -> None:
    whatif = ShadowWhatIf(shadow("postgres", "full"))
    query = "SELECT * FROM readings WHERE quality = 'bad' AND value > 900 ORDER BY value LIMIT 5"
    (handle,) = whatif.add([HypotheticalIndex("readings", ("quality", "value"))])
    with_it, without = whatif.cost(query, [handle]), whatif.cost(query, [])
    whatif.close()
    assert handle.name in with_it.indexes_used()
    assert handle.name not in without.indexes_used()
    assert with_it.total_cost < without.total_cost / 2
    assert handle.size_bytes > 100_000


def test_a_hidden_index_is_not_used_and_comes_back(shadow: Any) -> None:
    whatif = ShadowWhatIf(shadow("postgres", "full"))
    query = "SELECT id, name FROM customers WHERE lower(name) = 'ada 7'"
    hidden = whatif.cost(query, [], hidden_existing=["customers_lower_name"])
    shown = whatif.cost(query, [])
    whatif.close()
    assert "customers_lower_name" not in hidden.indexes_used()
    assert "customers_lower_name" in shown.indexes_used()
