"""EXPLAIN on a real server: the plans, what is refused, and that nothing is left behind."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from sqladvisor.errors import ServerError
from sqladvisor.plan.node import Plan
from sqladvisor.server.explain import (
    ExplainError,
    ExplainTimeout,
    explain,
    explainable,
)

Connection = psycopg.Connection[Any]

CASES = (Path(__file__).parents[2] / "fixtures" / "plans" / "plans.sql").read_text()
HEAD, *PARTS = re.split(r"^-- name: ", CASES, flags=re.M)
QUERIES = {
    name: (dict(s.split("=", 1) for s in settings.removeprefix("-- set: ").split()), query)
    for name, settings, query in (part.split("\n", 2) for part in PARTS)
}

ORDERS = (
    "CREATE TABLE orders (id int PRIMARY KEY, status int, note text)",
    "CREATE SEQUENCE counter",
    "INSERT INTO orders SELECT i, i % 10, repeat('x', 20) FROM generate_series(1, 3000) i",
    "CREATE FUNCTION sneaky() RETURNS int LANGUAGE sql AS 'DELETE FROM orders RETURNING 1'",
    "CREATE TABLE ignored (id int)",
    "CREATE RULE nothing AS ON INSERT TO ignored DO INSTEAD NOTHING",
    "VACUUM ANALYZE orders",
)


@pytest.fixture
def connection(make_database: Callable[..., Any]) -> Iterator[Connection]:
    with make_database().connect() as session:
        for statement in ORDERS:
            session.execute(statement)
        yield session


def rows(connection: Connection) -> int:
    found = connection.execute("SELECT count(*) FROM orders").fetchone()
    assert found is not None
    return int(found[0])


def idle(connection: Connection) -> bool:
    return connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def test_plans_without_running(connection: Connection) -> None:
    plan = explain(connection, "SELECT * FROM orders WHERE id = 5")
    assert plan.root.label == "Index Scan using orders_pkey on orders"
    assert plan.indexes_used() == {"orders_pkey"}
    assert not plan.analyzed
    assert plan.planning_ms is not None
    assert idle(connection)


def test_analyze_measures(connection: Connection) -> None:
    plan = explain(connection, "SELECT * FROM orders WHERE status = 3", analyze=True, writes=False)
    assert plan.analyzed
    assert (plan.root.rows_out, plan.root.removed_by_filter) == (300, 2700)
    assert plan.root.self_shared_hit + plan.root.self_shared_read > 0
    assert plan.self_share(plan.root) > 0
    assert "WAL Records" in plan.root.raw


def test_every_saved_statement_adds_up_on_a_live_server(make_database: Callable[..., Any]) -> None:
    with make_database().connect() as connection:
        for statement in HEAD.split("-- setup\n")[1].split(";\n"):
            if statement.strip():
                connection.execute(statement)
        for name, (settings, query) in QUERIES.items():
            plan = explain(
                connection, query, analyze=True, settings=settings, writes=True, allow_writes=True
            )
            own = [n.self_ms for n in plan.nodes()]
            assert min(own) >= 0, name
            whole = plan.execution_ms if name == "cte_modifying" else plan.root.total_ms
            assert sum(own) == pytest.approx(whole, rel=0.05, abs=0.5), name
            assert {k: plan.settings[k] for k in settings if k in plan.settings}.items() <= (
                settings.items()
            ), name
            assert labels(plan) == text_labels(connection, query, settings), name
        assert idle(connection)


def labels(plan: Plan) -> list[str]:
    return [n.label for n in plan.nodes()]


def text_labels(connection: Connection, query: str, settings: dict[str, str]) -> list[str]:
    """The nodes as the text format of the same server names them."""
    with connection.transaction(force_rollback=True):
        for setting in settings.items():
            connection.execute("SELECT set_config(%s, %s, true)", setting)
        found = connection.execute(f"EXPLAIN {query}").fetchall()
    lines = [str(line).replace('"', "") for (line,) in found if "(cost=" in line]
    return [re.sub(r"^\s*(->)?\s*", "", line).split("  (cost=")[0] for line in lines]


def test_a_second_statement_cannot_ride_along(connection: Connection) -> None:
    for more in ({}, {"generic": True}, {"analyze": True, "writes": False}):
        with pytest.raises(ExplainError, match="multiple commands") as caught:
            explain(connection, "SELECT 1; DROP TABLE orders", **more)
        assert caught.value.sqlstate == "42601"
    with pytest.raises(ExplainError, match="multiple commands"):
        explain(connection, "SELECT * FROM orders WHERE id = $1; DROP TABLE orders", generic=True)
    assert rows(connection) == 3000


def test_one_trailing_semicolon_is_no_second_statement(connection: Connection) -> None:
    assert explain(connection, "SELECT 1;").root.label == "Result"


def test_options_cannot_be_smuggled_in(connection: Connection) -> None:
    for trick in ("ANALYZE DELETE FROM orders", "(ANALYZE) DELETE FROM orders"):
        with pytest.raises(ExplainError, match="syntax error"):
            explain(connection, trick)
    assert rows(connection) == 3000


def test_a_writing_statement_is_planned_but_not_run(connection: Connection) -> None:
    assert explain(connection, "DELETE FROM orders").root.label == "Delete on orders"
    with pytest.raises(ExplainError, match="--allow-writes") as caught:
        explain(connection, "DELETE FROM orders", analyze=True, writes=True)
    assert caught.value.sqlstate is None
    assert rows(connection) == 3000


def test_unless_told_otherwise_a_statement_is_taken_to_write(connection: Connection) -> None:
    with pytest.raises(ExplainError, match="--allow-writes"):
        explain(connection, "SELECT 1", analyze=True)


def test_writes_hidden_from_the_parser_are_refused_by_the_server(connection: Connection) -> None:
    for hidden in ("SELECT sneaky()", "DELETE FROM orders", "SELECT nextval('counter')"):
        with pytest.raises(ExplainError, match="read-only transaction") as caught:
            explain(connection, hidden, analyze=True, writes=False)
        assert caught.value.sqlstate == "25006"
    assert rows(connection) == 3000
    assert idle(connection)


def test_an_allowed_write_is_rolled_back(connection: Connection) -> None:
    plan = explain(connection, "DELETE FROM orders", analyze=True, writes=True, allow_writes=True)
    assert plan.root.children[0].rows_out == 3000
    assert rows(connection) == 3000
    assert idle(connection)


def test_a_session_that_defaults_to_reading_can_be_allowed_to_write(connection: Connection) -> None:
    connection.execute("SET default_transaction_read_only = on")
    explain(connection, "DELETE FROM orders", analyze=True, writes=True, allow_writes=True)
    assert rows(connection) == 3000
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        connection.execute("DELETE FROM orders")


def test_inside_a_transaction_it_leaves_the_transaction_as_it_was(connection: Connection) -> None:
    connection.execute("BEGIN")
    connection.execute("CREATE INDEX orders_note ON orders (note)")
    explain(connection, "DELETE FROM orders", analyze=True, writes=True, allow_writes=True)
    explain(connection, "SELECT * FROM orders", analyze=True, writes=False)
    with pytest.raises(ExplainError, match="does not exist"):
        explain(connection, "SELECT nothing FROM orders")
    connection.execute("INSERT INTO orders VALUES (0, 0, 'still writable')")
    assert rows(connection) == 3001
    connection.execute("ROLLBACK")
    assert rows(connection) == 3000


def test_without_autocommit_no_transaction_stays_open(connection: Connection) -> None:
    connection.autocommit = False
    explain(connection, "SELECT * FROM orders")
    assert idle(connection)


def test_generic_plans(connection: Connection) -> None:
    plan = explain(connection, "SELECT * FROM orders WHERE id = $1", generic=True)
    assert plan.root.raw["Index Cond"] == "(id = $1)"
    plan = explain(connection, "SELECT * FROM orders", generic=True)
    assert plan.root.label == "Seq Scan on orders"
    with pytest.raises(ExplainError, match="could not determine data type"):
        explain(connection, "SELECT $1 IS NULL", generic=True)
    with pytest.raises(ExplainError, match="generic plan cannot be executed"):
        explain(connection, "SELECT $1::int", generic=True, analyze=True, writes=False)


def test_generic_plans_keep_all_partitions(connection: Connection) -> None:
    connection.execute("CREATE TABLE p (k int) PARTITION BY LIST (k)")
    connection.execute("CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1)")
    connection.execute("CREATE TABLE p2 PARTITION OF p FOR VALUES IN (2)")
    plan = explain(connection, "SELECT * FROM p WHERE k = $1", generic=True)
    assert [n.relation for n in plan.nodes() if n.relation] == ["p1", "p2"]


def test_parameters_make_a_custom_plan(connection: Connection) -> None:
    query = "SELECT * FROM orders WHERE id = $1 AND note LIKE $2 || '%'"
    plan = explain(connection, query, parameters=["7", "x"], analyze=True, writes=False)
    assert plan.root.raw["Index Cond"] == "(id = 7)"
    assert plan.root.rows_out == 1
    with pytest.raises(ExplainError, match="no values"):
        explain(connection, query)
    with pytest.raises(ExplainError, match="invalid input syntax"):
        explain(connection, query, parameters=["seven", "x"])


def test_percent_signs_are_text(connection: Connection) -> None:
    plan = explain(connection, "SELECT id % 3 FROM orders WHERE note LIKE '%s%(x)s'")
    assert plan.root.relation == "orders"


def test_settings_hold_for_one_statement(connection: Connection) -> None:
    off = {"enable_indexscan": "off", "enable_bitmapscan": "off"}
    plan = explain(connection, "SELECT * FROM orders WHERE id = 5", settings=off)
    assert plan.root.label == "Seq Scan on orders"
    assert plan.settings == plan.settings | off
    assert explain(connection, "SELECT * FROM orders WHERE id = 5").indexes_used()
    with pytest.raises(ExplainError, match="unrecognized configuration parameter"):
        explain(connection, "SELECT 1", settings={"no_such_setting": "1"})


def test_a_timeout_is_its_own_error(connection: Connection) -> None:
    with pytest.raises(ExplainTimeout, match="statement timeout") as caught:
        explain(connection, "SELECT pg_sleep(20)", analyze=True, writes=False, timeout_ms=20)
    assert caught.value.sqlstate == "57014"
    assert connection.execute("SHOW statement_timeout").fetchone() == ("0",)
    assert idle(connection)


@pytest.mark.parametrize(
    ("sql", "sqlstate", "says"),
    [
        ("SELECT * FROM nowhere", "42P01", 'relation "nowhere" does not exist'),
        ("SELECT missing FROM orders", "42703", 'column "missing" does not exist'),
        ("SELECT FROM WHERE", "42601", "syntax error"),
        ("CREATE TABLE t (id int)", "42601", "syntax error"),
        ("", "42601", "syntax error at end of input"),
        ("SELECT 1 \0", None, "NUL"),
        ("INSERT INTO ignored VALUES (1)", None, "no plan"),
    ],
)
def test_refusals_are_one_line(
    connection: Connection, sql: str, sqlstate: str | None, says: str
) -> None:
    with pytest.raises(ExplainError, match=says) as caught:
        explain(connection, sql)
    assert caught.value.sqlstate == sqlstate
    assert "\n" not in str(caught.value)
    assert explain(connection, "SELECT 1").root.label == "Result"


@pytest.mark.parametrize("encoding", ["UTF8", "LATIN1", "SQL_ASCII"])
def test_names_come_back_in_any_encoding(connection: Connection, encoding: str) -> None:
    connection.execute('CREATE TABLE "commandé" (id int)')
    connection.execute(f"SET client_encoding = {encoding}")
    assert explain(connection, 'SELECT * FROM "commandé"').root.relation == "commandé"


def test_text_that_the_session_cannot_hold(connection: Connection) -> None:
    connection.execute("SET client_encoding = LATIN1")
    with pytest.raises(ExplainError, match="client_encoding"):
        explain(connection, "SELECT '中'")


def test_a_lost_connection_is_not_the_statements_fault(connection: Connection) -> None:
    for sql in ("SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(5)", "SELECT 1"):
        with pytest.raises(ServerError, match="lost the connection") as caught:
            explain(connection, sql, analyze=True, writes=False)
        assert not isinstance(caught.value, ExplainError)


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("SELECT 1", "SelectStmt"),
        ("VALUES (1)", "SelectStmt"),
        ("INSERT INTO orders VALUES (0)", "InsertStmt"),
        ("UPDATE orders SET status = 1", "UpdateStmt"),
        ("DELETE FROM orders", "DeleteStmt"),
        (
            "MERGE INTO orders o USING (VALUES (1)) v(id) ON o.id = v.id WHEN MATCHED THEN DELETE",
            "MergeStmt",
        ),
        ("DECLARE c CURSOR FOR SELECT 1", "DeclareCursorStmt"),
        ("CREATE TABLE made AS SELECT 1", "CreateTableAsStmt"),
        ("CREATE MATERIALIZED VIEW made AS SELECT 1", "CreateTableAsStmt"),
        ("TRUNCATE orders", "TruncateStmt"),
        ("VACUUM orders", "VacuumStmt"),
        ("EXPLAIN SELECT 1", "ExplainStmt"),
    ],
)
def test_explainable_is_what_the_server_explains(
    connection: Connection, sql: str, kind: str
) -> None:
    if explainable(kind):
        assert explain(connection, sql).root.node_type
    else:
        with pytest.raises(ExplainError, match="syntax error"):
            explain(connection, sql)
