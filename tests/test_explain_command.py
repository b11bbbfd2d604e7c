"""The explain command: plans as trees with figures and findings, from files and from a server."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqladvisor.auditor import Options
from sqladvisor.engine import Engine, Selection
from sqladvisor.errors import InputError
from sqladvisor.explainer import explain
from sqladvisor.plan.context import PlanContext, statement_of
from sqladvisor.plan.read import read_json
from sqladvisor.plan.read_file import plans_in
from sqladvisor.report.json import schema
from sqladvisor.report.plan import WIDTH, render, render_json
from sqladvisor.rule import load_rules

PLANS = Path(__file__).parents[1] / "fixtures" / "plans"
CLIENTS = PLANS / "clients"
LOG = str(CLIENTS / "pg18-text.log")
EVERY = sorted(p for p in PLANS.rglob("p*") if p.is_file() and p.name not in ("plans.sql"))
OFF = Options(selection=Selection(ignore=("plan/settings-changed",)))


def shown(path: Path | str, **options: Any) -> str:
    return render(explain(str(path), options=OFF), **options)


def sqladvisor(
    *arguments: str, stdin: bytes = b"", **env: str
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "sqladvisor", *arguments],
        input=stdin,
        capture_output=True,
        env={**os.environ, "NO_COLOR": "1", **env},
        timeout=120,
        check=False,
    )


# -- the tree -------------------------------------------------------------------------------------


def test_the_tree_has_the_figures_and_the_finding_with_its_fix() -> None:
    text = shown(PLANS / "pg18-sort_spill.json")
    lines = text.split("\n")
    assert re.fullmatch(r".*pg18-sort_spill.json:2  execution \S+ ms, planning \S+ ms", lines[0])
    assert lines[2].split() == ["self", "share", "rows", "est.", "hit", "temp"]
    assert re.fullmatch(r"● Sort +\S+ ms +\d\d% +60k +60k +\d,\d\d\d", lines[3])
    assert lines[4] == "  │   Sort Key: note, amount"
    assert re.fullmatch(r"  │   external merge, \d,\d\d\d kB", lines[5])
    assert lines[6].startswith("  │   ▲ warning  the sort by note, amount wrote ")
    assert "  │     fix: give this statement" in text
    assert "  │       SET LOCAL work_mem = '" in text
    assert re.search(r"\n  └ Seq Scan on orders +\S+ ms +\d+% +60k +60k +3,334", text)
    assert "settings: " in text
    assert "work_mem = 64kB" in text
    assert "1 warning in 1 plan\n" in text


@pytest.mark.parametrize("path", EVERY, ids=lambda p: p.name)
def test_every_plan_fits_and_is_told_in_both_formats(path: Path) -> None:
    report = explain(str(path), top=1000)
    assert not report.problems
    text = render(report)
    assert "\x1b" not in text
    for line in text.split("\n"):
        assert len(line) <= WIDTH or str(PLANS) in line or line.endswith(";"), line
    plain = re.sub("\x1b\\[[0-9;]*m", "", render(report, color=True))
    assert [line.rstrip() for line in plain.split("\n")] == text.split("\n")
    assert render(report, verbose=True)
    document = json.loads(render_json(report))
    jsonschema.validate(document, schema())
    assert len(document["plans"]) == report.statements
    for plan in document["plans"]:
        own = [n["self_ms"] or 0 for n in plan["nodes"]]
        assert sum(own) <= (plan["execution_ms"] or 0) * 1.001 + 0.1
        ids = {n["id"] for n in plan["nodes"]}
        assert len(ids) == len(plan["nodes"])
        assert any(n["hot"] for n in plan["nodes"])
        for number in plan["findings"]:
            finding = document["findings"][number]
            assert finding["evidence"].get("plan_node", "0") in ids


def test_estimates_that_are_off_workers_and_what_never_ran() -> None:
    off = {"Plan Rows": 3, "Actual Rows": 4500, "Actual Loops": 2, "Actual Total Time": 7.0}
    never = {"Actual Rows": 0, "Actual Loops": 0, "Actual Total Time": 0.0}
    plan = {
        "Node Type": "Gather", "Plan Rows": 90, "Actual Rows": 2, "Actual Loops": 1,
        "Actual Total Time": 15.0, "Workers Planned": 2, "Workers Launched": 1,
        "Plans": [{"Node Type": "Seq Scan", "Relation Name": "t", "Plan Rows": 5, **off},
                  {"Node Type": "Seq Scan", "Relation Name": "u", "Plan Rows": 5, **never}],
    }  # fmt: skip
    text = render(_explained(json.dumps([{"Plan": plan}])))
    assert re.search(r"● Gather .* 2 +90 +↓45× +1/2\n", text)
    assert re.search(r"Seq Scan on t .* 4,500 +3 +↑1,500× +2\n", text)
    assert re.search(r"Seq Scan on u +never run +5\n", text)


def test_what_a_limit_cut_short_is_not_off() -> None:
    read = {"Node Type": "Seq Scan", "Relation Name": "t", "Plan Rows": 9000, "Actual Rows": 5,
            "Actual Loops": 1, "Actual Total Time": 1.0}  # fmt: skip
    limit = {"Node Type": "Limit", "Plan Rows": 5, "Actual Rows": 5, "Actual Loops": 1,
             "Actual Total Time": 1.0}  # fmt: skip
    sort = {**read, "Node Type": "Sort"}

    def shown(plan: dict[str, object]) -> str:
        return render(_explained(json.dumps([{"Plan": plan}])))

    assert "×" not in shown({**limit, "Plans": [read]})
    # A LIMIT that was not reached, or a sort below it, has had all there was.
    assert "↓1,800×" in shown({**limit, "Plan Rows": 50, "Plans": [read]})
    assert re.search(
        r"Seq Scan on t .*↓1,800×", shown({**limit, "Plans": [{**sort, "Plans": [read]}]})
    )


def test_a_plan_that_was_not_run_shows_costs() -> None:
    text = render(
        _explained(
            "Sort  (cost=80.00..90.00 rows=7 width=4)\n  ->  Seq Scan on t  (cost=0.00..30.00 rows=7 width=4)\n"
        )
    )
    assert "not run: planner cost 90" in text
    assert re.search(r"● Sort +cost 60 +67% +7\n", text)
    assert re.search(r"  └ Seq Scan on t +cost 30 +33% +7\n", text)


def test_the_hot_path_goes_into_the_cte_where_the_time_is() -> None:
    plan = read_json((PLANS / "pg18-cte_twice.json").read_text())
    assert [n.label for n in plan.hot_path()][:2] == ["Merge Join", "HashAggregate"]


def test_jit_and_triggers_are_told() -> None:
    assert re.search(
        r"jit: \d+ functions compiled in \S+ m?s, \d+% of the", shown(PLANS / "pg15-jit.json")
    )
    text = shown(PLANS / "pg18-modify_triggers.json")
    assert re.search(r"trigger: after_row: \S+ ms in 3,000 calls", text)


def test_text_from_a_file_cannot_move_the_terminal() -> None:
    text = render(
        _explained(
            "Seq Scan on \"a\x9b31m\"  (cost=0.00..1.00 rows=1 width=4)\n  Filter: (x = '\x07\u202e')\n"
        )
    )
    assert "\x9b" not in text
    assert "\x07" not in text
    assert "\u202e" not in text


def _explained(text: str) -> Any:
    return explain("-", stdin=lambda: text.encode())


# -- findings without and with a query ------------------------------------------------------------


def test_findings_stand_on_the_line_of_their_node() -> None:
    (finding,) = explain(LOG).findings
    assert finding.rule == "plan/seq-scan-filtering"
    assert (finding.location.path, finding.location.line) == (LOG, 55)
    assert "Seq Scan on customers c" in Path(LOG).read_text().split("\n")[54]


def test_the_statement_is_the_logged_one_where_there_is_one() -> None:
    plans = [p for p in plans_in(LOG, Path(LOG).read_text()) if not hasattr(p, "message")]
    kinds = [statement_of(p, LOG).kind for p in plans]  # type: ignore[arg-type]
    assert kinds == ["SelectStmt", "UpdateStmt", ""]
    assert statement_of(plans[0], LOG).line == 8  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted(p.name for p in PLANS.glob("*.json")))
def test_no_rule_fails_on_a_plan_without_its_query(name: str) -> None:
    engine = Engine(load_rules(("plan",)), strict=True)
    context = PlanContext(read_json((PLANS / name).read_text()), name)
    for finding in engine.check_plan(context):
        assert finding.statement == ""
        assert finding.fingerprint
        assert finding.location.path == name
        for fix in finding.fixes:
            assert ";\n;" not in fix.sql


# -- seven plans with an obvious missing index, and none of bloat -----------------------------------

SHOP = """
CREATE TABLE customers (id int PRIMARY KEY, email text NOT NULL, city text NOT NULL);
CREATE TABLE orders (id int PRIMARY KEY, customer_id int NOT NULL REFERENCES customers ON DELETE CASCADE,
    status text NOT NULL, total int NOT NULL, placed timestamptz NOT NULL, note text NOT NULL);
INSERT INTO customers SELECT i, 'c' || i || '@example.org', 'city ' || i % 500 FROM generate_series(1, 500000) i;
INSERT INTO orders SELECT i, 1 + i * 7919::bigint % 100000, CASE WHEN i % 200 = 0 THEN 'open' ELSE 'done' END,
    i % 10007, timestamptz '2024-01-01' + i * interval '1 minute', repeat('n', 80) FROM generate_series(1, 400000) i;
SET max_parallel_workers_per_gather = 0;
VACUUM ANALYZE;
"""
MISSING = {
    "equality on a large table": "SELECT * FROM orders WHERE total = 4711",
    "a rare value": "SELECT id FROM orders WHERE status = 'open' AND total > 9000",
    "a short range": "SELECT * FROM orders WHERE placed >= '2024-03-01' AND placed < '2024-03-02'",
    "a unique text": "SELECT * FROM customers WHERE email = 'c777@example.org'",
    "a join from one row": "SELECT o.* FROM customers c JOIN orders o ON o.customer_id = c.id WHERE c.id = 42",
    "a lookup for each row": "SELECT c.id, (SELECT max(o.placed) FROM orders o WHERE o.customer_id = c.id) FROM customers c WHERE c.id < 12",
    "a foreign key's other side": "DELETE FROM customers WHERE id BETWEEN 3 AND 8",
}  # fmt: skip


@pytest.fixture(scope="module")
def shop(cluster: Any) -> Iterator[psycopg.Connection]:
    cluster.create_database("missing")
    with cluster.connect("missing") as session:
        for statement in SHOP.split(";\n"):
            if statement.strip():
                session.execute(statement.encode())
        yield session
    cluster.drop_database("missing")


def plan_text(session: psycopg.Connection, query: str, form: str) -> bytes:
    for _warm in range(2):
        with session.transaction(force_rollback=True):
            rows = session.execute(
                f"EXPLAIN (ANALYZE, BUFFERS, SETTINGS, FORMAT {form}) {query}".encode()
            ).fetchall()
    lines = (r[0] if isinstance(r[0], str) else json.dumps(r[0]) for r in rows)
    return "\n".join(lines).encode()


@pytest.mark.parametrize("form", ["TEXT", "JSON"])
@pytest.mark.parametrize("name", MISSING)
def test_an_obvious_missing_index_is_found(shop: psycopg.Connection, name: str, form: str) -> None:
    plan = plan_text(shop, MISSING[name], form)
    report = explain("-", stdin=lambda: plan)
    table = "customers" if "email" in MISSING[name] else "orders"
    telling = [f for f in report.findings if f.severity == "warning"]
    assert telling, render(report)
    assert any(table in f.message or "customer_id" in f.message for f in telling), render(report)


def test_freshly_vacuumed_tables_are_never_called_bloated(shop: psycopg.Connection) -> None:
    for query in MISSING.values():
        plan = plan_text(shop, query, "JSON")
        for finding in explain("-", stdin=lambda plan=plan: plan).findings:  # type: ignore[misc]
            said = " ".join(
                [finding.message, *finding.evidence.notes, *(f.sql for f in finding.fixes)]
            )
            assert not re.search(r"bloat|dead (row|tuple)|VACUUM|REINDEX|repack", said, re.I), said


# -- on a server ----------------------------------------------------------------------------------


def test_a_query_on_a_live_server(make_database: Callable[..., Any]) -> None:
    database = make_database(
        "CREATE TABLE t (id int PRIMARY KEY, a int, pad text);"
        "INSERT INTO t SELECT i, i, repeat('x', 90) FROM generate_series(1, 300000) i;"
        "ANALYZE t;"
    )
    options = Options(dsn=database.dsn, analyze=True)
    report = explain(query="SELECT *\nFROM t\nWHERE pad LIKE '%y%'", options=options)
    assert report.command == "explain"
    assert [f.rule for f in report.findings if f.rule == "plan/seq-scan-filtering"]
    assert {f.location.path for f in report.findings} == {"query"}
    text = render(report)
    assert "query:1  execution" in text
    assert "Seq Scan on t" in text
    assert "live PostgreSQL 18" in text
    (plan,) = json.loads(render_json(report))["plans"]
    assert plan["findings"]
    with pytest.raises(InputError, match="one of them"):
        explain("plan.txt", "SELECT 1")


def test_a_query_in_the_sandbox_gets_its_index_and_nothing_about_the_rest(tmp_path: Path) -> None:
    (tmp_path / "schema.sql").write_text(
        "CREATE TABLE u (id int PRIMARY KEY);"
        "CREATE TABLE t (id int PRIMARY KEY, a int REFERENCES u, pad text);"
        "INSERT INTO t SELECT i, NULL, i || repeat('x', 90) FROM generate_series(1, 60000) i;"
    )
    options = Options(schema=(str(tmp_path / "schema.sql"),), analyze=True)
    report = explain(query="SELECT * FROM t WHERE pad = 'y'", options=options)
    assert {f.location.path for f in report.findings} == {"query"}
    assert "index/missing" in {f.rule for f in report.findings}
    text = render(report)
    assert re.search(r"● Seq Scan on t +\S+ ms +\d+%", text)
    assert "CREATE INDEX" in text


def test_tables_without_rows_are_said_to_be_empty(tmp_path: Path) -> None:
    (tmp_path / "schema.sql").write_text("CREATE TABLE t (id int PRIMARY KEY);")
    options = Options(schema=(str(tmp_path / "schema.sql"),))
    report = explain(query="SELECT * FROM t", options=options)
    assert any("empty tables" in note for note in report.notes)


def test_what_writes_is_not_run_and_what_fails_is_told(make_database: Callable[..., Any]) -> None:
    database = make_database("CREATE TABLE t (id int)")
    report = explain(
        query="INSERT INTO t VALUES (1); SELECT nope FROM t; SELECT FROM;",
        options=Options(dsn=database.dsn, analyze=True),
    )
    assert [p.plan.analyzed for p in report.details["plans"]] == [False]
    assert [p.path for p in report.problems] == ["query"]
    assert [f.rule for f in report.findings] == ["query/would-fail"]
    with database.connect() as session:
        assert session.execute("SELECT count(*) FROM t").fetchone() == (0,)


def test_a_file_of_sql_is_explained_where_a_server_is_named(
    tmp_path: Path, make_database: Callable[..., Any]
) -> None:
    path = tmp_path / "q.sql"
    path.write_text("SELECT 1;\nSELECT count(*) FROM pg_class;\n")
    report = explain(str(path), options=Options(dsn=make_database().dsn))
    assert [(p.path, p.line) for p in report.details["plans"]] == [(str(path), 1), (str(path), 2)]
    (problem,) = explain(str(path)).problems
    assert problem.message.startswith("SQL, not a plan: name a server")


# -- the command ----------------------------------------------------------------------------------


def test_the_command_reads_standard_input_and_writes_json(tmp_path: Path) -> None:
    done = sqladvisor("explain", "-", "--format", "json", "-o", str(tmp_path / "out.json"), stdin=Path(LOG).read_bytes())  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    document = json.loads((tmp_path / "out.json").read_text())
    assert document["command"] == "explain"
    assert len(document["plans"]) == 3


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "says"),
    [
        ([LOG, "--fail-on", "warning"], b"", 1, b"1 warning in 3 plans"),
        ([LOG, "--fail-on", "warning", "--ignore", "plan"], b"", 0, b"no findings in 3 plans"),
        ([LOG, "--top", "1"], b"", 0, b"note: of 3 plans the 1 slowest are shown"),
        ([], b"", 2, b"one of them"),
        (["nowhere.txt"], b"", 2, b"nowhere.txt: cannot explain: cannot be read: No such file"),
        (["-"], b"", 2, b"<stdin>: cannot explain: empty"),
        (["-"], b"\x7fELF\x00\x00", 2, b"binary file (NUL byte)"),
        (["-"], b"Hello.\n", 2, b"<stdin>: cannot explain: no plan found"),
        (["-"], b'[{"Plan": {"Node Type": "Sort",\n', 2, b"<stdin>:1: cannot explain: the JSON plan breaks off"),
        (["-", "--select", "no/such"], b"", 2, b"no rule matches 'no/such'"),
        (["--query", "SELECT 1", "--dsn", "host=/nowhere dbname=x"], b"", 2, b"cannot connect"),
    ],
)  # fmt: skip
def test_exit_codes(arguments: list[str], stdin: bytes, code: int, says: bytes) -> None:
    done = sqladvisor("explain", *arguments, stdin=stdin)
    assert says in done.stdout + done.stderr
    assert b"Traceback" not in done.stderr
    assert done.returncode == code


def test_a_log_too_large_to_be_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sqladvisor.plan.read_file.MAX_CHARACTERS", 10_000)
    path = tmp_path / "postgresql.log"
    noise = "2024-05-01 12:00:00 UTC [1] LOG:  checkpoint starting: time\n" * 3000
    path.write_text(noise + Path(LOG).read_text() + noise)
    report = explain(str(path), top=2)
    assert [p.line for p in report.details["plans"]] == [3008, 3025]
    assert report.notes == ("of 3 plans the 2 slowest are shown (--top)",)
    other = tmp_path / "plan.txt"
    other.write_text("x" * 20_000)
    (problem,) = explain(str(other)).problems
    assert "larger than" in problem.message


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400))
def test_no_bytes_break_the_command(data: bytes) -> None:
    report = explain("-", stdin=lambda: data)
    assert report.problems or report.details["plans"]
    render(report)
