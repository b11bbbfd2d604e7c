"""What-if on a server that has HypoPG: PostgreSQL 15 as Debian packages both."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from needs import missing, postgres

from sqladvisor.advise.recommend import Recommendation
from sqladvisor.auditor import Options as ServerOptions
from sqladvisor.errors import ServerError
from sqladvisor.indexer import Options, advise
from sqladvisor.report.model import Report
from sqladvisor.server.connect import connect_target
from sqladvisor.server.embedded import Cluster
from sqladvisor.server.hypopg import HypoPGWhatIf
from sqladvisor.server.whatif import HypotheticalIndex, WhatIfError

BIN = "/usr/lib/postgresql/15/bin"
EXTENSION = "/usr/share/postgresql/15/extension/hypopg.control"

SCHEMA = """
CREATE TABLE t (id int PRIMARY KEY, a int NOT NULL, "B c" text NOT NULL, d jsonb);
CREATE INDEX t_a_idx ON t (a);
INSERT INTO t SELECT i, i % 1000, 'v' || i, '{}' FROM generate_series(1, 30000) i;
CREATE TABLE u (id int PRIMARY KEY, t_id int NOT NULL, status text NOT NULL,
    at timestamp NOT NULL);
INSERT INTO u SELECT i, 1 + i % 30000, CASE WHEN i % 200 = 0 THEN 'open' ELSE 'done' END,
    timestamp '2020-01-01' + i * 7 % 30011 * interval '1 hour' FROM generate_series(1, 30000) i;
"""
WORKLOAD = """
SELECT id FROM t WHERE "B c" = 'v77';
SELECT count(*) FROM u WHERE status = 'open' AND at < '2021-01-01';
SELECT t."B c" FROM u JOIN t ON t.id = u.t_id WHERE u.at >= '2022-02-02' AND u.at < '2022-02-03';
SELECT u.status FROM t JOIN u ON u.t_id = t.id WHERE t."B c" = 'v5';
SELECT id FROM u ORDER BY at DESC, id LIMIT 5;
"""


@pytest.fixture(scope="module")
def fifteen() -> Iterator[Cluster]:
    if not os.path.exists(EXTENSION):
        missing("needs HypoPG (Debian: apt install postgresql-15-hypopg)")
    with Cluster(postgres(BIN)) as cluster:
        cluster.create_database("shop")
        with cluster.connect("shop") as connection:
            connection.execute(SCHEMA)
            connection.execute("CREATE SCHEMA tools")
            connection.execute("CREATE EXTENSION hypopg SCHEMA tools")
            connection.execute("VACUUM ANALYZE")
        cluster.create_database("plain")
        yield cluster


@pytest.fixture
def whatif(fifteen: Cluster) -> Iterator[HypoPGWhatIf]:
    with connect_target(fifteen.dsn("shop")) as connection:
        planner = HypoPGWhatIf(connection)
        yield planner
        planner.close()


def test_a_plan_sees_exactly_what_is_visible(whatif: HypoPGWhatIf) -> None:
    sql = """SELECT id FROM t WHERE "B c" = 'v77'"""
    one, other = whatif.add(
        [HypotheticalIndex("t", ('"B c"',)), HypotheticalIndex("t", ('"B c"', "a"))]
    )
    assert whatif.cost(sql, ()).indexes_used() == frozenset()
    assert whatif.cost(sql, [one]).indexes_used() == {one.name}
    assert whatif.cost(sql, [other]).indexes_used() == {other.name}
    bare, covered = whatif.cost(sql, ()), whatif.cost(sql, [one, other])
    assert covered.total_cost < bare.total_cost / 10
    assert whatif.calls == 5
    assert one.size_bytes > 0


def test_the_session_stays_read_only_and_writes_nothing(
    fifteen: Cluster, whatif: HypoPGWhatIf
) -> None:
    whatif.cost("SELECT 1 FROM t", whatif.add([HypotheticalIndex("t", ("a", "id"))]))
    with fifteen.connect("shop") as connection:
        count = connection.execute(
            "SELECT count(*) FROM pg_index WHERE indrelid IN ('t'::regclass, 'u'::regclass)"
        ).fetchone()
        assert count == (3,)
        seen = connection.execute("SELECT count(*) FROM tools.hypopg_list_indexes").fetchone()
        assert seen == (0,)
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        whatif._connection.execute("CREATE TABLE x ()")


def test_what_hypopg_cannot_price_is_refused_with_the_reason(whatif: HypoPGWhatIf) -> None:
    for index, why in (
        (HypotheticalIndex("t", ("d",), method="gin"), "no gin index"),
        (HypotheticalIndex("t", ('(lower("B c"))',)), "no statistics for an expression"),
        (HypotheticalIndex("t", ("missing",)), "missing"),
    ):
        for _ in range(2):
            with pytest.raises(WhatIfError, match=why):
                whatif.add([index])


def test_an_existing_index_cannot_be_hidden_before_hypopg_1_4(whatif: HypoPGWhatIf) -> None:
    if whatif.hides_existing:
        assert (
            "t_a_idx"
            not in whatif.cost(
                "SELECT id FROM t WHERE a = 1", (), hidden_existing=["t_a_idx"]
            ).indexes_used()
        )
    else:
        with pytest.raises(WhatIfError, match="cannot plan without"):
            whatif.cost("SELECT id FROM t WHERE a = 1", (), hidden_existing=["t_a_idx"])


def test_generic_plans_of_statements_with_parameters(whatif: HypoPGWhatIf) -> None:
    # GENERIC_PLAN came with 16: here a prepared statement's generic plan stands for it.
    handles = whatif.add([HypotheticalIndex("t", ('"B c"',))])
    sql = 'SELECT id FROM t WHERE "B c" = $1'
    assert whatif.cost(sql, handles, generic=True).indexes_used() == {handles[0].name}
    assert whatif.cost(sql, (), generic=True).indexes_used() == frozenset()


def test_one_statement_a_message(whatif: HypoPGWhatIf) -> None:
    with pytest.raises(WhatIfError, match="multiple commands"):
        whatif.cost("SELECT 1; DROP TABLE t", ())


def test_a_database_without_the_extension_says_so(fifteen: Cluster) -> None:
    with (
        connect_target(fifteen.dsn("plain")) as connection,
        pytest.raises(ServerError, match="hypopg is not installed"),
    ):
        HypoPGWhatIf(connection)


def report(cluster: Cluster, what_if: str, folder: Path, *, database: str = "shop",
           postgres_bin: str | None = None, workload: str = WORKLOAD) -> Report:  # fmt: skip
    path = folder / "w.sql"
    path.write_text(workload)
    server = ServerOptions(dsn=cluster.dsn(database), postgres_bin=postgres_bin)
    return advise(Options(workload=(str(path),), server=server, what_if=what_if))  # type: ignore[arg-type]


def advised(report: Report) -> Recommendation:
    found: Recommendation = report.details["indexes"]
    return found


@pytest.mark.parametrize("postgres_bin", [BIN, None], ids=["same major", "wheel"])
def test_hypopg_and_the_shadow_give_the_same_advice(
    fifteen: Cluster, tmp_path: Path, postgres_bin: str | None
) -> None:
    hypopg = advised(report(fifteen, "hypopg", tmp_path))
    made = report(fifteen, "shadow", tmp_path, postgres_bin=postgres_bin)
    shadow = advised(made)
    assert hypopg.creates
    assert [c.sql for c in hypopg.creates] == [c.sql for c in shadow.creates]
    used = [(q.name, q.indexes) for q in hypopg.queries]
    assert used == [(q.name, q.indexes) for q in shadow.queries]
    other = [n for n in made.notes if "--postgres-bin" in n]
    if postgres_bin is None:
        (said,) = other
        assert "with the programs of PostgreSQL 15 (--postgres-bin DIR) they are its own" in said
    else:
        # The same planner, of the same figures: what there is costs the same to the last digit.
        assert not other
        before = [(q.name, q.cost_before) for q in hypopg.queries]
        assert before == [(q.name, q.cost_before) for q in shadow.queries]
        for one, two in zip(hypopg.queries, shadow.queries, strict=True):
            # HypoPG's indexes are larger than real ones, as it ignores deduplication, and less high.
            assert two.cost_after == pytest.approx(one.cost_after, rel=0.1, abs=1)


def test_auto_plans_on_the_shadow_and_falls_back_to_hypopg(
    fifteen: Cluster, tmp_path: Path
) -> None:
    both = report(fifteen, "auto", tmp_path)
    assert both.server.endswith("plans by the shadow planner")
    no_shadow = report(fifteen, "auto", tmp_path, postgres_bin="/nowhere")
    assert "plans by HypoPG 1." in no_shadow.server
    assert any(n.startswith("no shadow planner (/nowhere: no `postgres`") for n in no_shadow.notes)
    assert [c.sql for c in advised(no_shadow).creates] == [c.sql for c in advised(both).creates]
    with pytest.raises(ServerError, match="/nowhere: no `postgres` and `initdb` programs"):
        report(
            fifteen,
            "auto",
            tmp_path,
            database="plain",
            postgres_bin="/nowhere",
            workload="SELECT 1",
        )


def test_auto_advises_kinds_that_hypopg_refuses(fifteen: Cluster, tmp_path: Path) -> None:
    workload = (
        "SELECT id FROM t WHERE d @> '{\"a\": 1}';\nSELECT id FROM t WHERE lower(\"B c\") = 'v9';\n"
        "SELECT id FROM t WHERE \"B c\" = 'v77';\n"
    )
    hypopg = advised(report(fifteen, "hypopg", tmp_path, workload=workload))
    assert [c.sql for c in hypopg.creates] == ['CREATE INDEX CONCURRENTLY ON t ("B c");']
    auto = advised(report(fifteen, "auto", tmp_path, workload=workload))
    made = "\n".join(c.sql for c in auto.creates)
    assert "USING gin (d" in made
    assert 'lower("B c")' in made
    assert '("B c")' in made
