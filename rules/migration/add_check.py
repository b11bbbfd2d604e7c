"""A CHECK constraint is added and checked at once: the table is read while all access to it waits.

Why: ADD CONSTRAINT … CHECK takes ACCESS EXCLUSIVE and tests every row there is.
Fix: ADD CONSTRAINT … CHECK … NOT VALID, which is short, then VALIDATE CONSTRAINT in a transaction of its
    own: it takes SHARE UPDATE EXCLUSIVE, and reads and writes go on.
Silent when: the same set created the table; NOT VALID or NOT ENFORCED; a CHECK on a new column without
    a default in the same statement is told too: the scan is the same.
Source: PostgreSQL manual, ALTER TABLE, "ADD table_constraint [ NOT VALID ]" and Notes; squawk
    constraint-missing-not-valid; strong_migrations.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.catalog.ddl_text import DdlText
from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext, blocks
from sqladvisor.migrate.steps import named, type_sql
from sqladvisor.rule import rule
from sqladvisor.sql.quote import identifier
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import column_name, names, unwrap, walk

SCHEMA = "CREATE TABLE orders (id bigint PRIMARY KEY, total numeric);"
BAD = [
    "ALTER TABLE orders ADD CONSTRAINT positive CHECK (total >= 0);",
    "ALTER TABLE orders ADD CHECK (total >= 0);",
    "ALTER TABLE orders ADD COLUMN tax numeric CHECK (tax >= 0);",
    "ALTER TABLE orders ADD CONSTRAINT nn NOT NULL total;",
]
GOOD = [
    "ALTER TABLE orders ADD CONSTRAINT positive CHECK (total >= 0) NOT VALID;",
    {
        "1.sql": "ALTER TABLE orders ADD CONSTRAINT positive CHECK (total >= 0) NOT VALID;",
        "2.sql": "ALTER TABLE orders VALIDATE CONSTRAINT positive;",
    },
    "CREATE TABLE t (a int); ALTER TABLE t ADD CHECK (a > 0);",
    "CREATE TABLE t (a int CHECK (a > 0));",
    "ALTER TABLE orders ADD CONSTRAINT positive CHECK (total >= 0) NOT ENFORCED;",
    "ALTER FOREIGN TABLE remote ADD CHECK (a > 0);",
    "-- ALTER TABLE orders ADD CHECK (total >= 0);\nSELECT 1;",
]


@rule("AT_AddConstraint", "AT_AddColumn", severity="error")
def check(command: Node, ctx: MigrationContext) -> Iterator[Finding]:
    table, definition = ctx.table(), unwrap(command.get("def", {}))[1]
    if not table.settled:
        return
    adds_column = command["subtype"] == "AT_AddColumn"
    found = [definition]
    if adds_column:
        found = [unwrap(c)[1] for c in definition.get("constraints", ())]
    for constraint in found:
        kind = constraint.get("contype")
        if kind == "CONSTR_NOTNULL" and not adds_column:
            columns = names(constraint.get("keys"))
            if constraint.get("skip_validation") or all(
                _not_null(table.column(c)) for c in columns
            ):
                continue
            condition = f"NOT NULL {identifier(columns[0])}"
        elif kind == "CONSTR_CHECK" and not constraint.get("skip_validation"):
            text = DdlText(ctx.statement.sql).check(constraint.get("location", 0))
            condition = f"CHECK ({text})"
            raw = unwrap(constraint.get("raw_expr", {}))
            columns = tuple(
                dict.fromkeys(column_name(n)[1] for k, n in walk(*raw) if k == "ColumnRef")
            )
        else:
            continue
        name = constraint.get("conname")
        suffix = "check" if kind == "CONSTR_CHECK" else "not_null"
        quoted = identifier(name) if name else named(table.key[1], *columns[:1], suffix)
        steps = [
            f"ALTER TABLE {table.sql} ADD CONSTRAINT {quoted} {condition} NOT VALID",
            f"ALTER TABLE {table.sql} VALIDATE CONSTRAINT {quoted}",
        ]
        if adds_column:
            column = identifier(str(definition["colname"]))
            type_ = type_sql(definition["typeName"])
            steps.insert(0, f"ALTER TABLE {table.sql} ADD COLUMN {column} {type_}")
        what = "CHECK" if kind == "CONSTR_CHECK" else "NOT NULL"
        yield ctx.finding(
            constraint,
            f"a {what} on {table.shown} that is checked at once {blocks('ACCESS EXCLUSIVE')} while all rows "
            "are read",
            table=table,
            lock="ACCESS EXCLUSIVE",
            work="scan",
            fixes=[
                ctx.sequence("add it unchecked, then validate in a transaction of its own", *steps)
            ],
        )


def _not_null(column: object) -> bool:
    return bool(getattr(column, "not_null", False))
