"""A column's type is changed in a way that rewrites the table, or its indexes, under lock.

Why: ALTER COLUMN … TYPE takes ACCESS EXCLUSIVE. Unless the new type stores every old value in the same
    bytes, the table and all its indexes are written anew; with another collation the indexes on the
    column are built anew.
Fix: a second column of the new type, kept by a trigger, filled in batches, then swapped in one short
    transaction.
Silent when: the same set created the table; the change stores the same bytes: varchar to a longer one
    or to text, numeric to more digits at the same scale, a time's precision raised, cidr to inet, a
    domain to its base type and back where it has no constraint, the same type again; timestamp to
    timestamptz or back where the session's TimeZone was set to UTC (12 and later).
Source: PostgreSQL manual, ALTER TABLE, Notes; ATColumnChangeRequiresRewrite() in tablecmds.c;
    varchar_support(), numeric_support(); release notes 9.2 and 12; squawk changing-column-type.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.catalog.model import Column
from sqladvisor.finding import Finding, Fix
from sqladvisor.migrate.context import MigrationContext, Table, blocks
from sqladvisor.migrate.steps import batches, named, type_sql
from sqladvisor.rule import rule
from sqladvisor.sql.datatypes import type_name
from sqladvisor.sql.quote import identifier
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import column_name, names, unwrap

SCHEMA = """CREATE DOMAIN label AS text;
CREATE TABLE users (id int PRIMARY KEY, email varchar(40), name text, price numeric(10,2),
    at timestamptz, seen timestamp(3), net cidr, tag label, code char(4), tags varchar(10)[]);
CREATE INDEX users_name_idx ON users (name);
CREATE VIEW v AS SELECT id FROM users;
"""
BAD = [
    "ALTER TABLE users ALTER COLUMN id TYPE bigint;",
    "ALTER TABLE users ALTER COLUMN email TYPE varchar(20);",
    "ALTER TABLE users ALTER name TYPE varchar(100);",
    "ALTER TABLE users ALTER COLUMN price TYPE numeric(10,3);",
    "ALTER TABLE users ALTER COLUMN price TYPE numeric(8,2);",
    "ALTER TABLE users ALTER COLUMN at TYPE timestamp;",
    "-- pg_version: 11\nSET timezone = 'UTC'; ALTER TABLE users ALTER COLUMN at TYPE timestamp;",
    "ALTER TABLE users ALTER COLUMN code TYPE text;",
    "ALTER TABLE users ALTER COLUMN tags TYPE text[];",
    "ALTER TABLE users ALTER COLUMN name TYPE text USING upper(name);",
    'ALTER TABLE users ALTER COLUMN name TYPE text COLLATE "C";',
    "ALTER TABLE users ALTER COLUMN email TYPE text, ALTER COLUMN id TYPE bigint;",
    "ALTER TABLE unknown ALTER COLUMN id TYPE bigint;",
    "ALTER TABLE users ALTER COLUMN seen TYPE timestamp(0);",
]
GOOD = [
    "ALTER TABLE users ALTER COLUMN email TYPE varchar(80);",
    "ALTER TABLE users ALTER COLUMN email TYPE varchar;",
    "ALTER TABLE users ALTER COLUMN email TYPE text USING email::text;",
    "ALTER TABLE users ALTER COLUMN name TYPE varchar;",
    "ALTER TABLE users ALTER COLUMN price TYPE numeric(12,2);",
    "ALTER TABLE users ALTER COLUMN price TYPE numeric;",
    "SET timezone = 'UTC';\nALTER TABLE users ALTER COLUMN at TYPE timestamp;",
    "SET TIME ZONE 'UTC';\nALTER TABLE users ALTER COLUMN at TYPE timestamp;",
    "ALTER TABLE users ALTER COLUMN seen TYPE timestamp(6);",
    "ALTER TABLE users ALTER COLUMN seen TYPE timestamp;",
    "ALTER TABLE users ALTER COLUMN net TYPE inet;",
    "ALTER TABLE users ALTER COLUMN tag TYPE text;",
    "ALTER TABLE users ALTER COLUMN name TYPE label;",
    "ALTER TABLE users ALTER COLUMN id TYPE integer;",
    "ALTER TABLE users ALTER COLUMN price TYPE decimal(10,2);",
    "CREATE TABLE t (a int); ALTER TABLE t ALTER COLUMN a TYPE bigint;",
    {
        "1.sql": "ALTER TABLE users ADD COLUMN nick varchar(10);",
        "2.sql": "ALTER TABLE users ALTER COLUMN nick TYPE varchar(20);",
    },
    'ALTER TABLE users ALTER COLUMN email TYPE varchar(40) COLLATE "C";',
]
UTC_SPARES_REWRITE = 12
_TEXTS = frozenset(("text", "character varying"))
_TIMES = frozenset(("timestamp without time zone", "timestamp with time zone"))
_PRECISE = _TIMES | {"time without time zone", "time with time zone"}
_SAME_BYTES = frozenset(
    (("cidr", "inet"), ("xml", "text"), ("xml", "character varying"), ("citext", "text"),
     ("text", "citext"), ("character varying", "citext"), ("citext", "character varying"),
     ("oid", "integer"), ("integer", "oid"), ("regclass", "oid"), ("oid", "regclass"))
)  # fmt: skip


@rule("AT_AlterColumnType", severity="error")
def check(command: Node, ctx: MigrationContext) -> Iterator[Finding]:
    table, name = ctx.table(), str(command.get("name", ""))
    definition = unwrap(command.get("def", {}))[1]
    if not table.settled:
        return
    column = table.column(name)
    type_ = definition.get("typeName", {})
    if column is None:
        what, work = (
            "and rewrites the table, unless both types store the same bytes (its old type is not known here)",
            "rewrite",
        )
    elif not _same_bytes(column, definition, table, ctx):
        what, work = "while the table and its indexes are rewritten", "rewrite"
    elif rebuilt := _rebuilt(column, definition, table, ctx):
        what, work = f"while {rebuilt} is built anew for the other collation", "build"
    else:
        return
    notes = []
    if (
        column
        and {column.type, type_name(type_)} == _TIMES
        and ctx.pg_version >= UTC_SPARES_REWRITE
    ):
        notes.append(
            "with SET timezone = 'UTC' before it, if that is what the values mean, nothing is rewritten"
        )
    yield ctx.finding(
        type_,
        f"changing the type of {table.shown}.{name}"
        f"{f' from {_shown(column, table, ctx)}' if column else ''} to {type_sql(type_)} "
        f"{blocks('ACCESS EXCLUSIVE')} {what}",
        table=table,
        lock="ACCESS EXCLUSIVE",
        work="rewrite" if work == "rewrite" else "build",
        severity=None if column else "warning",
        fixes=[_swap(table, name, definition, ctx)],
        notes=notes,
    )


def _same_bytes(column: Column, definition: Node, table: Table, ctx: MigrationContext) -> bool:
    """Whether no row has to be written anew."""
    type_ = definition.get("typeName", {})
    if not _plain_using(definition.get("raw_default"), column.name, type_):
        return False
    old = column.base_type or column.type
    written = type_name(type_)
    new = ctx.state.builder.state.domains.get(written, written)
    if written in ctx.state.builder.state.domains and written in ctx.state.constrained_domains:
        return False  # every row is checked, and written
    before = ctx.modifiers(table, column.name) if column.base_type is None else ()
    after = ctx.state.written_modifiers(type_)
    if old == new or (old in _TEXTS and new in _TEXTS):
        if before == after or not after:
            return True
        if before is None or old == "text":
            return False
        return _loosened(old, before, after)
    if {old, new} == _TIMES:
        zone = ctx.settings.get("timezone", "").strip("'").lower()
        utc = zone in ("utc", "gmt", "etc/utc", "zulu", "0", "etc/gmt", "universal")
        finer = not after or (before is not None and before != () and after[0] >= before[0])
        return utc and finer and ctx.pg_version >= UTC_SPARES_REWRITE
    return (old, new) in _SAME_BYTES and not after


def _loosened(type_: str, before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    if not before:
        # The finest precision is what a time has without one.
        return type_ in _PRECISE and after[0] >= 6
    if type_ == "numeric":
        scale = (before[1] if len(before) > 1 else 0, after[1] if len(after) > 1 else 0)
        return after[0] >= before[0] and scale[0] == scale[1]
    if type_ in ("character varying", "bit varying") or type_ in _PRECISE:
        return after[0] >= before[0]
    return False


def _plain_using(raw: Node | None, name: str, type_: Node) -> bool:
    """Whether a USING does nothing that the change of type does not do by itself."""
    if not raw:
        return True
    kind, node = unwrap(raw)
    if kind == "TypeCast" and node.get("typeName", {}).get("names") == type_.get("names"):
        kind, node = unwrap(node.get("arg", {}))
    return kind == "ColumnRef" and column_name(node)[1] == name


def _rebuilt(column: Column, definition: Node, table: Table, ctx: MigrationContext) -> str:
    """The indexes that a change of collation builds anew."""
    collation = (names(definition.get("collClause", {}).get("collname")) or (None,))[-1]
    if collation == column.collation or table.relation is None:
        return ""
    on_it = [i.name for i in table.relation.indexes if column.name in i.keys]
    return ", ".join(on_it)


def _shown(column: Column, table: Table, ctx: MigrationContext) -> str:
    numbers = ctx.modifiers(table, column.name)
    return column.type + (f"({','.join(map(str, numbers))})" if numbers else "")


def _swap(table: Table, name: str, definition: Node, ctx: MigrationContext) -> Fix:
    type_ = type_sql(definition.get("typeName", {}))
    old, new = identifier(name), identifier(f"{name}_new")
    sync = named(table.key[1], name, "sync")
    return ctx.sequence(
        "fill a second column outside a transaction, then swap them in a short one",
        f"ALTER TABLE {table.sql} ADD COLUMN {new} {type_}",
        f"CREATE FUNCTION {sync}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"NEW.{new} := NEW.{old}::{type_}; RETURN NEW; END $$",
        f"CREATE TRIGGER {sync} BEFORE INSERT OR UPDATE ON {table.sql} "
        f"FOR EACH ROW EXECUTE FUNCTION {sync}()",
        batches(table, f"{new} = {old}::{type_}", f"{new} IS NULL"),
        "-- indexes and constraints of the old column: build them on the new one, CONCURRENTLY",
        "BEGIN",
        f"DROP TRIGGER {sync} ON {table.sql}",
        f"ALTER TABLE {table.sql} DROP COLUMN {old}",
        f"ALTER TABLE {table.sql} RENAME COLUMN {new} TO {old}",
        "COMMIT",
    )
