"""An index is built while writes to its table wait.

Why: CREATE INDEX takes SHARE on the table for as long as it reads and sorts all rows: INSERT, UPDATE
    and DELETE queue behind it. CONCURRENTLY takes SHARE UPDATE EXCLUSIVE instead and lets them run.
Fix: CREATE INDEX CONCURRENTLY, outside a transaction; before it, DROP INDEX CONCURRENTLY IF EXISTS,
    since a build that fails leaves an invalid index behind. On a partitioned table CONCURRENTLY is
    refused: an invalid index ON ONLY the parent, one built concurrently per partition, then ATTACH.
Silent when: the same set created the table, or it is temporary; the table is known to be small (then
    it is info); on ONLY a partitioned parent, where nothing is built.
Source: PostgreSQL manual, CREATE INDEX, "Building Indexes Concurrently"; squawk
    require-concurrent-index-creation; strong_migrations.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding, Fix
from sqladvisor.migrate.context import MigrationContext, Table, blocks
from sqladvisor.rule import rule
from sqladvisor.sql.quote import identifier
from sqladvisor.sql.statement import Node

SCHEMA = """CREATE TABLE users (id bigint PRIMARY KEY, email text, created_at timestamptz);
CREATE TABLE events (id bigint, at timestamptz) PARTITION BY RANGE (at);
CREATE TABLE events_2026 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE MATERIALIZED VIEW totals AS SELECT email, count(*) AS n FROM users GROUP BY email;
"""
BAD = [
    "CREATE INDEX users_email_idx ON users (email);",
    "CREATE UNIQUE INDEX ON users (lower(email)) WHERE email IS NOT NULL;",
    "CREATE INDEX IF NOT EXISTS users_email_idx ON public.users (email);",
    "CREATE INDEX events_at ON events (at);",
    "CREATE INDEX totals_n ON totals (n);",
    'CREATE INDEX unknown_idx ON "Somewhere else" (a);',
]
GOOD = [
    "CREATE INDEX CONCURRENTLY users_email_idx ON users (email);",
    "CREATE TABLE orders (id bigint PRIMARY KEY, user_id bigint); CREATE INDEX ON orders (user_id);",
    {
        "1_table.sql": "CREATE TABLE orders (id bigint PRIMARY KEY, user_id bigint);",
        "2_index.sql": "CREATE INDEX ON orders (user_id);",
    },
    "CREATE TEMP TABLE work (a int); CREATE INDEX ON work (a);",
    "CREATE INDEX events_at ON ONLY events (at);",
    "-- CREATE INDEX users_email_idx ON users (email);\nSELECT 'CREATE INDEX i ON users (email)';",
    """CREATE FUNCTION later() RETURNS void LANGUAGE plpgsql AS $$
BEGIN CREATE INDEX users_email_idx ON users (email); END $$;""",
    "CREATE TABLE copy AS SELECT * FROM users; CREATE INDEX ON copy (email);",
]


@rule("IndexStmt", severity="error")
def check(index: Node, ctx: MigrationContext) -> Iterator[Finding]:
    table = ctx.table()
    if index.get("concurrent") or not table.settled:
        return
    if table.partitioned and not index["relation"].get("inh"):
        return
    yield ctx.finding(
        None,
        f"CREATE INDEX {blocks('SHARE')} on {table.shown} until the whole table is read and sorted",
        table=table,
        lock="SHARE",
        work="build",
        fixes=_partitioned(index, table, ctx) if table.partitioned else _concurrently(index, ctx),
    )


def _concurrently(index: Node, ctx: MigrationContext) -> list[Fix]:
    sql = ctx.statement.sql
    tokens = ctx.spans.tokens
    at = next(i for i, t in enumerate(tokens) if t[2] == "INDEX")
    built = f"{sql[: tokens[at][1]]} CONCURRENTLY{sql[tokens[at][1] :]}"
    statements = [built]
    if name := index.get("idxname"):
        statements.insert(0, f"DROP INDEX CONCURRENTLY IF EXISTS {identifier(name)}")
    if ctx.transaction.by == "file":
        note = "take it out of BEGIN … COMMIT"
    elif ctx.transaction.inside:
        note = "in a migration of its own that runs outside a transaction"
    else:
        note = ""
    return [ctx.sequence("build it while writes go on", *statements, note=note)]


def _partitioned(index: Node, table: Table, ctx: MigrationContext) -> list[Fix]:
    sql, name = ctx.statement.sql, index.get("idxname")
    children = ctx.state.builder.state.children.get(table.key, [])
    start = ctx.name_span(index["relation"])
    if not name or not children:
        return []
    parent = f"{sql[: start[0]]}ONLY {sql[start[0] :]}"
    statements = [parent]
    for child in children:
        own = identifier(f"{child[1]}_{name}"[:63])
        keys = sql[start[1] :]
        made = f"CREATE {'UNIQUE ' if index.get('unique') else ''}INDEX CONCURRENTLY {own}"
        statements.append(f"{made} ON {identifier(child[0])}.{identifier(child[1])}{keys}")
        statements.append(f"ALTER INDEX {identifier(name)} ATTACH PARTITION {own}")
    return [ctx.sequence("one partition at a time, outside a transaction", *statements)]
