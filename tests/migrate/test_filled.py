"""Generated rows: what fails on data that the schema allows, and what only a loop over rows locks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sqladvisor.catalog.snapshot import save
from sqladvisor.finding import Finding
from sqladvisor.migrate.filled import FAILS_ON_DATA
from sqladvisor.migrate.gate import GateOptions, gate
from sqladvisor.report.model import Report
from sqladvisor.server.binaries import find_binaries
from sqladvisor.server.snapshot import take_snapshot

SCHEMA = """
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE DOMAIN positive AS int CHECK (value > 0);
CREATE TABLE users (id serial PRIMARY KEY, email text, name text NOT NULL, code varchar(20) UNIQUE,
    age int CHECK (age > 0), feeling mood, points positive, phone text, whole text CHECK (whole ~ '^[0-9]+$'),
    CHECK (phone IS NOT NULL));
CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id int REFERENCES users (id), other int, total numeric NOT NULL, at timestamptz NOT NULL);
"""


def judged(tmp_path: Path, text: str, schema: str = SCHEMA, **options: object) -> Report:
    (tmp_path / "m").mkdir(exist_ok=True)
    (tmp_path / "m" / "1.sql").write_text(f"SET lock_timeout = '1s';\n{text}\n")
    if "snapshot" not in options:
        (tmp_path / "schema.sql").write_text(schema)
        options["schema"] = (str(tmp_path / "schema.sql"),)
    report = gate([str(tmp_path / "m")], GateOptions(trace=True, cache=False, **options))  # type: ignore[arg-type]
    assert not report.problems
    return report


def on_data(report: Report) -> list[Finding]:
    return [f for f in report.findings if f.rule == FAILS_ON_DATA]


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("ALTER TABLE users ALTER email SET NOT NULL", 'column "email" of relation "users" contains null'),
        ("ALTER TABLE users ALTER name TYPE int USING name::int", "invalid input syntax for type integer"),
        ("ALTER TABLE users ADD CONSTRAINT c CHECK (length(name) > 3)", '"c" of relation "users" is violated'),
        ("ALTER TABLE users ADD CONSTRAINT u UNIQUE (name)", 'could not create unique index "u"'),
        ("ALTER TABLE orders ADD CONSTRAINT f FOREIGN KEY (other) REFERENCES users (id)",
         'violates foreign key constraint "f"'),
        ("UPDATE users SET name = email", 'null value in column "name"'),
    ],
)  # fmt: skip
def test_what_the_schema_does_not_exclude(tmp_path: Path, statement: str, says: str) -> None:
    (finding,) = on_data(judged(tmp_path, f"{statement};"))
    assert says in finding.message
    assert finding.severity == "info"  # nobody knows whether the real rows are so
    assert finding.location.line == 2
    assert any("generated rows" in n for n in finding.evidence.notes)


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE users ALTER name SET NOT NULL",
        "ALTER TABLE users ALTER phone SET NOT NULL",  # a CHECK says so
        "UPDATE users SET email = '' WHERE email IS NULL; ALTER TABLE users ALTER email SET NOT NULL",
        "ALTER TABLE users ADD CONSTRAINT c CHECK (age > 0)",
        "ALTER TABLE users ADD CONSTRAINT c CHECK (points >= 1)",
        "ALTER TABLE users ADD CONSTRAINT u UNIQUE (id, name)",
        "CREATE UNIQUE INDEX CONCURRENTLY u ON users (code, name)",
        "ALTER TABLE users ALTER whole TYPE int USING whole::int",  # digits only
        "ALTER TABLE users ALTER feeling TYPE text",
        "ALTER TABLE orders ADD CONSTRAINT f FOREIGN KEY (user_id) REFERENCES users (id)",
        "INSERT INTO users (id, name, phone) VALUES (1, 'root', '1')",
        "INSERT INTO users (name, phone) VALUES ('root', '1'), ('toor', '2')",
        "ALTER TABLE users ADD n int NOT NULL DEFAULT 0",
        "DO $$ BEGIN IF EXISTS (SELECT FROM users) THEN RAISE 'there are rows'; END IF; END $$",
    ],
)  # fmt: skip
def test_no_alarm_where_a_rule_of_the_schema_excludes_it(tmp_path: Path, statement: str) -> None:
    assert not on_data(judged(tmp_path, f"{statement};"))


def test_what_a_rule_says_already_is_not_said_again(tmp_path: Path) -> None:
    report = judged(tmp_path, "CREATE UNIQUE INDEX CONCURRENTLY u ON users (name);")
    assert "migration/unique-index-on-existing" in [f.rule for f in report.findings]
    assert not on_data(report)


def test_a_trigger_is_a_rule_too(tmp_path: Path) -> None:
    schema = """CREATE TABLE t (id int PRIMARY KEY, email text);
    CREATE FUNCTION fill() RETURNS trigger LANGUAGE plpgsql AS
      'BEGIN NEW.email := coalesce(NEW.email, ''none''); RETURN NEW; END';
    CREATE TRIGGER fill BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION fill();"""
    assert not on_data(judged(tmp_path, "ALTER TABLE t ALTER email SET NOT NULL;", schema))


def test_a_loop_over_rows_shows_what_it_locks(tmp_path: Path) -> None:
    report = judged(
        tmp_path,
        "DO $$ DECLARE r record; BEGIN FOR r IN SELECT name FROM users LOOP\n"
        "  EXECUTE 'ALTER TABLE orders ALTER total TYPE bigint'; END LOOP; END $$;",
    )
    (finding,) = [f for f in report.findings if f.rule == "migration/traced-lock"]
    assert finding.severity == "error"
    assert finding.evidence.figures["rewritten"] == ["public.orders"]
    assert any("on empty tables it does nothing" in n for n in finding.evidence.notes)


def test_statistics_tell_whether_it_fails(
    tmp_path: Path, make_database: Callable[[str], object]
) -> None:
    database = make_database(
        "CREATE TABLE t (id int PRIMARY KEY, some_of text, none_of text, twice text, once text);"
        "INSERT INTO t SELECT i, nullif(i % 4, 0), 'x' || i, i % 10, 'o' || i FROM generate_series(1, 1000) i;"
        "ANALYZE t"
    )
    path = tmp_path / "s.json"
    save(take_snapshot(database.dsn, find_binaries(None), workload=False), str(path))  # type: ignore[attr-defined]
    report = judged(
        tmp_path,
        "ALTER TABLE t ALTER some_of SET NOT NULL;\nALTER TABLE t ALTER none_of SET NOT NULL;\n"
        "CREATE UNIQUE INDEX CONCURRENTLY a ON t (twice);\nCREATE UNIQUE INDEX CONCURRENTLY b ON t (once);",
        snapshot=str(path),
    )
    found = on_data(report)
    assert [(f.location.line, f.severity) for f in found] == [(2, "error"), (4, "error")]
    assert "statistics: 25.00% of t.some_of is NULL" in found[0].evidence.notes
    assert "statistics: t.twice has some 10 values only" in found[1].evidence.notes
