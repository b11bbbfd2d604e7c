"""What several rules ask of a CREATE INDEX: the index it would make, and what becomes of others."""

from __future__ import annotations

from sqladvisor.catalog.ddl import CatalogBuilder
from sqladvisor.catalog.ddl_text import DdlText
from sqladvisor.catalog.model import Index
from sqladvisor.migrate.context import MigrationContext
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import names, unwrap


def index_of(node: Node, ctx: MigrationContext) -> Index | None:
    """The index that a CREATE INDEX statement makes on a known table; None where it makes none."""
    if ctx.made is not None and ctx.made[0] is node:
        return ctx.made[1]
    ctx.made = node, _index_of(node, ctx)
    return ctx.made[1]


def _index_of(node: Node, ctx: MigrationContext) -> Index | None:
    key = ctx.state.builder.find(node.get("relation", {}))
    if key is None:
        return None
    name = str(node.get("idxname", ""))
    if name and (key[0], name) in ctx.state.builder.state.indexes:
        return None  # refused, or passed over with IF NOT EXISTS
    return CatalogBuilder.index_from(node, DdlText(ctx.statement.sql))


def dropped_later(name: str, ctx: MigrationContext) -> bool:
    """Whether the same migration drops an index after this statement."""
    return any(
        s.tree.get("removeType") == "OBJECT_INDEX"
        and any((names(unwrap(o)[1].get("items")) or ("",))[-1] == name for o in s.tree["objects"])
        for s in ctx.after
        if s.kind == "DropStmt"
    )
