"""Conditions on a view's columns ask for indexes of the tables behind it."""

from __future__ import annotations

from typing import Any

import pytest

from sqladvisor.advise.candidates import candidates
from sqladvisor.advise.views import wanted_behind_views
from sqladvisor.catalog.live import read_catalog
from sqladvisor.context import Context
from sqladvisor.sql.source import read_source, statements

SCHEMA = """
CREATE TABLE users (id int PRIMARY KEY, "Name" text NOT NULL);
CREATE TABLE orders (id int PRIMARY KEY, user_id int, at timestamptz, total numeric);
CREATE VIEW bought AS SELECT o.id AS order_id, o.at AS "When", u."Name", o.total * 2 AS twice
    FROM orders o JOIN users u ON u.id = o.user_id;
CREATE VIEW outer_view AS SELECT "When" AS day, "Name" AS who FROM bought;
CREATE VIEW counted AS SELECT user_id, count(*) FROM orders GROUP BY user_id;
"""
CASES = {
    """SELECT * FROM bought WHERE "Name" = 'Ann'""": ("users", '("Name")'),
    """SELECT twice FROM bought b WHERE b."When" > '2024-01-01'""": ("orders", "(at)"),
    """SELECT who FROM outer_view WHERE who = 'Ann'""": ("users", '("Name")'),
    """SELECT who FROM outer_view ORDER BY day DESC LIMIT 3""": ("orders", "(at DESC)"),
}


@pytest.fixture(scope="module")
def catalog(cluster: Any) -> Any:
    cluster.create_database("behind_views")
    with cluster.connect("behind_views") as connection:
        connection.execute(SCHEMA.encode())
        yield read_catalog(connection)
    cluster.drop_database("behind_views")


def offered(sql: str, catalog: Any) -> set[str]:
    (statement,) = statements(read_source("x.sql", sql.encode()))[0]
    wants = wanted_behind_views(Context(statement, catalog))
    return {i.ddl().removeprefix("CREATE INDEX ON ") for w in wants for i in candidates(w)}


@pytest.mark.parametrize("sql", CASES)
def test_a_condition_reaches_the_table(sql: str, catalog: Any) -> None:
    table, keys = CASES[sql]
    assert f"{table} {keys}" in offered(sql, catalog)


def test_a_computed_column_is_no_key(catalog: Any) -> None:
    found = offered("SELECT 1 FROM bought WHERE twice = 5", catalog)
    assert not any("twice" in index or "total" in index.partition(" INCLUDE")[0] for index in found)


def test_what_is_grouped_keeps_conditions_out(catalog: Any) -> None:
    found = offered("SELECT * FROM counted WHERE count = 5", catalog)
    assert not any("count" in index for index in found)
