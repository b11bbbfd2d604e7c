"""SQL that several rules offer as parts of a safe sequence: batches, types as text, names that fit."""

from __future__ import annotations

import hashlib

from sqladvisor.catalog.ddl_text import DdlText
from sqladvisor.migrate.context import MigrationContext, Table
from sqladvisor.sql.datatypes import modifiers, type_name
from sqladvisor.sql.quote import identifier, literal, qualified
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import names, unwrap

BATCH_ROWS = 10_000
"""Rows updated per transaction: some hundred milliseconds of row locks at usual row widths."""
BATCH_PAGES = 200
"""Pages of 8 kB per transaction where there is no integer key to go by: about as many rows."""
NAME_BYTES = 63
_INTEGERS = ("smallint", "integer", "bigint")


def named(*parts: str) -> str:
    """A quoted name made of parts, cut to 63 bytes and told apart by a digest where it was cut."""
    name = "_".join(parts)
    if len(name.encode()) > NAME_BYTES:
        tail = hashlib.sha256(name.encode()).hexdigest()[:8]
        head = name.encode()[: NAME_BYTES - 9].decode("utf-8", "ignore")
        name = f"{head}_{tail}"
    return identifier(name)


def type_sql(node: Node) -> str:
    """A TypeName as SQL."""
    parts = names(node.get("names"))
    if len(parts) > 1 and parts[-2] != "pg_catalog":
        base, array = qualified(parts[-2], parts[-1]), "[]" * bool(node.get("arrayBounds"))
        return base + array
    shown = type_name(node)
    array = "[]" if shown.endswith("[]") else ""
    base = shown.removesuffix("[]")
    if parts and len(parts) == 1 and base == parts[0]:
        base = identifier(base)
    return sized(base + array, modifiers(node))


def sized(type_: str, numbers: tuple[int, ...]) -> str:
    """A type as format_type() has it, with its modifiers: ``timestamp(3) with time zone``."""
    if not numbers or type_.startswith("interval"):
        return type_
    array = "[]" if type_.endswith("[]") else ""
    head, space, tail = type_.removesuffix("[]").partition(" with")
    return f"{head}({','.join(map(str, numbers))}){space}{tail}{array}"


def default_text(ctx: MigrationContext, column: Node) -> str:
    """The DEFAULT expression of a ColumnDef, as written; "" for none."""
    constraints = [unwrap(c)[1] for c in column.get("constraints", ())]
    for i, constraint in enumerate(constraints):
        if constraint.get("contype") == "CONSTR_DEFAULT":
            following = (c.get("location", -1) for c in constraints[i + 1 :])
            stop = next((at for at in following if at >= 0), None)
            return DdlText(ctx.statement.sql).default(constraint.get("location", 0), stop)
    return ""


NOT_VALID_NOT_NULL = 18
"""PostgreSQL's major version that brought NOT NULL … NOT VALID."""
VALID_CHECK_SPARES_SCAN = 12
"""The version from which SET NOT NULL trusts a validated CHECK."""


def not_null_steps(table: Table, column: str, pg_version: int) -> list[str]:
    """Statements that make a column NOT NULL without a scan under ACCESS EXCLUSIVE."""
    quoted, name = identifier(column), named(table.key[1], column, "not_null")
    alter = f"ALTER TABLE {table.sql}"
    if pg_version >= NOT_VALID_NOT_NULL:
        return [
            f"{alter} ADD CONSTRAINT {name} NOT NULL {quoted} NOT VALID",
            f"{alter} VALIDATE CONSTRAINT {name}",
        ]
    steps = [
        f"{alter} ADD CONSTRAINT {name} CHECK ({quoted} IS NOT NULL) NOT VALID",
        f"{alter} VALIDATE CONSTRAINT {name}",
    ]
    if pg_version >= VALID_CHECK_SPARES_SCAN:
        steps += [
            f"{alter} ALTER COLUMN {quoted} SET NOT NULL",
            f"{alter} DROP CONSTRAINT {name}",
        ]
    return steps


def keyed(table: Table) -> str:
    """The table's primary key if it is one integer column, quoted; "" otherwise."""
    key = table.relation.primary_key if table.relation else ()
    column = table.column(key[0]) if len(key) == 1 else None
    return identifier(column.name) if column is not None and column.type in _INTEGERS else ""


def batches(table: Table, assignments: str, condition: str = "", *, delete: bool = False) -> str:
    """An UPDATE (or DELETE) of a whole table as a DO block that commits after each batch.

    Goes by the table's integer primary key where it is known to have one, else by its pages (a TID
    range scan, since PostgreSQL 14). Runs outside a transaction only.
    """
    also = f" AND ({condition})" if condition else ""
    verb = f"DELETE FROM {table.sql}" if delete else f"UPDATE {table.sql} SET {assignments}"
    if name := keyed(table):
        return f"""DO $$
DECLARE
  first bigint;
  final bigint;
BEGIN
  SELECT min({name}), max({name}) INTO first, final FROM {table.sql};
  WHILE first <= final LOOP
    {verb}
      WHERE {name} >= first AND {name} < first + {BATCH_ROWS}{also};
    COMMIT;
    first := first + {BATCH_ROWS};
  END LOOP;
END $$;"""
    return f"""DO $$
DECLARE
  page bigint := 0;
  pages bigint := pg_relation_size({literal(table.sql)}) / current_setting('block_size')::bigint;
BEGIN
  WHILE page <= pages LOOP
    {verb}
      WHERE ctid >= format('(%s,0)', page)::tid
        AND ctid < format('(%s,0)', page + {BATCH_PAGES})::tid{also};
    COMMIT;
    page := page + {BATCH_PAGES};
  END LOOP;
END $$;"""
