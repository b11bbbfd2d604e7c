"""A foreign key has no index on its columns: each delete from the other table reads this one whole.

Why: PostgreSQL indexes the key that is referred to, not the columns that refer to it. To delete a
    row there, or change its key, it looks for rows that refer to it: without an index by reading
    the table, once per deleted row. Joins from the other table have no index either.
Fix: CREATE INDEX CONCURRENTLY on the referring columns.
Silent when: a valid index begins with one of the columns (a partial one that leaves out only NULLs
    counts); an index advised for the audited statements does; the table is small. Info unless an
    audited statement deletes from the other table or changes its key.
Source: PostgreSQL manual, 5.5.5 "Foreign Keys" (last paragraphs) and ri_triggers.c.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.advise.existing import named, serves_key
from sqladvisor.catalog.model import Catalog, ForeignKey, Relation
from sqladvisor.context import Context
from sqladvisor.finding import Finding, Fix
from sqladvisor.rule import CATALOG, rule
from sqladvisor.schema import SchemaContext
from sqladvisor.sql.quote import identifier, qualified
from sqladvisor.sql.tree import unwrap

_USERS = "CREATE TABLE users (id bigint PRIMARY KEY, region int, UNIQUE (id, region));"
BAD = [
    _USERS
    + "\nCREATE TABLE orders (id int PRIMARY KEY,\n  user_id bigint NOT NULL REFERENCES users);",
    _USERS
    + """
CREATE TABLE s (a bigint, b int, "é" text, FOREIGN KEY (a, b) REFERENCES users (id, region));
CREATE INDEX ON s ("é", a); CREATE INDEX ON s (a) WHERE "é" = 'x';""",
    """CREATE TABLE tree (id int PRIMARY KEY, parent_id int);
ALTER TABLE tree ADD CONSTRAINT tree_parent FOREIGN KEY (parent_id) REFERENCES tree ON DELETE CASCADE;""",
    _USERS
    + """CREATE TABLE "Ö" (user_id bigint REFERENCES users, n int) PARTITION BY RANGE (n);
CREATE TABLE o1 PARTITION OF "Ö" FOR VALUES FROM (1) TO (10);
-- queries:
DELETE FROM users WHERE id = $1;""",
]
GOOD = [
    _USERS
    + "CREATE TABLE orders (user_id bigint REFERENCES users); CREATE INDEX ON orders (user_id, id);".replace(
        "orders (user_id, id)", "orders (user_id)"
    ),
    _USERS + "CREATE TABLE orders (user_id bigint PRIMARY KEY REFERENCES users);",
    _USERS
    + """CREATE TABLE orders (user_id bigint REFERENCES users);
CREATE INDEX ON orders (user_id) WHERE user_id IS NOT NULL;""",
    _USERS
    + """CREATE TABLE s (a bigint, b int, FOREIGN KEY (a, b) REFERENCES users (id, region));
CREATE INDEX ON s (b, a);""",
    _USERS
    + "CREATE TABLE orders (user_id bigint REFERENCES users); CREATE INDEX ON orders USING hash (user_id);",
    _USERS
    + """INSERT INTO users SELECT generate_series(1, 100);
CREATE TABLE orders (user_id bigint REFERENCES users); INSERT INTO orders SELECT 5; ANALYZE;""",
]


@rule(CATALOG, severity="info")
def check(catalog: Catalog, ctx: SchemaContext) -> Iterator[Finding]:
    for relation in ctx.tables():
        if ctx.small(relation):
            continue
        seen = set()
        for key in relation.foreign_keys:
            served = any(serves_key(i, key.columns) for i in relation.indexes)
            if served or key.columns in seen or _advised(relation, key, ctx):
                continue
            seen.add(key.columns)
            slowed = _slowed(key, ctx)
            target = (
                key.target if key.target_schema == "public" else f"{key.target_schema}.{key.target}"
            )
            columns = ", ".join(key.columns)
            reads = f"reads {named(relation)} whole, once for each row"
            if slowed:
                first = slowed[0].statement
                message = (
                    f"no index on {named(relation)} ({columns}), which refers to {target}: "
                    f"{first.path}:{first.line}, which deletes there or changes the key, {reads}"
                )
            else:
                message = (
                    f"no index on {named(relation)} ({columns}), which refers to {target}: a delete "
                    f"there {reads}"
                )
            yield ctx.finding(
                relation,
                message,
                key=key,
                severity="warning" if slowed else "info",
                fixes=(Fix("build it without blocking writes", _index(relation, key), "ddl"),),
                figures={
                    "table": named(relation),
                    "columns": list(key.columns),
                    "foreign_key": key.name,
                    "lookup": _lookup(relation, key),
                    "slowed": [f"{c.statement.path}:{c.statement.line}" for c in slowed],
                },
            )


def _advised(relation: Relation, key: ForeignKey, ctx: SchemaContext) -> bool:
    table = qualified(None if relation.schema == "public" else relation.schema, relation.name)
    columns = {identifier(c) for c in key.columns}
    return any(t == table and keys[0] in columns for t, keys in ctx.advised)


def _slowed(key: ForeignKey, ctx: SchemaContext) -> list[Context]:
    """The audited statements that make PostgreSQL look for rows that refer to theirs."""
    found = []
    for context in ctx.contexts:
        for kind in ("DeleteStmt", "UpdateStmt"):
            for node in context.tree.of(kind):
                target = node.get("relation", {})
                relation = ctx.catalog.find(target.get("relname", ""), target.get("schemaname"))
                if relation is None or (relation.schema, relation.name) != (
                    key.target_schema,
                    key.target,
                ):
                    continue
                columns = {unwrap(t)[1].get("name") for t in node.get("targetList", ())}
                if kind == "DeleteStmt" or columns & set(key.target_columns):
                    found.append(context)
    return found


def _index(relation: Relation, key: ForeignKey) -> str:
    # CREATE INDEX CONCURRENTLY is refused on a partitioned table.
    concurrently = "" if relation.kind == "partitioned" else " CONCURRENTLY"
    schema = None if relation.schema == "public" else relation.schema
    columns = ", ".join(map(identifier, key.columns))
    return f"CREATE INDEX{concurrently} ON {qualified(schema, relation.name)} ({columns});"


def _lookup(relation: Relation, key: ForeignKey) -> str:
    """What a delete of one row asks of this table (ri_triggers.c), as a query to try it with."""
    compared = " AND ".join(
        f"{identifier(c)} = (SELECT {identifier(t)} FROM "
        f"{qualified(key.target_schema, key.target)} ORDER BY "
        f"{', '.join(f'{identifier(k)} DESC' for k in key.target_columns)} LIMIT 1)"
        for c, t in zip(key.columns, key.target_columns, strict=True)
    )
    return f"SELECT count(*) FROM {qualified(relation.schema, relation.name)} WHERE {compared}"
