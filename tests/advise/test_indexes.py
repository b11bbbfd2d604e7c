"""Index advice for a workload: the mistakes that advisers are known for, each on real rows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from sqladvisor.advise.optimise import Stop
from sqladvisor.advise.recommend import Recommendation
from sqladvisor.auditor import Options as ServerOptions
from sqladvisor.errors import InputError
from sqladvisor.indexer import Options, advise, advise_on, parse_size
from sqladvisor.report import indexes as reporting
from sqladvisor.report.model import Report
from sqladvisor.server.embedded import Cluster
from sqladvisor.server.target import Target, open_sandbox

SCHEMA = """
CREATE TABLE customers (id bigint PRIMARY KEY, status text NOT NULL, email text NOT NULL,
    "Group" int NOT NULL, note text, tags text[] NOT NULL, payload jsonb NOT NULL);
CREATE TABLE orders (id bigint PRIMARY KEY, customer_id bigint NOT NULL REFERENCES customers,
    status text NOT NULL, total numeric NOT NULL, created_at timestamptz NOT NULL, "Ref No" text);
CREATE INDEX orders_customer_idx ON orders (customer_id);
CREATE INDEX orders_created_idx ON orders (created_at);
INSERT INTO customers SELECT i, CASE WHEN i % 400 = 0 THEN 'Pending' ELSE 'ok' END,
    'User' || i || '@x.org', i % 1000, repeat('n', 60), ARRAY['t' || i % 500],
    jsonb_build_object('k', i % 3000) FROM generate_series(1, 20000) i;
INSERT INTO orders SELECT i, 1 + i * 7919 % 20000,
    CASE WHEN i % 300 = 0 THEN 'Pending' WHEN i % 301 = 0 THEN 'open' ELSE 'done' END,
    (i % 977) / 7.0, timestamptz '2020-01-01' + i * interval '7 min', 'R' || i
    FROM generate_series(1, 30000) i;
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("indexes")
    (made / "schema.sql").write_text(SCHEMA)
    return made


@pytest.fixture(scope="module")
def target(folder: Path) -> Iterator[Target]:
    with open_sandbox(ServerOptions(schema=(str(folder / "schema.sql"),)), print) as opened:
        yield opened


Run = Callable[..., tuple[Report, Recommendation]]


@pytest.fixture(scope="module")
def run(folder: Path, target: Target) -> Run:
    def advised(sql: str, **options: Any) -> tuple[Report, Recommendation]:
        path = folder / "w.sql"
        path.write_text(sql)
        limit = Stop(deadline=options.pop("deadline", None))
        report = advise_on(target, Options(workload=(str(path),), **options), limit, print)
        return report, report.details["indexes"]

    return advised


def created(found: Recommendation) -> list[str]:
    return [c.name for c in found.creates]


@pytest.fixture(scope="module")
def found(run: Run) -> Recommendation:
    """One run over the habits that are told apart by the query."""
    report, found = run(
        """SELECT id, email FROM customers WHERE status = 'Pending';
        SELECT id FROM orders WHERE status = 'Pending' AND created_at < '2020-02-01';
        SELECT id FROM orders WHERE "Ref No" = 'R77';
        SELECT id FROM customers WHERE "Group" = 7;
        SELECT note FROM customers WHERE id = 77;
        SELECT count(*) FROM orders WHERE customer_id = 12;
        SELECT id, email FROM customers WHERE email LIKE 'User123%';
        SELECT id FROM customers WHERE lower(email) = 'user100@x.org';
        SELECT total FROM orders WHERE id = $1;
        SELECT max(total), note FROM orders JOIN customers c ON c.id = customer_id GROUP BY note;
        """,
    )
    assert not report.problems
    return found


def test_literals_are_priced_as_they_are_written(found: Recommendation) -> None:
    # 'pending', as some lower-case it, matches nothing and would look free as things are.
    (query,) = [q for q in found.queries if "FROM customers WHERE status" in q.sql]
    assert "'Pending'" in query.variants[0].sql
    assert any(i.startswith("customers (") and "status" in i for i in query.indexes)


def test_quoted_and_reserved_names_are_quoted(found: Recommendation) -> None:
    assert any(i.startswith('orders ("Ref No")') for i in created(found))
    assert any(i.startswith('customers ("Group"') for i in created(found))


def test_same_named_columns_stay_with_their_table(found: Recommendation) -> None:
    # Both tables have a status: neither query's index may land on the other's table.
    served = {q.sql.split(" FROM ")[1].split()[0]: q.indexes for q in found.queries[:2]}
    assert all(i.startswith("customers ") for i in served["customers"])
    assert all(i.startswith("orders ") for i in served["orders"] if " (" in i)


def test_what_is_only_shown_is_no_key(found: Recommendation) -> None:
    assert not [i for i in created(found) if i.startswith(("customers (note", "orders (total"))]


def test_what_exists_is_not_advised_again(found: Recommendation) -> None:
    assert not [i for i in created(found) if i in ("orders (customer_id)", "customers (id)")]
    assert not [i for i in created(found) if i.startswith("orders (id")]


def test_like_and_functions_are_not_ignored(found: Recommendation) -> None:
    assert any("text_pattern_ops" in i for i in created(found))
    assert any(i.startswith("customers ((lower(email)))") for i in created(found))


def test_statements_with_parameters_are_planned(found: Recommendation) -> None:
    (query,) = [q for q in found.queries if "$1" in q.sql]
    assert query.cost_before > 0
    assert "NULL" not in query.variants[0].sql


def test_more_than_one_index_of_a_query_can_win(run: Run) -> None:
    _, found = run(
        "SELECT o.id FROM orders o JOIN customers c ON c.id = o.customer_id "
        "WHERE o.\"Ref No\" = 'R5' OR o.total = 3; SELECT id FROM orders WHERE total = 3;",
    )
    (query,) = [q for q in found.queries if " OR " in q.sql]
    assert len([i for i in query.indexes if i.startswith("orders (")]) == 2


def test_values_that_disagree_are_said(run: Run) -> None:
    _, found = run("SELECT total FROM orders WHERE status = $1;")
    (query,) = found.queries
    assert [v.label for v in query.variants] == ["common", "rare"]
    common, rare = query.variants
    assert rare.indexes and not common.indexes
    assert rare.cost_after < rare.cost_before
    assert any("values disagree" in n for n in query.notes)


def test_statements_that_differ_in_literals_are_one_query(run: Run) -> None:
    queries = "".join(f"SELECT total FROM orders WHERE \"Ref No\" = 'R{i}';\n" for i in range(200))
    _, one = run("SELECT total FROM orders WHERE \"Ref No\" = 'R1';")
    _, many = run(queries)
    assert (len(many.queries), many.statements) == (1, 200)
    assert many.queries[0].calls == 200
    assert many.calls <= one.calls
    assert created(many) == created(one)


def test_weights_decide_who_gets_the_budget(run: Run) -> None:
    first = "SELECT note FROM customers WHERE email = 'User5@x.org';"
    second = "SELECT total FROM orders WHERE \"Ref No\" = 'R5';"
    budget = 0.9 * 1024 * 1024
    _, one = run(f"-- weight: 1000\n{first}\n-- weight: 1\n{second}", budget_bytes=budget)
    _, other = run(f"-- weight: 1\n{first}\n-- weight: 1000\n{second}", budget_bytes=budget)
    assert [i.split()[0] for i in created(one)] == ["customers"]
    assert [i.split()[0] for i in created(other)] == ["orders"]


def test_a_bad_weight_is_a_problem_with_its_line(run: Run) -> None:
    report, _ = run("SELECT 1 FROM orders;\n-- weight: often\nSELECT id FROM orders;")
    (problem,) = report.problems
    assert (problem.line, "often" in problem.message) == (2, True)


def test_the_budget_holds_and_the_bound_is_below(run: Run) -> None:
    sql = """SELECT note FROM customers WHERE email = 'User5@x.org';
    SELECT total FROM orders WHERE "Ref No" = 'R5';
    SELECT id FROM orders WHERE total = 5;"""
    budget = 1.5 * 1024 * 1024
    _, found = run(sql, budget_bytes=budget)
    assert 0 < found.choice.size_bytes <= budget
    for choice in found.curve:
        assert choice.budget_bytes is None or choice.size_bytes <= choice.budget_bytes
        assert choice.bound <= choice.value
        assert choice.cost >= found.least * (1 - 1e-9)
    costs = [c.value for c in found.curve]
    assert costs == sorted(costs, reverse=True)


def test_an_index_that_a_new_one_begins_with_goes_and_the_key_keeps_one(run: Run) -> None:
    _, found = run(
        "SELECT total FROM orders WHERE customer_id = 7 AND created_at > '2021-01-01' "
        "ORDER BY created_at LIMIT 5;",
    )
    # orders_customer_idx serves the foreign key: it may go only as another one begins with it.
    gone = {d.name for d in found.drops}
    begins = [i for i in created(found) if i.startswith("orders (customer_id")]
    assert begins or "orders_customer_idx" not in gone


def test_no_unused_index_goes_because_a_file_does_not_use_it(run: Run) -> None:
    sql = 'SELECT id FROM customers WHERE "Group" = 7;'
    _, kept = run(sql)
    assert not kept.drops
    writing = sql + "INSERT INTO orders (id) VALUES ($1);"
    _, dropped = run(writing, drop_unused=True)
    # Not the foreign key's last index, nor a primary key: only the one that nothing needs.
    assert [d.name for d in dropped.drops] == ["orders_created_idx"]
    assert dropped.drops[0].sql == "DROP INDEX CONCURRENTLY orders_created_idx;"


def test_writes_make_an_index_dearer(run: Run) -> None:
    read = '-- weight: 1\nSELECT id FROM customers WHERE "Group" = 7;\n'
    _, idle = run(read)
    _, busy = run(
        read + '-- weight: 100000\nUPDATE customers SET "Group" = 5 WHERE id = 3;',
    )
    assert created(idle) and not created(busy)


def test_the_same_input_gives_the_same_bytes_whatever_the_hash_seed(folder: Path) -> None:
    (folder / "w.sql").write_text(
        "SELECT id FROM orders WHERE status = 'open' AND total = 4 AND \"Ref No\" = 'R5';"
        "SELECT id, email FROM customers WHERE status = 'Pending' AND \"Group\" = 4;"
    )
    outputs = set()
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-m", "sqladvisor", "indexes", "--schema", str(folder / "schema.sql"),
             "--workload", str(folder / "w.sql"), "--format", "json"],
            capture_output=True, check=True, env={**os.environ, "PYTHONHASHSEED": seed},
        )  # fmt: skip
        outputs.add(done.stdout)
    assert len(outputs) == 1


def test_promised_and_delivered(run: Run) -> None:
    report, found = run("SELECT total FROM orders WHERE \"Ref No\" = 'R5';", verify=True)
    (measured,) = found.measured
    assert measured.cost_after < measured.cost_before / 10
    assert measured.time_after_ms < measured.time_before_ms / 2
    assert "time delivered" in reporting.render(report)


def test_both_reports(run: Run) -> None:
    report, found = run("SELECT total FROM orders WHERE \"Ref No\" = 'R5';")
    document = json.loads(reporting.render_json(report))
    jsonschema.validate(document, reporting.schema())
    assert document["create"][0]["sql"].startswith("CREATE INDEX CONCURRENTLY ON orders")
    text = reporting.render(report)
    assert text.startswith("CREATE INDEX CONCURRENTLY ON orders")
    assert f"{found.calls:,} planner calls" in text
    assert "budget" in text


def test_a_time_limit_of_nothing_still_answers(run: Run) -> None:
    report, found = run("SELECT total FROM orders WHERE \"Ref No\" = 'R5';", deadline=0.0)
    assert not found.choice.complete
    assert any("time limit" in n for n in report.notes)


def test_pages_by_keyset_are_served(run: Run) -> None:
    report, found = run(
        """SELECT id, total FROM orders WHERE (total, id) > (7, 100) ORDER BY total, id LIMIT 20;"""
    )
    (create,) = found.creates
    assert create.name.startswith("orders (total")
    assert found.queries[0].cost_after < found.queries[0].cost_before / 20
    assert not [n for n in report.notes if "could not be priced" in n]


def test_a_query_is_not_given_up_for_the_writes(run: Run) -> None:
    sql = """-- weight: 1
    SELECT id FROM orders WHERE created_at < '2020-01-01 01:00';
    -- weight: 100000
    UPDATE orders SET created_at = '2021-01-01' WHERE id = 7;"""
    _, kept = run(sql, drop_unused=True)
    assert not kept.drops
    _, dropped = run(sql, drop_unused=True, worst=1e6)
    assert [d.name for d in dropped.drops] == ["orders_created_idx"]
    assert dropped.upkeep_after < dropped.upkeep_before


def test_a_staging_copy_is_built_on_and_left_as_it_was(
    run: Run, make_database: Callable[..., Any]
) -> None:
    copy = make_database(SCHEMA)
    sql = """SELECT total FROM orders WHERE "Ref No" = 'R5';"""
    report, found = run(sql, verify=True, verify_dsn=copy.dsn)
    (measured,) = found.measured
    assert measured.time_after_ms < measured.time_before_ms
    with copy.connect() as connection:
        left = connection.execute(
            "SELECT count(*) FROM pg_index WHERE indrelid = 'orders'::regclass"
        ).fetchone()
    assert left == (3,)
    report, found = run(sql, verify=True, verify_dsn="postgresql://u:secret@127.0.0.1:1/x")
    assert not found.measured
    (note,) = [n for n in report.notes if "not verified" in n]
    assert "secret" not in note


def test_options_that_cannot_be_used_say_so() -> None:
    here = ServerOptions(schema=("s.sql",))
    for options, why in (
        (Options(("w.sql",)), "takes a planner"),
        (Options(server=here), "which queries"),
        (Options(("w.sql",), server=here, what_if="hypopg"), "--dsn"),
        (Options(("w.sql",), server=ServerOptions(dsn="host=x"), verify=True), "--verify-dsn"),
    ):
        with pytest.raises(InputError, match=why):
            advise(options)


def test_sizes_are_postgresqls() -> None:
    assert parse_size("500MB") == 500 * 1024 * 1024
    assert parse_size("1.5 GB") == 1.5 * 1024**3
    assert parse_size("4096") == 4096
    with pytest.raises(InputError, match="is not a size"):
        parse_size("lots")


KINDS = """
CREATE TABLE docs (id int PRIMARY KEY, tags text[] NOT NULL, payload jsonb NOT NULL, name text NOT NULL,
    "Select" int NOT NULL, state text NOT NULL);
INSERT INTO docs SELECT i, ARRAY['t' || i % 900, 'x'], jsonb_build_object('k', i % 3000), 'Name ' || i,
    i % 2500, CASE WHEN i % 500 = 0 THEN 'Open' ELSE 'shut' END FROM generate_series(1, 30000) i;
CREATE VIEW open_docs AS SELECT id, name, "Select" FROM docs WHERE state = 'Open';
CREATE TABLE logs (at date NOT NULL, who int NOT NULL, what text) PARTITION BY RANGE (at);
CREATE TABLE logs_1 PARTITION OF logs FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
CREATE TABLE "Logs 2" PARTITION OF logs FOR VALUES FROM ('2021-01-01') TO ('2022-01-01');
CREATE SCHEMA "Old";
CREATE TABLE hits (at date NOT NULL, who int NOT NULL, what text) PARTITION BY RANGE (at);
CREATE TABLE hits_1 PARTITION OF hits FOR VALUES FROM ('2020-01-01') TO ('2021-01-01')
    PARTITION BY LIST (what);
CREATE TABLE "Old"."Hits a" PARTITION OF hits_1 FOR VALUES IN ('a') PARTITION BY HASH (who);
CREATE TABLE "Old".hits_a0 PARTITION OF "Old"."Hits a" FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE "Old".hits_a1 PARTITION OF "Old"."Hits a" FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE hits_other PARTITION OF hits_1 DEFAULT;
CREATE TABLE hits_2 PARTITION OF hits FOR VALUES FROM ('2021-01-01') TO ('2022-01-01');
CREATE TABLE hits_3 PARTITION OF hits FOR VALUES FROM ('2022-01-01') TO ('2023-01-01')
    PARTITION BY RANGE (at);  -- has no partitions yet
INSERT INTO hits SELECT date '2020-01-01' + i % 700, i % 5000, CASE WHEN i % 2 = 0 THEN 'a' ELSE 'b' END
    FROM generate_series(1, 30000) i;
INSERT INTO logs SELECT date '2020-01-01' + i % 700, i % 5000, 'w' FROM generate_series(1, 30000) i;
"""


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp("kinds")
    (folder / "schema.sql").write_text(KINDS)
    with open_sandbox(ServerOptions(schema=(str(folder / "schema.sql"),)), print) as target:

        def advised(sql: str, **options: Any) -> tuple[Report, Recommendation]:
            (folder / "w.sql").write_text(sql)
            chosen = Options(workload=(str(folder / "w.sql"),), **options)
            report = advise_on(target, chosen, Stop(), print)
            return report, report.details["indexes"]

        yield advised


def test_jsonb_array_and_pattern_predicates_are_served(kinds: Run) -> None:
    _, found = kinds(
        """SELECT id FROM docs WHERE payload @> '{"k": 5}';
        SELECT id FROM docs WHERE tags @> ARRAY['t7'];
        SELECT id FROM docs WHERE (payload ->> 'k')::int = 7;
        SELECT id FROM docs WHERE name LIKE 'Name 77%';"""
    )
    for query in found.queries:
        assert query.indexes, query.sql
        assert query.cost_after < query.cost_before / 2
    assert any("USING gin (payload" in i for i in created(found))
    assert any("USING gin (tags" in i for i in created(found))


def test_reserved_words_are_columns_too(kinds: Run) -> None:
    _, found = kinds('SELECT name FROM docs WHERE "Select" = 7;')
    assert created(found)[0].startswith('docs ("Select")')


def test_views_are_looked_through(kinds: Run) -> None:
    _, found = kinds("SELECT name FROM open_docs;")
    assert found.queries[0].cost_after < found.queries[0].cost_before / 5


def test_partitioned_tables_get_an_index_on_each_partition(kinds: Run) -> None:
    report, found = kinds("SELECT at, what FROM logs WHERE who = 77;", verify=True)
    (create,) = found.creates
    assert create.name.startswith("logs (who")
    lines = create.sql.splitlines()
    assert lines[0].startswith("CREATE INDEX logs_who") and " ON ONLY logs (who" in lines[0]
    assert any(line.startswith("CREATE INDEX CONCURRENTLY") and "logs_1" in line for line in lines)
    assert sum("ATTACH PARTITION" in line for line in lines) == 2
    assert any('ON "Logs 2" (who' in line for line in lines)
    # The DDL is run as it is shown, but for CONCURRENTLY.
    assert not [n for n in report.notes if "not verified" in n]
    assert found.measured[0].time_after_ms < found.measured[0].time_before_ms


def test_partitions_of_partitions_get_theirs_level_by_level(kinds: Run, cluster: Cluster) -> None:
    _, found = kinds("SELECT at, what FROM hits WHERE who = 77;")
    (create,) = found.creates
    cluster.create_database("levels")
    with cluster.connect("levels") as connection:
        connection.execute(KINDS)
        for statement in create.sql.splitlines():  # as it is shown, CONCURRENTLY included
            connection.execute(statement.encode())
        rows = connection.execute(
            "SELECT i.indrelid::regclass::text, i.indisvalid FROM pg_index i "
            "JOIN pg_class c ON c.oid = i.indexrelid WHERE c.relname LIKE '%advised%' ORDER BY 1"
        ).fetchall()
        assert [name for name, _ in rows] == sorted(
            ["hits", "hits_1", "hits_2", "hits_3", "hits_other", '"Old"."Hits a"', '"Old".hits_a0',
             '"Old".hits_a1']
        )  # fmt: skip
        assert all(valid for _, valid in rows)
        # They are one tree: what goes on the table goes on all partitions.
        connection.execute("DROP INDEX " + create.sql.split()[2])
        left = connection.execute("SELECT count(*) FROM pg_class WHERE relname LIKE '%advised%'")
        assert left.fetchone() == (0,)


def test_an_existing_index_is_not_worth_more_than_its_upkeep(kinds: Run) -> None:
    _, found = kinds("SELECT id FROM docs WHERE id = 7; SELECT count(*) FROM docs;")
    assert not found.creates
    assert not found.drops
