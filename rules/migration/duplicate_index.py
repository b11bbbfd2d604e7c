"""An index is created that the table has already, under another name.

Why: each index is kept at every write and takes its space; of two alike one serves no query.
Fix: leave it out.
Silent when: they differ in columns, order, uniqueness, method, operator classes, INCLUDE or WHERE; the
    earlier one is invalid; the table is unknown; the earlier one is dropped later in the migration.
Source: Bytebase index.no-duplicate-column; Atlas; PostgreSQL wiki, "Duplicate indexes".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.catalog.ddl_state import alike
from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext
from sqladvisor.migrate.indexes import dropped_later, index_of
from sqladvisor.rule import rule
from sqladvisor.sql.statement import Node

SCHEMA = """CREATE TABLE users (id bigint PRIMARY KEY, email text UNIQUE, nick text, at date);
CREATE INDEX un ON users (nick, at) WHERE at IS NOT NULL;"""
BAD = [
    "CREATE INDEX CONCURRENTLY un2 ON users (nick, at) WHERE at IS NOT NULL;",
    "CREATE UNIQUE INDEX CONCURRENTLY ue ON users (email);",
    "CREATE TABLE t (a int); CREATE INDEX ta ON t (a); CREATE INDEX tb ON t (a);",
]
GOOD = [
    "CREATE INDEX CONCURRENTLY u3 ON users (nick, at);",
    "CREATE INDEX CONCURRENTLY u3 ON users (at, nick) WHERE at IS NOT NULL;",
    "CREATE INDEX CONCURRENTLY u3 ON users USING hash (nick);",
    "CREATE INDEX IF NOT EXISTS un ON users (nick, at) WHERE at IS NOT NULL;",
    "CREATE INDEX CONCURRENTLY un2 ON users (nick, at) WHERE at IS NOT NULL;\n"
    "DROP INDEX CONCURRENTLY un;",
]


@rule("IndexStmt", severity="warning")
def check(node: Node, ctx: MigrationContext) -> Iterator[Finding]:
    table, index = ctx.table(), index_of(node, ctx)
    if index is None or table.relation is None:
        return
    for other in table.relation.indexes:
        if other.name == index.name or not other.valid or dropped_later(other.name, ctx):
            continue
        if alike(other, index) or (other.unique and not index.unique and _same_key(other, index)):
            what = "constraint " * other.constraint + other.name
            yield ctx.finding(None, f"{table.shown} has this index already: {what}", table=table)
            return


def _same_key(one: object, other: object) -> bool:
    fields = ("keys", "include", "method", "opclasses", "expressions", "predicate")
    return all(getattr(one, f) == getattr(other, f) for f in fields)
