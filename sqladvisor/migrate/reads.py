"""Which views and materialized views read a table, or one of its columns."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from sqladvisor.catalog.ddl_state import Key
from sqladvisor.catalog.model import Catalog, Relation
from sqladvisor.sql import libpg
from sqladvisor.sql.tree import Tree, column_name


def readers(
    relations: Iterable[Relation], catalog: Catalog, key: Key, column: str | None = None
) -> list[Relation]:
    """Those of the relations whose query reads the table (None: any column of it)."""
    found = []
    for relation in relations:
        tree = _query(relation.definition) if relation.definition else None
        if tree is not None and _reads(tree, catalog, key, column):
            found.append(relation)
    return found


@lru_cache(maxsize=1024)
def _query(definition: str) -> Tree | None:
    try:
        parsed = libpg.parse(definition)
    except libpg.ParseProblem:
        return None
    return Tree(parsed[0].kind, parsed[0].node) if parsed else None


def _reads(tree: Tree, catalog: Catalog, key: Key, column: str | None) -> bool:
    from sqladvisor.sql.resolve import Resolver  # only where there are views

    resolver = Resolver(tree, catalog)
    for query in tree.of("SelectStmt"):
        for item in resolver.scope(query).items:
            own = item.relation
            if own is None or (own.schema, own.name) != key:
                continue
            if column is None:
                return True
            if any(o.item is item and o.column == column for o in resolver.outputs(query) or ()):
                return True
    if column is None:
        return False
    for node in tree.of("ColumnRef"):
        if column_name(node)[1] != column:
            continue
        binding = resolver.resolve(node)
        own = binding.item.relation if binding and binding.sure else None
        if own is not None and (own.schema, own.name) == key:
            return True
    return False
