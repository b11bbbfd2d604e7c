"""session_replication_role is set: triggers and foreign keys do not run for what follows.

Why: with replica, rules and triggers, those of foreign keys too, are silent in the session. Rows without a
    partner get in and nothing looks at them again; audit and history tables miss the change. It takes a
    superuser (or SET on the parameter), and a pooled connection may keep it.
Fix: leave it; load tables in the order of their foreign keys, or make the constraints DEFERRABLE and SET
    CONSTRAINTS ALL DEFERRED in the transaction.
Silent when: it is set back to origin or its default.
Source: PostgreSQL manual, 19.11 "session_replication_role".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext
from sqladvisor.rule import rule
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import constant, function_name

BAD = [
    "SET session_replication_role = replica;",
    "SELECT set_config('session_replication_role', 'replica', true);",
    "BEGIN; SET LOCAL session_replication_role = 'replica'; COMMIT;",
]
GOOD = [
    "SET session_replication_role = DEFAULT;",
    "SET session_replication_role = origin;",
    "RESET session_replication_role;",
    "SELECT set_config('lock_timeout', '5s', true);",
]
NAME = "session_replication_role"


@rule("VariableSetStmt", "SelectStmt", severity="error")
def check(node: Node, ctx: MigrationContext) -> Iterator[Finding]:
    value: object = None
    if ctx.statement.kind == "VariableSetStmt":
        if str(node.get("name", "")).lower() == NAME and node.get("args"):
            value = constant(node["args"][0])
    elif NAME in ctx.statement.sql:
        for call in ctx.tree.of("FuncCall"):
            values = [constant(a) for a in call.get("args", ())]
            if function_name(call) == "set_config" and values[:1] == [NAME] and len(values) > 1:
                value = values[1]
    if str(value).lower() == "replica":
        yield ctx.finding(
            None,
            "with session_replication_role = replica no trigger and no foreign key check runs for what "
            "follows, and rows written meanwhile are never looked at again",
        )
