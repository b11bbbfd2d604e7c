"""Every database/ rule on a real server brought into the very state that it is about.

Each state: the rule is silent before, fires after, its fix is SQL that PostgreSQL takes, and where
the fix can be run here, it is, and the rule is silent again. On PostgreSQL 13 to 18, as superuser, as
pg_monitor and as a role with no rights at all.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count

import psycopg
import pytest
from needs import MAJORS, major

from sqladvisor.finding import Finding
from sqladvisor.rule import load_rules
from sqladvisor.rule_sql import query
from sqladvisor.server.binaries import find_binaries
from sqladvisor.server.embedded import Cluster
from sqladvisor.server.embedded import _as_user as account
from sqladvisor.server.embedded import _reachable as reachable
from sqladvisor.server.health import Health, examine
from sqladvisor.server.session import LiveSession
from sqladvisor.sql import libpg

RULES = {r.id: r for r in load_rules(("database",)) if r.variants}
SETTINGS = {
    "autovacuum": "on",
    "autovacuum_naptime": "1d",
    "wal_level": "replica",
    "max_wal_senders": "4",
    "archive_mode": "on",
    "archive_command": "/bin/false",
    "max_prepared_transactions": "4",
    "shared_buffers": "4MB",
    "checkpoint_completion_target": "0.5",
    "deadlock_timeout": "100ms",
    "max_connections": "30",
}
_numbers = count(1)


@dataclass(frozen=True)
class State:
    """What brings a server into the state: ``sql``, or ``act`` for what takes more sessions.

    ``fixed``: what is run instead of the finding's own fix; None where it is not to be run here.
    ``always``: what the rule looks at is of the server: it may have fired before.
    """

    rule: str
    sql: str = ""
    message: str = ""
    thresholds: Mapping[str, float] = field(default_factory=dict)
    before: str = ""
    act: Callable[[Server], object] | None = None
    fix: bool = True
    always: bool = False
    plain: bool = True
    """Whether a role without any rights sees it too."""
    severity: str = ""


@dataclass
class Server:
    """A database of its own on one of the clusters."""

    cluster: Cluster
    name: str
    stack: ExitStack

    def connect(self, **kw: object) -> psycopg.Connection:
        connection = self.cluster.connect(self.name, **kw)  # type: ignore[arg-type]
        self.stack.callback(connection.close)  # no commit: a fix may have ended it
        return connection

    def run(self, sql: str) -> None:
        with self.cluster.connect(self.name) as connection:
            for statement in libpg_split(sql):
                # Before 15 a session's end is what sends its counts.
                if self.cluster.version_num >= 150000 or statement != FLUSH.strip(";"):
                    connection.execute(statement.encode())

    def background(self, sql: str, **kw: object) -> psycopg.Connection:
        """A session that runs a statement until it is cancelled or has what it waits for."""
        connection = self.connect(**kw)

        def work() -> None:
            with suppress(psycopg.Error):
                connection.execute(sql.encode())

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        self.stack.callback(thread.join, 5)
        self.stack.callback(lambda: suppress_errors(connection.cancel))
        return connection

    def look(
        self, rule: str, thresholds: Mapping[str, float], user: str = "postgres"
    ) -> tuple[list[Finding], Health]:
        with LiveSession(self.cluster.dsn(self.name, user), statement_timeout_ms=10_000) as session:
            health = examine(session, [RULES[rule]], {rule: thresholds}, "here", lambda _: None)
        assert not health.problems, health.problems
        return health.findings, health


def suppress_errors(call: Callable[[], object]) -> None:
    with suppress(psycopg.Error):
        call()


def libpg_split(sql: str) -> list[str]:
    from sqladvisor.sql.source import read_source, statements

    found, problems = statements(read_source("setup.sql", sql.encode()))
    assert not problems, problems
    return [s.sql for s in found]


@pytest.fixture(scope="module", params=MAJORS)
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    binaries = major(request.param)
    own = {"io_method": "sync"} if binaries.version_num >= 180000 else {}
    with Cluster(binaries, settings=SETTINGS | own) as running:
        with running.connect() as admin:
            admin.execute("CREATE ROLE monitor_role LOGIN IN ROLE pg_monitor")
            admin.execute("CREATE ROLE plain_role LOGIN")
        yield running


@contextmanager
def a_server(cluster: Cluster) -> Iterator[Server]:
    name = f"state_{next(_numbers)}"
    cluster.create_database(name)
    try:
        with ExitStack() as stack:
            yield Server(cluster, name, stack)
    finally:
        with suppress(psycopg.Error):
            cluster.drop_database(name)


@pytest.fixture
def server(cluster: Cluster) -> Iterator[Server]:
    with a_server(cluster) as made:
        yield made


def wait_until(true: Callable[[], bool], what: str) -> None:
    for _ in range(200):
        if true():
            return
        time.sleep(0.05)
    raise AssertionError(f"did not come about: {what}")


# -- states that take more than one session -----------------------------------------------------


def failed_build(server: Server) -> None:
    with (
        server.cluster.connect(server.name) as connection,
        suppress(psycopg.errors.UniqueViolation),
    ):
        connection.execute("CREATE UNIQUE INDEX CONCURRENTLY t_a_key ON t (a)")


def failed_reindex(server: Server) -> None:
    with server.cluster.connect(server.name) as connection:
        connection.execute("SET allow_system_table_mods = on")
        connection.execute("CREATE INDEX t_a_idx_ccnew ON t (a)")
        connection.execute(
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 't_a_idx_ccnew'::regclass"
        )


def works_long(server: Server) -> None:
    server.background("SELECT pg_sleep(60)")
    wait_until(lambda: bool(server.look("database/long-transaction", {"min_minutes": 0})[0]), "it")


def idles(server: Server) -> None:
    idle = server.connect(autocommit=False)
    idle.execute("SELECT 1")
    time.sleep(0.1)


def blocks(server: Server) -> None:
    holder = server.connect(autocommit=False)
    holder.execute("UPDATE t SET a = a")
    server.background("UPDATE t SET a = a + 1")
    wait_until(
        lambda: bool(server.look("database/blocking-locks", {"min_seconds": 0})[0]), "a wait"
    )


def deadlocks(server: Server) -> None:
    one, two = server.connect(autocommit=False), server.connect(autocommit=False)
    one.execute("UPDATE t SET a = 0 WHERE id = 1")
    two.execute("UPDATE t SET a = 0 WHERE id = 2")

    def second() -> None:
        with suppress(psycopg.Error):
            two.execute("UPDATE t SET a = 0 WHERE id = 1")
        two.rollback()

    thread = threading.Thread(target=second)
    thread.start()
    time.sleep(0.05)
    with suppress(psycopg.errors.DeadlockDetected):
        one.execute("UPDATE t SET a = 0 WHERE id = 2")
    one.rollback()
    thread.join()
    for session in (one, two):
        session.close()
    wait_until(lambda: bool(server.look("database/deadlocks", {"min_per_day": 0})[0]), "a deadlock")


def many_idle(server: Server) -> None:
    for _ in range(12):
        server.connect().execute("SELECT 1")


def shared_locks(server: Server) -> None:
    one, two = server.connect(autocommit=False), server.connect(autocommit=False)
    one.execute("SELECT FROM t WHERE id = 1 FOR SHARE")
    two.execute("SELECT FROM t WHERE id = 1 FOR SHARE")
    one.rollback()
    two.rollback()


def archive_fails(server: Server) -> None:
    server.run("SELECT pg_switch_wal()")

    def failed() -> bool:
        with server.connect() as connection:
            row = connection.execute("SELECT failed_count > 0 FROM pg_stat_archiver").fetchone()
        return bool(row and row[0])

    wait_until(failed, "a failed archive_command")


def many_checkpoints(server: Server) -> None:
    with server.connect() as connection:
        for n in range(12):
            connection.execute(f"CREATE TABLE c{n} (a int)".encode())
            connection.execute("CHECKPOINT")


T = "CREATE TABLE t (id int PRIMARY KEY, a int, b text, at timestamptz);"
ROWS = "INSERT INTO t SELECT i, i, md5(i::text), now() FROM generate_series(1, 20000) i;"
FLUSH = "SELECT pg_stat_force_next_flush();"
NO_SIZE = {"min_size_mb": 0}
STATES = [
    State("unused-index", T + "CREATE INDEX t_a ON t (a);" + ROWS + "VACUUM ANALYZE t;" + FLUSH,
          "t_a on public.t was never scanned", {"min_days": 0, "min_size_mb": 0.1}),
    State("duplicate-index", T + ROWS + "CREATE INDEX t_a ON t (a); CREATE INDEX again ON t (a);",
          "is the same as"),
    State("duplicate-index", T + "ALTER TABLE t ADD UNIQUE (id);", "public.t_id_key on public.t is the same as public.t_pkey"),
    State("redundant-index", T + ROWS + "CREATE INDEX t_a ON t (a); CREATE INDEX t_ab ON t (a, b);",
          "t_a on public.t is covered by public.t_ab", {**NO_SIZE, "max_ratio": 10}),
    State("invalid-index", T + "INSERT INTO t VALUES (1, 1), (2, 1);", "is invalid: a CREATE INDEX CONCURRENTLY failed",
          act=failed_build, fix=False),
    State("invalid-index", T + ROWS, "REINDEX CONCURRENTLY left it behind", act=failed_reindex),
    State("missing-primary-key", "CREATE TABLE u (a int)", "public.u (about 0 rows) has no primary key", severity="info"),
    State("missing-primary-key", "CREATE TABLE u (a int NOT NULL UNIQUE); CREATE PUBLICATION p FOR TABLE u;",
          "is published: its UPDATEs and DELETEs fail", severity="error",
          before="CREATE TABLE v (id int PRIMARY KEY)"),
    State("unindexed-foreign-key",
          "CREATE TABLE p (id int PRIMARY KEY);" + T + "INSERT INTO p SELECT generate_series(1, 20100);" + ROWS
          + "ALTER TABLE t ADD CONSTRAINT fk FOREIGN KEY (a) REFERENCES p; DELETE FROM p WHERE id > 20000; ANALYZE;" + FLUSH,
          "public.t (a), about 20,000 rows, refers to public.p without an index: each of the 100 rows deleted",
          severity="warning"),
    State("foreign-key-type-mismatch",
          "CREATE TABLE p (id bigint PRIMARY KEY);" + T + "ALTER TABLE t ADD CONSTRAINT fk FOREIGN KEY (a) REFERENCES p",
          "public.t.a is integer, but refers to public.p.id, which is bigint: keys beyond its range",
          before="CREATE TABLE q (id int PRIMARY KEY, c varchar(5) UNIQUE, r int REFERENCES q, d text REFERENCES q (c))"),
    State("foreign-key-type-mismatch",
          "CREATE TABLE p (id numeric PRIMARY KEY);" + T + "ALTER TABLE t ADD CONSTRAINT fk FOREIGN KEY (a) REFERENCES p",
          "each comparison casts one side"),
    State("int-key-exhaustion", "CREATE TABLE s (id serial PRIMARY KEY); SELECT setval('s_id_seq', 1900000000);",
          "public.s.id (integer) has used 88.4 % of its numbers", severity="error", plain=False,
          before="CREATE TABLE s0 (id serial PRIMARY KEY); SELECT setval('s0_id_seq', 1000000)"),
    State("int-key-exhaustion", "CREATE TABLE s (id smallint GENERATED ALWAYS AS IDENTITY PRIMARY KEY); SELECT setval('s_id_seq', 20000);",
          "public.s.id (smallint) has used 61.0 %", severity="warning", plain=False),
    State("int-key-exhaustion",
          "CREATE TABLE s (id int PRIMARY KEY); INSERT INTO s SELECT 2000000000 + i FROM generate_series(1, 300) i; ANALYZE s;",
          "public.s.id (integer) has used 93.1 %", severity="error", plain=False),
    State("sequence-issues",
          "CREATE TABLE s (id bigserial PRIMARY KEY); SELECT nextval('s_id_seq'); INSERT INTO s SELECT i FROM generate_series(5, 500) i; ANALYZE s;",
          "the sequence of public.s.id is at 1, but the column holds values up to 500", severity="error", plain=False,
          before="CREATE TABLE s0 (id bigserial PRIMARY KEY); INSERT INTO s0 SELECT FROM generate_series(1, 500); ANALYZE s0"),
    State("sequence-issues", "CREATE TABLE s (id bigserial PRIMARY KEY); ALTER SEQUENCE s_id_seq CYCLE;", "starts again when it is at its end"),
    State("sequence-issues", "CREATE SEQUENCE q; CREATE TABLE s (id bigint PRIMARY KEY DEFAULT nextval('q'))", "which it does not own"),
    State("bloated-table", T + ROWS + "UPDATE t SET at = now(); UPDATE t SET at = now(); UPDATE t SET at = now(); VACUUM ANALYZE t;",
          "public.t takes", {"min_waste_mb": 1}, plain=False),
    State("bloated-index", T + ROWS + "CREATE INDEX t_b ON t (b); DELETE FROM t WHERE id % 10 <> 0; VACUUM ANALYZE t;",
          "public.t_b on public.t takes", {"min_waste_mb": 0.5}, plain=False, fix=False),
    State("dead-tuples", T + ROWS + "UPDATE t SET a = 1;" + FLUSH, "public.t has 20,000 dead rows for 20,000 live ones; last vacuumed: never"),
    State("stale-statistics", T + ROWS + FLUSH, "public.t (about 20,000 rows) was never analyzed"),
    State("stale-statistics", T + ROWS + "ANALYZE t; UPDATE t SET a = 1 WHERE id <= 9000;" + FLUSH, "9,000 rows of public.t changed"),
    State("autovacuum-lag", T + "ALTER TABLE t SET (autovacuum_enabled = off);" + ROWS + "UPDATE t SET a = 1;" + FLUSH,
          "autovacuum is switched off for public.t, which has 20,000 dead rows"),
    State("autovacuum-lag", T + ROWS + "ANALYZE t; UPDATE t SET a = 1;" + FLUSH, "autovacuum should have come at 4,050", fix=False),
    State("xid-wraparound", "", "the oldest row of database", {"max_times": 1e-9}, fix=False, always=True),
    State("multixact-wraparound", T + "INSERT INTO t VALUES (1)", "the oldest multixact of database", {"max_times": 2e-9},
          act=shared_locks, fix=False, always=True),
    State("long-transaction", "", "has been running for", {"min_minutes": 0}, act=works_long, plain=False),
    State("idle-in-transaction", "", "has been idle in a transaction for", {"min_seconds": 0}, act=idles, plain=False),
    State("blocking-locks", T + ROWS, "blocks 1 sessions directly", {"min_seconds": 0}, act=blocks),
    State("prepared-transactions", T + "BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'it''s';",
          "the prepared transaction 'it''s' of postgres", {"min_minutes": 0}, severity="error"),
    State("slot-holding-wal", "SELECT pg_create_physical_replication_slot('held', true);" + T + ROWS, "nobody reads it) keeps", {"min_mb": 1}),
    State("inactive-slot", "SELECT pg_create_physical_replication_slot('left_over', true)", "the slot left_over (physical)"),
    State("checkpoints-too-frequent", "", "checkpoints came because WAL filled up", act=many_checkpoints, fix=False, always=True),
    State("temp-files", "SET work_mem = '64kB'; SELECT i, md5(i::text) FROM generate_series(1, 60000) i ORDER BY 2;" + FLUSH,
          "temporary files with", {"min_mb": 1, "min_mb_per_day": 1}, fix=False),
    State("deadlocks", T + "INSERT INTO t VALUES (1), (2)", "1 deadlocks in", act=deadlocks, fix=False),
    State("connection-use", "", "of 27 connections are taken", {"min_share": 0.4}, act=many_idle, fix=False),
    State("idle-connections", "", "client connections are idle", {"min_idle": 10, "min_share": 0.5}, act=many_idle, fix=False, plain=False),
    State("cache-hit-ratio", T + "INSERT INTO t SELECT i, i, repeat('x', 500), now() FROM generate_series(1, 40000) i; "
          "SELECT count(*) FROM t; SELECT count(*) FROM t; SELECT count(*) FROM t;" + FLUSH,
          "table public.t:", {"min_read_pages": 2000}, fix=False),
    State("low-index-use", T + ROWS + "ANALYZE t; SELECT count(a) FROM t; SELECT count(a) FROM t; SELECT count(a) FROM t;" + FLUSH,
          "was read whole", {"min_rows": 10000, "min_scans": 3}, fix=False),
    State("outdated-extension", "CREATE EXTENSION pg_trgm VERSION '1.3'", "extension pg_trgm is at version 1.3"),
    State("unlogged-table", "CREATE UNLOGGED TABLE t (a int); INSERT INTO t VALUES (1); ANALYZE t;", "public.t is unlogged: its 1 rows"),
    State("large-objects", "SELECT lo_create(0) FROM generate_series(1, 50)", "about 50 large objects", {"min_objects": 50}, fix=False),
    State("rls-initplan", T + "ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON t USING (b = current_setting('app.user', true))",
          "the policy own on public.t calls current_setting",
          before="CREATE TABLE s (b text); ALTER TABLE s ENABLE ROW LEVEL SECURITY; CREATE POLICY ok ON s USING (b = (SELECT current_setting('app.user', true)))"),
    State("security-definer-search-path", "CREATE FUNCTION f(a int) RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT a'",
          "public.f(a integer) runs with the rights of postgres (a superuser)", severity="error",
          before="CREATE FUNCTION g() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS 'SELECT 1'; "
          "CREATE FUNCTION h() RETURNS int LANGUAGE sql AS 'SELECT 1'"),
    State("settings-durability", "", "fsync is off", always=True, fix=False, severity="error"),
    State("settings-memory", T + ROWS + "VACUUM t", "shared_buffers is 4096 kB", {"min_database_mb": 1}, always=True, fix=False),
    State("settings-planner", "DO $$BEGIN EXECUTE format('ALTER DATABASE %I SET enable_hashjoin = off', current_database()); END$$",
          "enable_hashjoin is off for everybody", always=True),
    State("settings-autovacuum", "", "autovacuum_naptime is 86400 s", always=True, fix=False),
    State("settings-autovacuum", T + ROWS + "ANALYZE t", "autovacuum waits for 4,000 dead rows in public.t", {"min_rows": 10000}, always=True, fix=False),
    State("settings-wal", "", "checkpoint_completion_target is 0.5", always=True, fix=False),
    State("settings-timeouts", "", "nothing ends a session that is idle in a transaction", always=True),
    State("settings-observability", "", "not recorded: log_", always=True, fix=False),
    State("settings-io", "", "io_method is sync", always=True, fix=False),
    State("pending-restart", "ALTER SYSTEM SET max_worker_processes = 9; SELECT pg_reload_conf(); SELECT pg_sleep(0.3);",
          "max_worker_processes was changed", fix=False),
    State("archiver-failing", "", "archiving of", act=archive_fails, always=True, fix=False, severity="error"),
]  # fmt: skip
ELSEWHERE = {"database/checksum-failures", "database/replication-lag"}
"""Rules whose states take a server of their own: tested below."""


def test_every_rule_has_a_state() -> None:
    tested = {f"database/{s.rule}" for s in STATES} | ELSEWHERE
    assert tested == set(RULES)


@pytest.mark.parametrize("state", STATES, ids=lambda s: f"{s.rule}-{s.message[:20]}")
def test_state(state: State, server: Server) -> None:
    rule = f"database/{state.rule}"
    if query(RULES[rule], server.cluster.version_num, {}) is None:
        assert server.cluster.version_num < 180000 and rule == "database/settings-io"
        return
    if state.before:
        server.run(state.before)
    before = server.look(rule, state.thresholds)[0]
    assert state.always or not before, before
    server.run(state.sql)
    if state.act is not None:
        state.act(server)
    found, named = _named(state, rule, server)
    assert named, f"{state.message!r} is not said: {[f.message for f in found]}"
    if state.severity:
        assert {f.severity for f in named} == {state.severity}
    _as_other_roles(state, rule, server, found)
    for fix in named[0].fixes:
        if fix.sql:
            libpg.parse(fix.sql)
    if state.fix:
        _fixed(state, rule, server, named[0])
    if state.rule == "pending-restart":
        server.run("ALTER SYSTEM RESET max_worker_processes; SELECT pg_reload_conf()")
    if state.rule in ("slot-holding-wal", "inactive-slot"):
        server.run("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")


def _named(state: State, rule: str, server: Server) -> tuple[list[Finding], list[Finding]]:
    """What the rule finds, and what of it is meant; before 15 counts arrive a moment later."""
    for last in (*([False] * 15 if server.cluster.version_num < 150000 else []), True):
        found = server.look(rule, state.thresholds)[0]
        named = [f for f in found if state.message in f.message]
        if named or last:
            break
        time.sleep(0.2)
    return found, named


def _as_other_roles(state: State, rule: str, server: Server, found: list[Finding]) -> None:
    as_monitor, health = server.look(rule, state.thresholds, "monitor_role")
    assert not [u for u in health.unseen if "saw nothing" in u]
    if RULES[rule].role == "pg_monitor":
        assert any(state.message in f.message for f in as_monitor)
        assert not health.unseen
    as_plain, health = server.look(rule, state.thresholds, "plain_role")
    assert not [u for u in health.unseen if "saw nothing" in u]
    if state.plain:
        assert any(state.message in f.message for f in as_plain), as_plain
    else:
        assert not any(state.message in f.message for f in as_plain)
        assert health.unseen, f"{rule} says nothing of what a plain role does not see"


def _fixed(state: State, rule: str, server: Server, finding: Finding) -> None:
    for fix in finding.fixes:
        for statement in libpg_split(fix.sql):
            with server.cluster.connect(server.name) as connection:
                connection.execute(statement.encode())
    if "ANALYZE" not in finding.fixes[0].sql:
        server.run("ANALYZE")
    wait_until(
        lambda: not any(state.message in f.message for f in server.look(rule, state.thresholds)[0]),
        f"{rule} silent after {finding.fixes[0].sql}",
    )


# -- what must not be reported ------------------------------------------------------------------

SHAPES = {
    "narrow": "CREATE TABLE x AS SELECT i AS id FROM generate_series(1, 200000) i",
    "narrow_two": "CREATE TABLE x AS SELECT i AS a, i::bigint AS b FROM generate_series(1, 100000) i",
    "alignment": "CREATE TABLE x AS SELECT true AS a, i::bigint AS b, true AS c, i::float8 AS d, 1::int2 AS e, now() AS f FROM generate_series(1, 100000) i",
    "nulls": "CREATE TABLE x AS SELECT i AS id, CASE WHEN i % 10 = 0 THEN md5(i::text) END AS b, NULL::timestamptz AS c, CASE WHEN i % 3 = 0 THEN i END AS d FROM generate_series(1, 100000) i",
    "text": "CREATE TABLE x AS SELECT i AS id, repeat('é', i % 200) AS a, md5(i::text) AS b, i::numeric / 7 AS c FROM generate_series(1, 60000) i",
    "wide": "CREATE TABLE x AS SELECT i AS id, repeat(md5(i::text), 30) AS a, repeat(md5(i::text), 20) AS b FROM generate_series(1, 15000) i",
    "half_page": "CREATE TABLE x AS SELECT i AS id, string_agg(md5((i * j)::text), '') AS a FROM generate_series(1, 3000) i, generate_series(1, 56) j GROUP BY i; ALTER TABLE x ALTER a SET STORAGE PLAIN",
    "toasted": "CREATE TABLE x (id int, a text); ALTER TABLE x ALTER a SET STORAGE EXTERNAL; INSERT INTO x SELECT i, repeat(md5(i::text), 200) FROM generate_series(1, 20000) i",
    "jsonb": "CREATE TABLE x AS SELECT i AS id, jsonb_build_object('k', i, 'v', md5(i::text)) AS a, ARRAY[i, i + 1] AS b, '{}'::text[] AS c FROM generate_series(1, 60000) i",
    "fillfactor": "CREATE TABLE x (id int, a text) WITH (fillfactor = 30); INSERT INTO x SELECT i, md5(i::text) FROM generate_series(1, 60000) i",
    "many_columns": "DO $$BEGIN EXECUTE 'CREATE TABLE x AS SELECT ' || (SELECT string_agg(format('CASE WHEN i %% %s = 0 THEN i END AS c%s', n % 5 + 2, n), ', ') FROM generate_series(1, 60) n) || ' FROM generate_series(1, 20000) i'; END$$",
    "dropped_column": "CREATE TABLE x AS SELECT i AS id, repeat(md5(i::text), 10) AS gone, i AS a FROM generate_series(1, 30000) i; ALTER TABLE x DROP gone",
    "dropped_fixed": "CREATE TABLE x AS SELECT i AS id, i::bigint AS gone, i::bigint AS gone2, i AS a FROM generate_series(1, 100000) i; ALTER TABLE x DROP gone, DROP gone2",
}  # fmt: skip


@pytest.mark.parametrize("cluster", [15, 18], indirect=True)  # pages are alike everywhere
def test_no_table_that_was_just_filled_and_vacuumed_is_bloated(server: Server) -> None:
    for name, sql in SHAPES.items():
        server.run(sql)
        server.run(f"ALTER TABLE x RENAME TO {name}")
        server.run(f"CREATE INDEX ON {name} (id)" if "id" in sql else "SELECT 1")
    server.run(
        "CREATE INDEX ON text (a, b); CREATE INDEX ON nulls (b); CREATE INDEX ON text (lower(b))"
    )
    server.run("CREATE INDEX ON nulls (d) WHERE d IS NOT NULL; CREATE INDEX ON alignment (a, b, e)")
    for sql in ("VACUUM (ANALYZE)", "VACUUM (FULL, ANALYZE)"):
        server.run(sql)
        for rule in ("database/bloated-table", "database/bloated-index"):
            found, _ = server.look(rule, {"min_waste_mb": 0.1, "min_share": 0.2})
            assert not found, [f.message for f in found]


def test_random_insertion_is_no_bloat_of_an_index(server: Server) -> None:
    server.run(
        "CREATE TABLE x (a uuid PRIMARY KEY); INSERT INTO x SELECT md5(i::text)::uuid "
        "FROM generate_series(1, 60000) i; VACUUM ANALYZE x"
    )
    found, _ = server.look("database/bloated-index", {"min_waste_mb": 0.1})
    assert not found, [f.message for f in found]


def test_a_table_that_grew_since_its_analyze_is_not_bloated(server: Server) -> None:
    server.run(
        f"{T} INSERT INTO t SELECT i, i, md5(i::text), now() FROM generate_series(1, 5000) i; VACUUM ANALYZE t;"
        "INSERT INTO t SELECT i, i, md5(i::text), now() FROM generate_series(5001, 100000) i;"
        + FLUSH
    )
    for rule in ("database/bloated-table", "database/bloated-index"):
        found, _ = server.look(rule, {"min_waste_mb": 0.1, "min_share": 0.2})
        assert not found, [f.message for f in found]


def test_an_index_under_construction_is_not_invalid(server: Server) -> None:
    server.run(T + ROWS)
    holder = server.connect(autocommit=False)
    holder.execute("UPDATE t SET a = a WHERE id = 1")
    server.background("CREATE INDEX CONCURRENTLY t_a ON t (a)")

    def building() -> bool:
        with server.cluster.connect(server.name) as connection:
            row = connection.execute(
                "SELECT EXISTS (SELECT FROM pg_index WHERE NOT indisvalid)"
            ).fetchone()
        return bool(row and row[0])

    wait_until(building, "an index that is being built")
    for user in ("postgres", "plain_role"):
        assert not server.look("database/invalid-index", {}, user)[0]
    holder.rollback()


def test_a_locked_table_stops_nothing(server: Server) -> None:
    server.run(
        T
        + ROWS
        + "CREATE INDEX t_a ON t (a); CREATE INDEX again ON t ((a + 1)); CREATE TABLE u (a int)"
    )
    server.run("CREATE POLICY p ON t USING (a > 1)")
    holder = server.connect(autocommit=False)
    holder.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
    began = time.monotonic()
    with LiveSession(server.cluster.dsn(server.name), statement_timeout_ms=5_000) as session:
        health = examine(session, list(RULES.values()), {}, "here", lambda _: None)
    assert not health.problems, health.problems
    assert any(f.rule == "database/missing-primary-key" for f in health.findings)
    assert time.monotonic() - began < 10
    holder.rollback()


def test_all_rules_see_odd_names(server: Server) -> None:
    server.run(
        """CREATE SCHEMA "Sch%ema's"; CREATE TABLE "Sch%ema's"."T ""x""; --" ("a b" int, "%I" text);
        INSERT INTO "Sch%ema's"."T ""x""; --" SELECT i, 'x' FROM generate_series(1, 20000) i;
        CREATE INDEX "i 1" ON "Sch%ema's"."T ""x""; --" ("a b"); CREATE INDEX "i'2" ON "Sch%ema's"."T ""x""; --" ("a b")"""
    )
    for rule, expected in (
        ("database/duplicate-index", """DROP INDEX CONCURRENTLY "Sch%ema's"."i'2";"""),
        (
            "database/missing-primary-key",
            """ALTER TABLE "Sch%ema's"."T ""x""; --" ADD COLUMN id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY;""",
        ),
    ):
        (finding,) = server.look(rule, {})[0]
        assert finding.fixes[0].sql == expected
        server.run(finding.fixes[0].sql)
        assert not server.look(rule, {})[0]


# -- states that take a server of their own -----------------------------------------------------


def test_checksum_failures(cluster: Cluster) -> None:
    with Cluster(cluster.binaries) as own, ExitStack() as stack:
        own.stop()
        shutil.rmtree(own.data_directory)
        program = os.path.join(own.bin_dir, "initdb")
        subprocess.run(
            [program, "--data-checksums", "-D", str(own.data_directory), "-U", "postgres",
             "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
            check=True, capture_output=True, cwd="/", **account(),
        )  # fmt: skip
        own.start()
        server = Server(own, "postgres", stack)
        server.run("CREATE ROLE plain_role LOGIN;" + T + ROWS + "CHECKPOINT;")
        assert not server.look("database/checksum-failures", {})[0]
        with own.connect() as connection:
            row = connection.execute("SELECT pg_relation_filepath('t')").fetchone()
        own.stop()
        with open(own.data_directory / str(row and row[0]), "r+b") as file:
            file.seek(4000)
            file.write(b"damaged!")
        own.start()
        with own.connect() as connection, pytest.raises(psycopg.errors.DataCorrupted):
            connection.execute("SELECT count(b) FROM t")
        for user in ("postgres", "plain_role"):
            wait_until(
                lambda user=user: bool(server.look("database/checksum-failures", {}, user)[0]),  # type: ignore[misc]
                "a failure that is counted",
            )
            (finding,) = server.look("database/checksum-failures", {}, user)[0]
            assert "1 pages of database postgres had a wrong checksum" in finding.message


def test_replication_lag(cluster: Cluster, server: Server) -> None:
    with open(cluster.directory / "pg_hba.conf", "a") as file:
        file.write("local replication all trust\n")
    server.run("SELECT pg_reload_conf()")
    folder = cluster.directory / "standby"
    newest = reachable(find_binaries(None))  # the fetched servers come without it
    subprocess.run(
        [os.path.join(newest, "pg_basebackup"), "-D", str(folder), "-h", str(cluster.directory),
         "-U", "postgres", "-X", "stream", "-R", "-c", "fast"],
        check=True, capture_output=True, cwd="/", **account(),
    )  # fmt: skip
    standby = subprocess.Popen(
        [os.path.join(cluster.bin_dir, "postgres"), "-D", str(folder), "-k", str(folder), "-c", "port=5433",
         "-c", "listen_addresses=", "-c", f"hba_file={cluster.directory / 'pg_hba.conf'}", "-c", "max_connections=30",
         "-c", "max_prepared_transactions=4", "-c", "max_wal_senders=4", "-c", "shared_buffers=4MB",
         # The one that pg_basebackup wrote has options that older servers do not know.
         "-c", f"primary_conninfo=host={cluster.directory} port=5432 user=postgres"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", **account(),
    )  # fmt: skip
    try:
        where = f"host={folder} port=5433 user=postgres dbname={server.name}"

        def reads() -> bool:
            with suppress(psycopg.Error), psycopg.connect(where, autocommit=True) as replica:
                replica.execute("SELECT pg_wal_replay_pause()")
                return True
            return False

        wait_until(reads, "a standby that answers")
        assert not server.look("database/replication-lag", {})[0]
        server.run(T + ROWS)
        wait_until(lambda: bool(server.look("database/replication-lag", {"min_mb": 1})[0]), "a lag")
        (finding,) = server.look("database/replication-lag", {"min_mb": 1}, "monitor_role")[0]
        assert "walreceiver is" in finding.message and "of WAL behind" in finding.message
        found, health = server.look("database/replication-lag", {"min_mb": 1}, "plain_role")
        assert not found and "where standbys are" in health.unseen[0]
        # What holds of a primary only is not said of a standby, and nothing fails there.
        with LiveSession(where, statement_timeout_ms=5_000) as session:
            health = examine(session, list(RULES.values()), {}, "standby", lambda _: None)
        assert not health.problems, health.problems
        assert not [u for u in health.unseen if "saw nothing" in u], health.unseen
    finally:
        standby.send_signal(signal.SIGQUIT)
        standby.wait(10)
        shutil.rmtree(folder, ignore_errors=True)
