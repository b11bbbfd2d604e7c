"""An index is created whose columns another index of the table begins with.

Why: a b-tree serves conditions on its leading columns, so that the longer index can do what the shorter
    one does, at a little more to read; each costs at every write.
Fix: leave the shorter out; or drop it once the longer one is built.
Silent when: the shorter is unique or backs a constraint; methods, operator classes or WHERE differ; the
    longer one has so many columns that reading it costs more (over 3); the shorter is dropped later in the
    migration.
Source: PostgreSQL manual, 11.3 "Multicolumn Indexes".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.catalog.model import Index
from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext
from sqladvisor.migrate.indexes import dropped_later, index_of
from sqladvisor.rule import rule
from sqladvisor.sql.quote import identifier
from sqladvisor.sql.statement import Node

SCHEMA = """CREATE TABLE users (id bigint PRIMARY KEY, email text, nick text, at date);
CREATE INDEX ue ON users (email); CREATE INDEX una ON users (nick, at);"""
BAD = [
    "CREATE INDEX CONCURRENTLY un ON users (nick);",
    "CREATE INDEX CONCURRENTLY uea ON users (email, at);",
]
GOOD = [
    "CREATE INDEX CONCURRENTLY ua ON users (at, nick);",
    "CREATE UNIQUE INDEX CONCURRENTLY un ON users (nick);",
    "CREATE INDEX CONCURRENTLY un ON users USING hash (nick);",
    "CREATE INDEX CONCURRENTLY uea ON users (email, at);\nDROP INDEX CONCURRENTLY ue;",
    "CREATE INDEX CONCURRENTLY un ON users (nick) WHERE at IS NULL;",
]
MAX_COLUMNS = 3


@rule("IndexStmt", severity="info")
def check(node: Node, ctx: MigrationContext) -> Iterator[Finding]:
    table, index = ctx.table(), index_of(node, ctx)
    if index is None or table.relation is None:
        return
    for other in table.relation.indexes:
        if other.name == index.name or not other.valid or dropped_later(other.name, ctx):
            continue
        if _begins(other, index):
            yield ctx.finding(
                None,
                f"{other.name} of {table.shown} begins with the same columns and serves for both",
                table=table,
            )
            return
        if _begins(index, other):
            sql = f"DROP INDEX CONCURRENTLY {identifier(other.name)}"
            yield ctx.finding(
                None,
                f"this index makes {other.name} of {table.shown} redundant: it begins with its columns",
                table=table,
                fixes=[ctx.sequence("after it, outside a transaction", sql)],
            )
            return


def _begins(longer: Index, shorter: Index) -> bool:
    n = len(shorter.keys)
    return (
        longer.method == shorter.method == "btree"
        and n < len(longer.keys) <= MAX_COLUMNS
        and longer.keys[:n] == shorter.keys
        and None not in shorter.keys
        and not shorter.unique
        and not shorter.constraint
        and not shorter.include
        and longer.opclasses[:n] == shorter.opclasses
        and longer.predicate == shorter.predicate
    )
