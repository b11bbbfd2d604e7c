"""Up, down, up: real schemas compared."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sets import migration, migration_set

from sqladvisor.finding import Finding
from sqladvisor.migrate.describe import describe, differences
from sqladvisor.migrate.model import Migration
from sqladvisor.migrate.stage import Stage
from sqladvisor.migrate.updown import check_downs
from sqladvisor.server.binaries import find_binaries
from sqladvisor.server.sandbox import Sandbox

SCHEMA = """
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE TABLE users (id bigint PRIMARY KEY, email text NOT NULL, plan text DEFAULT 'free');
CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1';
"""
Make = Callable[..., Sandbox]


def checked(make_sandbox: Make, *migrations: Migration) -> list[Finding]:
    stage = Stage(find_binaries(None), make_sandbox(SCHEMA), migration_set(*migrations), print)
    return check_downs(stage).findings


@pytest.mark.parametrize(
    ("up", "down"),
    [
        ("CREATE TABLE carts (id int PRIMARY KEY)", "DROP TABLE carts"),
        ("ALTER TABLE users ADD COLUMN a int", "ALTER TABLE users DROP COLUMN a"),
        ("ALTER TABLE users DROP COLUMN plan", "ALTER TABLE users ADD COLUMN plan text DEFAULT 'free'"),
        ("CREATE INDEX i ON users (email)", "DROP INDEX i"),
        ("ALTER TABLE users ADD CONSTRAINT u UNIQUE (email)", "ALTER TABLE users DROP CONSTRAINT u"),
        ("DROP FUNCTION one()", "CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1'"),
        ("UPDATE users SET plan = 'x'", "UPDATE users SET plan = 'free'"),
    ],
)  # fmt: skip
def test_downs_that_undo(make_sandbox: Make, up: str, down: str) -> None:
    assert checked(make_sandbox, migration("001", up, down)) == []


@pytest.mark.parametrize(
    ("up", "down", "says"),
    [
        (
            "ALTER TABLE users ADD COLUMN a int; CREATE INDEX i ON users (email)",
            "ALTER TABLE users DROP COLUMN a",
            "index public.i is left behind",
        ),
        (
            "ALTER TABLE users DROP COLUMN plan",
            "ALTER TABLE users ADD COLUMN plan text",
            "column public.users.plan is text, was text 'free'::text",
        ),
        ("ALTER TYPE mood ADD VALUE 'happy'", "SELECT 1", "type public.mood is e 'sad', 'ok', 'happy'"),
        ("DROP TABLE users", "CREATE TABLE users (id bigint)", "column public.users.email is missing"),
        (
            "CREATE OR REPLACE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 2'",
            "SELECT 1",
            "function public.one() has another definition",
        ),
    ],
)  # fmt: skip
def test_downs_that_do_not(make_sandbox: Make, up: str, down: str, says: str) -> None:
    found = checked(make_sandbox, migration("001", up, down))
    assert found[0].rule == "migration/down-does-not-undo"
    assert found[0].severity == "warning"
    assert found[0].location.path == "migrations/001.down.sql"
    assert says in found[0].message


def test_the_one_that_does_not_is_named(make_sandbox: Make) -> None:
    found = checked(
        make_sandbox,
        migration("001", "CREATE TABLE a (id int)", "DROP TABLE a"),
        migration("002", "ALTER TABLE a ADD COLUMN b int; CREATE TABLE c (id int)",
                  "ALTER TABLE a DROP COLUMN b"),
        migration("003", "ALTER TABLE a ADD COLUMN d int", "ALTER TABLE a DROP COLUMN d"),
    )  # fmt: skip
    assert [(f.location.path, f.evidence.figures["differences"]) for f in found] == [
        ("migrations/002.down.sql", ["table public.c is left behind"])
    ]


def test_downs_of_many_are_run_in_one_go(make_sandbox: Make) -> None:
    ups = [
        migration(f"{n:03}", f"CREATE TABLE t{n} (id int); SELECT 1/0", f"DROP TABLE t{n}",
                  transaction="none")
        for n in range(5)
    ]  # fmt: skip
    stage = Stage(find_binaries(None), make_sandbox(SCHEMA), migration_set(*ups), print)
    said: list[str] = []
    result = check_downs(stage, said.append)
    assert result.findings == [] and result.checked == 5
    assert said == ["up, down and up: all migrations"]


def test_a_down_that_fails(make_sandbox: Make) -> None:
    (found,) = checked(make_sandbox, migration("001", "SELECT 1", "DROP TABLE carts"))
    assert found.severity == "error"
    assert 'table "carts" does not exist' in found.message


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("CREATE INDEX CONCURRENTLY i ON users (email)", 'relation "i" already exists'),
        ("CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON users (email)", "IF NOT EXISTS takes it for"),
        ("DROP INDEX CONCURRENTLY IF EXISTS i; CREATE INDEX CONCURRENTLY i ON users (email)", ""),
    ],
)  # fmt: skip
def test_what_a_failed_build_leaves_behind(make_sandbox: Make, sql: str, says: str) -> None:
    found = checked(make_sandbox, migration("001", sql, transaction="none"))
    if says:
        assert [f.rule for f in found] == ["migration/leftover-blocks-retry"]
        assert says in found[0].message
    else:
        assert found == []


def test_schemas_are_described_in_full(make_sandbox: Make) -> None:
    everything = """
    CREATE SCHEMA s; CREATE DOMAIN d AS int CHECK (VALUE > 0); CREATE TYPE pair AS (a int, b text);
    CREATE VIEW v AS SELECT id FROM users; CREATE MATERIALIZED VIEW m AS SELECT id FROM users;
    CREATE SEQUENCE q; CREATE TABLE p (a int) PARTITION BY LIST (a);
    CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
    CREATE FUNCTION t() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    CREATE TRIGGER tr BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION t();
    CREATE POLICY po ON users USING (true); CREATE STATISTICS st ON id, email FROM users;
    COMMENT ON TABLE users IS 'people'; GRANT SELECT ON users TO PUBLIC;
    CREATE RULE r AS ON DELETE TO users DO INSTEAD NOTHING;
    """
    one, two = make_sandbox(SCHEMA), make_sandbox(SCHEMA)
    with one.cluster.connect(one.name) as a, two.cluster.connect(two.name) as b:
        assert differences(describe(a), describe(b)) == []
        b.execute(everything)
        names = {d.name for d in differences(describe(a), describe(b))}
    for part in ("schema s", "type public.d", "type public.pair", "view public.v", "materialized view public.m",
                 "sequence public.q", "table public.p", "table public.p1", "function public.t()",
                 "trigger tr on public.users", "policy po on public.users", "statistics public.st",
                 "comment on public.users", "table public.users", "rule r on public.users"):  # fmt: skip
        assert part in names, part
