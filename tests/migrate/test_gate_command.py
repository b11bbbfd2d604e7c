"""The gate as users run it: arguments, exit codes, suppression, baseline, one line for mistakes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from sqladvisor.report.json import schema

INDEX = "SET lock_timeout = '1s';\nCREATE INDEX i ON users (email);\n"


def run(*arguments: str, cwd: Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "sqladvisor", "gate", "--no-trace", *arguments],
        input=stdin,
        capture_output=True,
        cwd=cwd,
        env={**os.environ, "NO_COLOR": "1", "XDG_CACHE_HOME": str(cwd / ".cache")},
        timeout=120,
        check=False,
    )


def test_an_error_fails_the_gate_and_shows_lock_line_and_safe_sequence(tmp_path: Path) -> None:
    (tmp_path / "1.sql").write_text(INDEX)
    done = run("1.sql", cwd=tmp_path)
    text = done.stdout.decode()
    assert done.returncode == 1
    assert "1.sql:2:1  error  migration/create-index" in text
    assert "CREATE INDEX takes SHARE, which blocks writes on users" in text
    assert "CREATE INDEX CONCURRENTLY i ON users (email);" in text
    assert done.stderr == b""


def test_a_warning_does_not_fail_by_default(tmp_path: Path) -> None:
    (tmp_path / "1.sql").write_text("ALTER TABLE users ADD COLUMN a int;")
    assert run("1.sql", cwd=tmp_path).returncode == 0
    assert run("1.sql", "--fail-on", "warning", cwd=tmp_path).returncode == 1


def test_a_table_of_the_same_set_gives_no_findings(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "1.sql").write_text("CREATE TABLE users (id int PRIMARY KEY, email text, n int);")
    (folder / "2.sql").write_text(
        "CREATE INDEX i ON users (email);\nALTER TABLE users ALTER COLUMN id TYPE bigint;\n"
        "ALTER TABLE users ALTER COLUMN email SET NOT NULL;\nUPDATE users SET n = 1;\n"
        "ALTER TABLE users ADD CONSTRAINT c CHECK (n > 0);\nALTER TABLE users DROP COLUMN n;\n"
        "ALTER TABLE users ADD COLUMN u uuid DEFAULT gen_random_uuid();\n"
    )
    done = run("m", cwd=tmp_path)
    assert b"no findings in 8 statements in 2 files" in done.stdout
    each = run("m", "--each", cwd=tmp_path)
    assert each.returncode == 1, "deployed one by one, the table holds rows"
    assert b"migration/create-index" in each.stdout


def test_earlier_migrations_as_the_schema_are_applied_and_not_judged(tmp_path: Path) -> None:
    (tmp_path / "1.sql").write_text(
        "CREATE TABLE users (id int PRIMARY KEY, email text NOT NULL);" + INDEX
    )
    (tmp_path / "2.sql").write_text("ALTER TABLE users ALTER COLUMN email SET NOT NULL;")
    (tmp_path / "3.sql").write_text("CREATE UNIQUE INDEX j ON users (id);")
    done = run(".", "--schema", "1.sql", "--schema", "2.sql", "--format", "json", cwd=tmp_path)
    document = json.loads(done.stdout)
    assert {f["location"]["path"] for f in document["findings"]} == {"3.sql"}
    assert document["summary"]["statements"] == 1


def test_json_validates_against_the_shipped_schema(tmp_path: Path) -> None:
    (tmp_path / "1.sql").write_text(INDEX + "SELEC 1;\n")
    done = run("1.sql", "--format", "json", cwd=tmp_path)
    assert done.returncode == 2, "what cannot be parsed is no pass"
    document = json.loads(done.stdout)
    jsonschema.validate(document, schema())
    evidence = document["findings"][0]["evidence"]
    assert evidence["lock"] == "SHARE"
    assert evidence["relation"] == "public.users"
    assert evidence["work"] == "build"
    assert document["errors"][0]["line"] == 3


def test_standard_input(tmp_path: Path) -> None:
    done = run("-", cwd=tmp_path, stdin=INDEX.encode())
    assert done.returncode == 1
    assert b"<stdin>:2:1  error" in done.stdout


def test_suppression_needs_a_reason_and_must_be_of_use(tmp_path: Path) -> None:
    (tmp_path / "1.sql").write_text(
        "SET lock_timeout = '1s';\n"
        "-- sqladvisor: ignore migration/create-index the table is small in every region\n"
        "CREATE INDEX i ON users (email);\n"
        "-- sqladvisor: ignore migration/create-index\n"
        "CREATE INDEX j ON users (name);\n"
        "-- sqladvisor: ignore migration/drop-index nothing to drop\n"
        "SELECT 1;\n"
    )
    done = run("1.sql", "--format", "json", cwd=tmp_path)
    got = [(f["rule"], f["location"]["line"]) for f in json.loads(done.stdout)["findings"]]
    assert got == [
        ("suppression/without-reason", 4), ("migration/create-index", 5), ("suppression/unused", 6),
    ]  # fmt: skip


def test_suppression_for_a_table_that_only_counts_as_new_is_not_called_unused(
    tmp_path: Path,
) -> None:
    (tmp_path / "1_users.sql").write_text("CREATE TABLE users (id bigint, email text);")
    reason = "-- sqladvisor: ignore migration/create-index, migration/drop-table no rows anywhere\n"
    (tmp_path / "2_index.sql").write_text(
        f"SET lock_timeout = '1s';\n{reason}CREATE INDEX i ON users (email);\n"
        f"CREATE TABLE t (id int);\n{reason}CREATE INDEX j ON t (id);\n"
    )

    def found(*options: str) -> list[tuple[str, int]]:
        done = run(".", "--format", "json", "--no-trace", *options, cwd=tmp_path)
        findings = json.loads(done.stdout)["findings"]
        return [(f["rule"], f["location"]["line"]) for f in findings]

    # Of the migration's own table nothing can be said however it is judged.
    assert found() == [("suppression/unused", 5)]
    assert found("--each") == [("suppression/unused", 5)]


def test_a_diff_names_the_line_of_what_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "1.sql").write_text("SELECT 1;\nALTR TABLE x;\n")
    done = run("1.sql", "--diff", cwd=tmp_path)
    assert done.returncode == 2
    assert b'1.sql:2:1: cannot audit: syntax error at or near "ALTR"' in done.stderr


def test_baseline_leaves_out_what_it_knows(tmp_path: Path) -> None:
    (tmp_path / "1.sql").write_text(INDEX)
    assert run("1.sql", "--write-baseline", "b.json", cwd=tmp_path).returncode == 0
    assert run("1.sql", "--baseline", "b.json", cwd=tmp_path).returncode == 0
    (tmp_path / "1.sql").write_text("-- moved\n" + INDEX + "DROP INDEX k;\nREINDEX TABLE users;\n")
    done = run("1.sql", "--baseline", "b.json", cwd=tmp_path)
    assert done.returncode == 1
    assert b"migration/create-index" not in done.stdout
    assert b"migration/reindex" in done.stdout


def test_downs_are_judged_only_when_asked(tmp_path: Path) -> None:
    (tmp_path / "1_a.up.sql").write_text("SELECT 1;")
    (tmp_path / "1_a.down.sql").write_text("SET lock_timeout = '1s';\nREINDEX TABLE users;")
    assert run(".", cwd=tmp_path).returncode == 0
    done = run(".", "--judge-down", cwd=tmp_path)
    assert done.returncode == 1
    assert b"1_a.down.sql:2:1  error  migration/reindex" in done.stdout


def test_pg_version_decides_what_is_said(tmp_path: Path) -> None:
    (tmp_path / "1.sql").write_text("ALTER TABLE users ALTER COLUMN email SET NOT NULL;")
    assert (
        b"CHECK (email IS NOT NULL) NOT VALID"
        in run("1.sql", "--pg-version", "15", cwd=tmp_path).stdout
    )
    assert b"NOT NULL email NOT VALID" in run("1.sql", cwd=tmp_path).stdout


def test_rules_can_be_selected_and_configured(tmp_path: Path) -> None:
    (tmp_path / "1.sql").write_text("ALTER TABLE users ADD COLUMN a int;\n" + INDEX)
    done = run("1.sql", "--select", "migration/lock-timeout-missing", cwd=tmp_path)
    assert b"migration/create-index" not in done.stdout
    assert b"migration/lock-timeout-missing" in done.stdout
    (tmp_path / "sqladvisor.toml").write_text(
        '[rule."migration/lock-timeout-missing"]\nconnection_lock_timeout_ms = 500\n'
    )
    assert b"migration/lock-timeout-missing" not in run("1.sql", cwd=tmp_path).stdout


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("nowhere",), b"nowhere: cannot audit: no such file"),
        ((".",), b".: cannot audit: no .sql files in this directory"),
        (("1.sql", "--runner", "liquibase"), b"sqladvisor: no runner 'liquibase' (known: sqitch"),
        (("1.sql", "--base", "main"), b"sqladvisor: --base: not a git repository"),
        (("1.sql", "--select", "migration/none"), b"sqladvisor: no rule matches 'migration/none'"),
        (("1.sql", "--schema", "gone.sql"), b"gone.sql: cannot audit: no such file"),
        (("1.sql", "--schema", "a.sql", "--dsn", "x"), b"give one of them"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    tmp_path: Path, arguments: tuple[str, ...], line: bytes
) -> None:
    if "1.sql" in arguments:
        (tmp_path / "1.sql").write_text("SELECT 1;")
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert line in done.stdout + done.stderr
    assert b"Traceback" not in done.stderr


def test_the_short_way_and_the_full_command_line_agree(tmp_path: Path) -> None:
    (tmp_path / "1.sql").write_text(INDEX)
    plain = run("1.sql", "--format", "json", cwd=tmp_path)
    full = run("1.sql", "--format", "json", "--min-rows-for-error", "10000", cwd=tmp_path)
    assert plain.stdout == full.stdout
    assert plain.returncode == full.returncode


def test_a_server_gives_the_schema_and_the_rows(tmp_path: Path, make_database) -> None:  # type: ignore[no-untyped-def]
    database = make_database(
        "CREATE TABLE users (id int PRIMARY KEY, email text); CREATE TABLE few (id int);"
        "INSERT INTO users SELECT i, i FROM generate_series(1, 20000) i; INSERT INTO few VALUES (1);"
        "ANALYZE;"
    )
    (tmp_path / "1.sql").write_text(
        "SET lock_timeout = '1s';\nCREATE INDEX i ON users (email);\nCREATE INDEX j ON few (id);\n"
    )
    done = run("1.sql", "--dsn", database.dsn, "--format", "json", cwd=tmp_path)
    found = {
        f["location"]["line"]: f
        for f in json.loads(done.stdout)["findings"]
        if f["rule"] == "migration/create-index"
    }
    assert found[2]["severity"] == "error"
    assert found[2]["evidence"]["rows"] == 20000
    assert found[3]["severity"] == "info", "one row is indexed at once"
