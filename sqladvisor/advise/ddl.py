"""The DDL of advised indexes, as it can be run on a busy server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from sqladvisor.advise.candidates import table_of
from sqladvisor.advise.offers import Offered
from sqladvisor.catalog.model import Catalog, Relation
from sqladvisor.server.whatif import HypotheticalIndex
from sqladvisor.sql.quote import identifier

LONGEST = 63
"""Bytes of a name (NAMEDATALEN - 1)."""


def create_sql(offered: Offered, catalog: Catalog) -> str:
    """``index_sql`` of an offered index that does not exist yet."""
    assert offered.index is not None
    return index_sql(offered.index, offered.relation, catalog)


def index_sql(index: HypotheticalIndex, relation: Relation, catalog: Catalog) -> str:
    """DDL that makes an index without blocking writes; several statements for a partitioned table.

    CREATE INDEX CONCURRENTLY is refused on a partitioned table (manual, 5.12.2.2): an index on it
    alone first, then one on each partition, which is attached. So at every level: the index of a
    partition that is partitioned itself is attached when its own partitions' are, as it is invalid
    until then and would make the one above invalid.
    """
    if relation.kind != "partitioned":
        return index.ddl(concurrently=True) + ";"
    return "\n".join(_levels(index, relation, catalog))


def _levels(index: HypotheticalIndex, relation: Relation, catalog: Catalog) -> Iterator[str]:
    """The statements for a partitioned table: its own index, and its partitions' attached to it."""
    name = _name(relation.name, index.keys)
    yield replace(index, table=f"ONLY {table_of(relation)}").ddl(identifier(name)) + ";"
    for child in [catalog.relations[key] for key in relation.children if key in catalog.relations]:
        own = _name(child.name, index.keys)
        if child.kind == "partitioned":
            yield from _levels(index, child, catalog)
        else:
            made = replace(index, table=table_of(child)).ddl(identifier(own), concurrently=True)
            yield f"{made};"
        yield (
            f"ALTER INDEX {_schema(relation)}{identifier(name)} "
            f"ATTACH PARTITION {_schema(child)}{identifier(own)};"
        )


def _schema(relation: Relation) -> str:
    return "" if relation.schema == "public" else f"{identifier(relation.schema)}."


def _name(table: str, keys: tuple[str, ...]) -> str:
    """A name as PostgreSQL would choose it: the table, the keys, ``idx``."""
    words = [re.sub(r"[^A-Za-z0-9_]+", "_", k).strip("_") for k in keys]
    name = "_".join([table, *words, "advised_idx"])
    while len(name.encode()) > LONGEST:
        table, words = (table[:-1], words) if len(table) > 20 else (table, [w[:-1] for w in words])
        name = "_".join([table, *words, "advised_idx"])
    return name
