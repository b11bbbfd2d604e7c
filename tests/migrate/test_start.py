"""What is there before the set: of a server, of a baseline, and what CASCADE leaves of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sqladvisor.catalog.ddl import catalog_from_sql
from sqladvisor.finding import Finding
from sqladvisor.migrate.gate import GateOptions, gate
from sqladvisor.migrate.start import start_state
from sqladvisor.report.model import Report
from sqladvisor.sql.source import read_source, statements


def static(tmp_path: Path, files: dict[str, str], **options: object) -> Report:
    for name, text in files.items():
        path = tmp_path / "m" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    chosen = GateOptions(trace=False, cache=False, **options)  # type: ignore[arg-type]
    return gate([str(tmp_path / "m")], chosen)


def errors(report: Report) -> list[Finding]:
    return [f for f in report.findings if f.severity == "error"]


def test_a_server_tells_lengths_of_types_and_names_of_checks(
    tmp_path: Path,
    make_database: Callable[[str], object],
) -> None:
    database = make_database(
        "CREATE TABLE t (id int PRIMARY KEY, code varchar(40), total numeric(10,2), a text, b text,"
        "  CONSTRAINT has_a CHECK (a IS NOT NULL));"
        "ALTER TABLE t ADD CONSTRAINT has_b CHECK (b IS NOT NULL) NOT VALID;"
        "INSERT INTO t (id, a, b) SELECT i, 'a', 'b' FROM generate_series(1, 20000) i; ANALYZE t"
    )
    report = static(
        tmp_path,
        {
            "1.sql": "SET lock_timeout = '1s';\n"
            "ALTER TABLE t ALTER code TYPE varchar(80);\n"  # longer: no rewrite
            "ALTER TABLE t ALTER total TYPE numeric(12,2);\n"
            "ALTER TABLE t ALTER a SET NOT NULL;\n"  # proven
            "ALTER TABLE t VALIDATE CONSTRAINT has_b;\nALTER TABLE t ALTER b SET NOT NULL;\n"
            "ALTER TABLE t ALTER code TYPE varchar(20);\n"
        },
        dsn=database.dsn,  # type: ignore[attr-defined]
    )
    assert not report.problems
    assert [(f.rule, f.location.line) for f in errors(report)] == [
        ("migration/alter-column-type", 7)
    ]


def test_a_dropped_check_proves_nothing(
    tmp_path: Path, make_database: Callable[[str], object]
) -> None:
    database = make_database("CREATE TABLE t (a text, CONSTRAINT has_a CHECK (a IS NOT NULL))")
    text = "SET lock_timeout = '1s';\nALTER TABLE t DROP CONSTRAINT has_a;\nALTER TABLE t ALTER a SET NOT NULL;\n"
    report = static(tmp_path, {"1.sql": text}, dsn=database.dsn)  # type: ignore[attr-defined]
    assert [f.rule for f in errors(report)] == ["migration/set-not-null"]


BASE = "CREATE TABLE t (id int PRIMARY KEY, a text);"


def test_a_baseline_is_the_starting_schema(tmp_path: Path) -> None:
    report = static(
        tmp_path,
        {
            "V1__old.sql": "CREATE INDEX i ON gone (a);",
            "B2__base.sql": BASE,
            "V3__new.sql": "CREATE INDEX t_a ON t (a);",
        },
    )
    # t is not of this set: its rows are there.
    assert [(f.rule, Path(f.location.path).name) for f in errors(report)] == [
        ("migration/create-index", "V3__new.sql")
    ]
    assert "read as flyway: 1 of 2 migrations judged" in report.notes
    assert any(
        "B2__base.sql, which is not judged; nor is the 1 version that" in n for n in report.notes
    )


def test_a_given_schema_comes_before_a_baseline(tmp_path: Path) -> None:
    (tmp_path / "schema.sql").write_text(BASE)
    report = gate_traced(
        tmp_path, {"B2__base.sql": BASE, "V3__new.sql": "ALTER TABLE t ADD b int;"}
    )
    assert not [n for n in report.notes if "not applied" in n or "not traced" in n], report.notes


def gate_traced(tmp_path: Path, files: dict[str, str]) -> Report:
    for name, text in files.items():
        (tmp_path / "m").mkdir(exist_ok=True)
        (tmp_path / "m" / name).write_text(text)
    options = GateOptions(schema=(str(tmp_path / "schema.sql"),), trace=True, cache=False)
    return gate([str(tmp_path / "m")], options)


def test_a_baseline_without_later_versions_changes_nothing(tmp_path: Path) -> None:
    report = static(tmp_path, {"V1__a.sql": BASE, "B1__base.sql": BASE})
    assert "read as flyway: 1 of 1 migration judged" in report.notes


def test_cascade_takes_the_views_of_a_column() -> None:
    state = start_state(
        "CREATE TABLE t (id int, a text, b text); CREATE VIEW v AS SELECT a FROM t;"
        "CREATE VIEW w AS SELECT a FROM v; CREATE VIEW other AS SELECT b FROM t;"
    )
    for statement in statements(read_source("m", b"ALTER TABLE t DROP COLUMN a CASCADE;"))[0]:
        state.apply(statement, 0)
    assert {name for _, name in state.catalog.relations} == {"t", "other"}


@pytest.mark.parametrize(
    ("function", "volatility"),
    [
        ("f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "stable"),
        ("f() RETURNS timestamptz RETURN now()", "stable"),
        ("f() RETURNS float8 LANGUAGE sql AS 'SELECT random()'", "volatile"),
        ("f() RETURNS int LANGUAGE sql AS 'SELECT 1' SECURITY DEFINER", "volatile"),
        ("f() RETURNS int LANGUAGE sql AS 'SELECT a FROM t'", "volatile"),
        ("f() RETURNS int LANGUAGE sql AS 'SELECT 1; SELECT 2'", "volatile"),
        ("f() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'", "volatile"),
        ("f() RETURNS SETOF int LANGUAGE sql AS 'SELECT 1'", "volatile"),
    ],
)  # fmt: skip
def test_a_function_that_is_inlined_is_as_volatile_as_its_body(
    function: str, volatility: str
) -> None:
    catalog = catalog_from_sql(f"CREATE FUNCTION {function};")
    assert catalog.functions["f"].volatility == volatility


def test_the_server_agrees_on_inlining(tmp_path: Path) -> None:
    """The trace would have dropped, or added, what the text claims."""
    (tmp_path / "schema.sql").write_text(
        BASE + "CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1';"
        "CREATE FUNCTION any_one() RETURNS float8 LANGUAGE sql AS 'SELECT random()';"
    )
    text = (
        "SET lock_timeout = '1s';\nALTER TABLE t ADD x int DEFAULT one();\n"
        "ALTER TABLE t ADD y float8 DEFAULT any_one();\n"
    )
    traced = gate_traced(tmp_path, {"1.sql": text})
    told = static(tmp_path, {"1.sql": text}, schema=(str(tmp_path / "schema.sql"),))
    assert [f.location.line for f in errors(traced)] == [3]
    assert [f.location.line for f in errors(told)] == [3]
