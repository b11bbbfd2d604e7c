"""DROP … CASCADE also drops what depends on the object, and does not say what that is.

Why: views, foreign keys, defaults and functions go with it; the database says so in a NOTICE when it is
    done. What depends on it in production may be more than in the database the migration was tried on.
Fix: drop the dependents by name, then the object without CASCADE: it fails where something unexpected
    depends on it, instead of dropping that.
Silent when: the same set created the object; the schema is known, and nothing in it depends on the object
    (the trace tells what really falls).
Source: PostgreSQL manual, 5.15 "Dependency Tracking".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding, Fix
from sqladvisor.migrate.context import MigrationContext, Table
from sqladvisor.migrate.dependents import dropped_names, foreign_keys_to, shown, views_on, written
from sqladvisor.rule import rule
from sqladvisor.sql.quote import identifier, qualified
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import unwrap

SCHEMA = """CREATE TABLE users (id bigint PRIMARY KEY, email text);
CREATE TABLE orders (user_id bigint CONSTRAINT orders_user REFERENCES users);
CREATE VIEW mails AS SELECT email FROM users; CREATE TABLE alone (a int);"""
BAD = [
    "DROP TABLE users CASCADE;",
    "ALTER TABLE users DROP COLUMN email CASCADE;",
    "DROP SCHEMA app CASCADE;",
    "DROP EXTENSION IF EXISTS postgis CASCADE;",
    "DROP OWNED BY app CASCADE;",
]
GOOD = [
    "DROP TABLE users;",
    "CREATE TABLE t (a int); DROP TABLE t CASCADE;",
    "DROP TABLE alone CASCADE;",
    "ALTER TABLE orders DROP COLUMN user_id CASCADE;",
    "CREATE SCHEMA fresh; DROP SCHEMA fresh CASCADE;",
    "DROP VIEW mails; ALTER TABLE users DROP COLUMN email CASCADE;",
]
_RELATIONS = ("OBJECT_TABLE", "OBJECT_VIEW", "OBJECT_MATVIEW", "OBJECT_FOREIGN_TABLE")


@rule("DropStmt", "DropOwnedStmt", "AT_DropColumn", severity="warning")
def check(node: Node, ctx: MigrationContext) -> Iterator[Finding]:
    if node.get("behavior") != "DROP_CASCADE":
        return
    if node.get("subtype") == "AT_DropColumn":
        table, column = ctx.table(), str(node.get("name", ""))
        if table.settled:
            yield from _dependents(ctx, table, column)
    elif node.get("removeType") in _RELATIONS:
        for item in node.get("objects", ()):
            table = ctx.table_from(item)
            if not table.new:
                yield from _dependents(ctx, table)
    elif ctx.statement.kind == "DropOwnedStmt":
        roles = ", ".join(str(unwrap(r)[1].get("rolename", "")) for r in node.get("roles", ()))
        message = f"DROP OWNED BY {roles} CASCADE drops all that these own, and what depends on it"
        yield ctx.finding(None, message)
    else:
        kind = str(node.get("removeType", "")).removeprefix("OBJECT_").lower()
        for schema, name in dropped_names(node):
            if not ctx.new_object(kind, name):
                known = ctx.state.builder.state.relations
                held = [key[1] for key in known if kind == "schema" and key[0] == name]
                held += ["and more"] * (len(held) > _SHOWN)
                what = f" (of what is known: {', '.join(held[:_SHOWN])})" if held else ""
                place = f"{schema}.{name}" if schema else name
                yield ctx.finding(
                    None,
                    f"DROP {kind.upper()} {place} CASCADE also drops what depends on it{what}",
                )


_SHOWN = 8
"""Dependents named in a message."""


def _dependents(ctx: MigrationContext, table: Table, column: str = "") -> Iterator[Finding]:
    views = [(v.schema, v.name) for v in views_on(ctx, table, column or None)]
    foreign = [
        (key, f.name)
        for key, f in foreign_keys_to(ctx, table)
        if not column or column in f.target_columns
    ]
    known = table.relation is not None
    if known and not views and not foreign:
        return
    fall = [f"view {shown(ctx, key)}" for key in views]
    fall += [f"foreign key {name} of {shown(ctx, key)}" for key, name in foreign]
    told = ", ".join(fall[:_SHOWN]) + (
        f" and {len(fall) - _SHOWN} more" if len(fall) > _SHOWN else ""
    )
    place = f"{table.shown}.{column}" if column else table.shown
    fixes: list[Fix] = []
    if fall:
        kinds = {
            k: "MATERIALIZED VIEW" if r.kind == "matview" else "VIEW"
            for k, r in ctx.state.builder.state.relations.items()
        }
        steps = [f"DROP {kinds[key]} {written(ctx, key)}" for key in views]
        steps += [
            f"ALTER TABLE {written(ctx, key)} DROP CONSTRAINT {identifier(name)}"
            for key, name in foreign
        ]
        last = f"ALTER TABLE {table.sql} DROP COLUMN {identifier(column)}"
        if not column:
            schema = table.key[0] if table.qualified else None
            what = kinds[table.key] if table.relation and "view" in table.relation.kind else "TABLE"
            last = f"DROP {what} {qualified(schema, table.key[1])}"
        fixes = [ctx.sequence("if that is meant, say it", *steps, last)]
    yield ctx.finding(
        None,
        f"CASCADE drops {told or 'whatever depends on it'} along with {place}",
        table=table,
        severity="error" if fall else None,
        fixes=fixes,
    )
