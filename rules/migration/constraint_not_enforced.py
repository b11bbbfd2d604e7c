"""A constraint is NOT ENFORCED: nothing keeps to it, and nothing can be concluded from it.

Why: PostgreSQL 18 takes NOT ENFORCED for CHECK and foreign keys: rows that break the constraint are let
    in, and the planner does not use it. Before 18 it is a syntax error.
Fix: NOT VALID instead, if it is the scan that is to be spared: new rows are checked then.
Silent when: the constraint is enforced, NOT VALID or not.
Source: PostgreSQL 18 manual, CREATE TABLE, "NOT ENFORCED"; ALTER TABLE, "ALTER CONSTRAINT".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding, Severity
from sqladvisor.migrate.context import MigrationContext
from sqladvisor.rule import rule
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import unwrap

SCHEMA = "CREATE TABLE orders (id bigint PRIMARY KEY, total int, user_id bigint);"
BAD = [
    "ALTER TABLE orders ADD CONSTRAINT c CHECK (total > 0) NOT ENFORCED;",
    "ALTER TABLE orders ADD CONSTRAINT f FOREIGN KEY (user_id) REFERENCES users NOT ENFORCED;",
    "-- pg_version: 17\nALTER TABLE orders ADD CONSTRAINT c CHECK (total > 0) NOT ENFORCED;",
]
GOOD = [
    "ALTER TABLE orders ADD CONSTRAINT c CHECK (total > 0) NOT VALID;",
    "ALTER TABLE orders ADD CONSTRAINT f FOREIGN KEY (user_id) REFERENCES users NOT VALID;",
    "ALTER TABLE orders ADD CONSTRAINT c CHECK (total > 0) ENFORCED;",
]
SINCE = 18


@rule("AT_AddConstraint", severity="info")
def check(command: Node, ctx: MigrationContext) -> Iterator[Finding]:
    constraint = unwrap(command.get("def", {}))[1]
    if constraint.get("contype") not in ("CONSTR_CHECK", "CONSTR_FOREIGN"):
        return
    if constraint.get("is_enforced") or not _says_so(ctx):
        return
    table = ctx.table()
    severity: Severity = "info"
    message = (
        f"rows that break this constraint of {table.shown} are let in, and the planner ignores it"
    )
    if ctx.pg_version < SINCE:
        severity = "error"
        message = f"PostgreSQL {ctx.pg_version} does not know NOT ENFORCED (it came with {SINCE})"
    yield ctx.finding(constraint, message, severity=severity)


def _says_so(ctx: MigrationContext) -> bool:
    kinds = [t[2] for t in ctx.spans.tokens]
    return any(kinds[i] == "ENFORCED" and kinds[i - 1] == "NOT" for i in range(1, len(kinds)))
