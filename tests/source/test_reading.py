"""What is taken for SQL, what is known of what a program puts in, and what nothing may break."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sqladvisor.auditor import Options, audit
from sqladvisor.engine import Selection
from sqladvisor.finding import Finding
from sqladvisor.source.read import read_program
from sqladvisor.sql.statement import Hole, Statement

FIXTURES = Path(__file__).parents[2] / "fixtures" / "source"
SUFFIXES = ("py", "go", "js", "ts", "tsx", "java", "kt", "rb", "php", "rs", "cs")


def read(code: str, name: str = "x.py") -> list[Statement]:
    program = read_program(name, code.encode())
    assert not program.problems, program.problems
    return program.statements


def holes(code: str, name: str = "x.py") -> list[Hole]:
    (statement,) = read(code, name)
    assert statement.embedding
    return list(statement.embedding.holes)


def findings(code: str, tmp_path: Path, name: str = "x.py") -> list[Finding]:
    path = tmp_path / name
    path.write_text(code, encoding="utf-8")
    selected = Selection(select=("query/string-concatenated-sql",))
    report = audit([str(path)], Options(selection=selected))
    assert not report.problems
    return list(report.findings)


# -- what is SQL ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "select one",
        "select all from the list",
        "select a file from disk",
        "Select red, green, blue from the palette",
        "SELECT ALL FROM LIST",
        "update available",
        "Update the name, set it to x = y",
        "delete this",
        "delete from cart",
        "Delete from cart",
        "DELETE FROM CART",
        "insert coin",
        "create user admin",
        "truncate file",
        "with love",
        "begin",
        "commit",
        "SELECT",
        "select from",
        "explain yourself",
        "SELECT name FROM users WHERE (unbalanced",
        "SELECT * FROM `users` WHERE id = 1",
        r"\\d users; SELECT * FROM users",
        "COPY t FROM stdin;\\n1\\n\\\\.\\n",
    ],
)
def test_a_sentence_is_no_sql(text: str) -> None:
    assert read(f'label = "{text}"  # select x from y') == []


@pytest.mark.parametrize(
    "code",
    [
        'x = "SELECT name FROM users"',
        'x = "select name from users where id = 1"',
        'x = "select * from users"',
        'x = "select u.name from users u"',
        'db.execute("select name from users")',
        'query = "select name, age from users"',
        'x = "INSERT INTO users (a) VALUES (%s)"',
        'x = "UPDATE users SET a = 1"',
        'x = "-- by name\\nSELECT name FROM users"',
        'x = "WITH a AS (SELECT 1 AS n) SELECT n FROM a"',
        'x = "(SELECT a FROM t) UNION ALL SELECT b FROM u"',
        'x = "SELECT refresh_totals(%s)"',
        'x = "BEGIN; DELETE FROM users WHERE id = 1; COMMIT"',
        'x = """\n   SELECT name\n   FROM users;\n"""',
    ],
)
def test_sql_is_sql(code: str) -> None:
    assert read(code)


@pytest.mark.parametrize(
    "code",
    [
        'log.info("update users set a = 1 where id = 2")',
        'logging.getLogger(__name__).error("select * from users")',
        'print("select * from users")',
        'raise ValueError("select * from users")',
        'assert found, "select * from users"',
        'parser.add_argument("--x", help="select * from users")',
        'def f():\n    """select * from users"""',
        'x = b"select * from users"',
    ],
)
def test_what_is_said_is_no_sql(code: str) -> None:
    assert read(code) == []


# -- what is put in ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("name", "value"),
        ("user.name", "value"),
        ("request.args['name']", "value"),
        ("TABLE", "constant"),
        ("Tables.USERS", "constant"),
        ("ALLOWED[key]", "constant"),
        ("'a' if x else 'b'", "constant"),
        ("int(n)", "number"),
        ("len(ids)", "number"),
        ("', '.join(['%s'] * n)", "marks"),
        ("','.join('?' for _ in ids)", "marks"),
        ("placeholders", "marks"),
        ("', '.join(placeholders)", "marks"),
        ("', '.join(names)", "value"),
        ("', '.join(str(i) for i in ids)", "value"),
        ("quote_ident(name)", "quoted"),
        ("conn.escape_string(name)", "quoted"),
    ],
)
def test_what_an_expression_gives(expression: str, expected: str) -> None:
    (hole,) = holes(f'cur.execute("SELECT id FROM t WHERE a IN (" + ({expression}) + ")")')
    assert hole.given == expected


def test_constants_are_read_and_variables_are_not() -> None:
    (one,) = read('T = "users"\ncur.execute(f"SELECT id FROM {T} WHERE a = 1")')
    assert one.text == "SELECT id FROM users WHERE a = 1"
    (two,) = read('T = "a"\nT = other()\ncur.execute(f"SELECT id FROM {T} WHERE a = 1")')
    assert two.embedding
    assert two.embedding.partial
    (three,) = read('def f(t):\n  cur.execute(f"SELECT id FROM {t} WHERE a = 1")\nt = "x"')
    assert three.embedding
    assert three.embedding.partial


def test_a_clause_leaves_the_rest_unjudged(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_text('def f(where):\n    cur.execute(f"SELECT * FROM a, b {where} LIMIT 5")\n')
    report = audit([str(path)])
    assert (report.statements, report.findings) == (1, ())


# -- the fix ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "code", "fixed"),
    [
        (
            "x.py",
            "cur.execute(f\"SELECT a FROM t WHERE b = '{x}'\")",
            "SELECT a FROM t WHERE b = %s",
        ),
        (
            "x.py",
            "cur.execute(f\"SELECT a FROM t WHERE b LIKE '10%' AND c LIKE '{x}_{y}%'\")",
            "SELECT a FROM t WHERE b LIKE '10%%' AND c LIKE %s || '_' || %s || '%%'",
        ),
        (
            "x.py",
            "cur.execute(f\"SELECT a FROM t WHERE b = '{x}' AND c = %(c)s\", {})",
            "SELECT a FROM t WHERE b = %(x)s AND c = %(c)s",
        ),
        (
            "x.py",
            "import asyncpg\ncur.fetch(f\"SELECT a FROM t WHERE b = $1 AND c = '{x}' AND d = '{x}'\", 1)",
            "SELECT a FROM t WHERE b = $1 AND c = $2 AND d = $2",
        ),
        (
            "x.py",
            "import sqlalchemy\ncur.execute(text(f\"SELECT a FROM t WHERE b = '{u.x}'\"))",
            "SELECT a FROM t WHERE b = :x",
        ),
        (
            "x.go",
            'package p\nfunc f() { db.Query("SELECT a FROM t WHERE b = \'" + x + "\' AND c = \'" + y + "\'") }',
            "SELECT a FROM t WHERE b = $1 AND c = $2",
        ),
        (
            "x.java",
            'class A { void f() { db.query("SELECT a FROM t WHERE b = \'" + x + "\'"); } }',
            "SELECT a FROM t WHERE b = ?",
        ),
        ("x.js", "db.query(`SELECT a FROM t WHERE b = '${x}'`)", "SELECT a FROM t WHERE b = $1"),
        (
            "x.cs",
            "class A { void F() { db.Q($\"SELECT a FROM t WHERE b = '{x}'\"); } }",
            "SELECT a FROM t WHERE b = @x",
        ),
        (
            "x.py",
            "cur.execute(f\"SELECT a FROM t WHERE b < now() - interval '{n} days'\")",
            "SELECT a FROM t WHERE b < now() - CAST(%s || ' days' AS interval)",
        ),
    ],
)
def test_parameters_as_the_library_writes_them(
    name: str, code: str, fixed: str, tmp_path: Path
) -> None:
    (finding,) = findings(code, tmp_path, name)
    assert [fix.sql for fix in finding.fixes] == [fixed]


# -- files and directories --------------------------------------------------------------------------


def test_a_directory_stands_for_programs_too(tmp_path: Path) -> None:
    query = 'db.execute("SELECT * FROM users")\n'
    for name in ("a.py", "vendor/b.py", "node_modules/c.py", ".venv/d.py", "lib/e.py", "f.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(query)
    report = audit([str(tmp_path)])
    assert sorted(Path(f.location.path).name for f in report.findings) == ["a.py", "e.py"]
    assert audit([str(tmp_path / "vendor" / "b.py")]).statements == 1


def test_a_missing_parser_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.go", "b.go", "c.rs"):
        (tmp_path / name).write_text('"SELECT * FROM users"')
    (tmp_path / "no_sql.go").write_text("package main")
    monkeypatch.setattr("sqladvisor.source.read.find_spec", lambda _: None)
    below = audit([str(tmp_path)])
    assert below.problems == ()
    assert below.notes == (
        "the SQL in 3 files of Go and Rust was not read: pip install 'sqladvisor[source]'",
    )
    named = audit([str(tmp_path / "a.go"), str(tmp_path / "b.go")])
    assert [p.message for p in named.problems] == [
        "the parser for Go is not installed, and 1 more file like it: "
        "pip install 'sqladvisor[source]'"
    ]


def test_a_program_that_cannot_be_parsed_is_named_only_if_it_has_sql(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("def (:\n")
    assert audit([str(tmp_path / "a.py")]).problems == ()
    (tmp_path / "a.py").write_text('x = "SELECT a FROM t"\ndef (:\n')
    (problem,) = audit([str(tmp_path / "a.py")]).problems
    assert problem.line == 2


def test_literals_are_not_a_batch(tmp_path: Path) -> None:
    rows = [f"INSERT INTO t (a) VALUES ({i})" for i in range(20)]
    (tmp_path / "apart.py").write_text("".join(f'db.execute("{r}")\n' for r in rows))
    (tmp_path / "script.py").write_text(f'db.execute("""{";".join(rows)}""")\n')
    options = Options(selection=Selection(select=("batch", "prepare")))
    assert audit([str(tmp_path / "apart.py")], options).findings == ()
    assert audit([str(tmp_path / "script.py")], options).findings


def test_sql_files_need_nothing_of_this(tmp_path: Path) -> None:
    import subprocess
    import sys

    (tmp_path / "q.sql").write_text("SELECT 1")
    code = (
        "import sys; from sqladvisor import audit; audit(['q.sql']);"
        "print([m for m in sys.modules if m.startswith(('sqladvisor.source', 'tree_sitter'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


# -- whatever a file holds --------------------------------------------------------------------------

PARTS = st.sampled_from(
    ["SELECT a FROM t WHERE b = ", "'", '"', '"""', "`", "{", "}", "${", "#{", "$x", "{{", "%s", "%(a)s",
     "\\", "\\u12", "\\x", "\\N{", "\\U0011", "\n", "\r", "\r\n", "f'", 'f"""', "r#\"", "<<~SQL\n", "SQL\n",
     "<<<SQL\n", "+", " . ", "(", ")", "--", "/*", "*/", ";", "é", "𝒳", "\x00", "sql`", "format!(", "$$",
     ".format(", " % ", "?", ",", "x = ", "{% ", "}}", "$1", ":a", "/* sqladvisor: ignore query/select-star x */",
     "# sqladvisor: ignore a/b c\n"]
)  # fmt: skip


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(SUFFIXES), st.lists(st.one_of(PARTS, st.text(max_size=5)), max_size=25))
@example("py", ["x = 'SELECT a FROM t WHERE b = ", "\\N{", "'"])
@example("py", ["(" * 300, "'select a from t'", ")" * 300])
def test_no_content_makes_a_reader_raise(suffix: str, parts: list[str]) -> None:
    text = "/* select a from b */ " * (suffix != "py") + "# select a from b\n" + "".join(parts)
    check_places(f"x.{suffix}", text)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_no_broken_program_makes_a_reader_raise(data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(sorted(FIXTURES.glob("*rders.*"))))
    text = path.read_text(encoding="utf-8")
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 60)))
    check_places(path.name, text[:start] + data.draw(PARTS) + text[end:])


def check_places(name: str, text: str) -> None:
    """Read a file, and see that every place of a statement is in it."""
    program = read_program(name, text.encode(errors="replace"))
    lines = program.text.split("\n")
    for statement in program.statements:
        last = (1, 1)
        for offset in range(len(statement.text) + 1):
            at = statement.locate(offset, offset)
            assert 1 <= at.line <= len(lines)
            assert 1 <= at.column <= len(lines[at.line - 1]) + 1
            assert last <= (at.line, at.column)
            last = (at.line, at.column)
