"""An index is dropped while all access to its table waits.

Why: DROP INDEX takes ACCESS EXCLUSIVE on the table. The drop itself is short, but it queues behind every
    running query of the table, and everybody queues behind it.
Fix: DROP INDEX CONCURRENTLY, outside a transaction. One index a statement; not for an index of a
    constraint, nor of a partitioned table.
Silent when: the same set created the index or its table; CONCURRENTLY; the index belongs to a partitioned
    table, where CONCURRENTLY is refused.
Source: PostgreSQL manual, DROP INDEX; squawk require-concurrent-index-deletion.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext, Table, blocks
from sqladvisor.rule import rule
from sqladvisor.sql.quote import qualified
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import names, unwrap

SCHEMA = """CREATE TABLE users (id bigint PRIMARY KEY, email text);
CREATE INDEX users_email ON users (email);
CREATE TABLE parts (id int) PARTITION BY RANGE (id); CREATE INDEX parts_id ON parts (id);
"""
BAD = [
    "DROP INDEX users_email;",
    "DROP INDEX IF EXISTS public.users_email, unknown_idx;",
    "BEGIN; DROP INDEX unknown_idx; COMMIT;",
]
GOOD = [
    "DROP INDEX CONCURRENTLY users_email;",
    "CREATE TABLE t (a int); CREATE INDEX t_a ON t (a); DROP INDEX t_a;",
    "DROP INDEX parts_id;",
    "SELECT 1; -- DROP INDEX users_email;",
]


@rule("DropStmt", severity="warning")
def check(node: Node, ctx: MigrationContext) -> Iterator[Finding]:
    if node.get("removeType") != "OBJECT_INDEX" or node.get("concurrent"):
        return
    for item in node.get("objects", ()):
        parts = names(unwrap(item)[1].get("items"))
        name, schema = parts[-1], parts[-2] if len(parts) > 1 else None
        key = ctx.state.index_table(schema, name)
        table: Table | None = ctx.table(*key) if key else None
        if ctx.new_object("index", name) or (table and (not table.settled or table.partitioned)):
            continue
        exists = "IF EXISTS " if node.get("missing_ok") else ""
        yield ctx.finding(
            None,
            f"DROP INDEX {name} {blocks('ACCESS EXCLUSIVE')} of {table.shown if table else 'its table'}, "
            "and queues behind every query of it",
            table=table,
            lock="ACCESS EXCLUSIVE",
            fixes=[
                ctx.sequence(
                    "outside a transaction",
                    f"DROP INDEX CONCURRENTLY {exists}{qualified(schema, name)}",
                )
            ],
        )
