"""The gate as a whole, with the trace: what the issue asks it to show."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from sqladvisor.catalog.snapshot import WorkloadQuery, encode
from sqladvisor.finding import Finding
from sqladvisor.migrate.gate import GateOptions, gate
from sqladvisor.report.json import document, schema
from sqladvisor.report.model import Report
from sqladvisor.report.text import render
from sqladvisor.server.binaries import find_binaries
from sqladvisor.server.snapshot import take_snapshot

SHOP = Path(__file__).parents[2] / "fixtures" / "shop"


def judged(tmp_path: Path, files: dict[str, str], **options: object) -> Report:
    folder = tmp_path / "migrations"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    chosen = GateOptions(trace=True, cache=False, **options)  # type: ignore[arg-type]
    return gate([str(folder)], chosen)


def by_rule(report: Report) -> dict[str, Finding]:
    return {f.rule: f for f in report.findings}


def test_the_shop() -> None:
    report = gate(
        [str(SHOP / "migrations")],
        GateOptions(
            schema=(str(SHOP / "schema.sql"),),
            workload=(str(SHOP / "queries.sql"),),
            trace=True,
            trace_report=True,
            cache=False,
        ),
    )
    assert not report.problems
    # A table created in the same set gives no findings.
    assert not [f for f in report.findings if f.location.path.endswith("0001_coupons.sql")]
    found = by_rule(report)
    # A dropped index that the workload needs fails the gate, with the two plans.
    slower = found["migration/plan-regression"]
    assert slower.location.path.endswith("0002_tidy_indexes.sql")
    assert any(f.severity == "error" and f.rule == slower.rule for f in report.findings)
    assert "order_items_order_id_idx" in slower.evidence.figures["plan_before"]
    assert "Seq Scan on order_items" in slower.evidence.figures["plan_after"]
    # A DO block that alters a table is caught by the trace.
    hidden = found["migration/traced-lock"]
    assert hidden.location.path.endswith("0003_event_types.sql")
    assert hidden.severity == "error"
    assert hidden.evidence.figures["rewritten"] == ["public.events"]
    text = render(report)
    assert "What each statement locks" in text
    assert "ACCESS EXCLUSIVE public.events" in text
    made = document(report)
    jsonschema.validate(json.loads(json.dumps(made)), schema())
    assert [s["line"] for s in made["timeline"]] == [2, 7, 8, 2, 2]


def test_without_trace_no_server_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "1.sql").write_text("CREATE INDEX i ON users (email);")
    report = gate([str(folder)], GateOptions(trace=False, cache=False, postgres_bin="/nowhere"))
    assert report.server == ""
    assert [f.rule for f in report.findings if f.severity == "error"] == ["migration/create-index"]


def test_no_server_to_be_had_leaves_the_static_findings(tmp_path: Path) -> None:
    report = judged(
        tmp_path, {"1.sql": "CREATE INDEX i ON users (email);"}, postgres_bin="/nowhere/bin"
    )
    assert "migration/create-index" in by_rule(report)
    assert any("not traced: /nowhere/bin" in n for n in report.notes)
    assert not report.problems


def test_no_schema_is_no_failure(tmp_path: Path) -> None:
    report = judged(tmp_path, {"1.sql": "CREATE INDEX i ON users (email);"})
    assert "migration/create-index" in by_rule(report)
    assert "migration/fails" not in by_rule(report)
    assert any(n.startswith("1 statement not traced, whose tables") for n in report.notes)


def test_a_statement_that_fails_on_a_known_schema(tmp_path: Path) -> None:
    start = tmp_path / "schema.sql"
    start.write_text("CREATE TABLE users (id bigint PRIMARY KEY);")
    report = judged(
        tmp_path, {"1.sql": "ALTER TABLE users DROP COLUMN nickname;"}, schema=(str(start),)
    )
    assert by_rule(report)["migration/fails"].severity == "error"


def test_suppression_holds_for_what_the_trace_finds(tmp_path: Path) -> None:
    start = tmp_path / "schema.sql"
    start.write_text("CREATE TABLE users (id bigint PRIMARY KEY, a int);")
    report = judged(
        tmp_path,
        {
            "1.sql": "-- sqladvisor: ignore migration/traced-lock the table is small\n"
            "DO $$ BEGIN ALTER TABLE users ALTER a TYPE bigint; END $$;"
        },
        schema=(str(start),),
    )
    assert "migration/traced-lock" not in by_rule(report)
    assert report.suppressed == 1


def test_downs_are_run(tmp_path: Path) -> None:
    report = judged(
        tmp_path,
        {
            "001_a.up.sql": "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY);",
            "001_a.down.sql": "DROP TABLE a;",
        },
    )
    found = by_rule(report)["migration/down-does-not-undo"]
    assert found.location.path.endswith("001_a.down.sql")
    assert "table public.b is left behind" in found.message


def test_a_server_tells_sizes(tmp_path: Path, make_database) -> None:  # type: ignore[no-untyped-def]
    database = make_database(
        "CREATE TABLE big (id int PRIMARY KEY, a int);"
        "INSERT INTO big SELECT i, i FROM generate_series(1, 20000) i;"
        "CREATE TABLE small (id int PRIMARY KEY, a int); INSERT INTO small VALUES (1, 1);"
        "ANALYZE big; ANALYZE small"
    )
    report = judged(
        tmp_path,
        {
            "1.sql": "DO $$ BEGIN ALTER TABLE big ALTER a TYPE bigint; END $$;\n"
            "DO $$ BEGIN ALTER TABLE small ALTER a TYPE bigint; END $$;\n"
        },
        dsn=database.dsn,
    )
    assert not report.problems
    found = {f.location.line: f for f in report.findings if f.rule == "migration/traced-lock"}
    assert found[1].severity == "error"
    assert found[1].evidence.figures["rows"] == 20000
    assert found[1].evidence.figures["estimated_lock_s"] > 0
    assert found[2].severity == "info"
    assert "the table has 1 rows only" in found[2].evidence.notes


@pytest.mark.parametrize("values", ["masked", "full"])
def test_a_snapshot_tells_sizes_statistics_and_plans(
    tmp_path: Path,
    make_database,  # type: ignore[no-untyped-def]
    values: str,
) -> None:
    database = make_database(
        "CREATE TABLE orders (id int PRIMARY KEY, code text NOT NULL, state text);"
        "INSERT INTO orders SELECT i, 'c' || i, 'done' FROM generate_series(1, 50000) i;"
        "CREATE INDEX orders_code_idx ON orders (code);"
        "CREATE TABLE small (id int PRIMARY KEY); INSERT INTO small VALUES (1);"
        "ANALYZE orders; ANALYZE small"
    )
    snapshot = take_snapshot(database.dsn, find_binaries(None), values=values, workload=False)
    path = tmp_path / "snapshot.json"
    recorded = values == "full"  # its queries come from the snapshot itself
    if recorded:
        query = WorkloadQuery("SELECT id FROM orders WHERE code = $1", 10, 1.0, 1)
        snapshot = replace(snapshot, workload=(query,))
    path.write_text(encode(snapshot))
    queries = tmp_path / "queries.sql"
    queries.write_text("SELECT id FROM orders WHERE code = 'c77';\n")
    report = judged(
        tmp_path,
        {
            "1.sql": "SET lock_timeout = '1s';\nDROP INDEX CONCURRENTLY orders_code_idx;\n"
            "ALTER TABLE orders ALTER id TYPE bigint;\nALTER TABLE small ALTER id TYPE bigint;\n"
        },
        snapshot=str(path),
        workload=() if recorded else (str(queries),),
    )
    assert not report.problems
    found = by_rule(report)
    slower = found["migration/plan-regression"]
    assert slower.severity == "error"
    assert slower.location.line == 2
    assert slower.evidence.figures["cost_before"] < 10
    types = {f.location.line: f for f in report.findings if f.rule.endswith("alter-column-type")}
    assert types[3].severity == "error"
    assert types[3].evidence.figures["rows"] == 50000
    assert types[4].severity == "info"
