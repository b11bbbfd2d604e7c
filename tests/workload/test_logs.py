"""Logs as a workload: a real server's own logs in every format, and what may be odd in them."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import psycopg
import pytest

from sqladvisor.errors import InputError
from sqladvisor.server.binaries import find_binaries
from sqladvisor.server.embedded import Cluster
from sqladvisor.workload import logs, logs_scan
from sqladvisor.workload.logs import Logged, LoggedStatement, query_of, read_logs, with_values

PREFIX = "%m [%p] %q%u@%d/%a "
SETTINGS = {
    "logging_collector": "on", "log_destination": "stderr,csvlog,jsonlog",
    "log_filename": "server.log", "log_min_duration_statement": "0",
    "log_line_prefix": PREFIX, "session_preload_libraries": "auto_explain",
    "auto_explain.log_min_duration": "0", "log_parameter_max_length": "-1",
}  # fmt: skip
HARD = "SELECT 'it''s', \"odd \"\" name\", E'\\\\', 'two\nlines\n\tand a tab', 7 FROM odd"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The log files of a server, by format, after a little work."""
    with Cluster(find_binaries(None)) as cluster:
        with cluster.connect() as admin:
            for name, value in SETTINGS.items():
                if name != "auto_explain.log_min_duration":
                    admin.execute(f"ALTER SYSTEM SET {name} = '{value}'")
        cluster.restart()
        with cluster.connect() as admin:
            admin.execute("LOAD 'auto_explain'")
            admin.execute("ALTER SYSTEM SET auto_explain.log_min_duration = 0")
            admin.execute("SELECT pg_reload_conf()")
        cluster.create_database("shop")
        with cluster.connect("shop") as session:
            _work(session)
        cluster.stop()
        folder = cluster.data_directory / "log"
        made = tmp_path_factory.mktemp("logs")
        found = {}
        for kind, name in (
            ("stderr", "server.log"),
            ("csv", "server.csv"),
            ("json", "server.json"),
        ):
            found[kind] = str(made / name)
            Path(found[kind]).write_bytes((folder / name).read_bytes())
        yield found


def _work(session: psycopg.Connection) -> None:
    session.execute("CREATE TABLE t (id int PRIMARY KEY, v text)")
    session.execute('CREATE TABLE odd ("odd "" name" int)')
    session.execute("INSERT INTO t SELECT g, g::text FROM generate_series(1, 100) g")
    for n in range(10):
        session.execute("SELECT v FROM t WHERE id = %s", [n], prepare=True)
        session.execute(f"SELECT v FROM t WHERE v = 'x{n}' AND id > {n}")
        session.execute(f"SELECT 1 FROM t WHERE id IN ({', '.join(map(str, range(n + 1)))})")
    session.execute("SELECT v FROM t WHERE v = %s AND id = %s", ["it's\nhere", 5], prepare=True)
    session.execute(HARD.encode())


def find(found: Logged, text: str) -> LoggedStatement:
    matches = [s for s in found.statements if s.text.startswith(text)]
    assert len(matches) == 1, [s.text for s in found.statements]
    return matches[0]


@pytest.fixture(params=["stderr", "csv", "json"])
def found(request: pytest.FixtureRequest, written: dict[str, str]) -> Logged:
    return read_logs([written[request.param]], PREFIX, database="shop")


def test_what_ran_is_counted_alike_in_every_format(found: Logged) -> None:
    assert found.problems == [] and found.unparsed == 0
    calls = {s.text: s.calls for s in found.statements}
    assert find(found, "SELECT v FROM t WHERE id = $1").calls == 10
    assert find(found, "SELECT v FROM t WHERE v = $1 AND id > $2").calls == 10
    assert find(found, "SELECT $1 FROM t WHERE id IN").calls == 10
    assert find(found, "INSERT INTO t").calls == 1
    assert not any("ALTER SYSTEM" in text for text in calls)  # another database


def test_times_add_up(found: Logged) -> None:
    for statement in found.statements:
        assert statement.timed == statement.calls
        assert 0 <= statement.min_ms <= statement.mean_ms <= statement.max_ms
        assert statement.stddev_ms >= 0
    total = [s.total_ms for s in found.statements]
    assert total == sorted(total, reverse=True) and total[0] > 0
    assert find(found, "SELECT v FROM t WHERE id = $1").plan_ms > 0  # parse and bind


def test_examples_have_their_values(found: Logged) -> None:
    examples = [e.text for e in find(found, "SELECT v FROM t WHERE id = $1").examples]
    assert len(examples) == 3 and len(set(examples)) == 3
    assert all(re.fullmatch(r"SELECT v FROM t WHERE id = '\d'", e) for e in examples)
    (example,) = find(found, "SELECT v FROM t WHERE v = $1 AND id = $2").examples
    assert example.text == "SELECT v FROM t WHERE v = 'it''s\nhere' AND id = '5'"


def test_a_text_comes_through_as_it_was(found: Logged) -> None:
    (example,) = find(found, 'SELECT $1, "odd').examples
    assert example.text == HARD


def test_plans_of_auto_explain_come_along(found: Logged) -> None:
    statement = find(found, "SELECT v FROM t WHERE v = $1 AND id > $2")
    assert statement.explained == 10
    plan = statement.plan()
    assert plan is not None and plan.root.relation == "t"
    assert plan.execution_ms is not None and plan.execution_ms > 0
    assert statement.calls == 10  # a plan is no further execution


def test_the_span_and_the_form_that_a_workload_is_weighed_in(found: Logged) -> None:
    from sqladvisor.catalog.empty import EMPTY
    from sqladvisor.workload.weights import weigh

    assert isinstance(found.first, datetime) and found.hours is not None
    assert 0 < found.hours < 1
    workload = weigh(found.collected(), EMPTY, {})
    assert workload.unparsed == 0
    shares = [w.share for w in workload.statements]
    assert shares[0] == max(shares) and sum(shares) <= 1.0001
    assert workload.statements[0].calls_per_hour


def test_pieces_may_end_anywhere(written: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = {k: _figures(read_logs([p])) for k, p in written.items()}
    for size in (700, 3_001, 20_000):
        monkeypatch.setattr(logs_scan, "PIECE", size)
        for kind, path in written.items():
            assert _figures(read_logs([path])) == whole[kind], (kind, size)


def _figures(found: Logged) -> list[tuple[object, ...]]:
    return [
        (s.text, s.calls, round(s.total_ms, 3), s.explained, [e.text for e in s.examples])
        for s in found.statements
    ]


def test_files_together_and_compressed(written: dict[str, str], tmp_path: Path) -> None:
    packed = tmp_path / "old.log.gz"
    packed.write_bytes(gzip.compress(Path(written["stderr"]).read_bytes()))
    one = read_logs([written["stderr"]])
    both = read_logs([str(packed), written["csv"]])
    assert both.entries == 2 * one.entries and both.bytes_read > 2 * one.bytes_read
    assert len(both.statements) == len(one.statements)


# -- what may be odd ---------------------------------------------------------------------------


def log(tmp_path: Path, *lines: str) -> str:
    path = tmp_path / "x.log"
    path.write_text("".join(f"{line}\n" for line in lines))
    return str(path)


def test_statements_and_times_logged_apart_are_paired_by_session(tmp_path: Path) -> None:
    head = "2026-11-28 10:00:0{} UTC [{}] LOG:  "
    path = log(
        tmp_path,
        head.format(1, 11) + "statement: SELECT 1 FROM a",
        head.format(1, 12) + "statement: SELECT 1 FROM b",
        head.format(2, 12) + "duration: 20.000 ms",
        head.format(3, 11) + "duration: 10.000 ms",
        head.format(4, 11) + "duration: 99.000 ms",  # of nothing that was logged
    )
    found = read_logs([path])
    assert {s.text: (s.calls, s.total_ms) for s in found.statements} == {
        "SELECT $1 FROM a": (1, 10), "SELECT $1 FROM b": (1, 20),
    }  # fmt: skip
    assert found.hours == pytest.approx(3 / 3600)


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("SELECT 'a''b' FROM t", "SELECT 'c' FROM t", True),
        ("SELECT 1.5, -2 FROM t", "SELECT 2, 7 FROM t", True),
        ("SELECT a1 FROM t", "SELECT a2 FROM t", False),
        ('SELECT "1a" FROM t', 'SELECT "2a" FROM t', False),
        ("SELECT \"it's\" FROM a WHERE 'x' = c", "SELECT \"it's\" FROM b WHERE 'x' = c", False),
        ("SELECT $$a'$$ FROM a WHERE c = 'x'", "SELECT $$a'$$ FROM b WHERE c = 'x'", False),
        ("SELECT E'\\'' FROM a WHERE c = 'x'", "SELECT E'\\'' FROM b WHERE c = 'x'", False),
        (
            "SELECT 1 /* it's */ FROM a WHERE c = 'x'",
            "SELECT 1 /* it's */ FROM b WHERE c = 'x'",
            False,
        ),
        ("SELECT 1 /* a='7' */ FROM a", "SELECT 1 /* a='8' */ FROM a", True),
        ("SELECT 1 FROM t WHERE a IN (1, 2)", "SELECT 1 FROM t WHERE a IN (1, 2, 3)", True),
        ("SELECT 1  FROM\tt", "SELECT 1 FROM t", True),
    ],
)
def test_statements_are_told_apart_as_the_parser_does(
    tmp_path: Path, first: str, second: str, same: bool
) -> None:
    from sqladvisor.sql.libpg import fingerprint

    assert (fingerprint(first) == fingerprint(second)) is same  # what is to be met
    lines = [f"LOG:  duration: 1.000 ms  statement: {text}" for text in (first, second, first)]
    found = read_logs([log(tmp_path, *lines)])
    assert len(found.statements) == (1 if same else 2)
    assert found.entries == 3


def test_what_is_no_sql_is_counted_and_left(tmp_path: Path) -> None:
    path = log(
        tmp_path,
        "LOG:  duration: 1.000 ms  statement: SELECT FROM WHERE",
        "LOG:  duration: 1.000 ms  statement: SELECT 1",
        "LOG:  checkpoint starting: time",
        'ERROR:  syntax error at or near "LOG:  duration: 1.000 ms  statement: SELECT 2"',
    )
    found = read_logs([path])
    assert [s.text for s in found.statements] == ["SELECT $1"]
    assert found.unparsed == 1


def test_memory_is_bounded_by_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MAX_KNOWN", 50)

    def name(n: int) -> str:  # without digits: libpg_query takes t10 and t11 for partitions of one
        return "t_" + "".join(chr(ord("a") + int(digit)) for digit in str(n))

    lines = [f"LOG:  duration: {n}.000 ms  statement: SELECT a FROM {name(n)}" for n in range(300)]
    found = read_logs([log(tmp_path, *lines)], limit=100)
    assert len(found.statements) <= 100 and found.dropped >= 200
    assert found.statements[0].text == f"SELECT a FROM {name(299)}"
    kept = sum(s.total_ms for s in found.statements)
    assert kept + found.dropped_ms == pytest.approx(sum(range(300)))


def test_files_that_cannot_be_read_are_problems(tmp_path: Path) -> None:
    text = tmp_path / "readme.txt"
    text.write_text("nothing of a log")
    packed = tmp_path / "cut.log.gz"
    packed.write_bytes(gzip.compress(b"LOG:  x\n" * 1000)[:30])
    found = read_logs([str(text), str(tmp_path / "none"), str(tmp_path), str(packed)])
    assert [p.path for p in found.problems] == [
        str(text), str(tmp_path / "none"), str(tmp_path), str(packed),
    ]  # fmt: skip
    assert found.statements == []
    assert found.collected().missing


@pytest.mark.parametrize("prefix", ["%z", "100%", "%5"])
def test_prefixes_that_are_none(prefix: str) -> None:
    with pytest.raises(InputError, match="is no escape"):
        read_logs([], prefix)


def test_a_prefix_without_a_database_cannot_be_asked_for_one() -> None:
    with pytest.raises(InputError, match="has no %d"):
        read_logs([], "%m ", database="shop")


@pytest.mark.parametrize(
    ("prefix", "head", "database", "session"),
    [
        (
            "%t:%r:%u@%d:[%p]: ",
            "2026-11-28 10:00:00 UTC:10.0.0.1(5432):me@shop:[77]: ",
            "shop",
            "77",
        ),
        ("%n %c %-8d ", "1795885200.123 6929a1b2.4d shop     ", "shop", "6929a1b2.4d"),
        ("%m [%p-%l] %q%u@%d ", "2026-11-28 10:00:00.123 CET [77-3] me@shop ", "shop", "77"),
        (None, "2026-11-28 10:00:00.123 CET [77] me@shop ", "shop", "77"),
        (None, "2026-11-28 10:00:00 UTC [77]: [3-1] user=me,db=shop,app=x ", "shop", "77"),
    ],
)
def test_heads_of_many_prefixes(prefix: str | None, head: str, database: str, session: str) -> None:
    from sqladvisor.workload.logs_prefix import heads

    read = heads(prefix)
    assert read.database(head.encode()) == database.encode()
    assert read.session(head.encode()) == session.encode()
    assert read.time(head.encode()) is not None


def test_queries_of_plans_and_values() -> None:
    assert query_of(
        b"\n  Query Text: SELECT 1\n  FROM t\nSeq Scan on t  (cost=0.00..1 rows=1)"
    ) == (b"SELECT 1\n  FROM t")
    assert query_of(b'\n{\n  "Query Text": "SELECT \\"a\\"",\n  "Plan": {}}') == b'SELECT "a"'
    assert query_of(b"Seq Scan on t") == b""
    text = with_values(b"SELECT $1, $2, $10, $3", b"$1 = 'a''$2', $2 = NULL, $10 = '5'")
    assert text == "SELECT 'a''$2', NULL, '5', $3"


def test_indexes_and_live_take_their_workload_from_logs(
    written: dict[str, str], tmp_path: Path
) -> None:
    import json

    from typer.testing import CliRunner

    from sqladvisor.cli import app

    schema = tmp_path / "s.sql"
    schema.write_text(
        'CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE odd ("odd "" name" int);'
    )
    common = ["--log", written["csv"], "--format", "json"]
    done = CliRunner().invoke(app, ["indexes", "--schema", str(schema), *common])
    advice = json.loads(done.stdout)
    assert any("ON t (v" in created["sql"] for created in advice["create"]), done.stdout
    assert {q["calls"] for q in advice["queries"]} >= {10}
    with Cluster(find_binaries(None)) as cluster:
        cluster.create_database("shop")
        with cluster.connect("shop") as session:
            session.execute(schema.read_text().encode())
        done = CliRunner().invoke(app, ["live", cluster.dsn("shop"), "--window", "0.1", *common])
    report = json.loads(done.stdout)
    assert any("of the logs" in note for note in report["notes"])
    calls = {s["text"]: s["calls"] for s in report["live"]["workload"]["statements"]}
    assert calls["SELECT v FROM t WHERE id = $1"] == 10
