"""A foreign key's column has another type than the one it refers to.

Why: each check compares across types; an index of the other column may not serve it, joins cast, and a value
    that fits one side does not fit the other (an integer column that refers to a bigint key fails on the
    first key beyond 2,147,483,647).
Fix: the type of the column it refers to.
Silent when: the types are the same, or text and varchar; a type is not known; it is not selected
    (--select design).
Source: PostgreSQL manual, CREATE TABLE, "REFERENCES"; 5.5.5 "Foreign Keys".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.catalog.model import Relation
from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext
from sqladvisor.rule import MIGRATION_SET, rule
from sqladvisor.sql.datatypes import STRINGS
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import names

SCHEMA = "CREATE TABLE users (id bigint PRIMARY KEY, code varchar(10) UNIQUE);"
BAD = [
    "CREATE TABLE orders (id bigint PRIMARY KEY, user_id integer REFERENCES users);",
    "CREATE TABLE orders (user_id int); ALTER TABLE orders ADD FOREIGN KEY (user_id) REFERENCES users (id);",
]
GOOD = [
    "CREATE TABLE orders (id bigint PRIMARY KEY, user_id bigint REFERENCES users);",
    "CREATE TABLE orders (code text REFERENCES users (code));",
    "CREATE TABLE orders (user_id int REFERENCES unknown);",
    "CREATE TABLE orders (user_id int REFERENCES users);\n"
    "ALTER TABLE orders ALTER COLUMN user_id TYPE bigint;",
]


@rule(MIGRATION_SET, severity="warning", opt_in="design")
def check(contexts: list[MigrationContext], ctx: MigrationContext) -> Iterator[Finding]:
    for own in contexts:
        if own.statement.kind not in ("CreateStmt", "AlterTableStmt"):
            continue
        relations = own.state.builder.state.relations
        table = relations.get(own.table().key)
        for constraint in own.tree.of("Constraint"):
            if constraint.get("contype") != "CONSTR_FOREIGN" or table is None:
                continue
            target = relations.get(own.state.key(constraint.get("pktable", {})))
            if target is None:
                continue
            above = own.tree.parent(constraint)[1]
            columns = names(constraint.get("fk_attrs")) or (str(above.get("colname", "")),)
            for name, type_, other in _differing(table, columns, target, constraint):
                own.rule = ctx.rule
                yield own.finding(
                    constraint,
                    f"{table.name}.{name} is {type_}, but {target.name}.{other} to which it refers",
                )


def _differing(
    table: Relation, columns: tuple[str, ...], target: Relation, constraint: Node
) -> Iterator[tuple[str, str, str]]:
    others = names(constraint.get("pk_attrs")) or target.primary_key
    for name, other in zip(columns, others, strict=False):
        own, referred = table.column(name), target.column(other)
        if own is None or referred is None or own.type == referred.type:
            continue
        if {own.type, referred.type} <= STRINGS or "" in (own.type, referred.type):
            continue
        yield name, own.type, f"{other}, {referred.type},"
