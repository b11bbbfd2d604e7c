"""What the partition rules offer spares the scan: PostgreSQL itself says so, at debug1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sqladvisor.engine import Engine
from sqladvisor.migrate.check import check_set
from sqladvisor.migrate.context import Settings
from sqladvisor.migrate.files import Files
from sqladvisor.migrate.runner import read_files
from sqladvisor.migrate.start import start_state
from sqladvisor.rule import load_rules
from sqladvisor.sql.source import read_source, statements

RULES = {r.id: r for r in load_rules(("migration",))}
CASES = [
    ("migration/attach-partition", 0, 'constraint for table "old_logs" is implied'),
    ("migration/attach-partition", 1, 'constraint for table "north" is implied'),
    ("migration/default-partition-scan", 0, 'default partition "logs_rest" is implied'),
    ("migration/default-partition-scan", 1, 'default partition "logs_rest" is implied'),
]


@pytest.mark.parametrize(("rule_id", "number", "told"), CASES)
def test_the_fix_spares_the_scan(
    rule_id: str, number: int, told: str, make_database: Callable[..., Any]
) -> None:
    rule = RULES[rule_id]
    schema, example = rule.examples["schema"], rule.examples["bad"][number]
    migrations = read_files(Files({"m.sql": example.encode()}, lambda _: None))
    engine = Engine([rule], strict=True)
    (found,) = check_set(migrations, engine, Settings(), start_state(schema)).findings
    (fix,) = found.fixes
    said: list[str] = []
    with make_database(schema).connect() as connection:
        connection.autocommit = True
        connection.add_notice_handler(lambda notice: said.append(notice.message_primary or ""))
        connection.execute("SET client_min_messages = debug1")
        for statement in statements(read_source("fix.sql", fix.sql.encode()))[0]:
            connection.execute(statement.sql.encode())
    assert [s for s in said if told in s], said
