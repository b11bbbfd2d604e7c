"""A foreign key is added and checked at once: two tables are closed to writes while one is read.

Why: ADD FOREIGN KEY takes SHARE ROW EXCLUSIVE on both tables, the referencing and the referenced, and
    looks up every row there is. Writes to both wait until it ends.
Fix: ADD CONSTRAINT … NOT VALID, which is short, then VALIDATE CONSTRAINT in a transaction of its own:
    it takes SHARE UPDATE EXCLUSIVE and ROW SHARE, and writes go on. A partitioned table takes NOT VALID
    since PostgreSQL 18.
Silent when: the same set created the referencing table (it has no rows); NOT VALID or NOT ENFORCED; a new
    column without a default, whose rows are all null.
Source: PostgreSQL manual, ALTER TABLE, "ADD table_constraint [ NOT VALID ]" and Notes; release notes 18;
    squawk adding-foreign-key-constraint; strong_migrations.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext, columns_sql
from sqladvisor.migrate.steps import named
from sqladvisor.rule import rule
from sqladvisor.sql.quote import identifier
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import names, unwrap

SCHEMA = """CREATE TABLE users (id bigint PRIMARY KEY);
CREATE TABLE orders (id bigint PRIMARY KEY, user_id bigint, buyer bigint);
CREATE TABLE events (id bigint, user_id bigint) PARTITION BY RANGE (id);
"""
BAD = [
    "ALTER TABLE orders ADD FOREIGN KEY (user_id) REFERENCES users;",
    "ALTER TABLE orders ADD CONSTRAINT fk FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE;",
    "ALTER TABLE orders ADD COLUMN n int, ADD CONSTRAINT fk FOREIGN KEY (buyer) REFERENCES users (id);",
    "ALTER TABLE orders ADD COLUMN owner bigint DEFAULT 1 REFERENCES users (id);",
    "ALTER TABLE events ADD CONSTRAINT fk FOREIGN KEY (user_id) REFERENCES users (id);",
]
GOOD = [
    "ALTER TABLE orders ADD CONSTRAINT fk FOREIGN KEY (user_id) REFERENCES users (id) NOT VALID;",
    {
        "1.sql": "ALTER TABLE orders ADD CONSTRAINT fk FOREIGN KEY (user_id) REFERENCES users NOT VALID;",
        "2.sql": "ALTER TABLE orders VALIDATE CONSTRAINT fk;",
    },
    "CREATE TABLE t (user_id bigint); ALTER TABLE t ADD FOREIGN KEY (user_id) REFERENCES users;",
    "CREATE TABLE t (user_id bigint REFERENCES users);",
    "ALTER TABLE orders ADD COLUMN owner bigint REFERENCES users (id);",
    "ALTER TABLE orders ADD CONSTRAINT fk FOREIGN KEY (user_id) REFERENCES users (id) NOT ENFORCED;",
]
NOT_VALID_ON_PARTITIONED = 18


@rule("AT_AddConstraint", "AT_AddColumn", severity="error")
def check(command: Node, ctx: MigrationContext) -> Iterator[Finding]:
    table, definition = ctx.table(), unwrap(command.get("def", {}))[1]
    if not table.settled:
        return
    adds_column = command["subtype"] == "AT_AddColumn"
    found = [definition]
    if adds_column:
        found = [unwrap(c)[1] for c in definition.get("constraints", ())]
        if not any(c.get("contype") == "CONSTR_DEFAULT" for c in found):
            return  # all rows are null: nothing is looked up
    for constraint in found:
        if constraint.get("contype") != "CONSTR_FOREIGN" or constraint.get("skip_validation"):
            continue
        other = ctx.table(constraint.get("pktable", {}))
        columns = (str(definition["colname"]),) if adds_column else names(constraint["fk_attrs"])
        name = constraint.get("conname")
        constraint_name = identifier(name) if name else named(table.key[1], *columns, "fkey")
        referenced = names(constraint.get("pk_attrs"))
        target = f"{other.sql} ({columns_sql(referenced)})" if referenced else other.sql
        actions = _actions(constraint)
        steps = [
            f"ALTER TABLE {table.sql} ADD CONSTRAINT {constraint_name} FOREIGN KEY "
            f"({columns_sql(columns)}) REFERENCES {target}{actions} NOT VALID",
            f"ALTER TABLE {table.sql} VALIDATE CONSTRAINT {constraint_name}",
        ]
        refused = table.partitioned and ctx.pg_version < NOT_VALID_ON_PARTITIONED
        note = (
            ""
            if not refused
            else (
                f"before PostgreSQL {NOT_VALID_ON_PARTITIONED} a partitioned table refuses NOT VALID: add it "
                "to each partition first"
            )
        )
        yield ctx.finding(
            constraint,
            f"ADD FOREIGN KEY takes SHARE ROW EXCLUSIVE on {table.shown} and {other.shown}, which blocks "
            f"writes to both while all rows of {table.shown} are looked up",
            table=table,
            lock="SHARE ROW EXCLUSIVE",
            work="scan",
            figures={"referenced": f"{other.key[0]}.{other.key[1]}"},
            fixes=[
                ctx.sequence(
                    "add it unchecked, then validate in a transaction of its own", *steps, note=note
                )
            ],
        )


_ACTIONS = {"r": "RESTRICT", "c": "CASCADE", "n": "SET NULL", "d": "SET DEFAULT"}


def _actions(constraint: Node) -> str:
    text = " MATCH FULL" if constraint.get("fk_matchtype") == "f" else ""
    for field, event in (("fk_del_action", "DELETE"), ("fk_upd_action", "UPDATE")):
        if action := _ACTIONS.get(str(constraint.get(field, "a"))):
            text += f" ON {event} {action}"
    if constraint.get("deferrable"):
        text += " DEFERRABLE"
        if constraint.get("initdeferred"):
            text += " INITIALLY DEFERRED"
    return text
