"""What breaks deployed code, through the whole gate: the trace confirms and adds, and takes nothing away."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sqladvisor.engine import Engine
from sqladvisor.finding import Finding
from sqladvisor.migrate.check import check_set
from sqladvisor.migrate.context import Settings
from sqladvisor.migrate.files import Files
from sqladvisor.migrate.reconcile import reconcile
from sqladvisor.migrate.runner import read_files
from sqladvisor.migrate.start import start_state
from sqladvisor.migrate.trace import trace
from sqladvisor.rule import load_rules
from sqladvisor.server.sandbox import Sandbox

SCHEMA = """
CREATE TABLE users (id bigint PRIMARY KEY, email text NOT NULL, name text, age int NOT NULL DEFAULT 1);
CREATE TABLE orders (id bigint PRIMARY KEY, user_id bigint REFERENCES users, total numeric);
CREATE TABLE spare (a int);
CREATE VIEW mails AS SELECT email FROM users;
CREATE TYPE mood AS ENUM ('a', 'b');
CREATE TABLE logs (id bigint, at date NOT NULL) PARTITION BY RANGE (at);
CREATE TABLE logs_1 PARTITION OF logs FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
CREATE TABLE logs_rest PARTITION OF logs DEFAULT;
CREATE TABLE logs_2 (id bigint, at date NOT NULL);
"""
CASES = {
    "DROP TABLE spare": {"drop-table"},
    "ALTER TABLE orders DROP COLUMN total": {"drop-column"},
    "ALTER TABLE orders RENAME TO purchases": {"rename-table"},
    "ALTER TABLE users RENAME COLUMN name TO full_name": {"rename-column"},
    "ALTER TABLE users ADD COLUMN req int NOT NULL": {"add-required-column"},
    "ALTER TABLE users ALTER COLUMN age DROP DEFAULT": {"change-default"},
    "ALTER TABLE users ALTER COLUMN age DROP NOT NULL": {"drop-not-null"},
    "ALTER TYPE mood RENAME VALUE 'a' TO 'z'": {"rename-enum-value"},
    "ALTER TABLE users DROP COLUMN email CASCADE": {"drop-column", "drop-cascade"},
    "ALTER TABLE users DROP COLUMN email": {"drop-column", "view-pins-column", "fails"},
    "DROP TABLE users CASCADE": {"drop-table", "drop-cascade"},
    "TRUNCATE users CASCADE": {"truncate"},
    "DELETE FROM orders": {"delete-without-where"},
    "ALTER TABLE logs ATTACH PARTITION logs_2 FOR VALUES FROM ('2022-01-01') TO ('2023-01-01')": {
        "attach-partition",
        "default-partition-scan",
    },
    "CREATE TABLE logs_3 PARTITION OF logs FOR VALUES FROM ('2023-01-01') TO ('2024-01-01')": {
        "default-partition-scan"
    },
    "ALTER TABLE logs DETACH PARTITION logs_1": {"detach-partition"},
    "ALTER TABLE orders DISABLE TRIGGER USER": {"disable-triggers"},
    "CREATE INDEX logs_at ON ONLY logs (at)": {"index-on-only-parent"},
}


RULES = [r for r in load_rules(("migration",)) if not r.opt_in]
Make = Callable[..., Sandbox]


def judged(make_sandbox: Make, sql: str) -> list[Finding]:
    migrations = read_files(Files({"001.sql": f"{sql};".encode()}, lambda _: None))
    said = check_set(
        migrations, Engine(RULES, strict=True), Settings(), start_state(SCHEMA)
    ).findings
    seen = trace(make_sandbox(SCHEMA), migrations)
    found, _ = reconcile(said, seen, pg_version=seen.version, complete=True)
    return found


@pytest.mark.parametrize(("sql", "rules"), CASES.items(), ids=list(CASES))
def test_what_the_gate_says(sql: str, rules: set[str], make_sandbox: Make) -> None:
    found = judged(make_sandbox, sql)
    names = {f.rule.removeprefix("migration/") for f in found}
    assert names - {"lock-timeout-missing"} == rules, [f.message for f in found]


def test_truncate_cascade_names_each_table_it_empties(make_sandbox: Make) -> None:
    found = [
        f for f in judged(make_sandbox, "TRUNCATE users CASCADE") if f.rule == "migration/truncate"
    ]
    assert sorted(f.evidence.figures["relation"] for f in found) == [
        "public.orders",
        "public.users",
    ]
    assert {f.evidence.level for f in found} == {"measured"}


def test_drop_cascade_tells_what_really_fell(make_sandbox: Make) -> None:
    found = judged(make_sandbox, "DROP TABLE users CASCADE")
    (finding,) = [f for f in found if f.rule == "migration/drop-cascade"]
    assert "view mails" in finding.message and "orders_user_id_fkey" in finding.message
    assert any("fell with it" in note for note in finding.evidence.notes)
