"""Which indexes are advised for several statements together, on real rows."""

from __future__ import annotations

from typing import Any

import pytest

from sqladvisor.auditor import Options, audit
from sqladvisor.report.model import Report
from sqladvisor.server.embedded import Cluster

SCHEMA = """
CREATE TABLE orders (id bigint PRIMARY KEY, user_id int NOT NULL, status text NOT NULL,
    total numeric NOT NULL, created_at timestamptz NOT NULL, "Ref No" text, note text);
INSERT INTO orders SELECT i, i % 5000, CASE WHEN i % 200 = 0 THEN 'Pending' ELSE 'done' END,
    (i % 977) / 7.0, timestamptz '2020-01-01' + i * interval '11 min', 'R' || i, repeat('x', 80)
    FROM generate_series(1, 120000) i;
"""
QUERIES = """
SELECT total FROM orders WHERE user_id = 7;
SELECT id, total FROM orders WHERE user_id = 7 ORDER BY created_at DESC LIMIT 5;
SELECT id FROM orders WHERE user_id = 12 AND created_at >= '2022-03-01';
SELECT id, user_id FROM orders WHERE status = 'Pending';
SELECT id FROM orders WHERE "Ref No" = 'R77';
SELECT sum(total) FROM orders WHERE date(created_at) = '2021-06-01';
SELECT note FROM orders WHERE id = 5;
SELECT count(*) FROM orders WHERE total > 1;
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("select")
    (folder / "schema.sql").write_text(SCHEMA)
    (folder / "q.sql").write_text(QUERIES)
    found = audit(
        [str(folder / "q.sql")], Options(schema=(str(folder / "schema.sql"),), analyze=True)
    )
    assert not found.problems
    return found


def advised(report: Report) -> dict[int, dict[str, Any]]:
    """The figures of the index advice by the line it is shown on."""
    return {
        f.location.line: dict(f.evidence.figures)
        for f in report.findings
        if f.rule == "index/missing"
    }


def test_statements_that_filter_by_the_same_column_share_one_index(report: Report) -> None:
    by_line = advised(report)
    indexes = {by_line[line]["index"] for line in (2, 3, 4)}
    assert len(indexes) == 1
    assert indexes.pop().startswith("orders (user_id")


def test_literals_are_priced_as_written(report: Report) -> None:
    # 'Pending' lower-cased would match nothing and look free.
    figures = advised(report)[5]
    assert "status" in figures["index"]
    assert figures["time_after_ms"] < figures["time_before_ms"]


def test_mixed_case_identifiers_are_quoted(report: Report) -> None:
    assert advised(report)[6]["index"].startswith('orders ("Ref No")')


def test_a_rewrite_is_served_and_says_so(report: Report) -> None:
    (hidden,) = [f for f in report.findings if f.rule == "query/function-on-column"]
    assert any(
        "so rewritten, the index advised on orders (created_at" in n for n in hidden.evidence.notes
    )


def test_what_an_index_cannot_help_gets_none(report: Report) -> None:
    assert not {8, 9} & advised(report).keys()


def test_no_index_begins_another(report: Report) -> None:
    keys = {f["index"].partition(")")[0] for f in advised(report).values()}
    assert not [(a, b) for a in keys for b in keys if a != b and b.startswith(a + ",")]


BOOKINGS = """
CREATE TABLE guest (id bigint PRIMARY KEY, email text NOT NULL, birthday date);
CREATE TABLE room (id bigint PRIMARY KEY, guest_id bigint NOT NULL, number text NOT NULL,
    kind text NOT NULL, price numeric NOT NULL, UNIQUE (guest_id, number));
CREATE TABLE booking (id bigint PRIMARY KEY, guest_id bigint NOT NULL, room_id bigint NOT NULL REFERENCES room, status text NOT NULL,
    reference text, paid_at timestamp, created_at timestamptz NOT NULL,
    note text, stay daterange NOT NULL, total numeric NOT NULL, tags text[] NOT NULL);
CREATE TABLE review (booking_id bigint PRIMARY KEY REFERENCES booking, rating int NOT NULL,
    body text, created_at timestamptz NOT NULL);
CREATE TABLE log (at timestamptz NOT NULL, who text) PARTITION BY RANGE (at);
CREATE TABLE log_2026_10 PARTITION OF log FOR VALUES FROM ('2026-10-01') TO ('2026-11-01');
CREATE TABLE log_2026_11 PARTITION OF log FOR VALUES FROM ('2026-11-01') TO ('2026-12-01');
"""
ASKED = """
SELECT guest_id FROM booking WHERE status = 'new' UNION SELECT guest_id FROM booking WHERE status = 'old';
UPDATE booking SET status = 'old' WHERE id =
    (SELECT id FROM booking WHERE status = 'new' ORDER BY created_at LIMIT 1 FOR UPDATE) RETURNING *;
SELECT (SELECT avg(r.rating) FROM review r JOIN booking b ON b.id = r.booking_id JOIN room o ON o.id = b.room_id WHERE o.guest_id = g.id) FROM guest g WHERE g.email = 'a@b.c';
SELECT sum(id) FROM booking WHERE paid_at::date BETWEEN '2026-11-01' AND '2026-11-30';
SELECT * FROM booking WHERE coalesce(reference, '') = 'X1';
SELECT id FROM guest WHERE lower(email) = 'a@b.c';
SELECT who FROM log WHERE at >= '2026-11-05' AND at < '2026-11-06';
UPDATE booking SET status = 'off' WHERE status = 'new' AND created_at < now() - interval '2 days';
"""


@pytest.fixture(scope="module")
def priced(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("priced")
    (folder / "schema.sql").write_text(BOOKINGS)
    (folder / "q.sql").write_text(ASKED)
    found = audit([str(folder / "q.sql")], Options(schema=(str(folder / "schema.sql"),)))
    assert not found.problems
    return found


def test_a_statement_that_uses_an_index_twice_counts_once(priced: Report) -> None:
    uses = advised(priced)[2]["queries"]
    assert [u["line"] for u in uses].count(2) == 1


def test_no_index_on_an_expression_where_a_rewrite_does_without(priced: Report) -> None:
    keys = {line: figures["index"] for line, figures in advised(priced).items()}
    assert keys[6].startswith("booking (paid_at)")
    assert keys[7] == "booking (reference)"
    fixes = [x.sql for f in priced.findings for x in f.fixes]
    assert not [sql for sql in fixes if "((paid_at::date))" in sql or "((coalesce" in sql]


def test_an_index_on_an_expression_is_advised_once(priced: Report) -> None:
    made = [
        (f.rule, x.proof) for f in priced.findings for x in f.fixes if "(lower(email))" in x.sql
    ]
    ((rule, proof),) = made
    assert rule == "query/function-on-column"
    assert proof["cost_after"] < proof["cost_before"]


def test_the_index_of_a_partitioned_table_can_be_made(priced: Report, cluster: Cluster) -> None:
    (ddl,) = [
        x.sql
        for f in priced.findings
        if f.rule == "index/missing" and f.location.line == 9
        for x in f.fixes
    ]
    cluster.create_database("advised_partitioned")
    with cluster.connect("advised_partitioned", autocommit=True) as connection:
        connection.execute(BOOKINGS.encode())
        for statement in ddl.split(";"):
            connection.execute(statement.encode())
        row = connection.execute(
            "SELECT bool_and(indisvalid), count(*) FROM pg_index WHERE indrelid IN "
            "('log'::regclass, 'log_2026_10'::regclass, 'log_2026_11'::regclass)"
        ).fetchone()
    assert row == (True, 3)
