"""What is known of the schema between two statements of a set."""

from __future__ import annotations

import pytest

from sqladvisor.migrate.start import start_state
from sqladvisor.migrate.state import SetState, seconds
from sqladvisor.sql.source import read_source, statements


def after(sql: str, schema: str = "") -> SetState:
    state = start_state(schema)
    found, problems = statements(read_source("a.sql", sql.encode()))
    assert not problems
    for statement in found:
        state.apply(statement, 0)
    return state


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE a (x int);",
        "CREATE TABLE b (x int); ALTER TABLE b RENAME TO a;",
        "CREATE TABLE s.a (x int); ALTER TABLE s.a SET SCHEMA public;",
        "CREATE TABLE a AS SELECT * FROM unknown;",
        "SELECT * INTO a FROM unknown;",
        "CREATE TABLE IF NOT EXISTS a (x int);",
        "SET search_path = public; CREATE TABLE a (x int);",
        "CREATE VIEW a AS SELECT 1 AS x;",
    ],
)
def test_what_the_set_creates_is_new(sql: str) -> None:
    assert ("public", "a") in after(sql).created


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE a (x int); DROP TABLE a;",
        "CREATE TABLE a (x int); ALTER TABLE a RENAME TO b;",
        "ALTER TABLE a ADD COLUMN y int;",
        "CREATE TABLE IF NOT EXISTS a (x int);",
    ],
)
def test_what_was_there_is_not(sql: str) -> None:
    assert ("public", "a") not in after(sql, "CREATE TABLE IF NOT EXISTS a (x int);").created or (
        sql.startswith("CREATE TABLE a")
    )


def test_constraints_are_followed_from_not_valid_to_validated() -> None:
    table = "CREATE TABLE t (a int, b int);"
    add = "ALTER TABLE t ADD CONSTRAINT c CHECK (a IS NOT NULL AND b > 0) NOT VALID;"
    state = after(table + add)
    assert state.proves_not_null(("public", "t"), "a") is None
    state = after(table + add + "ALTER TABLE t VALIDATE CONSTRAINT c;")
    assert state.proves_not_null(("public", "t"), "a") is not None
    assert state.proves_not_null(("public", "t"), "b") is None
    renamed = "ALTER TABLE t VALIDATE CONSTRAINT c; ALTER TABLE t RENAME COLUMN a TO z;"
    assert after(table + add + renamed).proves_not_null(("public", "t"), "z") is not None
    dropped = "ALTER TABLE t VALIDATE CONSTRAINT c; ALTER TABLE t DROP CONSTRAINT c;"
    assert after(table + add + dropped).proves_not_null(("public", "t"), "a") is None


def test_unnamed_constraints_get_postgresqls_names() -> None:
    state = after(
        "CREATE TABLE u (id int PRIMARY KEY); CREATE TABLE t (a int CHECK (a > 0), b int UNIQUE, "
        "c int REFERENCES u);"
    )
    assert set(state.constraints["public", "t"]) == {"t_a_check", "t_b_key", "t_c_fkey"}


def test_settings_end_with_what_set_them() -> None:
    assert after("SET lock_timeout = '2s';").settings == {"lock_timeout": "2s"}
    assert after("BEGIN; SET LOCAL lock_timeout = '2s'; COMMIT;").settings == {}
    assert after("SET lock_timeout = '2s'; RESET lock_timeout;").settings == {}
    assert after("SELECT set_config('lock_timeout', '2s', false);").settings == {
        "lock_timeout": "2s"
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [("2s", 2.0), ("1500", 1.5), ("500ms", 0.5), ("1min", 60.0), ("0", 0.0), ("soon", None)],
)
def test_timeouts_are_read_as_postgresql_does(text: str, expected: float | None) -> None:
    assert seconds(text) == expected
