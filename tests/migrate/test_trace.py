"""The trace: what PostgreSQL really does when a migration runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from sets import migration, migration_set

from sqladvisor.migrate.trace import (
    Change,
    IndexBuild,
    Lock,
    Step,
    Trace,
    parts,
    same_relation,
    trace,
)
from sqladvisor.server.sandbox import Sandbox

SCHEMA = """
CREATE TABLE users (id bigint PRIMARY KEY, email text NOT NULL, note text);
CREATE TABLE orders (id bigint PRIMARY KEY, user_id bigint, total numeric(10,2), status text);
CREATE INDEX orders_status_idx ON orders (status);
CREATE VIEW recent AS SELECT id, status FROM orders;
"""

Make = Callable[..., Sandbox]


def traced(make_sandbox: Make, sql: str, transaction: str = "file", schema: str = SCHEMA) -> Trace:
    made = migration("001", sql, transaction=transaction)  # type: ignore[arg-type]
    return trace(make_sandbox(schema), migration_set(made))


def only(found: Trace) -> Step:
    assert len(found.steps) == 1
    assert found.steps[0].traced, found.steps[0].failure
    return found.steps[0]


def test_alter_type_rewrites_the_table_and_its_indexes(make_sandbox: Make) -> None:
    step = only(traced(make_sandbox, "ALTER TABLE users ALTER COLUMN id TYPE integer"))
    assert step.lock_on("users") == Lock("public.users", "ACCESS EXCLUSIVE", "table")
    assert step.rewritten == ("public.users",)
    assert step.built == (IndexBuild("public.users_pkey", "public.users"),)


def test_what_is_harmless_leaves_the_files_alone(make_sandbox: Make) -> None:
    step = only(traced(make_sandbox, "ALTER TABLE users ADD COLUMN plan text DEFAULT 'free'"))
    assert step.lock_on("users") == Lock("public.users", "ACCESS EXCLUSIVE", "table")
    assert step.rewritten == step.scanned == step.built == ()
    assert step.changes == (Change("changed", "table", "public.users"),)


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TABLE users ALTER COLUMN note SET NOT NULL",
        "ALTER TABLE users ADD CHECK (length(email) < 400)",
    ],
)
def test_validation_scans(make_sandbox: Make, sql: str) -> None:
    step = only(traced(make_sandbox, sql))
    assert step.scanned == ("public.users",)
    assert step.rewritten == ()


def test_a_foreign_key_locks_both_tables(make_sandbox: Make) -> None:
    sql = "ALTER TABLE orders ADD FOREIGN KEY (user_id) REFERENCES users"
    step = only(traced(make_sandbox, sql))
    assert {(k.relation, k.mode) for k in step.strong()} == {
        ("public.orders", "SHARE ROW EXCLUSIVE"),
        ("public.users", "SHARE ROW EXCLUSIVE"),
    }
    assert step.scanned == ("public.orders",)
    step = only(traced(make_sandbox, sql + " NOT VALID"))
    assert step.scanned == ()


def test_validated_check_saves_the_scan_of_set_not_null(make_sandbox: Make) -> None:
    found = traced(
        make_sandbox,
        """ALTER TABLE users ADD CONSTRAINT c CHECK (note IS NOT NULL) NOT VALID;
        ALTER TABLE users VALIDATE CONSTRAINT c;
        ALTER TABLE users ALTER note SET NOT NULL;
        ALTER TABLE users DROP CONSTRAINT c""",
        "statement",
    )
    assert [s.scanned for s in found.steps] == [(), ("public.users",), (), ()]
    assert found.steps[1].lock_on("users") == Lock(
        "public.users", "SHARE UPDATE EXCLUSIVE", "table"
    )
    assert [s.transaction for s in found.steps] == [1, 2, 3, 4]


def test_create_index_in_a_transaction_and_concurrently(make_sandbox: Make) -> None:
    step = only(traced(make_sandbox, "CREATE INDEX i ON orders (user_id)"))
    assert step.lock_on("orders") == Lock("public.orders", "SHARE", "table")
    assert step.built == (IndexBuild("public.i", "public.orders"),)
    step = only(traced(make_sandbox, "CREATE INDEX CONCURRENTLY i ON orders (user_id)", "none"))
    assert step.transaction == 0
    assert step.lock_on("orders") == Lock("public.orders", "SHARE UPDATE EXCLUSIVE", "table")
    assert step.built == (IndexBuild("public.i", "public.orders"),)
    assert step.changes == (Change("created", "index", "public.i"),)
    assert not step.strong()


def test_concurrently_in_a_transaction_fails_as_it_would(make_sandbox: Make) -> None:
    found = traced(
        make_sandbox,
        "CREATE INDEX CONCURRENTLY i ON orders (user_id); DROP INDEX orders_status_idx",
    )
    first, second = found.steps
    assert first.failure == "CREATE INDEX CONCURRENTLY cannot run inside a transaction block"
    assert first.sqlstate == "25001"
    assert second.traced
    assert second.lock_on("orders") == Lock("public.orders", "ACCESS EXCLUSIVE", "table")


@pytest.mark.parametrize(
    ("sql", "mode"),
    [
        ("DROP INDEX CONCURRENTLY orders_status_idx", "SHARE UPDATE EXCLUSIVE"),
        ("REINDEX TABLE CONCURRENTLY orders", "SHARE UPDATE EXCLUSIVE"),
        ("VACUUM orders", "SHARE UPDATE EXCLUSIVE"),
        ("VACUUM FULL orders", "ACCESS EXCLUSIVE"),
    ],
)
def test_outside_of_transactions(make_sandbox: Make, sql: str, mode: str) -> None:
    step = only(traced(make_sandbox, sql, "none"))
    assert step.lock_on("orders") == Lock("public.orders", mode, "table")
    assert bool(step.rewritten) == ("FULL" in sql)


def test_a_do_block_is_looked_into(make_sandbox: Make) -> None:
    step = only(
        traced(
            make_sandbox,
            """DO $$ BEGIN
            EXECUTE 'ALTER TABLE or' || 'ders ADD COLUMN token uuid DEFAULT gen_random_uuid()';
            END $$""",
        )
    )
    assert step.lock_on("orders") == Lock("public.orders", "ACCESS EXCLUSIVE", "table")
    assert step.rewritten == ("public.orders",)


def test_cascade_says_what_fell(make_sandbox: Make) -> None:
    step = only(traced(make_sandbox, "DROP TABLE orders CASCADE"))
    dropped = [c for c in step.changes if c.action == "dropped" and not c.inner]
    assert dropped == [
        Change("dropped", "table", "public.orders"),
        Change("dropped", "view", "public.recent", cascaded=True),
    ]


def test_tables_of_the_set_itself_are_not_mentioned(make_sandbox: Make) -> None:
    found = trace(
        make_sandbox(SCHEMA),
        migration_set(
            migration("001", "CREATE TABLE carts (id int)"),
            migration("002", "ALTER TABLE carts ADD PRIMARY KEY (id); CREATE INDEX ON carts (id)"),
        ),
    )
    for step in found.steps:
        assert step.traced
        assert (step.locks, step.rewritten, step.scanned, step.built) == ((), (), (), ())
    assert "public.carts" not in found.existing


def test_earlier_migrations_make_what_is_there_before(make_sandbox: Make) -> None:
    found = trace(
        make_sandbox(),
        migration_set(
            migration("001", "CREATE TABLE carts (id int)", judged=False),
            migration("002", "CREATE INDEX ON carts (id)"),
        ),
    )
    assert only(found).lock_on("carts") == Lock("public.carts", "SHARE", "table")


def test_locks_are_held_to_the_end_of_the_transaction(make_sandbox: Make) -> None:
    found = traced(
        make_sandbox, "ALTER TABLE users ADD COLUMN a int; UPDATE users SET a = 1; SELECT 1"
    )
    held = (Lock("public.users", "ACCESS EXCLUSIVE", "table"),)
    assert [s.held for s in found.steps] == [(), held, held]
    assert found.steps[1].strong() == ()
    found = traced(
        make_sandbox,
        "BEGIN; ALTER TABLE users ADD COLUMN a int; COMMIT; UPDATE users SET a = 1",
        "none",
    )
    assert [s.transaction for s in found.steps] == [1, 1, 1, 2]
    assert found.steps[3].held == ()


def test_what_fails_is_undone_and_the_rest_goes_on(make_sandbox: Make) -> None:
    found = traced(
        make_sandbox,
        """CREATE EXTENSION no_such_thing;
        ALTER TABLE users OWNER TO app;
        GRANT SELECT ON users TO app;
        ALTER TABLE nowhere ADD COLUMN a int;
        ALTER TABLE users ADD COLUMN b int""",
    )
    failures = [s.failure for s in found.steps]
    assert "no_such_thing" in failures[0]
    assert failures[3] == 'relation "nowhere" does not exist'
    assert failures[2] == failures[4] == ""


def test_deferred_constraints_fail_at_the_end(make_sandbox: Make) -> None:
    found = traced(
        make_sandbox,
        """ALTER TABLE orders ADD FOREIGN KEY (user_id) REFERENCES users DEFERRABLE INITIALLY DEFERRED;
        INSERT INTO orders VALUES (1, 77)""",
    )
    assert "the transaction does not commit" in found.steps[-1].failure


def test_a_rollback_in_the_file_is_no_rewrite_later(make_sandbox: Make) -> None:
    found = traced(
        make_sandbox,
        """BEGIN; ALTER TABLE users ALTER id TYPE integer; ROLLBACK;
        ALTER TABLE users ADD COLUMN a int""",
        "none",
    )
    assert [bool(s.rewritten) for s in found.steps] == [False, True, False, False]


def test_nothing_of_ours_is_left(make_sandbox: Make) -> None:
    sandbox = make_sandbox(SCHEMA)
    trace(sandbox, migration_set(migration("001", "ALTER TABLE users ADD COLUMN a int")))
    with sandbox.connect() as connection:
        row = connection.execute(
            "SELECT (SELECT count(*) FROM pg_event_trigger), "
            "(SELECT count(*) FROM pg_namespace WHERE nspname ~ 'sqladvisor')"
        ).fetchone()
    assert row == (0, 0)


def test_names_are_compared_with_and_without_quotes_and_schema() -> None:
    assert same_relation('public."Order Items"', "public.Order Items")
    assert same_relation("orders", "public.orders")
    assert not same_relation("shop.orders", "public.orders")
    assert parts('"a.b"."c""d"') == ("a.b", 'c"d')


def test_tables_of_earlier_migrations_where_each_is_a_deployment(make_sandbox: Make) -> None:
    found = trace(
        make_sandbox(SCHEMA),
        migration_set(
            migration("001", "CREATE TABLE carts (id int)"),
            migration("002", "ALTER TABLE carts ADD PRIMARY KEY (id)"),
        ),
        each=True,
    )
    assert found.steps[1].lock_on("carts") == Lock("public.carts", "ACCESS EXCLUSIVE", "table")


def test_a_runner_with_one_transaction_for_all(make_sandbox: Make) -> None:
    made = migration_set(
        migration("001", "ALTER TABLE users ADD COLUMN a int"),
        migration("002", "ALTER TABLE orders ADD COLUMN a int"),
    )
    found = trace(make_sandbox(SCHEMA), replace(made, one_transaction=True))
    assert [s.transaction for s in found.steps] == [1, 1]
    assert found.steps[1].held == (Lock("public.users", "ACCESS EXCLUSIVE", "table"),)


def test_a_rename_locks_the_table_by_the_name_it_had(make_sandbox: Make) -> None:
    sql = "ALTER TABLE users RENAME TO people; ALTER TABLE people ADD COLUMN n int;"
    renamed, altered = traced(make_sandbox, sql, "statement").steps
    assert renamed.lock_on("users") and not renamed.lock_on("people")
    assert altered.lock_on("people") and not altered.lock_on("users")


def test_a_procedure_that_commits(make_sandbox: Make) -> None:
    found = traced(
        make_sandbox,
        """CREATE PROCEDURE p() LANGUAGE plpgsql AS $$ BEGIN
        COMMIT; ALTER TABLE users ALTER id TYPE integer; END $$;
        CALL p()""",
        "none",
    )
    step = found.steps[1]
    assert step.traced and step.transaction == 0
    assert step.rewritten == ("public.users",)
    assert step.lock_on("users") == Lock("public.users", "ACCESS EXCLUSIVE", "table")


def test_what_never_ends_is_stopped(make_sandbox: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sqladvisor.migrate.trace.STATEMENT_TIMEOUT_S", 0.5)
    found = traced(
        make_sandbox,
        "SET statement_timeout = 0; DO $$ BEGIN LOOP END LOOP; END $$; SELECT 1",
    )
    assert [s.failure for s in found.steps] == ["", "stopped after 0.5 s", ""]


def test_a_session_that_ends_itself(make_sandbox: Make) -> None:
    found = trace(
        make_sandbox(SCHEMA),
        migration_set(
            migration("001", "SELECT pg_terminate_backend(pg_backend_pid()); SELECT 1"),
            migration("002", "ALTER TABLE users ADD COLUMN a int"),
        ),
    )
    assert [bool(s.failure) for s in found.steps] == [True, True, False]
