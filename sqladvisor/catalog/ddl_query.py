"""The columns of a relation that a query defines: views and CREATE TABLE AS."""

from __future__ import annotations

from sqladvisor.catalog.model import Catalog, Column
from sqladvisor.sql.datatypes import type_of
from sqladvisor.sql.resolve import Resolver
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import Tree, names, unwrap


def query_columns(
    query: Node, given: tuple[str, ...], catalog: Catalog
) -> tuple[Column, ...] | None:
    """The output columns of a SELECT, the first of them renamed to ``given``.

    None when a ``*`` stands for a relation that ``catalog`` does not know. A type that cannot be
    told without a server is "".
    """
    resolver = Resolver(Tree("SelectStmt", query), catalog)
    found = resolver.output_columns(query)
    if found is None:
        return None
    types = _types(query, resolver)
    if len(types) != len(found):  # USING merges columns of a "*": then the pairing is lost
        types = [None] * len(found)
    labels = (*given, *found[len(given) :])
    return tuple(Column(n, t or "") for n, t in zip(labels, types, strict=False))


def _types(query: Node, resolver: Resolver) -> list[str | None]:
    if "larg" in query:
        return []
    types: list[str | None] = []
    for target in query.get("targetList", ()):
        wrapped = target.get("ResTarget", {}).get("val", {})
        kind, node = unwrap(wrapped)
        fields = names(node.get("fields")) if kind == "ColumnRef" else ()
        if fields[-1:] != ("*",):
            found = type_of(wrapped, resolver)
            types.append("text" if found == "unknown" else found)
            continue
        for item in resolver.scope(query).items:
            if len(fields) == 1 or item.alias == fields[-2]:
                relation = item.relation
                types += (
                    [c.type for c in relation.columns]
                    if relation
                    else [None] * len(item.columns or ())
                )
    return types
