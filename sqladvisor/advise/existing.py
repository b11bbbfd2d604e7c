"""Existing indexes compared: what each can serve, and whether another one can in its place."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqladvisor.catalog.model import ForeignKey, Index, Relation
from sqladvisor.sql import libpg
from sqladvisor.sql.expressions import shape
from sqladvisor.sql.quote import identifier
from sqladvisor.sql.tree import unwrap

_STORAGE = re.compile(r" WITH \([^)]*\)")


@dataclass(frozen=True, slots=True)
class Definition:
    """What an index is, beside its name, its storage and whether it is unique."""

    method: str
    keys: tuple[Any, ...]
    """Each key column or expression with its collation, operator class, direction and NULLs."""
    include: frozenset[str]
    predicate: Any
    nulls_not_distinct: bool


def definition(index: Index) -> Definition | None:
    """An index's definition in comparable form; None where there is no text of it."""
    if not index.definition:
        return None
    try:
        tree = libpg.parse(index.definition)[0].node
    except libpg.ParseProblem:
        return None
    return Definition(
        str(tree.get("accessMethod", "btree")),
        tuple(shape(unwrap(p)[1]) for p in tree.get("indexParams", ())),
        frozenset(str(unwrap(p)[1]["name"]) for p in tree.get("indexIncludingParams", ())),
        shape(tree["whereClause"]) if "whereClause" in tree else None,
        bool(tree.get("nulls_not_distinct")),
    )


def shown(index: Index) -> str:
    """The key list of an index as DDL has it: ``(user_id, created_at DESC) WHERE (…)``."""
    text = index.definition.partition(f" USING {index.method} ")[2]
    return _STORAGE.sub("", text) or f"({', '.join(k or '…' for k in index.keys)})"


def drop(relation: Relation, index: Index) -> str:
    """DDL that drops an index, without blocking anybody where that is possible."""
    # DROP INDEX CONCURRENTLY is refused on the index of a partitioned table.
    concurrently = "" if relation.kind == "partitioned" else " CONCURRENTLY"
    schema = "" if relation.schema == "public" else f"{identifier(relation.schema)}."
    return f"DROP INDEX{concurrently} {schema}{identifier(index.name)};"


def named(relation: Relation) -> str:
    """A table as people call it: ``public`` is left out."""
    return relation.name if relation.schema == "public" else f"{relation.schema}.{relation.name}"


def has_keys(relation: Relation, keys: Sequence[str]) -> Index | None:
    """A valid, whole b-tree of the table that begins with these keys (as DDL has them, in order)."""
    for index in relation.indexes:
        if index.method == "btree" and index.valid and not index.predicate:
            names = [identifier(k) if k else None for k in index.keys]
            if names[: len(keys)] == list(keys):
                return index
    return None


def serves_key(index: Index, columns: tuple[str, ...]) -> bool:
    """Whether an index finds the rows that refer to a key: it begins with one of the columns.

    One is enough to be silent on: each look-up then reads the rows of that value. A partial index
    serves where it leaves out nothing but NULLs.
    """
    if not index.valid or index.method not in ("btree", "hash", "gist"):
        return False
    if index.predicate is not None:
        nulls = {f"{c} IS NOT NULL" for c in columns}
        if index.predicate.replace('"', "").strip("()") not in nulls:
            return False
    return bool(index.keys) and index.keys[0] in columns


def last_for_key(relation: Relation, index: Index) -> ForeignKey | None:
    """The foreign key that would be left without an index if this one were dropped."""
    for key in relation.foreign_keys:
        if serves_key(index, key.columns) and not any(
            serves_key(other, key.columns) for other in relation.indexes if other is not index
        ):
            return key
    return None
