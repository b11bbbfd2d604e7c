"""Statements in the bodies of functions and DO blocks, and in PREPARE and CREATE VIEW."""

from __future__ import annotations

from pathlib import Path

import pytest

from sqladvisor.auditor import Options, audit
from sqladvisor.sql.bodies import inner, with_bodies
from sqladvisor.sql.source import read_source, statements
from sqladvisor.sql.statement import Statement

PLPGSQL = """-- é
CREATE FUNCTION f(p_user int, names text[]) RETURNS TABLE (a int) LANGUAGE plpgsql AS $body$
<<outermost>>
DECLARE r record; n int := 0; c CURSOR (k int) FOR SELECT * FROM t WHERE id = k; é text;
BEGIN
  SELECT count(*) INTO n FROM orders /* ü */ WHERE user_id = p_user;
  FOR r IN SELECT id FROM users WHERE id = p_user LOOP
    UPDATE t SET x = r.id WHERE y = é AND z = names[1] AND r.k = outermost.n;
    PERFORM 1 FROM t WHERE id = r.id;
  END LOOP;
  IF EXISTS (SELECT 1 FROM t WHERE q = n) OR n > 0 THEN n := (SELECT max(id) FROM t); END IF;
  EXECUTE 'SELECT 1 FROM t WHERE id = ' || n;
  RETURN QUERY SELECT u.id FROM users u WHERE u.b = f.p_user;
  INSERT INTO t VALUES (1) RETURNING id INTO STRICT n;
  INSERT INTO t VALUES (1) RETURNING id INTO STRICT n;
END $body$;
"""


def read(sql: str) -> tuple[list[Statement], str]:
    source = read_source("x.sql", sql.encode())
    found, problems = statements(source)
    assert not problems
    return [s for s in with_bodies(found, source.text) if s.embedding], source.text


def test_plpgsql_statements_stand_at_their_places_with_variables_as_parameters() -> None:
    found, text = read(PLPGSQL)
    assert [(s.line, s.sql) for s in found] == [
        (4, "SELECT * FROM t WHERE id = $1"),
        (6, "SELECT count(*)        FROM orders /* ü */ WHERE user_id = $1"),
        (7, "SELECT id FROM users WHERE id = $1"),
        (8, "UPDATE t SET x = $1 WHERE y = $2 AND z = $3[1] AND $4 = $5"),
        (9, "SELECT 1 FROM t WHERE id = $1"),
        (11, "SELECT EXISTS (SELECT 1 FROM t WHERE q = $1) OR $1 > 0"),
        (11, "SELECT (SELECT max(id) FROM t)"),
        (13, "SELECT u.id FROM users u WHERE u.b = $1"),
        (14, "INSERT INTO t VALUES (1) RETURNING id"),
        (15, "INSERT INTO t VALUES (1) RETURNING id"),
    ]
    lines = text.splitlines()
    for statement in found:
        for node in statement.tree.get("fromClause", ()):
            at = node.get("RangeVar", {}).get("location")
            if at is not None:
                place = statement.locate(statement.to_text(at))
                name = node["RangeVar"]["relname"]
                assert lines[place.line - 1][place.column - 1 :].startswith(name)


def test_bodies_in_quotes_and_of_sql_functions() -> None:
    found, _ = read(
        """CREATE FUNCTION g(who text) RETURNS bigint LANGUAGE sql STABLE AS '
  SELECT count(*) FROM users WHERE name = who AND city <> ''é'' AND a = $1 AND b = NULL;
  DELETE FROM t WHERE g.who = ''x'';';"""
    )
    assert [s.sql for s in found] == [
        "SELECT count(*) FROM users WHERE name = $2 AND city <> 'é' AND a = $1 AND b = NULL",
        "DELETE FROM t WHERE $1 = 'x'",
    ]
    place = found[0].locate(found[0].text.index("b = NULL"))
    assert (place.line, place.column) == (2, 80)


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE FUNCTION f() RETURNS int LANGUAGE plpython3u AS $$ SELECT 1 FROM t $$",
        "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN this is no plpgsql; END $$",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT FROM WHERE $$",
        "CREATE FUNCTION f() RETURNS int LANGUAGE c AS 'lib', 'symbol'",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1 FROM t; END",
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "INSERT INTO history VALUES (OLD.*); RETURN NEW; END $$",
        "DO 'BEGIN NULL; END'",
        "DO $$ BEGIN x := 5; PERFORM f(1); END $$",
        "CREATE PROCEDURE p() LANGUAGE plpgsql AS ''",
    ],
)
def test_what_cannot_be_read_is_left_out(sql: str) -> None:
    assert [s.sql for s in read(sql)[0] if "f(1)" not in s.sql] == []


def test_trigger_rows_are_parameters() -> None:
    found, _ = read(
        """CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
IF TG_OP = 'UPDATE' THEN UPDATE t SET a = NEW.a WHERE t.id = OLD."Id"; END IF; RETURN NEW; END $$"""
    )
    assert [s.sql for s in found] == ["UPDATE t SET a = $1 WHERE t.id = $2"]


@pytest.mark.parametrize(
    ("sql", "query", "column"),
    [
        ("PREPARE p (int) AS SELECT * FROM t WHERE a = $1", "SELECT * FROM t WHERE a = $1", 20),
        ("CREATE VIEW v (é) AS SELECT 1 WITH CHECK OPTION", "SELECT 1", 22),
        ("CREATE VIEW v WITH (security_barrier) AS TABLE t", "TABLE t", 42),
        ("EXPLAIN (ANALYZE, COSTS off) DELETE FROM t WHERE a = :id", "DELETE FROM t WHERE a = :id", 30),
        ("EXPLAIN VERBOSE WITH x AS (SELECT 1) SELECT * FROM x", "WITH x AS (SELECT 1) SELECT * FROM x", 17),
    ],
)  # fmt: skip
def test_queries_within_other_statements(sql: str, query: str, column: int) -> None:
    (statement,) = statements(read_source("x.sql", f"\n {sql};".encode()))[0]
    found = inner(statement)
    assert found is not None
    assert (found.text, found.line, found.column) == (query, 2, column + 1)
    assert found.to_text(len(found.sql)) == len(found.text)


def test_audit_finds_what_is_in_them(tmp_path: Path) -> None:
    (tmp_path / "schema.sql").write_text(
        "CREATE TABLE t (id int PRIMARY KEY, a int, b timestamptz, pad text);"
        "INSERT INTO t SELECT i, i, now(), repeat('x', 100) FROM generate_series(1, 100000) i;"
    )
    (tmp_path / "q.sql").write_text(
        """CREATE FUNCTION f(wanted int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM t WHERE a = NULL;
    PERFORM pad FROM t WHERE a = wanted;
    PERFORM pad FROM t WHERE nothing = wanted;
END $$;
PREPARE p (int) AS SELECT pad FROM t WHERE t.a = $1;
CREATE VIEW v AS SELECT id FROM t WHERE date(b) = '2024-01-01';
"""
    )
    report = audit(
        [str(tmp_path / "q.sql")], Options(schema=(str(tmp_path / "schema.sql"),), analyze=True)
    )
    assert report.problems == ()
    found = {(f.rule, f.location.line) for f in report.findings}
    assert {
        ("query/null-comparison", 3),
        ("query/unknown-column", 5),
        ("index/missing", 4),
        ("index/missing", 7),
        ("query/function-on-column", 8),
    } <= found
    assert not {f.rule for f in report.findings} & {"query/would-fail"}
