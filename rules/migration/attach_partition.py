"""A table with rows is attached as a partition, and nothing shows that its rows belong there.

Why: ATTACH PARTITION reads every row of the table to see that it fits the bounds, and holds ACCESS EXCLUSIVE
    on it meanwhile, beside SHARE UPDATE EXCLUSIVE on the partitioned table (before PostgreSQL 12: ACCESS
    EXCLUSIVE).
Fix: a CHECK that says what the bounds say, added NOT VALID and validated before: then nothing is read. It
    can be dropped afterwards.
Silent when: the same set created the table; it has a validated CHECK over the partition key (whether it
    implies the bounds, the trace tells); it is known to be empty or is a foreign table.
Source: PostgreSQL manual, ALTER TABLE, "ATTACH PARTITION"; 5.12.2.2 "Partition Maintenance";
    PartConstraintImpliedByRelConstraint() in src/backend/commands/tablecmds.c.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.catalog.ddl_text import mentions
from sqladvisor.finding import Finding, Fix
from sqladvisor.migrate.context import MigrationContext, Table
from sqladvisor.migrate.partitions import bound_condition
from sqladvisor.migrate.steps import named
from sqladvisor.rule import rule
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import unwrap

SCHEMA = """CREATE TABLE logs (id bigint, at date NOT NULL) PARTITION BY RANGE (at);
CREATE TABLE regions (id int, code text) PARTITION BY LIST (code);
CREATE TABLE old_logs (id bigint, at date NOT NULL);
CREATE TABLE north (id int, code text);
CREATE TABLE proven (id bigint, at date NOT NULL, CHECK (at >= '2020-01-01' AND at < '2021-01-01'));"""
BAD = [
    "ALTER TABLE logs ATTACH PARTITION old_logs FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');",
    "ALTER TABLE regions ATTACH PARTITION north FOR VALUES IN ('n', NULL);",
    "ALTER TABLE unknown ATTACH PARTITION other FOR VALUES FROM (1, 'a') TO (2, MAXVALUE);",
]
GOOD = [
    "ALTER TABLE logs ATTACH PARTITION proven FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');",
    "CREATE TABLE fresh (LIKE logs);\n"
    "ALTER TABLE logs ATTACH PARTITION fresh FOR VALUES FROM ('2022-01-01') TO ('2023-01-01');",
    {
        "1.sql": "ALTER TABLE old_logs ADD CONSTRAINT fits CHECK (at >= '2020-01-01' AND "
        "at < '2021-01-01') NOT VALID;",
        "2.sql": "ALTER TABLE old_logs VALIDATE CONSTRAINT fits;",
        "3.sql": "ALTER TABLE logs ATTACH PARTITION old_logs "
        "FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');",
    },
    "ALTER INDEX logs_id ATTACH PARTITION old_logs_id;",
]


@rule("AT_AttachPartition", severity="warning")
def check(command: Node, ctx: MigrationContext) -> Iterator[Finding]:
    definition = unwrap(command.get("def", {}))[1]
    if ctx.statement.tree.get("objtype") != "OBJECT_TABLE":
        return
    parent, table = ctx.table(), ctx.table(definition.get("name", {}))
    key = parent.relation.partition_key if parent.relation else ()
    if not table.settled or table.rows == 0 or _checked(ctx, table, key):
        return
    condition = bound_condition(ctx, parent, definition.get("bound", {}))
    fixes: list[Fix] = []
    if condition:
        name = named(table.key[1], "partition_check")
        fixes = [
            ctx.sequence(
                "show that the rows fit first, each step in a transaction of its own",
                f"ALTER TABLE {table.sql} ADD CONSTRAINT {name} CHECK ({condition}) NOT VALID",
                f"ALTER TABLE {table.sql} VALIDATE CONSTRAINT {name}",
                ctx.statement.sql,
                f"ALTER TABLE {table.sql} DROP CONSTRAINT {name}",
            )
        ]
    yield ctx.finding(
        definition.get("name"),
        f"ATTACH PARTITION takes ACCESS EXCLUSIVE on {table.shown}, which blocks reads and writes of it while "
        "all its rows are read to see that they fit the bounds",
        table=table,
        lock="ACCESS EXCLUSIVE",
        work="scan",
        fixes=fixes,
    )


def _checked(ctx: MigrationContext, table: Table, key: tuple[str, ...]) -> bool:
    """Whether a validated CHECK speaks of the partition key (of anything where that is unknown)."""
    known = ctx.state.constraints.get(table.key, {})
    pending = {name for name, c in known.items() if c.kind == "check" and not c.validated}
    texts = ctx.state.builder.state.constraints.get(table.key, {})
    checks = [
        text for name, (kind, text) in texts.items() if kind == "check" and name not in pending
    ]
    if table.relation is not None and not texts:
        checks = list(table.relation.checks)
    return any(not key or all(mentions(text, column) for column in key) for text in checks)
