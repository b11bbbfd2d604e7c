"""Which indexes are advised for several statements together, on real rows."""

from __future__ import annotations

from typing import Any

import pytest

from sqladvisor.auditor import Options, audit
from sqladvisor.report.model import Report

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
