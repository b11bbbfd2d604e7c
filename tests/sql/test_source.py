"""SQL files as statements: exact places, psql, COPY, placeholders, and what one mistake may spoil."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import Any

import pytest

from sqladvisor.finding import InputProblem
from sqladvisor.sql import placeholders, split
from sqladvisor.sql import source as module
from sqladvisor.sql.libpg import Parsed
from sqladvisor.sql.source import (
    CopyData,
    MetaCommand,
    Source,
    comments,
    read_source,
    script,
    statements,
)
from sqladvisor.sql.statement import Statement
from sqladvisor.sql.tree import walk


def read(text: str | bytes) -> tuple[list[Statement], list[InputProblem]]:
    return statements(read_source("f.sql", text.encode() if isinstance(text, str) else text))


def placed(text: str | bytes) -> list[tuple[int, int, str]]:
    found, problems = read(text)
    assert not problems
    return [(s.line, s.column, s.text) for s in found]


def the(text: str) -> Statement:
    found, problems = read(text)
    assert not problems, problems
    assert len(found) == 1
    return found[0]


def errors(text: str | bytes) -> list[str]:
    return [f"{p.line}:{p.column}: {p.message}" for p in read(text)[1]]


# -- places -------------------------------------------------------------------------------------

MIXED = "-- é\nSELECT 'ü', 𝛼 FROM t ;\n\n\tSELECT 2 -- tail\n;/* 中 */ SELECT 'é' AS \"ñ\";"
PLACES = [(2, 1, "SELECT 'ü', 𝛼 FROM t"), (4, 2, "SELECT 2"), (5, 10, "SELECT 'é' AS \"ñ\"")]


@pytest.mark.parametrize(
    "data",
    [
        MIXED.encode(),
        codecs.BOM_UTF8 + MIXED.encode(),
        MIXED.encode("utf-16"),
        codecs.BOM_UTF16_BE + MIXED.encode("utf-16-be"),
        MIXED.replace("\n", "\r\n").encode(),
        MIXED.replace("\n", "\r").encode(),
        # the tolerant splitter gives the same places as PostgreSQL's parser
        (MIXED + "\n\\q\n").encode(),
        codecs.BOM_UTF8 + (MIXED + "\nbroken;").replace("\n", "\r\n").encode(),
    ],
    ids=["utf-8", "bom", "utf-16-le", "utf-16-be", "crlf", "old mac", "psql", "broken"],
)
def test_places_count_characters(data: bytes) -> None:
    assert [(s.line, s.column, s.text) for s in read(data)[0]] == PLACES


@pytest.mark.parametrize("psql", ["", "\n\\q"])
def test_locations_of_nodes_are_characters_of_the_statement(psql: str) -> None:
    found, _ = read(f"/* é */ SELECT 'é', b FROM t;\n\tSELECT '中中', c,\r\n é.d FROM é{psql}")
    names = {}
    for s in found:
        for kind, node in walk(s.kind, s.tree):
            if kind == "ColumnRef":
                offset = node["location"]
                at = s.locate(s.to_text(offset))
                names[s.text[s.to_text(offset) :][:3]] = (at.line, at.column)
    assert names == {"b F": (1, 21), "c,\r": (2, 15), "é.d": (3, 2)}


def test_a_span_of_several_lines() -> None:
    (s,) = read("\n  SELECT a,\n    é\nFROM t")[0]
    at = s.locate(7, len(s.text))
    assert (at.line, at.column, at.end_line, at.end_column) == (2, 10, 4, 7)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELEC 1;", ['1:1: syntax error at or near "SELEC"']),
        ("SELECT 1;\nSELECT é, FROM t", ['2:11: syntax error at or near "FROM"']),
        ("SELECT 1;\n  SELECT (é\n;", ["2:12: syntax error at end of input"]),
        ("\r\n\tSELECT 'é' é é;", ['2:15: syntax error at or near "é"']),
        ("SELECT :x, y y y", ['1:16: syntax error at or near "y"']),
        ("SELECT {{ long_name }}, y y y", ['1:29: syntax error at or near "y"']),
        (
            "SELECT a a 'long\nliteral " + "x" * 500 + "'",
            ["1:12: syntax error at or near \"'long literal " + "x" * 121 + "…"],
        ),
    ],
)
def test_an_error_is_one_line_at_its_character(text: str, expected: list[str]) -> None:
    assert errors(text) == expected


@pytest.mark.parametrize(
    ("data", "problem", "kept"),
    [
        (b"SELECT 1;\nSELECT '\xe9';", "2:None: not valid UTF-8 (byte 0xe9); read as Latin-1", 2),
        (b"SELECT 1;\nSELECT\x00 2;", "2:None: binary file (NUL byte), not SQL text", 0),
        (codecs.BOM_UTF16_LE + b"S\x00\x00", "None:None: not valid UTF-16", 0),
        (
            b"SELECT 1;\n" + b" " * 65536 + b"SELECT '\x00';\nSELECT 2;",
            "2:65545: a NUL byte, which PostgreSQL cannot store in text",
            2,
        ),
        ("SELECT 1;\nSELECT '\0'".encode("utf-16"),
         "2:9: a NUL byte, which PostgreSQL cannot store in text", 1),
    ],
)  # fmt: skip
def test_bytes_that_are_no_text(data: bytes, problem: str, kept: int) -> None:
    assert errors(data) == [problem]
    assert len(read(data)[0]) == kept


@pytest.mark.parametrize("data", [b"", b"\n \t\r\n", b";;\n; -- x\n/* y */", codecs.BOM_UTF8])
def test_nothing_is_no_statement_and_no_error(data: bytes) -> None:
    assert read(data) == ([], [])


# -- lexing -------------------------------------------------------------------------------------

WHOLE = [
    "SELECT 'a;b', 'it''s; ', E'it\\'s; \\\\', e'\\\\', U&'\\0041;', n';', b'1', x'f'",
    'SELECT "a;""b", U&"\\0041;"',
    "SELECT $$ ; ' $$, $tag$ ; $$ ' $tag$, $é$;$é$",
    "SELECT 1 /* ; /* nested ; */ ' */ + 1",
    "SELECT 1 -- ; '\n + 1",
    "SELECT typee'x;'",
    "SELECT a$b$c, $$x$$",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT 1; SELECT 2; $$",
    "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT CASE WHEN true THEN 2 END; END",
    "CREATE OR REPLACE PROCEDURE p() BEGIN ATOMIC INSERT INTO t VALUES (1); DELETE FROM t; END",
    "CREATE OR REPLACE RULE r AS ON INSERT TO t DO ALSO (INSERT INTO u VALUES (1); DELETE FROM v)",
    "DO $$ BEGIN PERFORM 1; END $$",
]


@pytest.mark.parametrize("sql", WHOLE, ids=[w[:40] for w in WHOLE])
@pytest.mark.parametrize("psql", ["", "\\echo x"])
def test_semicolons_inside_do_not_split(sql: str, psql: str) -> None:
    text = f"SELECT 1;\n{sql};\n{psql}\nSELECT 2;"
    assert [t for _, _, t in placed(text)] == ["SELECT 1", sql, "SELECT 2"]


# -- psql ---------------------------------------------------------------------------------------


def test_meta_commands() -> None:
    text = (
        "\\set ON_ERROR_STOP on\n  \\echo it's; \"open\nSELECT 1 AS x \\gset pre_\n"
        "SELECT 2 \\; SELECT 3;\n\\if :x\nSELECT 4\n\\g\n\\endif\nSELECT 5 \\watch 1\n"
    )
    assert placed(text) == [
        (3, 1, "SELECT 1 AS x"),
        (4, 1, "SELECT 2"),
        (4, 13, "SELECT 3"),
        (6, 1, "SELECT 4"),
        (9, 1, "SELECT 5"),
    ]
    metas = [i for i in script(Source("f.sql", text)) if isinstance(i, MetaCommand)]
    assert metas[1] == MetaCommand("\\echo it's; \"open", 2)
    assert [m.line for m in metas] == [1, 2, 3, 5, 7, 8, 9]


def test_variables_that_name_things() -> None:
    s = the("\\set tab users\nSELECT * FROM :tab WHERE id = :id AND x = :'y' AND :\"z\" = 1")
    assert s.sql == 'SELECT * FROM users WHERE id = $1 AND x = $2 AND "z" = 1'
    assert [(p.text, p.number) for p in s.placeholders] == [
        (":tab", 0), (":id", 1), (":'y'", 2), (':"z"', 0),
    ]  # fmt: skip


@pytest.mark.parametrize("end", ["\\.\n", "\\.\r\n", "\\."])
def test_copy_data(end: str) -> None:
    text = (
        'COPY public."T" (a, b) FROM stdin WITH (FORMAT csv);\n1,it\'s; (\nselect 1;\n' + end
        + ("" if end == "\\." else "SELECT 1;\n\\copy u from stdin csv\n\"x\n\\.\nSELECT 2;")
    )  # fmt: skip
    items = list(script(Source("f.sql", text)))
    assert items[1] == CopyData(
        'public."T"', "(a, b)", "WITH (FORMAT csv)", "1,it's; (\nselect 1;\n"
    )
    if end != "\\.":
        assert items[4] == CopyData("u", "", "csv", '"x\n')
        found, problems = read(text)
        assert [s.text for s in found[1:]] == ["SELECT 1", "SELECT 2"]
        assert not problems


def test_copy_data_without_its_end() -> None:
    assert errors("COPY t FROM stdin;\n1\t2\n3\t4\n") == ["2:1: COPY data: no end of data (\\.)"]
    # where a program sends the rows there are none in the file
    assert placed("\\q\nCOPY t FROM STDIN;\n\nSELECT 1;\n")[1:] == [(4, 1, "SELECT 1")]
    assert placed("\\q\nCOPY t FROM STDIN;\nSELECT 1;\n")[1:] == [(3, 1, "SELECT 1")]
    found, problems = read("COPY t FROM stdin;\n1\t2\n\nSELECT 1;\n")
    assert [s.text for s in found] == ["COPY t FROM stdin", "SELECT 1"]
    assert len(problems) == 1


def test_transaction_blocks() -> None:
    found, _ = read("SELECT 1; BEGIN; SELECT 2; SAVEPOINT s; ROLLBACK TO s; SELECT 3; COMMIT;"
                    "SELECT 4; START TRANSACTION; SELECT 5; END; SELECT 6")  # fmt: skip
    blocks = {s.text: s.in_transaction for s in found if s.kind == "SelectStmt"}
    assert blocks == {"SELECT 1": 0, "SELECT 2": 1, "SELECT 3": 1, "SELECT 4": 0, "SELECT 5": 2,
                      "SELECT 6": 0}  # fmt: skip


# -- placeholders -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "sql"),
    [
        ("SELECT $1, $2::int", "SELECT $1, $2::int"),
        ("SELECT * FROM t WHERE a = ? AND b IN (?, ?)", "SELECT * FROM t WHERE a = $1 AND b IN ($2, $3)"),
        ("SELECT * FROM t WHERE a > ? - 1", "SELECT * FROM t WHERE a > $1 - 1"),
        ("SELECT * FROM t WHERE a LIKE ? || '%'", "SELECT * FROM t WHERE a LIKE $1 || '%'"),
        ("SELECT * FROM t LIMIT ? OFFSET ?", "SELECT * FROM t LIMIT $1 OFFSET $2"),
        ("INSERT INTO t VALUES (%s, %(x)s, %(x)s)", "INSERT INTO t VALUES ($1, $2, $2)"),
        ("SELECT * FROM t WHERE a IN %s", "SELECT * FROM t WHERE a IN ($1)"),
        ("INSERT INTO t (a) VALUES %s", "INSERT INTO t (a) VALUES ($1)"),
        ("SELECT * FROM t WHERE a = @a OR b = @B", "SELECT * FROM t WHERE a = $1 OR b = $2"),
        ("SELECT * FROM t WHERE a=:a AND b=:a", "SELECT * FROM t WHERE a=$1 AND b=$1"),
        ("SELECT :a::int, x::text", "SELECT $1::int, x::text"),
        ("SELECT f(a => :a, b := :b)", "SELECT f(a => $1, b := $2)"),
        ("SELECT $1, :a", "SELECT $1, $2"),
        ("SELECT ${a}, x${b} FROM t", "SELECT $1, xb FROM t"),
        ("SELECT * FROM {{ ref('users') }} WHERE a = {{ a }}", "SELECT * FROM users WHERE a = $1"),
        ("{{ config(x='y') }}\nSELECT 1", "SELECT 1"),
        ("SELECT a {# not ; this #} FROM t", "SELECT a   FROM t"),
        ("SELECT 1 FROM t WHERE {% if x %} a = 1 {% else %} b = 2 {% endif %}",
         "SELECT 1 FROM t WHERE   a = 1"),
        ("SELECT * FROM t WHERE TRUE {% if a %} AND a = :a {% endif %} ORDER BY 1",
         "SELECT * FROM t WHERE TRUE   AND a = $1   ORDER BY 1"),
        ("SELECT * FROM t ORDER BY :order", "SELECT * FROM t ORDER BY $1"),
        ("SELECT * FROM %s WHERE :\"c\" = 1", 'SELECT * FROM s WHERE "c" = 1'),
        # what looks like a placeholder and is none
        ("SELECT d ? 'a', d ?| e, d ?& e, d @> '{}', '{}' <@ d, d @@ 'x', d @? 'y' FROM t", None),
        ("SELECT d ? key, d->'x' ? y FROM t WHERE (d) ? 'a' AND a<@b", None),
        ("SELECT a[1:2], a[:2], a[1:], a[lo:hi], a[1:n] FROM t", None),
        ("SELECT a %s FROM t WHERE a %s = 0 AND 5 %s = 1", None),
        ("SELECT a % 3, a%b, x::int, '10:30:00'::time, '{{1,2},{3,4}}'::int[], ':a ? %s @b $1'", None),
        ("SELECT $$ :a ? %s @b {{ c }} $$, \":a\" FROM t -- :x ? %s\n", None),
        ("SELECT @ -5, a @@ b, |/ 25, a <@ b", None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("before", ["", "\\q\n"])
def test_placeholders(text: str, sql: str | None, before: str) -> None:
    s = the(before + text)
    if sql is None:
        code = text.partition("--")[0].strip()
        assert (s.text, s.sql, s.placeholders) == (code, code, ())
    else:
        assert s.sql == sql


def test_placeholders_point_at_the_text() -> None:
    text = "\\q\n\nSELECT é, {{ col }} FROM t WHERE b = %(name)s AND c = :x AND d = 1"
    s = the(text)
    assert s.sql == "SELECT é, $1 FROM t WHERE b = $2 AND c = $3 AND d = 1"
    for p in s.placeholders:
        assert s.text[p.start : p.end] == p.text
    assert [s.text[s.to_text(s.sql.index(w)) :][:1] for w in "tbcd"] == list("tbcd")
    at = s.locate(s.to_text(s.sql.index("d = 1")))
    assert text.splitlines()[at.line - 1][at.column - 1 :] == "d = 1"


def test_a_statement_behind_a_template_tag_begins_behind_it() -> None:
    s = the("\n{{ config() }}\n\n  SELECT é, b FROM t WHERE c = {{ d }}\n")
    assert (s.line, s.column) == (4, 3)
    assert s.text == "SELECT é, b FROM t WHERE c = {{ d }}"
    (b,) = [n for k, n in walk(s.kind, s.tree) if k == "ColumnRef" and "'b'" in str(n)]
    assert s.text[s.to_text(b["location"])] == "b"


def test_many_placeholders_are_read_at_once() -> None:
    values = ", ".join(["(?, ?, ?)"] * 5000)
    s = the(f"INSERT INTO t VALUES {values}")
    assert len(s.placeholders) == 15_000
    assert s.placeholders[-1].number == 15_000


# -- broken statements --------------------------------------------------------------------------

GOOD = [
    "SELECT 'one', (2)",
    "UPDATE t SET a = 'x;y' WHERE b = 'z'",
    'SELECT "c" FROM d',
    "SELECT 4",
]
BROKEN = [
    ("SELECT FROM WHERE", "1:13: syntax error"),
    ("SELEC 1", "1:1: syntax error"),
    ("SELECT (1", "1:10: syntax error at end of input"),
    ("SELECT f(a, (b)", "1:16: syntax error at end of input"),
    ("SELECT 1)", "1:9: syntax error"),
    ("SELECT 'x FROM t", "1:8: unterminated quoted string"),
    ("SELECT E'x\\' FROM t", "1:8: unterminated quoted string"),
    ('SELECT "x FROM t', "1:8: unterminated quoted identifier"),
    ("SELECT $$x FROM t", "1:8: unterminated dollar-quoted string"),
    ("SELECT 1 /* x", "1:10: unterminated comment"),
    ("SELECT ''' FROM t", "1:8: unterminated quoted string"),
    ("SELECT 1 FROM t WHERE", "1:22: syntax error at end of input"),
    ("CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1", "1:54: syntax error at end of input"),
    ("CREATE TABLE t (a int,)", "1:23: syntax error"),
    ("SELECT :x FROM WHERE :y", "1:16: syntax error"),
    ("SELECT {{ x", "1:8: syntax error"),
    ("SELECT U&'\\zzzz'", "1:"),
    ("SELECT 0x", "1:8: invalid hexadecimal integer"),
]


@pytest.mark.parametrize(("broken", "expected"), BROKEN, ids=[b for b, _ in BROKEN])
@pytest.mark.parametrize("place", range(len(GOOD) + 1))
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\n\n-- next\n"])
def test_one_broken_statement_spoils_no_other(
    broken: str, expected: str, place: int, newline: str
) -> None:
    texts = [*GOOD[:place], broken, *GOOD[place:]]
    text = "".join(f"{t};{newline}" for t in texts)
    found, problems = read(text)
    assert [s.text for s in found] == GOOD
    assert len(problems) == 1
    line = text[: text.index(broken)].count("\n")
    shown = f"{(problems[0].line or 0) - line}:{problems[0].column}: {problems[0].message}"
    assert shown.startswith(expected)


def test_a_missing_semicolon_spoils_neither_statement() -> None:
    text = "SELECT 1\nFROM t\n\nSELECT 'x' FROM u\nUPDATE t SET a = 1;\nSELECT 2;"
    found, problems = read(text)
    assert [s.text for s in found] == [
        "SELECT 1\nFROM t", "SELECT 'x' FROM u", "UPDATE t SET a = 1", "SELECT 2",
    ]  # fmt: skip
    assert [(p.line, p.column) for p in problems] == [(4, 1), (5, 8)]


def test_several_broken_statements_are_as_many_errors() -> None:
    text = "SELECT 'a FROM t;\nSELECT 1;\nSELECT b FROM;\nSELECT 'c FROM t;\nSELECT 'ok';\nSELECT ((;\nSELECT 2;"
    found, problems = read(text)
    assert [s.text for s in found] == ["SELECT 1", "SELECT 'ok'", "SELECT 2"]
    assert [p.line for p in problems] == [1, 3, 4, 6]


def test_a_file_that_is_not_sql_ends_in_one_line() -> None:
    problems = read("this is prose;\n" * 3000)[1]
    assert len(problems) == module.MAX_PROBLEMS + 1
    assert problems[-1].message == "1,000 errors before this line: the rest is not read"


# -- limits -------------------------------------------------------------------------------------


def test_what_comes_after_the_limit_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_STATEMENTS", 1024 * 1024)
    found, problems = read("SELECT 1;\n" * 200_000)
    assert 0 < len(found) < 200_000
    assert [(p.line, p.message) for p in problems] == [
        (len(found) + 1, "from here on nothing is audited (limit 1 MB of statements)")
    ]


def test_a_loader_reads_without_that_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_STATEMENTS", 100)
    problems: list[InputProblem] = []
    source = Source("f.sql", "SELECT 1;\n" * 100 + "x;")
    assert sum(1 for _ in script(source, problems)) == 100
    assert [p.line for p in problems] == [101]
    assert list(script(source, unread=True))[100:] == [module.Unread("x", 101)]


def test_readings_of_placeholders_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Marks that no reading suits do not cost the square of their number."""
    tries = 0
    parse = placeholders.parse

    def counted(sql: str) -> list[Parsed]:
        nonlocal tries
        tries += 1
        return parse(sql)

    monkeypatch.setattr(placeholders, "parse", counted)
    assert len(read("%s " * 1_000)[1]) == 1
    assert tries == placeholders.MAX_READINGS


def test_bodies_without_end_are_looked_for_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look reads the whole rest of the file."""
    made = 0
    tokens = split.tokens

    def counted(*given: Any, **options: Any) -> Iterator[split.Token]:
        nonlocal made
        for token in tokens(*given, **options):
            made += 1
            yield token

    monkeypatch.setattr(split, "tokens", counted)
    counts = []
    for times in (100, 200):
        made = 0
        problems = read("CREATE FUNCTION f() BEGIN ATOMIC ;\n" * times)[1]
        assert len(problems) == times
        counts.append(made)
    assert counts[1] < 2.2 * counts[0]


# -- comments -----------------------------------------------------------------------------------


def test_comments() -> None:
    text = (
        "-- one\nSELECT '-- no' /* two\n lines */;\nCOPY t FROM stdin;\nit's -- data\n\\.\n-- three\n"
        'SELECT $$ -- no $$; "-- no"; -- four'
    )
    assert list(comments(Source("f.sql", text))) == [
        (1, "-- one"), (2, "/* two\n lines */"), (7, "-- three"), (8, "-- four"),
    ]  # fmt: skip
