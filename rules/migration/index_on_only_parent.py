"""An index is made on a partitioned table alone and never completed: it stays invalid.

Why: CREATE INDEX … ON ONLY makes an index without any on the partitions. It is invalid until an index of every
    partition has been attached to it; until then it serves no query, and new partitions get their own.
Fix: for each partition CREATE INDEX CONCURRENTLY, then ALTER INDEX … ATTACH PARTITION. The last one makes the
    whole index valid.
Silent when: the set attaches an index for each known partition; there are no partitions (it is valid then);
    the table is not partitioned.
Source: PostgreSQL manual, CREATE INDEX, "ONLY"; 5.12.2.2 "Partition Maintenance".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqladvisor.catalog.ddl_state import Key
from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext
from sqladvisor.migrate.dependents import shown, written
from sqladvisor.migrate.steps import named
from sqladvisor.rule import MIGRATION_SET, rule
from sqladvisor.sql.quote import identifier
from sqladvisor.sql.tree import unwrap

SCHEMA = """CREATE TABLE logs (id bigint, at date) PARTITION BY RANGE (at);
CREATE TABLE logs_1 PARTITION OF logs FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
CREATE TABLE logs_2 PARTITION OF logs FOR VALUES FROM ('2021-01-01') TO ('2022-01-01');
CREATE TABLE none (a int) PARTITION BY LIST (a); CREATE TABLE plain (a int);"""
BAD = [
    "CREATE INDEX logs_at ON ONLY logs (at);",
    "CREATE INDEX logs_at ON ONLY logs (at);\nCREATE INDEX CONCURRENTLY logs_1_at ON logs_1 (at);\n"
    "ALTER INDEX logs_at ATTACH PARTITION logs_1_at;",
]
GOOD = [
    "CREATE INDEX logs_at ON ONLY logs (at);\nCREATE INDEX CONCURRENTLY logs_1_at ON logs_1 (at);\n"
    "ALTER INDEX logs_at ATTACH PARTITION logs_1_at;\n"
    "CREATE INDEX CONCURRENTLY logs_2_at ON logs_2 (at);\n"
    "ALTER INDEX logs_at ATTACH PARTITION logs_2_at;",
    "CREATE INDEX none_a ON ONLY none (a);",
    "CREATE INDEX plain_a ON ONLY plain (a);",
    "CREATE INDEX logs_at ON logs (at);",
    {
        "1.sql": "CREATE INDEX logs_at ON ONLY logs (at);",
        "2.sql": "CREATE INDEX a ON logs_1 (at); ALTER INDEX logs_at ATTACH PARTITION a;",
        "3.sql": "CREATE INDEX b ON logs_2 (at); ALTER INDEX logs_at ATTACH PARTITION b;",
    },
]


@rule(MIGRATION_SET, severity="warning")
def check(contexts: Sequence[MigrationContext], ctx: MigrationContext) -> Iterator[Finding]:
    tables: dict[str, Key] = {}
    attached: dict[str, set[str]] = {}
    for own in contexts:
        node = own.statement.tree
        if own.statement.kind == "IndexStmt" and node.get("idxname"):
            tables[str(node["idxname"])] = own.table().key
        elif node.get("objtype") == "OBJECT_INDEX":
            for wrapped in node.get("cmds", ()):
                command = unwrap(wrapped)[1]
                if command.get("subtype") == "AT_AttachPartition":
                    part = unwrap(command.get("def", {}))[1].get("name", {}).get("relname")
                    attached.setdefault(str(node["relation"]["relname"]), set()).add(str(part))
    for own in contexts:
        node = own.statement.tree
        if own.statement.kind != "IndexStmt" or node["relation"].get("inh"):
            continue
        table, name = own.table(), str(node.get("idxname", ""))
        state = own.state.builder.state
        relation = state.relations.get(table.key)
        if relation is None or relation.kind != "partitioned" or not name:
            continue
        done = {tables.get(i) for i in attached.get(name, ())}
        left = [p for p in state.children.get(table.key, ()) if p not in done]
        if not left:
            continue
        steps = []
        for partition in left:
            part = named(partition[1], name)
            definition = own.statement.sql[own.name_span(node["relation"])[1] :].strip().rstrip(";")
            unique = "UNIQUE " if node.get("unique") else ""
            steps += [
                f"CREATE {unique}INDEX CONCURRENTLY {part} ON {written(own, partition)} {definition}",
                f"ALTER INDEX {identifier(name)} ATTACH PARTITION {part}",
            ]
        own.rule = ctx.rule
        told = ", ".join(shown(own, p) for p in left[:4]) + (" and more" if len(left) > 4 else "")
        yield own.finding(
            None,
            f"{name} on {table.shown} stays invalid and serves no query: no index of {told} is attached "
            "to it",
            table=table,
            fixes=[
                own.sequence("for each partition that lacks one, outside a transaction", *steps)
            ],
        )
