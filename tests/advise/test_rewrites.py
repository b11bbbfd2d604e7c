"""Rewrites are tried before they are offered, on rows at hand and on generated ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sqladvisor.auditor import Options, audit
from sqladvisor.finding import Finding
from sqladvisor.report.text import render

SCHEMA = """
CREATE TABLE users (id bigint PRIMARY KEY, city text, code integer, created_at timestamptz NOT NULL);
CREATE TABLE orders (id bigint PRIMARY KEY, user_id bigint NOT NULL REFERENCES users, total numeric);
"""
ROWS = """
INSERT INTO users SELECT i, 'c' || i % 7, i % 5, timestamptz '2024-01-01' + i * interval '1 hour'
FROM generate_series(1, 12000) i;
INSERT INTO orders SELECT i, 1 + i % 12000, i % 10 FROM generate_series(1, 15000) i;
"""
# A rule whose rewrite is wrong for NULLs, of which the rows at hand have none.
WRONG_RULE = '''"""Says <> where IS DISTINCT FROM is meant.

Why: a test of the prover.
Fix: a wrong one.
Silent when: never.
Source: none.
"""
from sqladvisor.finding import Fix
from sqladvisor.rule import rule

@rule("A_Expr", severity="warning")
def check(node, ctx):
    if node.get("kind") == "AEXPR_DISTINCT":
        text = ctx.statement.text.replace("IS DISTINCT FROM", "<>")
        yield ctx.finding(None, "says IS DISTINCT FROM", fixes=[Fix("say <>", text)])
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "schema.sql").write_text(SCHEMA)
    (tmp_path / "rows.sql").write_text(ROWS)
    pack = tmp_path / "pack" / "query"
    pack.mkdir(parents=True)
    (pack / "wrong.py").write_text(WRONG_RULE)
    return tmp_path


def findings(folder: Path, sql: str, rule: str, **options: Any) -> list[Finding]:
    (folder / "q.sql").write_text(sql)
    options.setdefault("schema", (str(folder / "schema.sql"),))
    report = audit([str(folder / "q.sql")], Options(**options))
    return [f for f in report.findings if f.rule == rule]


def test_a_refuted_rewrite_is_not_offered_and_says_by_which_rows(folder: Path) -> None:
    sql = "SELECT id FROM users WHERE city IS DISTINCT FROM 'Oslo'"
    options = {
        "rule_packs": (str(folder / "pack"),),
        "data": (str(folder / "rows.sql"),),
        "schema": (str(folder / "schema.sql"),),
    }
    (finding,) = findings(folder, sql, "query/wrong", **options)
    assert finding.fixes == ()
    said = finding.evidence.figures["refuted_1"]
    assert said.startswith("say <>: it returns no (")
    assert "with public.users: id = " in said
    assert said.count("public.users:") == 1, "one row is enough to refute it"
    assert "city" not in said.partition("with")[2], "a NULL, which is not shown"
    report = audit([str(folder / "q.sql")], Options(**options))
    assert "refuted_1" in render(report, verbose=True)
    assert "refuted_1" not in render(report)


def test_proof_without_rows_of_ones_own(folder: Path) -> None:
    sql = "SELECT count(*) FROM users WHERE date(created_at) = :day"
    (finding,) = findings(folder, sql, "query/function-on-column")
    proof = finding.fixes[0].proof
    assert proof["same_rows"] is True
    assert proof["databases"] >= 10
    assert proof["generated_rows"] > 10
    assert "rows" not in proof
    assert finding.evidence.level != "measured", "nothing was measured on rows of the user's"


def test_ties_under_a_limit_are_no_difference(folder: Path) -> None:
    sql = (
        "SELECT u.id, u.city, count(*) FROM users u JOIN orders o ON o.user_id = u.id "
        "GROUP BY u.id, u.city ORDER BY count(*) DESC LIMIT 10"
    )
    (finding,) = findings(folder, sql, "query/redundant-group-by", data=(str(folder / "rows.sql"),))
    (fix,) = finding.fixes
    assert fix.proof["databases"] >= 10
    assert "same_rows" in fix.proof


def test_a_statement_that_writes_is_tried_where_nothing_is_lost(folder: Path) -> None:
    sql = "UPDATE users SET code = 0 WHERE date(created_at) = '2024-05-01'"
    (finding,) = findings(folder, sql, "query/function-on-column", data=(str(folder / "rows.sql"),))
    proof = finding.fixes[0].proof
    assert proof["databases"] >= 10
    assert "same_rows" not in proof


def test_a_live_server_is_proven_on_a_database_of_our_own(
    folder: Path, make_database: Callable[..., Any]
) -> None:
    database = make_database(
        "CREATE SCHEMA shop; CREATE TABLE shop.users (id bigint PRIMARY KEY, created_at timestamptz);"
    )
    with database.connect() as connection:
        connection.execute(
            f"ALTER DATABASE {database.name} SET search_path = shop".encode(), prepare=False
        )
    path = folder / "q.sql"
    path.write_text("SELECT id FROM users WHERE date(created_at) = '2024-05-01';\n")
    report = audit([str(path)], Options(dsn=database.dsn, fix="write"))
    assert report.problems == ()
    assert path.read_text() == (
        "SELECT id FROM users WHERE created_at >= '2024-05-01' AND created_at < '2024-05-02';\n"
    )
    with database.connect() as connection:
        assert connection.execute("SELECT count(*) FROM shop.users").fetchone() == (0,)
