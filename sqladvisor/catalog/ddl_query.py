"""The columns of a relation that a query defines: views and CREATE TABLE AS."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from sqladvisor.catalog.model import Catalog, Column
from sqladvisor.sql.datatypes import STRINGS, UNKNOWN, type_of
from sqladvisor.sql.resolve import Binding, Output, Resolver, columns_in
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import Tree, names, unwrap, walk


def query_columns(
    query: Node, given: tuple[str, ...], catalog: Catalog
) -> tuple[Column, ...] | None:
    """The output columns of a SELECT, the first of them renamed to ``given``.

    None when a ``*`` stands for a relation that ``catalog`` does not know. A type that cannot be
    told without a server is "".
    """
    resolver = Resolver(Tree("SelectStmt", query), catalog)
    arms = [resolver.outputs(arm) for arm in _arms(query)]
    first = arms[0]
    if first is None:
        return None
    labels = (*given, *(o.name for o in first[len(given) :]))
    columns = [
        [_column(label, output, resolver) for label, output in zip(labels, arm or (), strict=False)]
        for arm in arms
    ]
    if any(len(arm) != len(labels) for arm in columns):
        return tuple(Column(label, "") for label in labels)
    return tuple(_common(each) for each in zip(*columns, strict=True))


def _arms(query: Node) -> Iterator[Node]:
    """The SELECTs of a set operation, in their order."""
    stack = [query]
    while stack:
        arm = stack.pop()
        if "larg" in arm:
            stack += (arm["rarg"], arm["larg"])
        else:
            yield arm


def _common(columns: Sequence[Column]) -> Column:
    """The column that those of a set operation's parts make, where all have the same type."""
    first = columns[0]
    if any((c.type, c.base_type) != (first.type, first.base_type) for c in columns):
        return Column(first.name, "")
    collations = {c.collation for c in columns} - {None}
    return replace(first, collation=collations.pop() if len(collations) == 1 else None)


def _column(label: str, output: Output, resolver: Resolver) -> Column:
    binding = Binding(output.item, output.column, 0, True) if output.item else None
    kind, node = unwrap(output.value or {})
    if kind == "ColumnRef":
        binding = resolver.resolve(node)
    if binding is not None:
        origin = resolver.origin(binding)
        known = origin.definition if origin else None
        if known is None:
            return Column(label, "")
        return Column(label, known.type, collation=known.collation, base_type=known.base_type)
    found = type_of(output.value, resolver) if output.value else None
    type_ = "text" if found == UNKNOWN else found or ""
    return Column(label, type_, collation=_collation(kind, node, type_, resolver))


def _collation(kind: str, node: Node, type_: str, resolver: Resolver) -> str | None:
    """The collation an expression of a text type derives from its parts (manual 23.2.1)."""
    if type_ not in STRINGS:
        return None
    for below_kind, below in walk(kind, node):
        if below_kind == "CollateClause":
            return names(below.get("collname"))[-1]
    found = set()
    for column in columns_in(kind, node):
        binding = resolver.resolve(column)
        origin = resolver.origin(binding) if binding else None
        if origin and origin.definition and origin.definition.collation:
            found.add(origin.definition.collation)
    return found.pop() if len(found) == 1 else None
