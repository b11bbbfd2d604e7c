"""A UNIQUE or PRIMARY KEY constraint builds its index while all access to the table waits.

Why: ADD CONSTRAINT … UNIQUE or PRIMARY KEY takes ACCESS EXCLUSIVE until its index is built; a primary key
    also reads the table for nulls, unless its columns are NOT NULL already.
Fix: CREATE UNIQUE INDEX CONCURRENTLY first, then ADD CONSTRAINT … USING INDEX, which is short; for a
    primary key the columns are made NOT NULL beforehand, the way that does not block.
Silent when: the same set created the table; USING INDEX, if it adds no scan for nulls.
Source: PostgreSQL manual, ALTER TABLE, "ADD table_constraint_using_index"; squawk
    disallowed-unique-constraint, adding-serial-primary-key-field; strong_migrations.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding, Fix
from sqladvisor.migrate.context import MigrationContext, Table, blocks, columns_sql
from sqladvisor.migrate.steps import named, not_null_steps, type_sql
from sqladvisor.rule import rule
from sqladvisor.sql.quote import identifier
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import names, unwrap

SCHEMA = """CREATE TABLE users (id bigint, email text NOT NULL, nick text,
    CONSTRAINT nick_known CHECK (nick IS NOT NULL));
CREATE UNIQUE INDEX users_email ON users (email); CREATE UNIQUE INDEX users_id ON users (id);
CREATE UNIQUE INDEX users_nick ON users (nick);
CREATE TABLE parts (id bigint NOT NULL) PARTITION BY RANGE (id);
"""
BAD = [
    "ALTER TABLE users ADD CONSTRAINT u UNIQUE (email);",
    "ALTER TABLE users ADD PRIMARY KEY (email);",
    "ALTER TABLE users ADD COLUMN code text UNIQUE;",
    "ALTER TABLE users ADD CONSTRAINT pk PRIMARY KEY USING INDEX users_id;",
    "ALTER TABLE parts ADD PRIMARY KEY (id);",
    "ALTER TABLE unknown ADD UNIQUE (a, b);",
]
GOOD = [
    "ALTER TABLE users ADD CONSTRAINT u UNIQUE USING INDEX users_email;",
    "ALTER TABLE users ADD CONSTRAINT pk PRIMARY KEY USING INDEX users_email;",
    "ALTER TABLE users ADD CONSTRAINT pk PRIMARY KEY USING INDEX users_nick;",
    "CREATE TABLE t (a int); ALTER TABLE t ADD PRIMARY KEY (a);",
    "CREATE TABLE t (a int PRIMARY KEY, b text UNIQUE);",
    "ALTER TABLE unknown ADD CONSTRAINT u UNIQUE USING INDEX unknown_idx;",
]


@rule("AT_AddConstraint", "AT_AddColumn", severity="error")
def check(command: Node, ctx: MigrationContext) -> Iterator[Finding]:
    table, definition = ctx.table(), unwrap(command.get("def", {}))[1]
    if not table.settled:
        return
    column = definition if command["subtype"] == "AT_AddColumn" else None
    found = [unwrap(c)[1] for c in definition.get("constraints", ())] if column else [definition]
    for constraint in found:
        kind = constraint.get("contype")
        if kind not in ("CONSTR_UNIQUE", "CONSTR_PRIMARY"):
            continue
        word = "PRIMARY KEY" if kind == "CONSTR_PRIMARY" else "UNIQUE"
        if constraint.get("indexname"):
            if word == "PRIMARY KEY":
                yield from _nulls(constraint, table, ctx)
            continue
        columns = (str(column["colname"]),) if column else names(constraint.get("keys"))
        yield ctx.finding(
            constraint,
            f"ADD {word} on {table.shown} ({', '.join(columns)}) {blocks('ACCESS EXCLUSIVE')} until its "
            "index is built",
            table=table,
            lock="ACCESS EXCLUSIVE",
            work="build",
            fixes=_using_index(word, constraint, columns, column, table, ctx),
        )


def _nullable(table: Table, columns: tuple[str, ...], ctx: MigrationContext) -> list[str]:
    """The columns that have to be read for nulls."""
    return [
        c
        for c in columns
        if not ((known := table.column(c)) and known.not_null)
        and not ctx.state.proves_not_null(table.key, c)
    ]


def _nulls(constraint: Node, table: Table, ctx: MigrationContext) -> Iterator[Finding]:
    index = next(
        (
            i
            for i in (table.relation.indexes if table.relation else ())
            if i.name == constraint["indexname"]
        ),
        None,
    )
    if index is None:
        return
    open_ = _nullable(table, tuple(k for k in index.keys if k), ctx)
    if open_:
        yield ctx.finding(
            constraint,
            f"PRIMARY KEY USING INDEX makes {', '.join(open_)} NOT NULL: it {blocks('ACCESS EXCLUSIVE')} "
            f"of {table.shown} while all rows are read for nulls",
            table=table,
            lock="ACCESS EXCLUSIVE",
            work="scan",
            fixes=[
                ctx.sequence(
                    "before it, in transactions of their own", *_not_null(table, open_, ctx)
                )
            ],
        )


def _not_null(table: Table, columns: list[str], ctx: MigrationContext) -> list[str]:
    return [step for c in columns for step in not_null_steps(table, c, ctx.pg_version)]


def _using_index(
    word: str,
    constraint: Node,
    columns: tuple[str, ...],
    column: Node | None,
    table: Table,
    ctx: MigrationContext,
) -> list[Fix]:
    if table.partitioned:
        return []  # USING INDEX is refused on partitioned tables
    suffix = "pkey" if word == "PRIMARY KEY" else "key"
    middle = () if word == "PRIMARY KEY" else columns
    given = constraint.get("conname")
    name = identifier(given) if given else named(table.key[1], *middle, suffix)
    include = names(constraint.get("including"))
    also = f" INCLUDE ({columns_sql(include)})" if include else ""
    distinct = " NULLS NOT DISTINCT" if constraint.get("nulls_not_distinct") else ""
    steps = []
    if column:
        quoted = identifier(str(column["colname"]))
        steps.append(f"ALTER TABLE {table.sql} ADD COLUMN {quoted} {type_sql(column['typeName'])}")
    steps += [
        f"CREATE UNIQUE INDEX CONCURRENTLY {name} ON {table.sql} ({columns_sql(columns)}){also}{distinct}"
    ]
    if word == "PRIMARY KEY":
        steps += _not_null(table, _nullable(table, columns, ctx), ctx)
    deferrable = " DEFERRABLE" * bool(constraint.get("deferrable"))
    deferrable += " INITIALLY DEFERRED" * bool(constraint.get("initdeferred"))
    steps.append(
        f"ALTER TABLE {table.sql} ADD CONSTRAINT {name} {word} USING INDEX {name}{deferrable}"
    )
    return [
        ctx.sequence("build the index outside a transaction, then make it the constraint", *steps)
    ]
