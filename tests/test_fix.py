"""`audit --fix` writes proven rewrites back, and nothing else; `--diff` only shows them."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from sqladvisor.auditor import Options, audit
from sqladvisor.errors import InputError
from sqladvisor.report.model import Report
from sqladvisor.server.embedded import Cluster
from sqladvisor.server.measure import contents
from sqladvisor.server.sandbox import Sandbox
from sqladvisor.sql.effects import writes
from sqladvisor.sql.source import read_source, statements

SHOP = Path(__file__).parent.parent / "fixtures" / "shop"
SCHEMA = """
CREATE TABLE users (id bigint PRIMARY KEY, email text NOT NULL, referrer_id bigint REFERENCES users,
    city text, created_at timestamptz NOT NULL);
CREATE TABLE orders (id bigint PRIMARY KEY, user_id bigint NOT NULL REFERENCES users,
    total numeric, created_at timestamptz NOT NULL);
"""
DAY = "SELECT id FROM orders WHERE date(created_at) = '2024-05-01'"
FIXED_DAY = "SELECT id FROM orders WHERE created_at >= '2024-05-01' AND created_at < '2024-05-02'"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "schema.sql").write_text(SCHEMA)
    return tmp_path


def fix(folder: Path, data: bytes | str, how: str = "write", name: str = "q.sql") -> Report:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return audit([str(path)], Options(schema=(str(folder / "schema.sql"),), fix=how))  # type: ignore[arg-type]


def after(folder: Path, name: str = "q.sql") -> bytes:
    return (folder / name).read_bytes()


def test_only_the_predicate_changes(folder: Path) -> None:
    before = f"-- Größe: ∞\n\n{DAY} /* kept */  -- and this\n;;\nSELECT 'ä' ;\n\n"
    report = fix(folder, before)
    assert after(folder).decode() == before.replace(DAY, FIXED_DAY)
    assert [n for n in report.notes if "query/function-on-column fixed" in n]
    assert not [f for f in report.findings if f.rule == "query/function-on-column"]


@pytest.mark.parametrize(
    ("mark", "codec"),
    [(b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")],
)
def test_encoding_and_mark_are_kept(folder: Path, mark: bytes, codec: str) -> None:
    text = f"-- Prüfung\n{DAY};\n"
    fix(folder, mark + text.encode(codec))
    assert after(folder) == mark + text.replace(DAY, FIXED_DAY).encode(codec)


def test_a_file_of_unknown_encoding_is_left_alone(folder: Path) -> None:
    before = f"-- Gr\xf6\xdfe\n{DAY};\n".encode("latin-1")
    report = fix(folder, before)
    assert after(folder) == before
    assert [n for n in report.notes if "encoding" in n]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_are_kept(folder: Path, end: str) -> None:
    lines = ["-- x", "SELECT DISTINCT u.id, u.email", "FROM users u", "JOIN orders o",
             "  ON o.user_id = u.id", "WHERE o.total > 5;", "SELECT 1;", ""]  # fmt: skip
    fix(folder, end.join(lines))
    text = after(folder).decode()
    assert "EXISTS" in text
    for other in {"\n", "\r\n", "\r"} - {end}:
        assert other not in text.replace(end, "")


def test_mode_and_links_are_kept(folder: Path) -> None:
    real = folder / "real.sql"
    real.write_text(f"{DAY};\n")
    real.chmod(0o640)
    (folder / "q.sql").symlink_to(real)
    audit([str(folder / "q.sql")], Options(schema=(str(folder / "schema.sql"),), fix="write"))
    assert (folder / "q.sql").is_symlink()
    assert real.read_text() == f"{FIXED_DAY};\n"
    assert real.stat().st_mode & 0o7777 == 0o640
    assert sorted(p.name for p in folder.iterdir()) == ["q.sql", "real.sql", "schema.sql"]


def test_several_rewrites_of_one_statement(folder: Path) -> None:
    before = (
        "SELECT user_id, count(*) FROM orders WHERE date(created_at) = '2024-05-01' "
        "AND extract(year FROM created_at) = 2024 GROUP BY user_id HAVING user_id > 5;\n"
    )
    fix(folder, before)
    text = after(folder).decode()
    assert "HAVING" not in text
    assert "date(" not in text
    assert "extract" not in text
    report = fix(folder, text)
    assert after(folder).decode() == text
    assert not [n for n in report.notes if " fixed: " in n]


def test_placeholders_psql_and_copy_stay_as_they_are(folder: Path) -> None:
    before = (
        "\\set day '2024-05-01'\n"
        "SELECT id FROM orders WHERE user_id = :user AND date(created_at) = '2024-05-01';\n"
        "SELECT id FROM orders WHERE user_id = %(user)s AND date(created_at) = '2024-05-01';\n"
        "SELECT id FROM orders WHERE user_id = ? AND date(created_at) = '2024-05-01' AND total > ?;\n"
        "COPY users (id, email) FROM stdin;\n1\tdate(created_at) = '2024-05-01'\n\\.\n"
        "SELECT id FROM orders WHERE user_id = $1 AND date(created_at) = '2024-05-01' \\gx\n"
    )
    fix(folder, before)
    expected = before.replace(
        "AND date(created_at) = '2024-05-01'",
        "AND created_at >= '2024-05-01' AND created_at < '2024-05-02'",
    )
    assert after(folder).decode() == expected


def test_a_choice_is_left_to_people(folder: Path) -> None:
    before = (
        "SELECT u.email, o.id FROM users u LEFT JOIN orders o ON o.user_id = u.id WHERE o.total > 5;\n"
        "SELECT email FROM users WHERE id NOT IN (SELECT referrer_id FROM users);\n"
    )
    fix(folder, before)
    assert after(folder).decode() == before


def test_a_suppressed_finding_is_not_fixed(folder: Path) -> None:
    kept = f"-- sqladvisor: ignore query/function-on-column the archive is small\n{DAY};\n"
    fix(folder, kept + f"{DAY};\n")
    assert after(folder).decode() == kept + f"{FIXED_DAY};\n"


def test_programs_are_left_alone(folder: Path) -> None:
    before = f'query = "{DAY}"\n'
    report = fix(folder, before, name="q.py")
    assert after(folder, "q.py").decode() == before
    assert [n for n in report.notes if "only files of SQL" in n]


def test_only_selected_rules_fix(folder: Path) -> None:
    from sqladvisor.engine import Selection

    path = folder / "q.sql"
    path.write_text(f"{DAY};\n")
    options = Options(
        schema=(str(folder / "schema.sql"),),
        fix="write",
        selection=Selection(ignore=("query/function-on-column",)),
    )
    audit([str(path)], options)
    assert path.read_text() == f"{DAY};\n"


def test_what_is_not_proven_is_not_written(folder: Path) -> None:
    before = "SELECT id FROM nowhere WHERE date(created_at) = '2024-05-01';\n"
    fix(folder, before)
    assert after(folder).decode() == before


def test_a_comment_that_would_be_lost_stops_the_fix(folder: Path) -> None:
    before = "SELECT id FROM orders WHERE date(created_at /* UTC! */) = '2024-05-01';\n"
    report = fix(folder, before)
    assert after(folder).decode() == before
    assert [n for n in report.notes if "a comment would be lost" in n]


def test_diff_writes_nothing(folder: Path) -> None:
    before = f"SELECT 1;\r\n{DAY};"
    report = fix(folder, before, "diff")
    assert after(folder).decode() == before
    path = folder / "q.sql"
    assert report.details["diff"] == (
        f"--- {path}\n+++ {path}\n@@ -1,2 +1,2 @@\n SELECT 1;\r\n"
        f"-{DAY};\n\\ No newline at end of file\n+{FIXED_DAY};\n\\ No newline at end of file\n"
    )


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sqladvisor", "audit", "q.sql", *arguments],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_command_line(folder: Path) -> None:
    (folder / "q.sql").write_text(f"{DAY};\n")
    for option in ("--fix", "--diff"):
        without = run(folder, option)
        assert without.returncode == 2
        assert "need --schema or --dsn" in without.stderr
    shown = run(folder, "--diff", "--schema", "schema.sql")
    assert shown.returncode == 1
    assert shown.stdout.startswith("--- q.sql\n+++ q.sql\n")
    assert "q.sql:1: query/function-on-column can be fixed" in shown.stderr
    assert (folder / "q.sql").read_text() == f"{DAY};\n"
    fixed = run(folder, "--fix", "--schema", "schema.sql")
    assert fixed.returncode == 0
    assert "q.sql:1: query/function-on-column fixed" in fixed.stdout
    assert (folder / "q.sql").read_text() == f"{FIXED_DAY};\n"
    again = run(folder, "--diff", "--schema", "schema.sql")
    assert (again.returncode, again.stdout) == (0, "")


def test_standard_input_cannot_be_fixed(folder: Path) -> None:
    options = Options(schema=(str(folder / "schema.sql"),), fix="write")
    with pytest.raises(InputError, match="standard input"):
        audit(["-"], options)


def test_a_file_that_cannot_be_written_is_a_problem(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk, as the system says it: permissions would not stop root."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("sqladvisor.fix.tempfile.mkstemp", full)
    report = fix(folder, f"{DAY};\n")
    assert [p for p in report.problems if "not written back: No space left" in p.message]
    assert after(folder) == f"{DAY};\n".encode()


# -- the shop -----------------------------------------------------------------------------------


def returned(connection: psycopg.Connection, path: Path) -> list[object]:
    """What each reading statement without parameters returns, in file order."""
    found, problems = statements(read_source(str(path), path.read_bytes()))
    assert not problems
    return [
        None
        if writes(s.kind, s.tree) or s.placeholders or "random()" in s.text
        else contents(connection, s.sql)
        for s in found
    ]


def test_the_fixed_shop_returns_the_same_rows(tmp_path: Path, cluster: Cluster) -> None:
    data = tmp_path / "data"
    subprocess.run(
        [sys.executable, str(SHOP / "generate.py"), "--out", str(data), "--scale", "0.01"],
        check=True, capture_output=True,
    )  # fmt: skip
    queries, before = tmp_path / "queries.sql", tmp_path / "before.sql"
    for path in (queries, before):
        path.write_bytes((SHOP / "queries.sql").read_bytes())
    options = Options(schema=(str(SHOP / "schema.sql"),), data=(str(data),), fix="write")
    report = audit([str(queries)], options)
    assert report.problems == ()
    fixed = [n for n in report.notes if " fixed: " in n]
    assert len(fixed) >= 8, report.notes
    assert "date(created_at)" not in queries.read_text()
    sandbox = Sandbox(cluster, "fixed_shop")
    try:
        sandbox.load_schema([str(SHOP / "schema.sql")], lambda _: None)
        sandbox.load_data([str(data)], lambda _: None)
        with sandbox.connect() as connection:
            rows = returned(connection, before)
            assert rows == returned(connection, queries)
            assert sum(r is not None for r in rows) > 40
    finally:
        cluster.drop_database("fixed_shop")
