"""What holds of every text: statements are where they are, nothing raises, findings lie in files."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from sqladvisor.auditor import audit
from sqladvisor.rule import load_rules
from sqladvisor.sql.source import Source, comments, read_source, script, statements

FEW = settings(max_examples=150, deadline=None, derandomize=True)

identifiers = st.sampled_from(["a", "users", '"Größe"', '"x;y"', '"q""r"', "ñandú", "t$1", "_é"])
strings = st.one_of(
    st.text(max_size=8)
    .filter(lambda t: "\0" not in t)
    .map(lambda t: "'" + t.replace("'", "''") + "'"),
    st.sampled_from(["E'\\';'", "$$;'$$", "$é$ ; $$ $é$", "U&'\\0041'", "n';--'", "'/*'", "b'1'"]),
)
comment = st.one_of(
    st.sampled_from(["-- ; '\n", "--\n", "/* ; ' */", "/* /* ; */ $$ */", '-- é "\r\n']),
)
space = st.sampled_from([" ", "\n", "\t", "\r\n", "\n\n", "  "])
gap = st.lists(st.one_of(space, comment), min_size=1, max_size=3).map("".join)
value = st.one_of(
    strings, st.sampled_from(["1", "2.5e3", "NULL", "now()", "(1, 2)", "x'ff'", "a.b"])
)


@st.composite
def statement(draw: st.DrawFn) -> str:
    name, other = draw(identifiers), draw(identifiers)
    one, two = draw(value), draw(value)
    s = lambda: draw(gap)  # noqa: E731 - a fresh gap each time
    return draw(
        st.sampled_from(
            [
                f"SELECT{s()}{one}{s()},{s()}{two}{s()}FROM{s()}{name}{s()}WHERE{s()}{other}{s()}={s()}{one}",
                f"INSERT INTO {name}{s()}VALUES{s()}({one},{s()}{two})",
                f"UPDATE {name} SET{s()}{other} ={s()}{one}",
                f"DELETE FROM{s()}{name}",
                f"CREATE FUNCTION f(){s()}RETURNS int{s()}BEGIN ATOMIC{s()}SELECT {one};{s()}"
                f"SELECT CASE WHEN true THEN {two} END;{s()}END",
                f"CREATE RULE r AS ON INSERT TO {name} DO{s()}(DELETE FROM a;{s()}DELETE FROM b)",
                f"CREATE FUNCTION f(){s()}RETURNS text{s()}AS{s()}$body$ SELECT {one}; $body$ LANGUAGE sql",
                f"(SELECT {one}{s()}UNION ALL{s()}SELECT {two})",
                f"VALUES{s()}({one}),{s()}({two})",
                "BEGIN",
                f"SELECT a[1:2],{s()}b::int,{s()}c ->> 'd;' FROM {name}",
            ]
        )
    )


@FEW
@given(st.lists(statement(), max_size=5), st.data())
def test_statements_are_found_where_they_stand(texts: list[str], data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(["", "\\set x 1\n", "-- first\n", "\n"]))
    places = []
    for sql in texts:
        text += data.draw(st.one_of(st.just(""), gap))
        places.append(len(text))
        text += sql + data.draw(st.one_of(st.just(""), gap)) + ";"
    text += data.draw(st.one_of(st.just(""), gap))
    found, problems = statements(Source("f.sql", text))
    assert not problems
    assert [(s.start, s.text) for s in found] == list(zip(places, texts, strict=True))
    for s in found:
        assert s.line == text.count("\n", 0, s.start) + 1
        assert s.column == s.start - text.rfind("\n", 0, s.start)


fragments = st.lists(
    st.one_of(
        st.sampled_from(
            ["SELECT ", "'", '"', "$$", "$a$", "/*", "*/", "--", "\n", ";", ";\n", "(", ")", "E'", "\\",
             "\\.\n", "\\copy t from stdin\n", "COPY t FROM stdin;\n", ":x", ":'y'", ':"z"', "?", "%s",
             "%(a)s", "@a", "{{", "}}", "{{ a }}", "{% if x %}", "{% else %}", "{% endif %}", "{# c #}",
             "${a}", "$1", "::int", " FROM t", " WHERE a = ", "CREATE FUNCTION f() BEGIN ATOMIC ", "END",
             "CASE", "é", "\0", "\r", "\r\n", "\t", "1", "a", ",", "[", "]", "U&'", "\ufeff", "\u2028",
             "-- sqladvisor: ignore query because\n"]
        ),
        st.text(max_size=3),
    ),
    max_size=30,
).map("".join)  # fmt: skip


def read_everything(data: bytes) -> None:
    source = read_source("f.sql", data)
    lines = source.text.count("\n") + 1
    found, problems = statements(source)
    for s in found:
        assert source.text[s.start : s.start + len(s.text)] == s.text
        for offset in (0, len(s.sql) // 2, len(s.sql)):
            assert 0 <= s.to_text(offset) <= len(s.text)
    for p in problems:
        assert p.message
        assert "\n" not in p.message
        assert p.line is None or 1 <= p.line <= max(lines, data.count(b"\n") + 1)
    for line, _ in comments(source):
        assert 1 <= line <= lines
    assert sum(1 for _ in script(source)) >= len(found)


@settings(FEW, max_examples=400)
@given(st.one_of(fragments, st.text()))
def test_no_text_makes_reading_raise(text: str) -> None:
    read_everything(text.encode())


@FEW
@given(st.one_of(st.binary(), fragments.map(lambda t: t.encode("utf-16")), fragments.map(
    lambda t: t.encode("latin-1", "replace"))))  # fmt: skip
def test_no_bytes_make_reading_raise(data: bytes) -> None:
    read_everything(data)


EXAMPLES = sorted(
    {
        example
        for rule in load_rules(("query", "batch", "prepare"))
        if rule.examples["path"].endswith(".sql")
        for example in (*rule.examples["bad"], *rule.examples["good"])
    }
)


@settings(FEW, max_examples=120)
@given(st.lists(st.one_of(st.sampled_from(EXAMPLES), fragments), min_size=1, max_size=4), gap,
       st.sampled_from(["\n", "\r\n"]))  # fmt: skip
def test_every_finding_lies_in_its_file(parts: list[str], between: str, newline: str) -> None:
    text = f";{between}".join(parts).replace("\r\n", "\n").replace("\r", "").replace("\n", newline)
    report = audit(["-"], stdin=text.encode)
    decoded = report.texts.get("<stdin>", "")
    lines = decoded.split("\n")
    assert not [p for p in report.problems if "please report" in p.message]
    for f in report.findings:
        at = f.location
        assert 1 <= at.line <= at.end_line <= len(lines)
        assert 1 <= at.column <= len(lines[at.line - 1]) + 1
        assert 1 <= at.end_column <= len(lines[at.end_line - 1]) + 1
        assert (at.line, at.column) <= (at.end_line, at.end_column)
