"""The DDL of advised indexes, as it can be run on a busy server."""

from __future__ import annotations

import re
from dataclasses import replace

from sqladvisor.advise.candidates import table_of
from sqladvisor.advise.offers import Offered
from sqladvisor.catalog.model import Catalog
from sqladvisor.sql.quote import identifier

LONGEST = 63
"""Bytes of a name (NAMEDATALEN - 1)."""


def create_sql(offered: Offered, catalog: Catalog) -> str:
    """DDL that makes an index without blocking writes; several statements for a partitioned table.

    CREATE INDEX CONCURRENTLY is refused on a partitioned table (manual, 5.12.2.2): an index on it
    alone first, then one on each partition, which is attached.
    """
    index = offered.index
    assert index is not None
    relation = offered.relation
    if relation.kind != "partitioned":
        return index.ddl(concurrently=True) + ";"
    leaves = [catalog.relations[key] for key in relation.leaves if key in catalog.relations]
    if any(_below(catalog, leaf.schema, leaf.name) > 1 for leaf in leaves):
        return index.ddl() + ";"  # partitions of partitions: attached by hand, level by level
    name = _name(relation.name, index.keys)
    lines = [replace(index, table=f"ONLY {index.table}").ddl(identifier(name)) + ";"]
    schema = "" if relation.schema == "public" else f"{identifier(relation.schema)}."
    for leaf in leaves:
        own = _name(leaf.name, index.keys)
        made = replace(index, table=table_of(leaf)).ddl(identifier(own), concurrently=True)
        place = "" if leaf.schema == "public" else f"{identifier(leaf.schema)}."
        lines.append(f"{made};")
        lines.append(
            f"ALTER INDEX {schema}{identifier(name)} ATTACH PARTITION {place}{identifier(own)};"
        )
    return "\n".join(lines)


def _below(catalog: Catalog, schema: str, name: str) -> int:
    """How many partitioned tables a partition lies below."""
    return sum((schema, name) in r.leaves for r in catalog.relations.values())


def _name(table: str, keys: tuple[str, ...]) -> str:
    """A name as PostgreSQL would choose it: the table, the keys, ``idx``."""
    words = [re.sub(r"[^A-Za-z0-9_]+", "_", k).strip("_") for k in keys]
    name = "_".join([table, *words, "advised_idx"])
    while len(name.encode()) > LONGEST:
        table, words = (table[:-1], words) if len(table) > 20 else (table, [w[:-1] for w in words])
        name = "_".join([table, *words, "advised_idx"])
    return name
