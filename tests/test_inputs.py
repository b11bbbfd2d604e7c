"""Bad input: one clear line each, exit code 2, and the findings of everything else kept."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from sqladvisor.finding import InputProblem
from sqladvisor.sql import inputs

BAD_QUERY = "SELECT u.id FROM users u LEFT JOIN orders o ON o.user_id = u.id WHERE o.total > 5;\n"
RULE = "query/outer-join-nullified"
MEMORY = 1_500_000_000
"""Bytes of address space for each run."""


CPU_S = 90
"""Processor seconds for each run: six times what the worst takes, however busy the machine is."""


def limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))


def audit(folder: Path, *arguments: str, stdin: bytes = b"") -> tuple[int, str]:
    """Exit code and report; nothing on standard error, bounded in memory and processor time."""
    done = subprocess.run(
        [sys.executable, "-m", "sqladvisor", "audit", *arguments],
        input=stdin,
        capture_output=True,
        cwd=folder,
        env={**os.environ, "NO_COLOR": "1"},
        preexec_fn=limit,
        check=False,
    )
    assert done.stderr == b""
    return done.returncode, done.stdout.decode()


def problems(report: str) -> list[str]:
    return [line for line in report.splitlines() if ": cannot audit: " in line]


def check(folder: Path, arguments: Sequence[str], expected: Sequence[str]) -> str:
    """Audit the inputs with a good file before and after them: only they are complained about."""
    for name in ("first.sql", "last.sql"):
        (folder / name).write_text(BAD_QUERY)
    code, report = audit(folder, "first.sql", *arguments, "last.sql")
    assert problems(report) == list(expected)
    assert code == 2
    for name in ("first.sql", "last.sql"):
        assert f"{name}:1:71  warning  {RULE}" in report
    return report


CONTENTS: list[tuple[str, bytes, list[str]]] = [
    ("empty", b"", ["x.sql: cannot audit: empty file"]),
    (
        "binary",
        b"\x7fELF\x02\n\x00\x00",
        ["x.sql:2: cannot audit: binary file (NUL byte), not SQL text"],
    ),
    (
        "NUL byte",
        b"SELECT 1;\nSELECT '\x00';\n",
        ["x.sql:2: cannot audit: binary file (NUL byte), not SQL text"],
    ),
    (
        "NUL byte far inside",
        BAD_QUERY.encode() + b"-" * 70_000 + b"\nSELECT '\x00';\n",
        ["x.sql:3:9: cannot audit: a NUL byte, which PostgreSQL cannot store in text"],
    ),
    (
        "Latin-1",
        b"SELECT 1;\nSELECT '\xe9';\n",
        ["x.sql:2: cannot audit: not valid UTF-8 (byte 0xe9); read as Latin-1"],
    ),
    (
        "10,000 parentheses",
        b"SELECT 1;\n SELECT " + b"(" * 10_000 + b"1" + b")" * 10_000 + b";\n",
        ["x.sql:2:2: cannot audit: nested too deeply to be read"],
    ),
    (
        "10,000 subqueries",
        b"SELECT * FROM " + b"(SELECT * FROM " * 10_000 + b"t" + b") x" * 10_000,
        ["x.sql:1:1: cannot audit: nested too deeply to be read"],
    ),
    (
        "10,000 calls",
        b"SELECT " + b"f(" * 10_000 + b"1" + b")" * 10_000,
        ["x.sql:1:1: cannot audit: nested too deeply to be read"],
    ),
    (
        "10,000 operators",
        b"SELECT 1" + b" + 1" * 10_000,
        ["x.sql:1:1: cannot audit: nested too deeply to be read"],
    ),
    (
        "10,000 open parentheses",
        b"SELECT " + b"(" * 10_000 + b";\nSELECT 1;\n",
        ["x.sql:1:1: cannot audit: nested too deeply to be read"],
    ),
    (
        "10,000 nested comments",
        b"/*" * 10_000 + b"\nx;",
        ["x.sql:1:1: cannot audit: unterminated comment"],
    ),
    (
        "COPY without end",
        b"COPY t FROM stdin;\n1\t2\n",
        ["x.sql:2:1: cannot audit: COPY data: no end of data (\\.)"],
    ),
    (
        "three errors",
        b"SELEC 1;\nSELECT 1;\n SELECT 'x;\nSELECT (;\n",
        [
            'x.sql:1:1: cannot audit: syntax error at or near "SELEC"',
            "x.sql:3:9: cannot audit: unterminated quoted string",
            "x.sql:4:9: cannot audit: syntax error at end of input",
        ],
    ),
    (
        "terminal controls",
        "SELECT 1 1 '\x1b[31m\u202e';".encode(),
        ['x.sql:1:10: cannot audit: syntax error at or near "1"'],
    ),
]


@pytest.mark.parametrize(
    ("content", "expected"), [c[1:] for c in CONTENTS], ids=[c[0] for c in CONTENTS]
)
def test_files(tmp_path: Path, content: bytes, expected: list[str]) -> None:
    (tmp_path / "x.sql").write_bytes(content)
    check(tmp_path, ["x.sql"], expected)


def test_paths(tmp_path: Path) -> None:
    (tmp_path / "void" / "deep.sql").mkdir(parents=True)
    (tmp_path / "dangling.sql").symlink_to("nowhere")
    (tmp_path / "loop.sql").symlink_to("loop.sql")
    (tmp_path / "file.sql").write_text("SELECT 1;")
    check(
        tmp_path,
        [
            "missing.sql",
            "void",
            "void/deep.sql",
            "*.nothing",
            "dangling.sql",
            "loop.sql",
            "file.sql/x",
        ],
        [
            "missing.sql: cannot audit: no such file or directory",
            "void: cannot audit: no .sql files in this directory, nor programs",
            "void/deep.sql: cannot audit: no .sql files in this directory, nor programs",
            "*.nothing: cannot audit: no file matches this pattern",
            "file.sql/x: cannot audit: no such file or directory",
            "dangling.sql: cannot audit: cannot be read: No such file or directory",
            "loop.sql: cannot audit: cannot be read: Too many levels of symbolic links",
        ],
    )


def test_what_stands_in_directories(tmp_path: Path) -> None:
    """Named like a file, linked in a circle, empty, hidden, a pipe nobody writes to."""
    inner = tmp_path / "all" / "b.sql"
    inner.mkdir(parents=True)
    (inner / "q.SQL").write_text(BAD_QUERY)
    (inner / "up").symlink_to(tmp_path / "all")
    (inner / "loop.sql").symlink_to(inner / "loop.sql")
    (inner / "later.down.sql").write_bytes(b"")
    (inner / ".hidden.sql").write_text("x")
    os.mkfifo(inner / "pipe.sql")
    report = check(
        tmp_path,
        ["all"],
        ["all/b.sql/loop.sql: cannot audit: cannot be read: Too many levels of symbolic links"],
    )
    assert f"all/b.sql/q.SQL:1:71  warning  {RULE}" in report


def test_a_directory_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Permission denied: root may read everything, so the system's answer is made up."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "a.sql").write_text("SELECT 1;")
    scandir = os.scandir

    def denied(folder: str) -> object:
        if folder.endswith("secret"):
            raise PermissionError(13, "Permission denied", folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", denied)
    files, found = inputs.expand([str(tmp_path)])
    assert files == [str(tmp_path / "a.sql")]
    assert found == [InputProblem(str(tmp_path / "secret"), "cannot be read: Permission denied")]


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret.sql"
    secret.write_text(BAD_QUERY)
    secret.chmod(0)
    if os.geteuid() == 0:
        return  # who may read everything; loop.sql above goes the same way
    check(tmp_path, ["secret.sql"], ["secret.sql: cannot audit: cannot be read: Permission denied"])


def test_a_file_too_large_to_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "MAX_FILE", 1024 * 1024)
    path = tmp_path / "huge.sql"
    path.write_bytes(b" " * (1024 * 1024 + 1))
    assert inputs.load(str(path)) == InputProblem(str(path), "not read: more than 1 MB")


def test_the_same_file_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "q.sql").write_text(BAD_QUERY)
    (tmp_path / "link.sql").symlink_to("q.sql")
    code, report = audit(
        tmp_path, "q.sql", "./q.sql", ".", "*.sql", str(tmp_path / "q.sql"), "link.sql"
    )
    assert code == 0
    assert report.count(RULE) == 1
    assert "1 statement in 1 file" in report


def test_standard_input(tmp_path: Path) -> None:
    text = ("-- é\r\n" + BAD_QUERY).encode()
    code, report = audit(tmp_path, "-", stdin=text)
    assert code == 0
    assert f"<stdin>:2:71  warning  {RULE}" in report
    code, report = audit(tmp_path, "-", "gone.sql", stdin=b"\x00")
    assert code == 2
    assert problems(report) == [
        "gone.sql: cannot audit: no such file or directory",
        "<stdin>:1: cannot audit: binary file (NUL byte), not SQL text",
    ]


LONG = 50 * 1024 * 1024
HUGE: list[tuple[str, bytes, list[str]]] = [
    (
        "one INSERT",
        b"INSERT INTO t VALUES "
        + b",".join([b"(123456, 'some text', 1.5)"] * (LONG // 27))
        + b";\n",
        ["x.sql:1:1: cannot audit: a statement of 50 MB is not audited (limit 8 MB)"],
    ),
    (
        "one string",
        b"SELECT '" + b"x" * LONG + b"';\n",
        ["x.sql:1:1: cannot audit: a statement of 50 MB is not audited (limit 8 MB)"],
    ),
    (
        "an open quote",
        b"SELECT '" + b"x\n" * (LONG // 2) + b";\n",
        ["x.sql:1:8: cannot audit: unterminated quoted string"],
    ),
    ("COPY data", b"COPY t FROM stdin;\n" + b"1\tsome text here\n" * (LONG // 17) + b"\\.\n", []),
    ("blank lines", b"\n" * LONG, []),
]


@pytest.mark.parametrize(("content", "expected"), [h[1:] for h in HUGE], ids=[h[0] for h in HUGE])
def test_fifty_megabytes(tmp_path: Path, content: bytes, expected: list[str]) -> None:
    """Read in bounded memory; what follows the huge statement is audited."""
    (tmp_path / "x.sql").write_bytes(content + BAD_QUERY.encode())
    code, report = audit(tmp_path, "x.sql")
    assert problems(report) == expected
    assert code == (2 if expected else 0)
    assert RULE in report


LEGAL: list[tuple[str, str]] = [
    ("20,000 terms", "SELECT * FROM t WHERE " + " OR ".join(f"a = {i}" for i in range(20_000))),
    (
        "20,000 conditions",
        "SELECT * FROM t WHERE " + " AND ".join(f"a <> {i}" for i in range(20_000)),
    ),
    ("20,000 columns", "SELECT " + ", ".join(f"t.c{i}" for i in range(20_000)) + " FROM t"),
    ("20,000 rows", "INSERT INTO t (a, b) VALUES " + ", ".join(["(1, 'x')"] * 20_000)),
    ("500 unions", "SELECT 1" + " UNION ALL SELECT a FROM t" * 500),
    ("90 subqueries", "SELECT x FROM t" + " WHERE x IN (SELECT x FROM t" * 90 + ")" * 90),
    ("200 calls", "SELECT a FROM t WHERE " + "lower(" * 200 + "a" + ")" * 200 + " = 'x'"),
    ("400 concatenations", "SELECT a" + " || b" * 400 + " FROM t WHERE a = b" + " || c" * 400),
    ("90 nested ORs", "SELECT a FROM t WHERE " + "(a = 1 AND (b = 1 OR " * 90 + "c" + "))" * 90),
]


@pytest.mark.parametrize("sql", [s for _, s in LEGAL], ids=[name for name, _ in LEGAL])
def test_statements_that_are_only_large(tmp_path: Path, sql: str) -> None:
    """Legal, so audited: no rule runs out of stack, none takes quadratic time."""
    (tmp_path / "x.sql").write_text(f"{sql};\n{BAD_QUERY}")
    code, report = audit(tmp_path, "x.sql", "--fail-on", "never")
    assert problems(report) == []
    assert code == 0
    assert RULE in report
