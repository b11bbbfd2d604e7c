"""A partition is added beside a DEFAULT partition: that one is locked, and all its rows are read.

Why: rows of the new bounds may sit in the DEFAULT partition. CREATE TABLE … PARTITION OF and ATTACH PARTITION
    take ACCESS EXCLUSIVE on it and read all of it, and fail where they find such a row. CREATE TABLE …
    PARTITION OF holds ACCESS EXCLUSIVE on the partitioned table meanwhile.
Fix: a CHECK on the DEFAULT partition that excludes the new bounds, added NOT VALID and validated before;
    then ATTACH a table made for it. The CHECK can be dropped afterwards.
Silent when: no DEFAULT partition is known; the same set created the DEFAULT partition, or it is known to be
    empty; it has a validated CHECK over the partition key.
Source: PostgreSQL manual, ALTER TABLE, "ATTACH PARTITION"; check_default_partition_contents() in
    src/backend/partitioning/partbounds.c.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.catalog.ddl_text import mentions
from sqladvisor.finding import Finding, Fix
from sqladvisor.migrate.context import MigrationContext, Table
from sqladvisor.migrate.dependents import shown, written
from sqladvisor.migrate.partitions import bound_condition
from sqladvisor.migrate.steps import named
from sqladvisor.rule import rule
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import unwrap

SCHEMA = """CREATE TABLE logs (id bigint, at date NOT NULL) PARTITION BY RANGE (at);
CREATE TABLE logs_rest PARTITION OF logs DEFAULT;
CREATE TABLE logs_2020 (id bigint, at date NOT NULL);
CREATE TABLE tidy (a int) PARTITION BY LIST (a); CREATE TABLE tidy_rest PARTITION OF tidy DEFAULT;
ALTER TABLE tidy_rest ADD CHECK (a <> 1);
CREATE TABLE plain (a int) PARTITION BY LIST (a);"""
BAD = [
    "CREATE TABLE logs_2021 PARTITION OF logs FOR VALUES FROM ('2021-01-01') TO ('2022-01-01');",
    "ALTER TABLE logs ATTACH PARTITION logs_2020 FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');",
]
GOOD = [
    "CREATE TABLE plain_1 PARTITION OF plain FOR VALUES IN (1);",
    "CREATE TABLE tidy_1 PARTITION OF tidy FOR VALUES IN (1);",
    "CREATE TABLE plain_rest PARTITION OF plain DEFAULT;\n"
    "CREATE TABLE plain_1 PARTITION OF plain FOR VALUES IN (1);",
    "ALTER TABLE logs DETACH PARTITION logs_rest;\n"
    "CREATE TABLE logs_2021 PARTITION OF logs FOR VALUES FROM ('2021-01-01') TO ('2022-01-01');",
]


@rule("CreateStmt", "AT_AttachPartition", severity="error")
def check(node: Node, ctx: MigrationContext) -> Iterator[Finding]:
    attaching = node.get("subtype") == "AT_AttachPartition"
    definition = unwrap(node.get("def", {}))[1]
    bound = definition.get("bound") if attaching else node.get("partbound")
    if not bound or bound.get("is_default"):
        return
    parent = ctx.table() if attaching else ctx.table(unwrap(node["inhRelations"][0])[1])
    found = ctx.state.default_partitions.get(parent.key)
    if found is None or not parent.settled:
        return
    default = ctx.table(*found)
    if not default.settled or default.rows == 0 or _excludes(default, parent):
        return
    partition = ctx.table(definition.get("name", {}) if attaching else node.get("relation", {}))
    verb = "ATTACH PARTITION" if attaching else "CREATE TABLE … PARTITION OF"
    yield ctx.finding(
        None,
        f"{verb} takes ACCESS EXCLUSIVE on the default partition {shown(ctx, default.key)}, which blocks "
        "reads and writes of it while all its rows are read, and fails if one belongs into the new partition",
        table=default,
        lock="ACCESS EXCLUSIVE",
        work="scan",
        fixes=[] if "partspec" in node else _fix(ctx, parent, default, partition, bound, attaching),
    )


def _fix(
    ctx: MigrationContext,
    parent: Table,
    default: Table,
    partition: Table,
    bound: Node,
    attaching: bool,
) -> list[Fix]:
    condition = bound_condition(ctx, parent, bound)
    if not condition:
        return []
    name = named(default.key[1], "excludes", partition.key[1])
    values = _values(ctx, bound)
    steps = [
        f"ALTER TABLE {written(ctx, default.key)} ADD CONSTRAINT {name} CHECK (NOT ({condition})) NOT VALID",
        f"ALTER TABLE {written(ctx, default.key)} VALIDATE CONSTRAINT {name}",
    ]
    if attaching:
        steps.append(ctx.statement.sql)
    else:
        steps += [
            f"CREATE TABLE {partition.sql} (LIKE {parent.sql} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)",
            f"ALTER TABLE {parent.sql} ATTACH PARTITION {partition.sql} {values}",
        ]
    steps.append(f"ALTER TABLE {written(ctx, default.key)} DROP CONSTRAINT {name}")
    return [
        ctx.sequence(
            "show first that no row has to move, each step in a transaction of its own", *steps
        )
    ]


def _values(ctx: MigrationContext, bound: Node) -> str:
    """``FOR VALUES …`` as written: its location is that of FROM or IN."""
    groups, depth, tokens = 2 if bound.get("strategy") == "r" else 1, 0, ctx.spans.tokens
    first = last = ctx.spans.token_at(int(bound["location"]))
    while groups:
        last += 1
        depth += (tokens[last][2] == "ASCII_40") - (tokens[last][2] == "ASCII_41")
        groups -= tokens[last][2] == "ASCII_41" and not depth
    return f"FOR VALUES {ctx.statement.sql[tokens[first][0] : tokens[last][1]]}"


def _excludes(default: Table, parent: Table) -> bool:
    key = parent.relation.partition_key if parent.relation else ()
    checks = default.relation.checks if default.relation else ()
    return any(all(mentions(text, column) for column in key) for text in checks) if key else False
