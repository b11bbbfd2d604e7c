"""The program as users run it: arguments, exit codes, one line for each mistake."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from sqladvisor.report.json import schema

BAD_QUERY = "SELECT u.id FROM users u LEFT JOIN orders o ON o.user_id = u.id WHERE o.total > 5;\n"
GOOD_QUERY = "SELECT id, name FROM users WHERE id = 1;\n"


def sqladvisor(*arguments: str, stdin: bytes = b"", cwd: Path | None = None, **env: str):  # type: ignore[no-untyped-def]
    return subprocess.run(
        [sys.executable, "-m", "sqladvisor", *arguments],
        input=stdin,
        capture_output=True,
        cwd=cwd,
        env={**os.environ, "NO_COLOR": "1", **env},
        timeout=120,
        check=False,
    )


def test_a_finding_is_shown_on_its_line_with_its_fix(tmp_path: Path) -> None:
    (tmp_path / "q.sql").write_text("-- first\n" + BAD_QUERY)
    done = sqladvisor("audit", "q.sql", cwd=tmp_path)
    text = done.stdout.decode()
    assert done.returncode == 0, "a warning is below the default --fail-on error"
    assert "q.sql:2:71  warning  query/outer-join-nullified" in text
    assert "2 | " + BAD_QUERY.strip() in text
    assert "INNER JOIN orders o ON o.user_id = u.id WHERE o.total > 5;" in text
    assert done.stderr == b""


@pytest.mark.parametrize(("fail_on", "code"), [("warning", 1), ("error", 0), ("never", 0)])
def test_fail_on_decides_the_exit_code(tmp_path: Path, fail_on: str, code: int) -> None:
    (tmp_path / "q.sql").write_text(BAD_QUERY)
    assert sqladvisor("audit", "q.sql", "--fail-on", fail_on, cwd=tmp_path).returncode == code


def test_standard_input(tmp_path: Path) -> None:
    done = sqladvisor("audit", "-", stdin=BAD_QUERY.encode(), cwd=tmp_path)
    assert "<stdin>:1:71" in done.stdout.decode()


def test_json_validates_against_the_shipped_schema(tmp_path: Path) -> None:
    (tmp_path / "q.sql").write_text(BAD_QUERY + "selec 1;\n" + GOOD_QUERY)
    done = sqladvisor("audit", "q.sql", "--format", "json", cwd=tmp_path)
    document = json.loads(done.stdout)
    jsonschema.validate(document, schema())
    assert document["summary"]["statements"] == 2
    assert document["errors"] == [
        {"path": "q.sql", "line": 2, "column": 1, "message": 'syntax error at or near "selec"'}
    ]
    assert document["findings"][0]["location"]["column"] == 71
    assert done.returncode == 2


def test_a_mistake_never_hides_the_other_findings(tmp_path: Path) -> None:
    (tmp_path / "q.sql").write_text("SELECT FROM WHERE;\nSELECT 'x FROM t;\n\n" + BAD_QUERY)
    done = sqladvisor("audit", "q.sql", "nowhere.sql", cwd=tmp_path)
    text = done.stdout.decode()
    assert done.returncode == 2
    assert "q.sql:1:13: cannot audit: syntax error" in text
    assert "q.sql:2:8: cannot audit: unterminated quoted string" in text
    assert "nowhere.sql: cannot audit: no such file or directory" in text
    assert "query/outer-join-nullified" in text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("binary.sql", b"\x7fELF\x00\x01\x02", "binary file (NUL byte), not SQL text"),
        ("nul.sql", b"SELECT 1;\nSELECT '\x00';", "binary file (NUL byte), not SQL text"),
        ("latin.sql", "SELECT 'é';".encode("latin-1"), "not valid UTF-8 (byte 0xe9)"),
        ("deep.sql", b"SELECT " + b"(" * 10_000 + b"1" + b")" * 10_000, "nested too deeply"),
        ("chain.sql", b"SELECT 1" + b"+1" * 10_000, "nested too deeply"),
        ("copy.sql", b"COPY t FROM stdin;\n1\n", "no end of data"),
    ],
)
def test_unusable_input_is_one_line_and_exit_2(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    (tmp_path / "ok.sql").write_text(BAD_QUERY)
    done = sqladvisor("audit", name, "ok.sql", cwd=tmp_path)
    text = done.stdout.decode()
    assert done.returncode == 2
    assert [line for line in text.splitlines() if "cannot audit" in line and message in line]
    assert "Traceback" not in text + done.stderr.decode()
    assert "query/outer-join-nullified" in text


def test_empty_file_and_directory_without_sql(tmp_path: Path) -> None:
    (tmp_path / "empty.sql").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    done = sqladvisor("audit", "empty.sql", cwd=tmp_path)
    assert done.returncode == 2
    assert "empty.sql: cannot audit: empty file" in done.stdout.decode()
    done = sqladvisor("audit", "folder", cwd=tmp_path)
    assert done.returncode == 2
    assert "folder: cannot audit: no .sql files in this directory" in done.stdout.decode()


def test_directories_and_globs(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b.sql"
    inner.mkdir(parents=True)
    (inner / "q.sql").write_text(BAD_QUERY)
    (tmp_path / "a" / "link").symlink_to(tmp_path / "a")
    for argument in ("a", "a/**/*.sql"):
        done = sqladvisor("audit", argument, cwd=tmp_path)
        assert "a/b.sql/q.sql:1:71" in done.stdout.decode()
        assert "1 statement in 1 file" in done.stdout.decode()


def test_unreadable_file_as_an_ordinary_user(tmp_path: Path) -> None:
    secret = tmp_path / "secret.sql"
    secret.write_text(BAD_QUERY)
    secret.chmod(0)
    if os.geteuid() == 0:
        target = tmp_path / "loop.sql"
        target.symlink_to(target)
        done = sqladvisor("audit", "loop.sql", cwd=tmp_path)
    else:
        done = sqladvisor("audit", "secret.sql", cwd=tmp_path)
    assert done.returncode == 2
    assert "cannot be read" in done.stdout.decode()


def test_report_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "q.sql").write_text(GOOD_QUERY)
    done = sqladvisor("audit", "q.sql", "-o", "no/such/dir/report", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.decode() == (
        "sqladvisor: no/such/dir/report: cannot be written: No such file or directory\n"
    )


def test_terminal_controls_in_a_file_are_shown_not_obeyed(tmp_path: Path) -> None:
    (tmp_path / "q.sql").write_text(BAD_QUERY.replace("> 5", "> '\x1b[31m\u202e5'"))
    text = sqladvisor("audit", "q.sql", cwd=tmp_path).stdout.decode()
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "\\x1b[31m\\u202e5" in text


def test_caret_stands_under_the_predicate_behind_wide_characters(tmp_path: Path) -> None:
    (tmp_path / "q.sql").write_text(BAD_QUERY.replace("u.id FROM", "'中é' FROM", 1))
    lines = sqladvisor("audit", "q.sql", cwd=tmp_path).stdout.decode().splitlines()
    quoted, caret = lines[2], lines[3]
    before = quoted[: quoted.index("o.total > 5")]
    assert caret.index("^") == len(before) + 1, "中 takes two columns"
    assert caret.count("^") == len("o.total > 5")


def test_suppression_needs_a_reason_and_a_use(tmp_path: Path) -> None:
    rule = "query/outer-join-nullified"
    (tmp_path / "ok.sql").write_text(f"-- sqladvisor: ignore {rule} only paid orders\n{BAD_QUERY}")
    (tmp_path / "bare.sql").write_text(f"-- sqladvisor: ignore {rule}\n{BAD_QUERY}")
    (tmp_path / "unused.sql").write_text(f"{GOOD_QUERY}-- sqladvisor: ignore {rule} why not\n")
    ok = sqladvisor("audit", "ok.sql", "--fail-on", "info", cwd=tmp_path)
    assert ok.returncode == 0
    assert "1 suppressed" in ok.stdout.decode()
    bare = sqladvisor("audit", "bare.sql", cwd=tmp_path).stdout.decode()
    assert rule in bare
    assert "suppression/without-reason" in bare
    (tmp_path / "all.sql").write_text(f"-- sqladvisor: ignore\n{BAD_QUERY}")
    everything = sqladvisor("audit", "all.sql", cwd=tmp_path).stdout.decode()
    assert rule in everything
    assert "no rule and no reason given to ignore: not honoured" in everything
    assert "suppression/unused" in sqladvisor("audit", "unused.sql", cwd=tmp_path).stdout.decode()


def test_select_and_ignore(tmp_path: Path) -> None:
    (tmp_path / "q.sql").write_text(BAD_QUERY)
    assert b"no findings" in sqladvisor("audit", "q.sql", "--ignore", "query", cwd=tmp_path).stdout
    done = sqladvisor("audit", "q.sql", "--select", "query/no-such-rule", cwd=tmp_path)
    assert done.returncode == 2
    assert b"no rule matches 'query/no-such-rule'" in done.stderr


def test_configuration_file(tmp_path: Path) -> None:
    (tmp_path / "q.sql").write_text(BAD_QUERY)
    config = tmp_path / "sqladvisor.toml"
    config.write_text('ignore = ["query/outer-join-nullified"]\n')
    assert b"no findings" in sqladvisor("audit", "q.sql", cwd=tmp_path).stdout
    config.write_text("ignor = []\n")
    done = sqladvisor("audit", "q.sql", cwd=tmp_path)
    assert done.returncode == 2
    assert b"unknown setting 'ignor'" in done.stderr
    config.write_text("ignore = [\n")
    assert b"not valid TOML" in sqladvisor("audit", "q.sql", cwd=tmp_path).stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[rule."query/nothing"]\nx = 1\n', b"no rule 'query/nothing' to configure"),
        ('[rule."query/leading-wildcard-like"]\nx = 1\n', b"has no threshold 'x'"),
        (
            '[rule."query/leading-wildcard-like"]\ntrigram_characters = "many"\n',
            b"trigram_characters must be a number",
        ),
    ],
)
def test_a_misspelt_threshold_is_not_ignored(tmp_path: Path, text: str, said: bytes) -> None:
    (tmp_path / "q.sql").write_text(BAD_QUERY)
    (tmp_path / "sqladvisor.toml").write_text(text)
    done = sqladvisor("audit", "q.sql", cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_rules_of_kinds_that_are_not_loaded_may_be_ignored(tmp_path: Path) -> None:
    (tmp_path / "q.sql").write_text("SELECT 1;")
    for pattern in ("plan/sort-spill", "plan", "query/would-fail"):
        assert sqladvisor("audit", "q.sql", "--ignore", pattern, cwd=tmp_path).returncode == 0
    assert sqladvisor("audit", "q.sql", "--ignore", "query/nothing", cwd=tmp_path).returncode == 2


def test_thresholds_of_kinds_that_are_not_loaded_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "q.sql").write_text("SELECT 1;")
    config = '[rule."plan/seq-scan-filtering"]\nmin_removed_rows = 50000\n'
    (tmp_path / "sqladvisor.toml").write_text(config)
    assert sqladvisor("audit", "q.sql", cwd=tmp_path).returncode == 0


def test_baseline_leaves_only_new_findings(tmp_path: Path) -> None:
    (tmp_path / "q.sql").write_text(BAD_QUERY)
    sqladvisor("audit", "q.sql", "--write-baseline", "base.json", cwd=tmp_path)
    (tmp_path / "q.sql").write_text("SELECT 1;\n" * 3 + BAD_QUERY)
    known = sqladvisor("audit", "q.sql", "--baseline", "base.json", cwd=tmp_path)
    assert b"no findings" in known.stdout
    (tmp_path / "q.sql").write_text(BAD_QUERY * 2)
    new = sqladvisor("audit", "q.sql", "--baseline", "base.json", cwd=tmp_path)
    assert new.stdout.count(b"query/outer-join-nullified") == 1


def test_user_rule_pack(tmp_path: Path) -> None:
    pack = tmp_path / "pack" / "query"
    pack.mkdir(parents=True)
    (pack / "no_select_one.py").write_text(
        '"""Nobody selects one."""\n'
        "from sqladvisor.rule import rule\n"
        "from sqladvisor.sql.tree import constant\n\n"
        '@rule("ResTarget", severity="error")\n'
        "def check(target, ctx):\n"
        '    if constant(target.get("val", {})) == 1:\n'
        '        yield ctx.finding(target["val"], "one is selected")\n'
    )
    (tmp_path / "q.sql").write_text("SELECT 1;\n")
    done = sqladvisor("audit", "q.sql", "--rules", "pack", cwd=tmp_path)
    assert done.returncode == 1
    assert b"q.sql:1:8  error  query/no-select-one" in done.stdout
    (pack / "broken.py").write_text("def (:\n")
    done = sqladvisor("audit", "q.sql", "--rules", "pack", cwd=tmp_path)
    assert done.returncode == 2
    assert b"pack/query/broken.py: rule cannot be loaded" in done.stderr


def test_plain_audit_and_the_full_command_line_agree(tmp_path: Path) -> None:
    """The start-up shortcut is the same command: same bytes, same code."""
    (tmp_path / "q.sql").write_text(BAD_QUERY + "selec;\n")
    for arguments in (
        ["q.sql"],
        ["q.sql", "--format", "json", "--fail-on", "info"],
        ["q.sql", "--select", "query", "--ignore", "query/select-star", "-v"],
    ):
        plain = sqladvisor("audit", *arguments, cwd=tmp_path)
        full = sqladvisor("audit", *arguments, "--timeout", "30", cwd=tmp_path)
        assert (plain.returncode, plain.stdout) == (full.returncode, full.stdout)


def test_help_names_every_command_and_the_exit_codes() -> None:
    text = sqladvisor("--help", COLUMNS="120").stdout.decode()
    for word in ("audit", "demo", "rules", "rule", "Exit codes"):
        assert word in text
    text = sqladvisor("audit", "--help", COLUMNS="120").stdout.decode()
    for option in ("--schema", "--data", "--dsn", "--analyze", "--fail-on", "--baseline"):
        assert option in text


def test_usage_mistakes_exit_with_2() -> None:
    done = sqladvisor("audit", "--no-such-option", "x.sql")
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr


def test_shell_completion_is_offered() -> None:
    done = sqladvisor("--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert b"_SQLADVISOR_COMPLETE" in done.stdout


def test_rules_and_rule() -> None:
    listing = sqladvisor("rules").stdout.decode()
    assert "query/outer-join-nullified" in listing
    assert "index/missing" in listing
    one = sqladvisor("rule", "query/outer-join-nullified").stdout.decode()
    assert "Why:" in one
    wrong = sqladvisor("rule", "query/outer-join-nulified")
    assert wrong.returncode == 2
    assert b"did you mean query/outer-join-nullified?" in wrong.stderr


def test_further_reports_of_the_same_run_go_to_their_files(tmp_path: Path) -> None:
    (tmp_path / "q.sql").write_text(BAD_QUERY)
    done = sqladvisor(
        "audit", "q.sql", "--also", "sarif=out.sarif", "--also=junit=out.xml", "--fail-on", "warning",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1
    assert "q.sql:1:71  warning" in done.stdout.decode()
    (run,) = json.loads((tmp_path / "out.sarif").read_text())["runs"]
    assert [r["ruleId"] for r in run["results"]] == ["query/outer-join-nullified"]
    assert 'failures="1"' in (tmp_path / "out.xml").read_text()


@pytest.mark.parametrize("value", ["sarif", "sarif=", "pdf=x", "=x"])
def test_a_further_report_that_cannot_be_is_refused_before_the_work(
    tmp_path: Path, value: str
) -> None:
    done = sqladvisor("audit", "nowhere.sql", "--also", value, cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == b""
    said = " ".join(done.stderr.decode().replace("│", " ").split())
    assert "takes FORMAT=FILE (formats: text, json, sarif" in said and "Traceback" not in said


def test_github_gets_annotations_and_the_summary_of_its_step(tmp_path: Path) -> None:
    (tmp_path / "q.sql").write_text(BAD_QUERY)
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    env = {"GITHUB_STEP_SUMMARY": str(summary), "GITHUB_WORKSPACE": str(tmp_path)}
    done = sqladvisor("audit", "q.sql", "--format", "github", cwd=tmp_path, **env)
    assert done.stdout.decode().startswith("::warning file=q.sql,line=1,col=71,")
    assert summary.read_text().startswith("before\n### sqladvisor audit: 1 warning in 1 statement")
    sqladvisor("audit", "q.sql", "--format", "json", cwd=tmp_path, **env)
    assert summary.read_text().count("### sqladvisor") == 1, "other formats leave it alone"
    done = sqladvisor(
        "audit", "q.sql", "--format", "github", cwd=tmp_path, GITHUB_STEP_SUMMARY="/no/such/file"
    )
    assert done.returncode == 2
    assert done.stderr.decode().startswith("sqladvisor: /no/such/file: the step's summary cannot")


@pytest.mark.parametrize("form", ["sarif", "junit", "github", "gitlab", "markdown"])
def test_explain_gives_its_findings_in_every_format(tmp_path: Path, form: str) -> None:
    (tmp_path / "plan.txt").write_text(
        "Seq Scan on orders  (cost=0.00..20000.00 rows=5 width=8) (actual time=0.1..300.0 rows=5 loops=1)\n"
        "  Filter: (total > 5)\n  Rows Removed by Filter: 1000000\n"
        "Planning Time: 0.1 ms\nExecution Time: 301.0 ms\n"
    )
    done = sqladvisor("explain", "plan.txt", "--format", form, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "plan/seq-scan-filtering" in done.stdout.decode()
    if form == "markdown":
        assert "Seq Scan on orders" in done.stdout.decode(), "the plan itself"


def test_a_static_audit_loads_neither_a_driver_nor_a_command_line(tmp_path: Path) -> None:
    """Each would take longer to import than the audit of a small file takes."""
    (tmp_path / "x.sql").write_text("SELECT * FROM orders LIMIT 5;\n")
    script = (
        "import sys\n"
        "from sqladvisor import __main__ as entry\n"
        "sys.argv = ['sqladvisor', 'audit', 'x.sql', '--fail-on', 'never']\n"
        "try:\n    entry.main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "heavy = {'psycopg', 'sqlglot', 'typer', 'tree_sitter', 'starlette', 'highspy'}\n"
        "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
