"""The trace decides over what static rules say."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sets import migration, migration_set

from sqladvisor.finding import Evidence, Finding
from sqladvisor.migrate.model import TransactionMode
from sqladvisor.migrate.reconcile import first_line, reconcile
from sqladvisor.migrate.trace import Trace, trace
from sqladvisor.server.sandbox import Sandbox

SCHEMA = """
CREATE TABLE users (id bigint PRIMARY KEY, email text NOT NULL, note varchar(20));
CREATE TABLE orders (id bigint PRIMARY KEY, user_id bigint REFERENCES users);
CREATE VIEW names AS SELECT id FROM users;
"""
Make = Callable[..., Sandbox]


def run(make_sandbox: Make, sql: str, transaction: TransactionMode = "file") -> Trace:
    made = migration_set(migration("001", sql, transaction=transaction))
    return trace(make_sandbox(SCHEMA), made)


def static(found: Trace, figures: Mapping[str, object], step: int = 0) -> Finding:
    """A finding as a rule would make it, on one of the statements."""
    statement = found.steps[step].statement
    return Finding(
        "migration/rule", "error", "…", first_line(statement), statement.text, "",
        Evidence("static", figures),
    )  # fmt: skip


CLAIM = {"relation": "public.users", "lock": "ACCESS EXCLUSIVE", "work": "rewrite"}


def test_a_rewrite_that_happens_is_measured(make_sandbox: Make) -> None:
    found = run(make_sandbox, "ALTER TABLE users ALTER email TYPE varchar(90)")
    (left,), notes = reconcile([static(found, CLAIM)], found, pg_version=18)
    assert left.evidence.level == "measured"
    assert left.evidence.figures["rewritten"] == ["public.users"]
    assert left.evidence.notes == (
        "traced: ACCESS EXCLUSIVE on public.users, public.users rewritten, public.users_pkey built",
    )
    assert notes == []


def test_a_rewrite_that_does_not_happen_is_dropped(make_sandbox: Make) -> None:
    found = run(make_sandbox, "ALTER TABLE users ALTER note TYPE varchar(40)")
    assert reconcile([static(found, CLAIM)], found, pg_version=18) == ([], [])
    claim = static(found, {**CLAIM, "work": "none"})
    assert len(reconcile([claim], found, pg_version=18)[0]) == 1


def test_another_version_is_not_contradicted(make_sandbox: Make) -> None:
    found = run(make_sandbox, "ALTER TABLE users ADD COLUMN a int DEFAULT 1")
    (left,), _ = reconcile([static(found, CLAIM)], found, pg_version=10)
    assert left.rule == "migration/rule"


def test_a_table_that_is_not_locked(make_sandbox: Make) -> None:
    found = run(make_sandbox, "ALTER TABLE users ADD COLUMN a int")
    wrong = static(found, {**CLAIM, "relation": "public.orders", "work": "none"})
    assert reconcile([wrong], found, pg_version=18) == ([], [])


def test_a_do_block_that_alters_a_table(make_sandbox: Make) -> None:
    sql = """SELECT 1;
    DO $$ BEGIN EXECUTE 'ALTER TABLE users ALTER email TYPE varchar(9)'; END $$;"""
    (hidden,), _ = reconcile([], run(make_sandbox, sql), pg_version=18)
    assert hidden.rule == "migration/traced-lock"
    assert hidden.severity == "error"
    assert hidden.location.line == 2
    assert hidden.message == (
        "This DO block takes ACCESS EXCLUSIVE on public.users, which blocks reads and writes while "
        "the table is rewritten"
    )
    assert hidden.evidence.level == "measured"


def test_the_other_table_of_a_foreign_key_is_locked_and_read(make_sandbox: Make) -> None:
    sql = "DROP VIEW names; ALTER TABLE users ALTER id TYPE int"
    found = run(make_sandbox, sql)
    _, hidden = reconcile([static(found, CLAIM, 1)], found, pg_version=18)[0]
    assert hidden.message == (
        "This statement takes ACCESS EXCLUSIVE on public.orders, which blocks reads and writes "
        "while all rows are read; its text does not show it"
    )


def test_functions_and_triggers_are_seen_too(make_sandbox: Make) -> None:
    sql = """CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$
    BEGIN ALTER TABLE orders ADD COLUMN b int; RETURN 1; END $$;
    SELECT f();"""
    found, _ = reconcile([], run(make_sandbox, sql), pg_version=18)
    assert [(f.rule, f.severity, f.location.line) for f in found] == [
        ("migration/traced-lock", "warning", 3)
    ]


def test_harmless_statements_say_nothing(make_sandbox: Make) -> None:
    sql = """ALTER TABLE users ADD COLUMN a int;
    CREATE TABLE carts (id int); CREATE INDEX ON carts (id);
    UPDATE users SET a = 1;
    DO $$ BEGIN PERFORM 1; CREATE TABLE more (i int); ALTER TABLE more ADD PRIMARY KEY (i); END $$"""
    assert reconcile([], run(make_sandbox, sql), pg_version=18) == ([], [])


def test_cascade_is_told(make_sandbox: Make) -> None:
    found = run(make_sandbox, "DROP TABLE users CASCADE")
    (left,), _ = reconcile([static(found, {})], found, pg_version=18)
    assert left.evidence.figures["cascaded"] == [
        "table constraint orders_user_id_fkey on public.orders",
        "view public.names",
    ]


def test_what_cannot_run_keeps_its_findings(make_sandbox: Make) -> None:
    sql = "CREATE EXTENSION no_such_extension;\nCREATE INDEX ON users (email)"
    found = run(make_sandbox, sql)
    claim = static(found, {})
    left, notes = reconcile([claim], found, pg_version=18, complete=True)
    assert left == [claim]
    assert notes == [
        'migrations/001.sql:1: not traced: extension "no_such_extension" is not available'
    ]


def test_a_migration_that_fails(make_sandbox: Make) -> None:
    found = run(make_sandbox, "ALTER TABLE users DROP COLUMN nickname")
    assert reconcile([], found, pg_version=18)[0] == []
    (fails,), notes = reconcile([], found, pg_version=18, complete=True)
    assert fails.rule == "migration/fails"
    assert 'column "nickname" of relation "users" does not exist' in fails.message
    assert notes == []


def test_concurrently_in_a_transaction_is_tried(make_sandbox: Make) -> None:
    found = run(make_sandbox, "CREATE INDEX CONCURRENTLY ON users (email)")
    (left,), notes = reconcile([static(found, {})], found, pg_version=18)
    assert left.evidence.level == "measured"
    assert left.evidence.figures["sqlstate"] == "25001"
    assert notes == []
