"""A foreign key is added to columns that no index begins with: each DELETE of a parent reads the table.

Why: when a referenced row is deleted, or its key updated, PostgreSQL looks for rows that refer to it.
    PostgreSQL makes no index for that: without one it reads the whole referencing table, once per row
    deleted, under a lock on the parent row.
Fix: CREATE INDEX CONCURRENTLY on the referencing columns.
Silent when: an index begins with these columns in any order, now or later in the set; the same set
    created the table (audit reports that of a schema); its columns are unknown.
Source: PostgreSQL manual, 5.5.5 "Foreign Keys" (last paragraphs); eugene E15; strong_migrations.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext, Table, columns_sql
from sqladvisor.migrate.steps import named
from sqladvisor.rule import MIGRATION_SET, rule
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import names, unwrap

SCHEMA = """CREATE TABLE users (id bigint PRIMARY KEY);
CREATE TABLE orders (id bigint PRIMARY KEY, user_id bigint, at date, buyer bigint);
CREATE INDEX ON orders (buyer, at);
"""
BAD = [
    "ALTER TABLE orders ADD CONSTRAINT f FOREIGN KEY (user_id) REFERENCES users NOT VALID;",
    "ALTER TABLE orders ADD COLUMN owner bigint REFERENCES users;",
    "CREATE INDEX CONCURRENTLY ON orders (at, user_id);\n"
    "ALTER TABLE orders ADD FOREIGN KEY (user_id) REFERENCES users NOT VALID;",
]
GOOD = [
    "ALTER TABLE orders ADD CONSTRAINT f FOREIGN KEY (buyer) REFERENCES users NOT VALID;",
    {
        "1.sql": "ALTER TABLE orders ADD COLUMN owner bigint REFERENCES users;",
        "2.sql": "CREATE INDEX CONCURRENTLY ON orders (owner);",
    },
    "CREATE TABLE t (user_id bigint REFERENCES users);",
    "ALTER TABLE unknown ADD FOREIGN KEY (user_id) REFERENCES users NOT VALID;",
    "ALTER TABLE orders ADD COLUMN owner bigint REFERENCES users;\nALTER TABLE orders DROP COLUMN owner;",
]


@rule(MIGRATION_SET, severity="warning")
def check(contexts: Sequence[MigrationContext], ctx: MigrationContext) -> Iterator[Finding]:
    for own in contexts:
        if own.statement.kind != "AlterTableStmt":
            continue
        for wrapped in own.statement.tree.get("cmds", ()):
            command = unwrap(wrapped)[1]
            for constraint, columns in _foreign_keys(command):
                table = own.table()
                if table.settled and _missing(table, columns):
                    own.rule = ctx.rule
                    name = named(table.key[1], *columns, "idx")
                    yield own.finding(
                        constraint,
                        f"no index of {table.shown} begins with ({', '.join(columns)}): each DELETE of a "
                        "referenced row reads the whole table",
                        table=table,
                        fixes=[
                            own.sequence(
                                "outside a transaction",
                                f"CREATE INDEX CONCURRENTLY {name} ON {table.sql} ({columns_sql(columns)})",
                            )
                        ],
                    )


def _foreign_keys(command: Node) -> Iterator[tuple[Node, tuple[str, ...]]]:
    definition = unwrap(command.get("def", {}))[1]
    if command.get("subtype") == "AT_AddConstraint":
        if definition.get("contype") == "CONSTR_FOREIGN":
            yield definition, names(definition.get("fk_attrs"))
    elif command.get("subtype") == "AT_AddColumn":
        for wrapped in definition.get("constraints", ()):
            constraint = unwrap(wrapped)[1]
            if constraint.get("contype") == "CONSTR_FOREIGN":
                yield constraint, (str(definition["colname"]),)


def _missing(table: Table, columns: tuple[str, ...]) -> bool:
    if table.relation is None or any(table.column(c) is None for c in columns):
        return False
    return not any(
        set(index.keys[: len(columns)]) == set(columns) and not index.predicate
        for index in table.relation.indexes
    )
