"""Workload plans before and after a migration, on shadow planners."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sets import migration, migration_set

from sqladvisor.migrate.model import Migration
from sqladvisor.migrate.regress import Compared, compare_plans
from sqladvisor.migrate.stage import Stage
from sqladvisor.migrate.trace import trace
from sqladvisor.server.binaries import find_binaries
from sqladvisor.server.sandbox import Sandbox
from sqladvisor.server.statistics import assume_rows, read_statistics
from sqladvisor.sql.source import read_source, statements

SHOP = Path(__file__).parents[2] / "fixtures" / "shop"
Make = Callable[..., Sandbox]


def compared(make_sandbox: Make, schema: str, workload: str, *migrations: Migration) -> Compared:
    stage = Stage(find_binaries(None), make_sandbox(schema), migration_set(*migrations), print)
    with stage.copy() as sandbox:
        traced = trace(sandbox, stage.migrations)
    with stage.start.connect() as connection:
        statistics = assume_rows(read_statistics(connection), 1_000_000)
    found, _ = statements(read_source("queries.sql", workload.encode()))
    return compare_plans(stage, statistics, found, traced)


def test_a_dropped_index_that_the_shop_needs(make_sandbox: Make) -> None:
    result = compared(
        make_sandbox,
        (SHOP / "schema.sql").read_text(),
        (SHOP / "queries.sql").read_text(),
        migration("001", "CREATE TABLE coupons (id bigint PRIMARY KEY);"),
        migration(
            "002", "ALTER TABLE users ADD COLUMN tier text;\nDROP INDEX order_items_order_id_idx;"
        ),
        migration("003", "ALTER TABLE order_items ADD COLUMN gift boolean;"),
    )
    assert result.planned > 40
    assert any(f.severity == "error" for f in result.findings)
    found = {f.evidence.figures["query_line"]: f for f in result.findings}
    assert {f.rule for f in result.findings} == {"migration/plan-regression"}
    assert {(f.location.path, f.location.line) for f in result.findings} == {
        ("migrations/002.sql", 2)
    }
    lines = next(
        f for f in found.values() if "i.order_id = 123456" in str(f.evidence.figures["query"])
    )
    assert lines.evidence.figures["indexes_lost"] == ["order_items_order_id_idx"]
    assert "order_items_order_id_idx" in str(lines.evidence.figures["plan_before"])
    assert "Seq Scan on order_items" in str(lines.evidence.figures["plan_after"])


SCHEMA = """
CREATE TABLE orders (id bigint PRIMARY KEY, user_id bigint, status text, code varchar(20));
CREATE INDEX orders_code_idx ON orders (code);
"""


def test_dropped_and_renamed_columns_break_queries(make_sandbox: Make) -> None:
    result = compared(
        make_sandbox,
        SCHEMA,
        """SELECT status FROM orders WHERE id = 1;
        SELECT code FROM orders WHERE id = 1;
        SELECT id FROM orders WHERE user_id = :user;
        SELECT nonsense FROM orders""",
        migration("001", "ALTER TABLE orders DROP COLUMN status"),
        migration(
            "002", "ALTER TABLE orders ADD COLUMN x int;\nALTER TABLE orders RENAME code TO kode"
        ),
    )
    assert [(f.rule, f.location.path, f.location.line) for f in result.findings] == [
        ("migration/breaks-query", "migrations/001.sql", 1),
        ("migration/breaks-query", "migrations/002.sql", 2),
    ]
    assert 'column "status" does not exist' in result.findings[0].message
    assert result.planned == 3
    assert any("could not be planned before" in n for n in result.notes)


def test_a_new_index_is_said_to_help(make_sandbox: Make) -> None:
    result = compared(
        make_sandbox,
        SCHEMA,
        "SELECT id FROM orders WHERE user_id = 7",
        migration("001", "CREATE INDEX ON orders (user_id)"),
    )
    assert not result.findings
    assert any("queries.sql:1: faster" in n for n in result.notes)


@pytest.mark.parametrize(
    ("sql", "worse"),
    [
        ("DROP INDEX orders_code_idx; CREATE INDEX orders_code_idx ON orders (status)", True),
        ("DROP INDEX orders_code_idx; CREATE INDEX orders_code_2 ON orders (code, id)", False),
        ("ALTER TABLE orders ALTER code TYPE text", False),
    ],
)
def test_what_is_replaced(make_sandbox: Make, sql: str, worse: bool) -> None:
    result = compared(
        make_sandbox, SCHEMA, "SELECT id FROM orders WHERE code = 'a1'", migration("001", sql)
    )
    assert bool(result.findings) == worse
