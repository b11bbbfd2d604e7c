"""An index is rebuilt while writes to its table, and queries that would use it, wait.

Why: REINDEX takes SHARE on the table and ACCESS EXCLUSIVE on the index until it is built: writes wait, and
    so does every query that is planned on the table.
Fix: REINDEX … CONCURRENTLY (12 and later), outside a transaction.
Silent when: CONCURRENTLY; the same set created the index or the table.
Source: PostgreSQL manual, REINDEX, "Rebuilding Indexes Concurrently"; pgrubic.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding, Fix
from sqladvisor.migrate.context import MigrationContext, Table, blocks
from sqladvisor.rule import rule
from sqladvisor.sql.quote import identifier, qualified
from sqladvisor.sql.statement import Node

SCHEMA = "CREATE TABLE users (id bigint PRIMARY KEY, email text); CREATE INDEX ue ON users (email);"
BAD = ["REINDEX INDEX ue;", "REINDEX TABLE users;", "REINDEX SCHEMA public;"]
GOOD = [
    "REINDEX INDEX CONCURRENTLY ue;",
    "REINDEX (CONCURRENTLY) TABLE users;",
    "CREATE TABLE t (a int PRIMARY KEY); REINDEX TABLE t;",
]
CONCURRENT_SINCE = 12
_WORDS = {
    "REINDEX_OBJECT_INDEX": "INDEX",
    "REINDEX_OBJECT_TABLE": "TABLE",
    "REINDEX_OBJECT_SCHEMA": "SCHEMA",
    "REINDEX_OBJECT_SYSTEM": "SYSTEM",
    "REINDEX_OBJECT_DATABASE": "DATABASE",
}


@rule("ReindexStmt", severity="error")
def check(node: Node, ctx: MigrationContext) -> Iterator[Finding]:
    parameters = [p.get("DefElem", {}) for p in node.get("params", ())]
    if any(p.get("defname") == "concurrently" for p in parameters):
        return
    word, relation = _WORDS.get(str(node.get("kind")), ""), node.get("relation", {})
    table: Table | None = None
    if word == "TABLE":
        table = ctx.table(relation)
    elif word == "INDEX":
        name = str(relation.get("relname"))
        key = ctx.state.index_table(relation.get("schemaname"), name)
        table = ctx.table(*key) if key else None
        if ctx.new_object("index", name):
            return
    if table and not table.settled:
        return
    if relation:
        target = qualified(relation.get("schemaname"), str(relation.get("relname")))
    else:
        target = identifier(str(node.get("name", "")))
    fixes: list[Fix] = []
    if ctx.pg_version >= CONCURRENT_SINCE and word != "SYSTEM":
        sql = f"REINDEX {word} CONCURRENTLY {target}"
        fixes = [ctx.sequence("outside a transaction", sql)]
    on = table.shown if table else "each table of it"
    yield ctx.finding(
        None,
        f"REINDEX {blocks('SHARE')} to {on}, and the index is closed to all until it is built",
        table=table,
        lock="SHARE",
        work="build",
        fixes=fixes,
    )
