"""A shadow is held against the server it stands for, and where they disagree it is said."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from sqladvisor import indexer
from sqladvisor.auditor import Options, audit
from sqladvisor.report import indexes as index_report
from sqladvisor.report import json as json_report
from sqladvisor.server.agreement import MAX_ASKED, Agreement, Asked, compare
from sqladvisor.server.binaries import find_binaries
from sqladvisor.server.connect import connect_target
from sqladvisor.server.shadow import build_shadow
from sqladvisor.server.snapshot import take_snapshot
from sqladvisor.server.whatif import ShadowWhatIf

SETUP = """
CREATE TABLE items (id int PRIMARY KEY, code int, name text);
INSERT INTO items SELECT i, i % 1000, 'item ' || i FROM generate_series(1, 20000) i;
ANALYZE items;
"""
BY_CODE = "SELECT * FROM items WHERE code = 7"
BY_ID = "SELECT * FROM items WHERE id = 7"


@pytest.fixture
def database(make_database: Callable[..., Any]) -> Any:
    return make_database(SETUP)


@pytest.fixture
def whatif(database: Any) -> Iterator[ShadowWhatIf]:
    taken = take_snapshot(database.dsn, find_binaries(None))
    name = f"{database.name}_shadow"
    shadow = build_shadow(database.cluster, name, taken.schema, taken.statistics)
    with closing(ShadowWhatIf(shadow)) as made:
        yield made
    database.cluster.drop_database(name)


def found(database: Any, whatif: ShadowWhatIf, *queries: str) -> Agreement | None:
    with connect_target(database.dsn) as server:
        return compare(server, whatif, [Asked(f"q{n}", q) for n, q in enumerate(queries, 1)])


def test_a_true_shadow_agrees(database: Any, whatif: ShadowWhatIf) -> None:
    agreement = found(database, whatif, BY_CODE, BY_ID)
    assert agreement == Agreement(2)
    assert agreement.line() == (
        "the shadow plans all 2 statements compared as the server does, cost within 1 %"
    )
    assert whatif.calls == 0


def test_heights_are_those_in_memory_not_those_on_disk(database: Any) -> None:
    # The index was empty when its metapage was written; no checkpoint has been since.
    relations = take_snapshot(database.dsn, find_binaries(None)).statistics.relations
    assert {r.name: r.height for r in relations if r.kind == "i"} == {"items_pkey": 1}


def test_another_plan_and_another_cost_are_told_apart(database: Any, whatif: ShadowWhatIf) -> None:
    with database.connect() as server:
        server.execute("CREATE INDEX items_code ON items (code)")
        server.execute("INSERT INTO items SELECT i, i, 'new' FROM generate_series(20001, 40000) i")
    agreement = found(database, whatif, BY_CODE, "SELECT count(*) FROM items", BY_ID)
    assert agreement is not None and agreement.compared == 3
    first, second = agreement.different
    assert first.other_plan and first.where == (
        "Seq Scan on items instead of Bitmap Heap Scan on items"
    )
    assert not second.other_plan and second.cost_server > 1.5 * second.cost_shadow
    assert agreement.line().startswith(
        "the shadow's plan differs from the server's for 2 of 3 statements compared: q1 (Seq Scan on "
        "items instead of Bitmap Heap Scan on items), q2 (the same plan at 0."
    )
    assert agreement.of(["q2"]) == (second,)


@pytest.mark.parametrize(
    "query",
    [
        "UPDATE items SET code = 1 WHERE id = 2",
        "SELECT * FROM items WHERE id = 2 FOR UPDATE",
        "WITH gone AS (DELETE FROM items RETURNING *) SELECT * FROM gone",
        "SELECT 1; SELECT 2",
        "SELECT nextval('s')",
    ],
)
def test_the_server_is_asked_about_reading_only(
    database: Any, whatif: ShadowWhatIf, query: str
) -> None:
    with database.connect() as other:
        # Nobody but a reader gets at the table: EXPLAIN of anything else would wait for it.
        other.execute("BEGIN; LOCK TABLE items IN EXCLUSIVE MODE")
        assert found(database, whatif, query) is None
        assert found(database, whatif, BY_ID) == Agreement(1)


def test_the_server_is_asked_a_few_times_only(database: Any, whatif: ShadowWhatIf) -> None:
    queries = [f"SELECT * FROM items WHERE code = {n}" for n in range(3 * MAX_ASKED)]
    agreement = found(database, whatif, *queries)
    assert agreement is not None and 0 < agreement.compared <= MAX_ASKED


def test_reports_carry_it(database: Any, tmp_path: Path) -> None:
    path = tmp_path / "queries.sql"
    path.write_text(f"{BY_CODE};\n{BY_ID};\n")
    same = {"compared": 2, "same": 2, "different": []}
    audited = audit([str(path)], Options(dsn=database.dsn))
    document = json_report.document(audited)
    jsonschema.validate(document, json_report.schema())
    assert document["shadow"] == same
    (missing,) = (f for f in document["findings"] if f["rule"] == "index/missing")
    assert missing["evidence"]["shadow"] == same
    assert any("the shadow plans all 2 statements" in note for note in document["notes"])
    options = indexer.Options(server=Options(dsn=database.dsn), workload=(str(path),))
    advised = index_report.document(indexer.advise(options))
    assert advised["shadow"] == same
    assert any("the shadow plans all 2 statements" in note for note in advised["notes"])
