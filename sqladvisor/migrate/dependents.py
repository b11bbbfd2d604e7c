"""What rests on a table or a column, as far as the schema so far tells: views, foreign keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sqladvisor.catalog.ddl_state import Key
from sqladvisor.catalog.model import ForeignKey, Relation
from sqladvisor.migrate.context import MigrationContext, Table
from sqladvisor.migrate.reads import readers
from sqladvisor.sql.quote import qualified
from sqladvisor.sql.statement import Node, Statement
from sqladvisor.sql.tree import names, unwrap


def views_on(ctx: MigrationContext, table: Table, column: str | None = None) -> list[Relation]:
    """The views and materialized views that read a table, or one of its columns."""
    return readers(ctx.state.builder.state.relations.values(), ctx.catalog, table.key, column)


def foreign_keys_to(ctx: MigrationContext, table: Table) -> Iterator[tuple[Key, ForeignKey]]:
    """The foreign keys of other tables that refer to a table, each with its own table."""
    for key, relation in ctx.state.builder.state.relations.items():
        for foreign in relation.foreign_keys:
            if (foreign.target_schema, foreign.target) == table.key and key != table.key:
                yield key, foreign


def shown(ctx: MigrationContext, key: Key) -> str:
    """A relation's name for a message: with its schema where the search path does not have it."""
    return key[1] if key[0] in ctx.state.builder.home or key[0] == "public" else ".".join(key)


def written(ctx: MigrationContext, key: Key) -> str:
    """A relation's name for a statement, likewise."""
    home = key[0] in ctx.state.builder.home or key[0] == "public"
    return qualified(None if home else key[0], key[1])


def drops_and_makes_again(ctx: MigrationContext, name: str, kinds: Iterable[str]) -> bool:
    """Whether the same migration makes an object of that name anew, after this statement."""
    wanted = frozenset(kinds)
    return any(s.kind in wanted and made_name(s) == name for s in ctx.after)


def made_name(statement: Statement) -> str:
    """The bare name of what a CREATE statement makes, "" for other statements."""
    node: Node = statement.tree
    for field in ("relation", "view"):
        if isinstance(node.get(field), dict):
            return str(node[field].get("relname", ""))
    if "into" in node:
        return str(node["into"].get("rel", {}).get("relname", ""))
    for field in ("funcname", "typeName", "domainname"):
        if isinstance(node.get(field), list):
            return (names(node[field]) or ("",))[-1]
    if isinstance(node.get("typevar"), dict):
        return str(node["typevar"].get("relname", ""))
    return ""


def dropped_names(node: Node) -> Iterator[tuple[str | None, str]]:
    """Schema (None: not written) and name of each object that a DROP names."""
    for wrapped in node.get("objects", ()):
        kind, item = unwrap(wrapped)
        if kind == "ObjectWithArgs":
            parts = names(item.get("objname"))
        elif kind == "TypeName":
            parts = names(item.get("names"))
        elif kind == "String":
            parts = (str(item.get("sval", "")),)
        else:
            parts = names(item.get("items"))
        if parts:
            yield (parts[-2] if len(parts) > 1 else None), parts[-1]


def is_partition(ctx: MigrationContext, table: Table) -> bool:
    """Whether a table is a partition of another one."""
    if table.relation is not None and table.relation.partition:
        return True
    state = ctx.state.builder.state
    return any(
        table.key in children and parent in state.relations
        and state.relations[parent].kind == "partitioned"
        for parent, children in state.children.items()
    )  # fmt: skip


def added_here(ctx: MigrationContext, table: Table, column: str) -> bool:
    """Whether an earlier statement of the same migration added the column."""
    for before in ctx.before:
        if before.statement.kind != "AlterTableStmt" or before.table().key != table.key:
            continue
        for wrapped in before.statement.tree.get("cmds", ()):
            command = unwrap(wrapped)[1]
            added = unwrap(command.get("def", {}))[1]
            if command.get("subtype") == "AT_AddColumn" and added.get("colname") == column:
                return True
    return False
