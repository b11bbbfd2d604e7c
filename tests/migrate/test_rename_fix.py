"""The way that rename-column offers: both columns hold the same, whoever writes either."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqladvisor.engine import Engine
from sqladvisor.migrate.check import check_set
from sqladvisor.migrate.context import Settings
from sqladvisor.migrate.files import Files
from sqladvisor.migrate.runner import read_files
from sqladvisor.migrate.start import start_state
from sqladvisor.rule import load_rules
from sqladvisor.sql.source import read_source, statements

SCHEMA = """CREATE TABLE users (id bigint PRIMARY KEY, mail varchar(200), at timestamp(3) with time zone);
INSERT INTO users SELECT n, 'old' || n, now() FROM generate_series(1, 25) n;"""


def test_old_and_new_code_see_each_others_writes(make_database: Callable[..., Any]) -> None:
    (rule,) = [r for r in load_rules(("migration",)) if r.id == "migration/rename-column"]
    sql = b"ALTER TABLE users RENAME COLUMN mail TO email; ALTER TABLE users RENAME at TO since;"
    migrations = read_files(Files({"m.sql": sql}, lambda _: None))
    state = start_state(SCHEMA.partition("INSERT")[0])
    found = check_set(migrations, Engine([rule], strict=True), Settings(), state).findings
    with make_database(SCHEMA).connect() as connection:
        connection.autocommit = True
        for finding in found:
            for statement in statements(read_source("fix.sql", finding.fixes[0].sql.encode()))[0]:
                connection.execute(statement.sql.encode())

        def ask(query: str) -> Any:
            return connection.execute(query.encode()).fetchall()

        assert ask("SELECT count(*) FROM users WHERE email = mail AND since = at") == [(25,)]
        connection.execute("INSERT INTO users (id, mail) VALUES (101, 'old code')")
        connection.execute("INSERT INTO users (id, email) VALUES (102, 'new code')")
        connection.execute("UPDATE users SET mail = 'old again' WHERE id = 1")
        connection.execute("UPDATE users SET email = 'new again' WHERE id = 2")
        connection.execute("UPDATE users SET email = NULL WHERE id = 3")
        assert ask(
            "SELECT id, mail, email FROM users WHERE id IN (1, 2, 3, 101, 102) ORDER BY id"
        ) == [
            (1, "old again", "old again"),
            (2, "new again", "new again"),
            (3, None, None),
            (101, "old code", "old code"),
            (102, "new code", "new code"),
        ]
        types = ask(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
            "WHERE attrelid = 'users'::regclass AND attname IN ('email', 'since') ORDER BY 1"
        )
        assert types == [
            ("email", "character varying(200)"),
            ("since", "timestamp(3) with time zone"),
        ]
