"""A function or procedure is dropped: code that is still deployed calls it and fails.

Why: calls are resolved when a statement is planned; from the commit on they fail, in applications and in
    functions whose body names it (PostgreSQL keeps no dependency for those). Triggers and defaults that
    use it make DROP fail, or go with CASCADE.
Fix: release code that no longer calls it first. To change it: CREATE OR REPLACE FUNCTION, or another
    one beside it with other arguments.
Silent when: the same set created it; the same migration makes a function of that name.
Source: PostgreSQL manual, DROP FUNCTION; 5.15 "Dependency Tracking".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext
from sqladvisor.migrate.dependents import dropped_names, drops_and_makes_again
from sqladvisor.rule import rule
from sqladvisor.sql.statement import Node

SCHEMA = "CREATE FUNCTION total(int) RETURNS int LANGUAGE sql AS 'SELECT 1';"
BAD = [
    "DROP FUNCTION total(int);",
    "DROP PROCEDURE IF EXISTS app.nightly;",
]
GOOD = [
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; DROP FUNCTION f();",
    "DROP FUNCTION total(int); CREATE FUNCTION total(bigint) RETURNS int LANGUAGE sql AS 'SELECT 1';",
    "CREATE OR REPLACE FUNCTION total(int) RETURNS int LANGUAGE sql AS 'SELECT 2';",
]
_KINDS = {
    "OBJECT_FUNCTION": "function",
    "OBJECT_PROCEDURE": "procedure",
    "OBJECT_ROUTINE": "routine",
    "OBJECT_AGGREGATE": "aggregate",
}


@rule("DropStmt", severity="warning")
def check(node: Node, ctx: MigrationContext) -> Iterator[Finding]:
    kind = _KINDS.get(str(node.get("removeType", "")))
    if kind is None:
        return
    for schema, name in dropped_names(node):
        makers = ("CreateFunctionStmt", "DefineStmt")
        if ctx.new_object("function", name) or drops_and_makes_again(ctx, name, makers):
            continue
        shown = f"{schema}.{name}" if schema else name
        yield ctx.finding(
            None,
            f"DROP of {kind} {shown}: code that is still deployed and calls it fails, and so do functions "
            "whose body does",
        )
