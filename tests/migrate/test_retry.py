"""What waits for a lock gives way, asks again, and is read as what it is."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psycopg

from sqladvisor.migrate.gate import GateOptions, gate
from sqladvisor.migrate.retry import retried
from sqladvisor.report.model import Report
from sqladvisor.server.sandbox import Sandbox
from sqladvisor.sql.source import read_source, statements

SCHEMA = "CREATE TABLE users (id bigint PRIMARY KEY, email text); CREATE TABLE orders (id bigint);"


def fixed(tmp_path: Path, name: str, text: str, **options: object) -> tuple[str, Report]:
    (tmp_path / "schema.sql").write_text(SCHEMA)
    path = tmp_path / "m" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    report = gate(
        [str(tmp_path / "m")],
        GateOptions(
            schema=(str(tmp_path / "schema.sql"),), trace=True, fix="write", cache=False,
            check_down=False, **options,  # type: ignore[arg-type]
        ),
    )  # fmt: skip
    return path.read_text(), report


def rules(report: Report) -> list[str]:
    return [f.rule for f in report.findings if f.severity != "info"]


def test_in_one_transaction_all_that_locks_is_tried_together(tmp_path: Path) -> None:
    text, report = fixed(
        tmp_path,
        "20240101000000_a.sql",
        "CREATE TABLE n (id int);\nALTER TABLE users ADD COLUMN a int;\n"
        "-- it's for orders\nALTER TABLE orders\n  ADD COLUMN b int;\nCOMMENT ON TABLE n IS 'x';\n",
        runner="supabase",
    )
    assert (
        text
        == """CREATE TABLE n (id int);
SET LOCAL lock_timeout = '2s';
DO $retry$
BEGIN
  FOR attempt IN 1..10 LOOP
    BEGIN
      ALTER TABLE users ADD COLUMN a int;
      -- it's for orders
      ALTER TABLE orders
  ADD COLUMN b int;
      EXIT;
    EXCEPTION WHEN lock_not_available THEN
      IF attempt = 10 THEN RAISE; END IF;
      PERFORM pg_sleep(least(attempt, 5) + random());
    END;
  END LOOP;
END $retry$;
COMMENT ON TABLE n IS 'x';
"""
    )
    # It is no opaque block: rules see what is in it, and the trace has nothing to add.
    assert rules(report) == ["migration/several-strong-locks"]
    finding = next(f for f in report.findings if f.rule == "migration/several-strong-locks")
    assert text.splitlines()[finding.location.line - 1].strip().startswith("ALTER TABLE orders")


def test_outside_of_transactions_each_by_itself(tmp_path: Path) -> None:
    text, report = fixed(
        tmp_path,
        "1.sql",
        "ALTER TABLE users ADD COLUMN a int;\nDROP TABLE orders;\n",
        lock_attempts=3,
    )
    assert text.startswith("SET lock_timeout = '2s';\nDO $retry$\n")
    assert text.count("FOR attempt IN 1..3 LOOP") == 2
    assert rules(report) == ["migration/drop-table"]


def test_goose_is_told_where_the_block_ends(tmp_path: Path) -> None:
    text, _ = fixed(tmp_path, "001_a.sql", "-- +goose Up\nALTER TABLE users ADD COLUMN a int;\n")
    assert "-- +goose StatementBegin\nDO $retry$\n" in text
    assert text.endswith("END $retry$;\n-- +goose StatementEnd\n")


def test_what_keeps_rows_locked_is_not_repeated(tmp_path: Path) -> None:
    text, _ = fixed(
        tmp_path,
        "20240101000000_a.sql",
        "DELETE FROM orders WHERE id = 1;\nALTER TABLE users ADD COLUMN a int;\n",
        runner="supabase",
    )
    assert "SET LOCAL lock_timeout = '2s';\nALTER TABLE users" in text
    assert "LOOP" not in text


def test_one_attempt_is_none(tmp_path: Path) -> None:
    text, _ = fixed(tmp_path, "1.sql", "DROP TABLE orders;\n", lock_attempts=1)
    assert text == "SET lock_timeout = '2s';\nDROP TABLE orders;\n"


def test_other_blocks_stay_closed() -> None:
    text = "DO $$ BEGIN FOR i IN 1..3 LOOP DROP TABLE t; END LOOP; END $$"
    (statement,), _ = statements(read_source("a.sql", text.encode()))
    assert retried(statement) == ()


def written(tmp_path: Path, attempts: int) -> str:
    """What --fix writes, with shorter waits."""
    text, _ = fixed(
        tmp_path, "1.sql", "ALTER TABLE users ADD COLUMN a int;\n", lock_attempts=attempts
    )
    return re.sub(
        r"pg_sleep\(.*?\) \+ random\(\)\)", "pg_sleep(0.3)", text.replace("'2s'", "'200ms'")
    )


def run(sandbox: Sandbox, text: str, errors: list[Exception]) -> threading.Thread:
    def work() -> None:
        with sandbox.connect() as connection:
            try:
                for statement in statements(read_source("a.sql", text.encode()))[0]:
                    connection.execute(statement.sql.encode())
            except psycopg.Error as error:
                errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_others_get_through_while_it_waits(
    tmp_path: Path, make_sandbox: Callable[..., Sandbox]
) -> None:
    sandbox, errors = make_sandbox(SCHEMA), list[Exception]()
    text = written(tmp_path, 20)
    with sandbox.connect() as blocker, sandbox.connect() as reader:
        blocker.execute("BEGIN")
        blocker.execute("SELECT FROM users")  # an open transaction that has read
        thread = run(sandbox, text, errors)
        longest, reads, began = 0.0, 0, time.monotonic()
        while time.monotonic() - began < 1.5:
            asked = time.monotonic()
            reader.execute("SELECT FROM users")
            longest, reads = max(longest, time.monotonic() - asked), reads + 1
        assert thread.is_alive()
        assert 0.05 < longest < 1.0, longest  # somebody queued, and for one lock_timeout at most
        assert reads > 20
        blocker.execute("COMMIT")
        thread.join(10)
        assert not thread.is_alive() and not errors
        reader.execute("SELECT a FROM users")


def test_it_gives_up_in_the_end(tmp_path: Path, make_sandbox: Callable[..., Sandbox]) -> None:
    sandbox, errors = make_sandbox(SCHEMA), list[Exception]()
    with sandbox.connect() as blocker:
        blocker.execute("BEGIN")
        blocker.execute("SELECT FROM users")
        run(sandbox, written(tmp_path, 2), errors).join(10)
    (error,) = errors
    assert isinstance(error, psycopg.errors.LockNotAvailable)
