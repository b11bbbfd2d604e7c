"""A trigger is created on a table in use: writes wait for the lock, and run it from then on.

Why: CREATE TRIGGER takes SHARE ROW EXCLUSIVE, which blocks writes and queues behind those that run. The
    lock itself is short; what is not is that each write then pays for the trigger.
Fix: SET lock_timeout before it, and retry.
Silent when: the same set created the table; the migration has set a lock_timeout.
Source: PostgreSQL manual, 13.3.1 "Table-Level Locks"; CREATE TRIGGER; GitLab's migration style guide.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext, blocks
from sqladvisor.rule import rule
from sqladvisor.sql.statement import Node

SCHEMA = """CREATE TABLE users (id bigint PRIMARY KEY);
CREATE VIEW people AS SELECT id FROM users;"""
BAD = [
    "CREATE TRIGGER t AFTER UPDATE ON users FOR EACH ROW EXECUTE FUNCTION f();",
    "CREATE CONSTRAINT TRIGGER t AFTER INSERT ON other FOR EACH ROW EXECUTE FUNCTION f();",
]
GOOD = [
    "CREATE TABLE t (a int); CREATE TRIGGER x AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION f();",
    "CREATE TRIGGER t INSTEAD OF INSERT ON people FOR EACH ROW EXECUTE FUNCTION f();",
    "SET lock_timeout = '2s';\n"
    "CREATE TRIGGER t AFTER UPDATE ON users FOR EACH ROW EXECUTE FUNCTION f();",
]


@rule("CreateTrigStmt", severity="info")
def check(node: Node, ctx: MigrationContext) -> Iterator[Finding]:
    table = ctx.table()
    if not table.settled or "lock_timeout" in ctx.settings:
        return
    yield ctx.finding(
        None,
        f"CREATE TRIGGER on {table.shown} {blocks('SHARE ROW EXCLUSIVE')}, and each write runs it from then on",
        table=table,
        lock="SHARE ROW EXCLUSIVE",
        fixes=[
            ctx.sequence(
                "give up soon rather than let writes queue",
                "SET lock_timeout = '2s'",
                ctx.statement.sql,
            )
        ],
    )
