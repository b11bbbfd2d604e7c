"""A SECURITY DEFINER function without a search_path of its own runs what its caller puts in the way.

Why: it runs with its owner's rights, but finds names along the caller's search_path. Whoever may create a
    function, operator or temporary table can have it run theirs with those rights.
Fix: SET search_path on the function: pg_catalog, the schema it needs, and pg_temp last.
Silent when: the function has SET search_path, here or later in the set; its body is SQL-standard
    (BEGIN ATOMIC), whose names are found when it is made; SECURITY INVOKER.
Source: PostgreSQL manual, CREATE FUNCTION, "Writing SECURITY DEFINER Functions Safely"; splinter
    function_search_path_mutable.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext
from sqladvisor.migrate.steps import type_sql
from sqladvisor.rule import rule
from sqladvisor.sql.quote import identifier, qualified
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import names, unwrap

BAD = [
    "CREATE FUNCTION secret() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';",
    "CREATE OR REPLACE PROCEDURE app.run(a int, OUT b text, VARIADIC c int[]) LANGUAGE plpgsql "
    "SECURITY DEFINER SET work_mem = '1GB' AS 'BEGIN END';",
    "ALTER FUNCTION secret() SECURITY DEFINER;",
]
GOOD = [
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = '' AS 'SELECT 1';",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql SECURITY DEFINER BEGIN ATOMIC SELECT 1; END;",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';\n"
    "ALTER FUNCTION f() SET search_path = pg_catalog, pg_temp;",
    "ALTER FUNCTION f() SECURITY INVOKER;",
    "ALTER FUNCTION f() SECURITY DEFINER SET search_path = '';",
]
_INPUTS = ("FUNC_PARAM_IN", "FUNC_PARAM_INOUT", "FUNC_PARAM_VARIADIC", "FUNC_PARAM_DEFAULT")


@rule("CreateFunctionStmt", "AlterFunctionStmt", severity="warning")
def check(node: Node, ctx: MigrationContext) -> Iterator[Finding]:
    if not _definer(node) or _pinned(node) or "sql_body" in node:
        return
    parts = _name(node)
    for later in ctx.after:
        same = later.kind == "AlterFunctionStmt" and _name(later.tree)[-1:] == parts[-1:]
        if same and _pinned(later.tree):
            return
    schema = parts[-2] if len(parts) > 1 else None
    name = qualified(schema, parts[-1])
    procedure = node.get("is_procedure") or node.get("objtype") == "OBJECT_PROCEDURE"
    home = identifier(schema or ctx.state.builder.schema)
    yield ctx.finding(
        None,
        f"{'.'.join(parts)} runs with its owner's rights and finds names along its caller's search_path: "
        "who can create objects can have their own run",
        fixes=[
            ctx.sequence(
                "say where it finds names",
                f"ALTER {'PROCEDURE' if procedure else 'FUNCTION'} {name}({_arguments(node)}) "
                f"SET search_path = pg_catalog, {home}, pg_temp",
            )
        ],
    )


def _options(node: Node) -> list[Node]:
    return [unwrap(o)[1] for o in (*node.get("options", ()), *node.get("actions", ()))]


def _definer(node: Node) -> bool:
    return any(
        o.get("defname") == "security" and unwrap(o.get("arg", {}))[1].get("boolval")
        for o in _options(node)
    )


def _pinned(node: Node) -> bool:
    return any(
        o.get("defname") == "set" and unwrap(o.get("arg", {}))[1].get("name") == "search_path"
        for o in _options(node)
    )


def _name(node: Node) -> tuple[str, ...]:
    return names(node.get("funcname")) or names(node.get("func", {}).get("objname"))


def _arguments(node: Node) -> str:
    if "func" in node:
        return ", ".join(type_sql(unwrap(a)[1]) for a in node["func"].get("objargs", ()))
    parameters = (unwrap(p)[1] for p in node.get("parameters", ()))
    given = [p for p in parameters if p.get("mode", "FUNC_PARAM_IN") in _INPUTS]
    variadic = "VARIADIC "
    return ", ".join(
        (variadic if p.get("mode") == "FUNC_PARAM_VARIADIC" else "") + type_sql(p["argType"])
        for p in given
    )
