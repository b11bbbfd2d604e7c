"""A table is moved to another tablespace or access method: copied while all access to it waits.

Why: SET TABLESPACE copies the table's files, SET ACCESS METHOD writes all rows anew; both hold ACCESS
    EXCLUSIVE until the end.
Fix: pg_repack moves to a tablespace without that lock; or a new table there, filled in batches and
    renamed. Indexes: REINDEX (TABLESPACE …) CONCURRENTLY (14 and later).
Silent when: the same set created the table, or it is temporary; a partitioned table, which has no
    files of its own.
Source: PostgreSQL manual, ALTER TABLE, "SET TABLESPACE" and "SET ACCESS METHOD".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding, Fix
from sqladvisor.migrate.context import MigrationContext, blocks
from sqladvisor.rule import rule
from sqladvisor.sql.quote import identifier
from sqladvisor.sql.statement import Node

SCHEMA = """CREATE TABLE users (id bigint PRIMARY KEY);
CREATE TABLE parts (id int) PARTITION BY RANGE (id);"""
BAD = [
    "ALTER TABLE users SET TABLESPACE fast;",
    "ALTER TABLE users SET ACCESS METHOD columnar;",
    "ALTER INDEX users_pkey SET TABLESPACE fast;",
]
GOOD = [
    "CREATE TABLE t (a int); ALTER TABLE t SET TABLESPACE fast;",
    "ALTER TABLE parts SET TABLESPACE fast;",
    "CREATE TABLE t (a int) TABLESPACE fast;",
]
REINDEX_TABLESPACE = 14


@rule("AT_SetTableSpace", "AT_SetAccessMethod", severity="error")
def check(command: Node, ctx: MigrationContext) -> Iterator[Finding]:
    node = ctx.statement.tree.get("relation", {})
    fixes: list[Fix] = []
    space = command["subtype"] == "AT_SetTableSpace"
    if ctx.statement.tree.get("objtype") == "OBJECT_INDEX":
        key = ctx.state.index_table(node.get("schemaname"), str(node.get("relname")))
        if ctx.new_object("index", str(node.get("relname"))) or key is None:
            return
        table, what = ctx.table(*key), f"index {node.get('relname')}"
        if ctx.pg_version >= REINDEX_TABLESPACE and command.get("name"):
            name = identifier(str(node["relname"]))
            sql = (
                f"REINDEX (TABLESPACE {identifier(str(command['name']))}) INDEX CONCURRENTLY {name}"
            )
            fixes = [ctx.sequence("build it anew there, outside a transaction", sql)]
    else:
        table = ctx.table()
        what = table.shown
    if not table.settled or table.partitioned:
        return
    verb = "SET TABLESPACE" if space else "SET ACCESS METHOD"
    done = "its files are copied" if space else "all rows are written anew"
    yield ctx.finding(
        None,
        f"{verb} of {what} {blocks('ACCESS EXCLUSIVE')} while {done}",
        table=table,
        lock="ACCESS EXCLUSIVE",
        work="rewrite",
        fixes=fixes,
    )
