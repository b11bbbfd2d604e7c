"""One program per language: which of its literals are SQL, where they stand, what is found in them.

A place is written as the test's reader would look for it: line, column, and the file's own text
from there to where the finding ends.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from sqladvisor.auditor import Options, audit
from sqladvisor.engine import Selection
from sqladvisor.source.read import read_program

FIXTURES = Path(__file__).parents[2] / "fixtures" / "source"

CALL, PUT_IN = "query/function-on-column", "query/string-concatenated-sql"

STATEMENT_LINES = {
    "orders.py": [11, 12, 14, 21, 26, 27, 28, 29, 30, 31, 32, 34],
    "orders.go": [8, 9, 11, 14, 16, 17, 18, 19, 20, 21, 23],
    "orders.ts": [6, 7, 9, 12, 14, 15, 16, 17, 18, 19, 20, 21, 22, 24],
    "Orders.java": [9, 13, 14, 16, 20, 22, 23, 24, 25, 26, 28],
    "Orders.kt": [6, 7, 9, 13, 14],
    "orders.rb": [4, 5, 6, 8, 12, 14, 15, 16, 17, 18, 19, 21],
    "orders.php": [5, 6, 7, 9, 14, 16, 17, 18, 19, 20, 22],
    "orders.rs": [4, 5, 7, 10, 12, 13, 14, 15, 16, 17, 18, 20],
    "Orders.cs": [5, 6, 8, 12, 14, 16, 17, 18, 19, 20, 22],
}
"""The lines on which SQL begins: nothing logged, thrown, printed or said is among them."""

PLACES = {
    "orders.py": [
        (CALL, 12, 50, r"lower(\x65mail) = %s"),
        (CALL, 16, 17, "lower(name) = 'Ünï'"),
        (CALL, 23, 16, "lower(größe) = 'é'"),
        (PUT_IN, 26, 62, "'{name}'"),
        (CALL, 26, 75, "lower(status) = {status!r}"),
        (PUT_IN, 27, 57, "name"),
        (CALL, 27, 71, "lower(email) = 'x'"),
        (PUT_IN, 28, 52, "'%s'"),
        (PUT_IN, 29, 49, "{}"),
        (CALL, 30, 62, "lower(name) = 'x'"),
        (PUT_IN, 31, 30, "{table}"),
    ],
    "orders.go": [
        (CALL, 9, 44, r"lower(\u0065mail) = $1"),
        (CALL, 13, 10, "lower(größe) = 'é'"),
        (CALL, 15, 10, "lower(name) = 'Ünï'"),
        (PUT_IN, 16, 58, "'%s'"),
        (PUT_IN, 19, 48, "name"),
        (PUT_IN, 20, 39, "%s"),
    ],
    "orders.ts": [
        (CALL, 7, 49, r"lower(\u{65}mail) = $1"),
        (CALL, 11, 12, "lower(größe) = 'é'"),
        (CALL, 13, 12, "lower(name) = 'Ünï'"),
        (PUT_IN, 14, 53, "'${name}'"),
        (PUT_IN, 17, 55, "name"),
        (PUT_IN, 18, 34, "${other}"),
        (CALL, 19, 40, "lower(name) = ${name}"),
        (CALL, 20, 71, "lower(name) = $name!"),
        (CALL, 21, 53, "lower(name) = 'x'"),
        (PUT_IN, 22, 65, "${name}"),
    ],
    "Orders.java": [
        (CALL, 9, 47, "lower(name) = :name"),
        (CALL, 14, 62, r"lower(\u0065mail) = ?"),
        (CALL, 18, 20, "lower(größe) = 'é'"),
        (CALL, 21, 22, "lower(name) = 'Ünï'"),
        (PUT_IN, 22, 83, "name"),
        (PUT_IN, 23, 78, "'%s'"),
        (PUT_IN, 26, 83, "name"),
    ],
    "Orders.kt": [
        (CALL, 7, 58, r"lower(\u0065mail) = ?"),
        (CALL, 11, 16, "lower(größe) = 'é'"),
        (PUT_IN, 11, 46, "'$name'"),
        (PUT_IN, 13, 74, "'${other.name}'"),
    ],
    "orders.rb": [
        (CALL, 5, 44, r"lower(\u0065mail) = $1"),
        (CALL, 6, 39, r"lower(name) = \'Ünï\'"),
        (CALL, 10, 12, "lower(größe) = 'é'"),
        (PUT_IN, 10, 42, "'#{name}'"),
        (CALL, 13, 18, "lower(name) = 'x'"),
        (PUT_IN, 14, 43, "'#{name}'"),
        (PUT_IN, 15, 51, "name"),
        (PUT_IN, 16, 46, "'%s'"),
    ],
    "orders.php": [
        (CALL, 6, 49, r"lower(\u{65}mail) = ?"),
        (CALL, 7, 44, r"lower(name) = \'Ünï\'"),
        (CALL, 11, 16, "lower(größe) = 'é'"),
        (PUT_IN, 11, 46, "'$name'"),
        (CALL, 14, 36, "lower(name) = 'x'"),
        (PUT_IN, 16, 48, "'{$other->name}'"),
        (PUT_IN, 17, 56, "$name"),
        (PUT_IN, 18, 59, "'%s'"),
    ],
    "orders.rs": [
        (CALL, 5, 47, r"lower(\u{65}mail) = $1"),
        (CALL, 9, 16, "lower(größe) = 'é'"),
        (CALL, 11, 21, "lower(name) = 'Ünï'"),
        (CALL, 12, 46, "lower(name) = $1"),
        (PUT_IN, 13, 58, "'{}'"),
        (PUT_IN, 14, 55, "'{name}'"),
        (PUT_IN, 15, 68, "name"),
        (CALL, 17, 54, "lower(name) = 'y'"),
    ],
    "Orders.cs": [
        (CALL, 6, 51, r"lower(\u0065mail) = @email"),
        (CALL, 10, 20, "lower(größe) = 'é'"),
        (CALL, 12, 40, "lower(name) = 'raw'"),
        (CALL, 15, 20, "lower(name) = 'Ünï'"),
        (PUT_IN, 16, 54, "'{name}'"),
        (PUT_IN, 17, 55, "name"),
        (PUT_IN, 18, 67, "'{0}'"),
    ],
}


@pytest.mark.parametrize("name", STATEMENT_LINES)
def test_takes_the_sql_and_nothing_else(name: str) -> None:
    program = read_program(str(FIXTURES / name), (FIXTURES / name).read_bytes())
    assert (program.problems, program.missing) == ([], "")
    assert [s.line for s in program.statements] == STATEMENT_LINES[name]


@pytest.mark.parametrize("name", PLACES)
def test_finds_each_thing_at_its_place(name: str) -> None:
    path = FIXTURES / name
    report = audit([str(path)], Options(selection=Selection(select=(CALL, PUT_IN))))
    lines = path.read_text(encoding="utf-8").splitlines()
    found = []
    for finding in report.findings:
        at = finding.location
        assert at.line == at.end_line
        written = lines[at.line - 1][at.column - 1 : at.end_column - 1]
        found.append((finding.rule, at.line, at.column, written))
    assert found == PLACES[name]


@pytest.mark.parametrize("name", [n for n in PLACES if n != "Orders.kt"])
def test_a_comment_of_the_language_suppresses(name: str) -> None:
    report = audit([str(FIXTURES / name)])
    assert report.suppressed == 1
    assert not [f for f in report.findings if f.rule.startswith("suppression/")]


@pytest.mark.parametrize(
    ("name", "places"),
    [
        ("sqlc.sql", [("query/function-on-column", 5, 55, "lower(größe) = sqlc.narg(size)")]),
        ("pgtyped.sql", [("query/function-on-column", 4, 43, "lower(name) = :name!")]),
    ],
)
def test_annotated_queries(name: str, places: list[tuple[str, int, int, str]]) -> None:
    path = FIXTURES / name
    report = audit([str(path)], Options(selection=Selection(select=(CALL,))))
    assert (report.problems, report.statements) == ((), 3)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [
        (f.rule, at.line, at.column, lines[at.line - 1][at.column - 1 : at.end_column - 1])
        for f in report.findings
        for at in [f.location]
    ] == places


def test_a_mistake_in_an_annotated_file_is_reported_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "q.sql"
    path.write_text("-- name: A :one\nSELECT sqlc.embed(größe), sqlc.arg(n) FROM FROM t;\n")
    (problem,) = audit([str(path)]).problems
    assert (problem.line, problem.column) == (2, 44)
