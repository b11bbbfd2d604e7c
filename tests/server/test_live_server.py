"""Live servers: what cannot be reached, read or run is one line, and nothing is ever changed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from accounts import ROOT

from sqladvisor.auditor import Options, audit
from sqladvisor.errors import ServerError
from sqladvisor.report.model import Report
from sqladvisor.server import connect, dump
from sqladvisor.server.binaries import find_binaries
from sqladvisor.server.connect import connect_target
from sqladvisor.server.embedded import Cluster

PASSWORD = "s3cr:et/@p%w ü"
ENCODED = "s3cr%3Aet%2F%40p%25w%20%C3%BC"
SETUP = """
CREATE TABLE orders (id int PRIMARY KEY, user_id int NOT NULL, note text);
INSERT INTO orders SELECT i, i % 1000, 'note ' || i FROM generate_series(1, 50000) i;
CREATE TABLE secret (k int, v text);
INSERT INTO secret SELECT i, 'x' FROM generate_series(1, 20000) i;
CREATE VIEW seen AS SELECT * FROM secret;
CREATE SCHEMA hidden;
CREATE TABLE hidden.h (id int);
CREATE SEQUENCE counter;
CREATE FUNCTION sneaky() RETURNS int LANGUAGE sql VOLATILE AS 'DELETE FROM orders RETURNING 1';
CREATE FUNCTION unlocked() RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN PERFORM set_config('default_transaction_read_only', 'off', false); END $$;
GRANT SELECT ON orders TO reader;
"""
INDEXED = "SELECT id FROM orders WHERE user_id = 5;\n"
NULLIFIED = "SELECT o.id FROM orders o LEFT JOIN orders p ON p.id = o.user_id WHERE p.note > 'x';\n"


@pytest.fixture(scope="module")
def live() -> Iterator[Cluster]:
    """A server that plays the user's own: passwords by SCRAM for one role, trust for the others."""
    with Cluster(find_binaries(None)) as running:
        hba = running.directory / "pg_hba.conf"
        hba.write_text("local all guarded scram-sha-256\n" + hba.read_text())
        with running.connect() as admin:
            admin.execute("SELECT pg_reload_conf()")
            admin.execute("CREATE ROLE reader LOGIN")
            admin.execute("CREATE ROLE guarded LOGIN SUPERUSER")
            admin.execute(f"ALTER ROLE guarded PASSWORD '{PASSWORD}'")
        running.create_database("shop")
        with running.connect("shop") as admin:
            admin.execute(SETUP.encode())
            admin.execute("VACUUM ANALYZE")
        yield running


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], str]:
    def write(sql: str) -> str:
        (tmp_path / "q.sql").write_text(sql)
        return str(tmp_path / "q.sql")

    return write


def sqladvisor(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
    own = {"NO_COLOR": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "sqladvisor", "audit", *arguments], capture_output=True, text=True,
        env={**kept, **own, **env}, timeout=60, check=False,
    )  # fmt: skip


def rules(report: Report) -> list[str]:
    return [f.rule for f in report.findings]


def only_problem(report: Report) -> str:
    (problem,) = report.problems
    assert "\n" not in problem.message
    return problem.message


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"host": "/nowhere"}, "No such file or directory"),
        ({"host": "127.0.0.1", "port": "1"}, "refused"),
        ({"dbname": "nosuch"}, 'database "nosuch" does not exist'),
        ({"user": "nosuch"}, 'role "nosuch" does not exist'),
        ({"user": "guarded", "password": "wrong-one"}, "password authentication failed"),
        ({"user": "guarded"}, "no password supplied"),
        ({"options": "-c no_such=1"}, "unrecognized configuration parameter"),
        ({"service": "nosuch"}, 'definition of service "nosuch" not found'),
    ],
)
def test_what_cannot_be_had_is_one_line_and_the_static_audit_stands(
    live: Cluster, file: Callable[[str], str], changes: dict[str, str], says: str
) -> None:
    dsn = psycopg.conninfo.make_conninfo(live.dsn("shop"), **changes)
    report = audit([file(NULLIFIED)], Options(dsn=dsn))
    assert says in only_problem(report)
    assert "wrong-one" not in only_problem(report)
    assert rules(report) == ["query/outer-join-nullified"]


def test_an_unsupported_server_is_refused(
    live: Cluster, file: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect, "OLDEST", 990000)
    report = audit([file(NULLIFIED)], Options(dsn=live.dsn("shop")))
    assert "PostgreSQL 18 is not supported" in only_problem(report)
    assert rules(report) == ["query/outer-join-nullified"]


@pytest.mark.parametrize("way", ["argument", "words", "variable", "service", "PGPASSWORD"])
def test_a_password_is_said_nowhere(
    live: Cluster, file: Callable[[str], str], tmp_path: Path, way: str
) -> None:
    host = str(live.directory)
    url = f"postgresql://guarded:{ENCODED}@/shop?host={host}"
    words = psycopg.conninfo.make_conninfo(
        host=host, user="guarded", dbname="shop", password=PASSWORD
    )
    bare = psycopg.conninfo.make_conninfo(host=host, user="guarded", dbname="shop")
    service = tmp_path / "services"
    service.write_text(
        f"[mine]\nhost={host}\nuser=guarded\ndbname=shop\npassword={PASSWORD}\n", encoding="utf-8"
    )
    dsn, env = {
        "argument": (url, {}),
        "words": (words, {}),
        "variable": ("env", {"SQLADVISOR_DSN": url}),
        "service": ("service=mine", {"PGSERVICEFILE": str(service)}),
        "PGPASSWORD": (bare, {"PGPASSWORD": PASSWORD}),
    }[way]
    with arguments_seen() as seen:
        path = file(INDEXED + "SELECT nothing FROM nowhere;\n")
        done = sqladvisor(path, "--dsn", dsn, "--format", "json", **env)
    assert json.loads(done.stdout)["summary"]["errors"] == 0, done.stdout
    assert "index/missing" in done.stdout
    assert done.stderr == ""
    said = done.stdout + "".join(words for words in seen if "sqladvisor\0audit" not in words)
    assert any("pg_dump" in words for words in seen)
    for secret in (PASSWORD, ENCODED, "s3cr"):
        assert secret not in said


class arguments_seen:  # noqa: N801 - reads as a verb
    """Collects the command lines of all processes of this machine, as ``ps`` shows them."""

    def __enter__(self) -> set[str]:
        self._seen: set[str] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self._seen

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.004):
            for process in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self._seen.add(process.read_text(errors="replace"))
                except OSError:
                    continue


def test_a_keys_passphrase_is_no_argument_either(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    binaries = find_binaries(None)

    def run(command: list[str], **kw: Any) -> subprocess.CompletedProcess[str]:
        calls.extend([command, Path(kw["env"]["PGSERVICEFILE"]).read_text()])
        return subprocess.CompletedProcess(command, 1, "", "pg_dump: error: hunter2 refused\n")

    monkeypatch.setattr(subprocess, "run", run)
    dsn = "host=db user=me sslkey=/k sslpassword=hunter2 password=pass2"
    with pytest.raises(ServerError, match=r"cannot be read: pg_dump: error: \*\*\* refused"):
        dump.dump_schema(binaries, dsn, {})
    command, service = calls
    assert "hunter2" not in " ".join(command)
    assert "sslpassword=hunter2\n" in service
    assert "pass2" not in service + " ".join(command)


def test_a_role_that_may_read_some_tables_gets_advice_for_those(
    live: Cluster, file: Callable[[str], str]
) -> None:
    path = file(INDEXED + "SELECT v FROM secret WHERE k = 3;\nSELECT id FROM hidden.h;\n")
    report = audit([path], Options(dsn=live.dsn("shop", user="reader")))
    assert [f.location.line for f in report.findings if f.rule == "index/missing"] == [1]
    assert [(p.line, p.message) for p in report.problems] == [
        (2, "cannot be planned: permission denied for table secret"),
        (3, "cannot be planned: permission denied for schema hidden"),
    ]


def test_a_locked_table_does_not_hold_us_up(live: Cluster, file: Callable[[str], str]) -> None:
    path = file(INDEXED + "SELECT v FROM seen WHERE k = 3;\n")
    with live.connect("shop") as other:
        other.execute("BEGIN")
        other.execute("LOCK TABLE secret IN ACCESS EXCLUSIVE MODE")
        start = time.monotonic()
        report = audit([path], Options(dsn=live.dsn("shop")))
    assert time.monotonic() - start < 10
    assert only_problem(report) == ("cannot be planned: canceling statement due to lock timeout")
    assert [f.location.line for f in report.findings if f.rule == "index/missing"] == [1]
    assert "left out, as another session has locked it: secret" in report.notes


def test_a_slow_statement_is_stopped_and_keeps_its_plan(
    live: Cluster, file: Callable[[str], str]
) -> None:
    path = file("SELECT count(*) FROM orders a, orders b WHERE a.note < b.note;\n" + INDEXED)
    report = audit([path], Options(dsn=live.dsn("shop"), analyze=True, timeout_ms=300))
    assert report.problems == ()
    assert any("q.sql:1: stopped after 0.3 s (--timeout)" in note for note in report.notes)
    assert "index/missing" in rules(report)


WRITING = """
INSERT INTO orders VALUES (0, 0, 'x');
UPDATE orders SET note = 'x' WHERE user_id = 5;
DELETE FROM orders WHERE id = 7;
WITH gone AS (DELETE FROM orders WHERE id = 8 RETURNING id) SELECT id FROM gone;
MERGE INTO orders o USING (VALUES (9)) v(id) ON o.id = v.id WHEN MATCHED THEN DELETE;
SELECT nextval('counter'), setval('counter', 99);
SELECT sneaky();
SELECT unlocked();
SELECT sneaky() FROM orders o LEFT JOIN orders p ON p.id = o.user_id WHERE p.note > 'x' LIMIT 1;
COMMIT; DELETE FROM orders;
SELECT id INTO copied FROM orders;
CREATE TABLE copied2 AS SELECT 1 AS a;
SELECT id FROM orders WHERE id = 3 FOR UPDATE;
TRUNCATE orders; DROP TABLE secret; VACUUM FULL orders;
SELECT lo_create(4711), pg_notify('c', 'x'), pg_advisory_lock(1);
EXPLAIN ANALYZE DELETE FROM orders;
DO $$ BEGIN DELETE FROM orders; END $$;
CALL nothing();
COPY orders TO PROGRAM 'touch /tmp/sqladvisor-was-here';
"""


def state(live: Cluster) -> dict[str, Any]:
    """Everything a write would change: rows, sequences, objects, and the counters of writes."""
    questions = {
        "orders": "SELECT count(*), sum(hashtext(o::text)::bigint), max(xmin::text::bigint),"
        " sum(xmax::text::bigint) FROM orders o",
        "secret": "SELECT count(*), sum(hashtext(o::text)::bigint) FROM secret o",
        "counter": "SELECT last_value, is_called FROM counter",
        "objects": "SELECT count(*), max(oid::int8) FROM pg_class",
        "large": "SELECT count(*) FROM pg_largeobject_metadata",
        "writes": "SELECT relname, n_tup_ins, n_tup_upd, n_tup_del, n_dead_tup, n_mod_since_analyze"
        " FROM pg_stat_user_tables ORDER BY 1",
        "sizes": "SELECT relname, pg_relation_size(oid) FROM pg_class ORDER BY 1",
        "transactions": "SELECT pg_current_xact_id()",
    }
    with live.connect("shop") as session:
        session.execute("SELECT pg_stat_force_next_flush()")
        return {k: session.execute(q.encode()).fetchall() for k, q in questions.items()}


def writable(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """What differs. state() itself takes one transaction number."""
    before["transactions"] = [(int(before["transactions"][0][0]) + 1,)]
    after["transactions"] = [(int(after["transactions"][0][0]),)]
    return {k: (before[k], after[k]) for k in before if before[k] != after[k]}


@pytest.mark.parametrize("analyze", [False, True])
def test_an_audit_leaves_the_database_as_it_was(
    live: Cluster, file: Callable[[str], str], analyze: bool
) -> None:
    before = state(live)
    report = audit([file(WRITING)], Options(dsn=live.dsn("shop"), analyze=analyze))
    assert report.problems == ()
    refused = [n for n in report.notes if "cannot execute DELETE in a read-only transaction" in n]
    assert len(refused) == analyze
    assert writable(before, state(live)) == {}


def test_allowed_writes_are_rolled_back(live: Cluster, file: Callable[[str], str]) -> None:
    before = state(live)
    path = file("DELETE FROM orders WHERE user_id = 5;\nSELECT nextval('counter');\n" + INDEXED)
    report = audit([path], Options(dsn=live.dsn("shop"), analyze=True, allow_writes=True))
    after = state(live)
    assert report.problems == ()
    for untouched in ("secret", "objects", "large"):
        assert before[untouched] == after[untouched]
    assert before["orders"][0][:2] == after["orders"][0][:2]
    assert after["counter"] != before["counter"]
    (note,) = [n for n in report.notes if "rolled back" in n]
    assert "2 writing statements" in note and "sequence values" in note


def test_the_guards_are_on(live: Cluster) -> None:
    with connect_target(live.dsn("shop")) as session:
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            session.execute("DELETE FROM orders")
        names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
        assert [session.execute(f"SHOW {n}".encode()).fetchone() for n in names] == [
            ("30s",), ("1s",), ("1min",),
        ]  # fmt: skip


@pytest.mark.parametrize("moment", ["planning statement 2", "proving", "building the shadow"])
def test_a_server_that_dies_midway_is_one_line(file: Callable[[str], str], moment: str) -> None:
    with Cluster(find_binaries(None)) as dying:
        with dying.connect() as admin:
            for statement in SETUP.split(";\n")[:2]:
                admin.execute(statement.encode())
            admin.execute("VACUUM ANALYZE")

        def watch(text: str) -> None:
            if text.startswith(moment):
                dying.stop()

        path = file(NULLIFIED + INDEXED)
        report = audit([path], Options(dsn=dying.dsn(), analyze=True), progress=watch)
    assert "connection" in only_problem(report) or "server closed" in only_problem(report)
    (finding,) = [f for f in report.findings if f.rule == "query/outer-join-nullified"]
    assert len(finding.fixes) == 2


def test_our_own_server_that_dies_midway_is_one_line(
    file: Callable[[str], str], tmp_path: Path
) -> None:
    schema = tmp_path / "schema.sql"
    schema.write_text("CREATE TABLE orders (id int PRIMARY KEY, user_id int, note text);\n")

    done = subprocess.run(
        [sys.executable, "-c", DIES, file(NULLIFIED + INDEXED), str(schema)], text=True,
        capture_output=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rules_found, problems = json.loads(done.stdout)
    assert "query/outer-join-nullified" in rules_found
    assert len(problems) == 1
    assert "gone" in problems[0] or "connection" in problems[0]


DIES = """
import json, sys
from sqladvisor.auditor import Options, audit
from sqladvisor.server import embedded
def watch(text):
    if text.startswith("pricing indexes"):
        for cluster in embedded._open_clusters:
            cluster.stop()
report = audit([sys.argv[1]], Options(schema=(sys.argv[2],)), progress=watch)
print(json.dumps([[f.rule for f in report.findings], [p.message for p in report.problems]]))
"""
