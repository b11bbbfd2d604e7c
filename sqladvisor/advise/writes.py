"""What an index costs the table's writes, in planner cost units, so that it can be weighed.

The planner prices reading only. A new entry in a b-tree is priced by the planner's own rates: a
descent compares log2(rows) keys (btcostestimate() in utils/adt/selfuncs.c charges the same:
cpu_operator_cost each), the leaf is one page read at random and dirtied, less where new keys go to
the end of the index. An UPDATE that touched no indexed column could stay heap-only (HOT,
access/heap/README.HOT); an index on one of its columns ends that, and then every index of the
table gets an entry: that loss is paid once, by whichever index causes it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from sqladvisor.advise.offers import Offered
from sqladvisor.advise.pricing import set_of
from sqladvisor.advise.program import Shared
from sqladvisor.catalog.model import Relation
from sqladvisor.context import Context
from sqladvisor.sql import libpg
from sqladvisor.sql.tree import column_name, unwrap, walk

OPERATOR, INDEX_TUPLE, RANDOM_PAGE, SEQ_PAGE = 0.0025, 0.005, 4.0, 1.0
"""PostgreSQL's default cpu_operator_cost, cpu_index_tuple_cost, random_page_cost, seq_page_cost."""
CACHED = 0.9
"""Share of leaf pages found in memory: what random_page_cost 4 stands for (manual, 19.7.2)."""
APPENDED = 0.9
"""Correlation above which new keys go to the end of an index."""
ENTRIES = 200.0
"""Entries of a leaf page, about: keys of 8 to 20 bytes on 8192 bytes, 90 % full."""


@dataclass(slots=True)
class TableWrites:
    """Rows written to a table while the workload runs once."""

    inserted: float = 0.0
    updated: float = 0.0
    """Updates that get an entry in each index whatever is added."""
    hot: float = 0.0
    """Heap-only updates of unknown columns (counters do not say which)."""
    touched: dict[frozenset[str], float] = field(default_factory=dict)
    """Updates by the columns they set."""
    source: str = ""

    @property
    def any(self) -> bool:
        return bool(self.inserted or self.updated or self.hot or self.touched)


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What the offered indexes cost the workload's writes."""

    own: dict[int, float]
    shared: list[Shared]


def from_counters(relation: Relation, scale: float) -> TableWrites:
    """A table's writes by its counters; ``scale`` turns them into those of the workload."""
    writes = relation.writes
    if writes is None:
        return TableWrites()
    cold = max(writes.updated - writes.hot_updated, 0)
    return TableWrites(
        writes.inserted * scale, cold * scale, writes.hot_updated * scale, source="counters"
    )


def from_statements(
    statements: Iterable[tuple[Context, float, float]],
) -> dict[tuple[str, str], TableWrites]:
    """Writes by table of (statement, calls, rows per call) that write."""
    result: dict[tuple[str, str], TableWrites] = {}
    for context, calls, rows in statements:
        for kind in ("InsertStmt", "UpdateStmt"):
            for node in context.tree.of(kind):
                target = node.get("relation", {})
                relation = context.catalog.find(
                    str(target.get("relname")), target.get("schemaname")
                )
                if relation is None:
                    continue
                writes = result.setdefault((relation.schema, relation.name), TableWrites())
                writes.source = "statements"
                if kind == "InsertStmt":
                    writes.inserted += calls * rows
                else:
                    columns = frozenset(
                        str(unwrap(t)[1].get("name")) for t in node.get("targetList", ())
                    )
                    writes.touched[columns] = writes.touched.get(columns, 0.0) + calls * rows
    return result


def entry_cost(relation: Relation, first_key: str | None) -> float:
    """Planner cost units of one new b-tree entry."""
    rows = max(relation.rows or 1.0, 2.0)
    column = relation.column(first_key) if first_key else None
    appended = (
        column is not None
        and column.stats is not None
        and (column.stats.correlation or 0.0) >= APPENDED
    )
    pages = 1 / ENTRIES if appended else 1.0
    read = RANDOM_PAGE * (1 - CACHED) * pages
    return INDEX_TUPLE + OPERATOR * math.ceil(math.log2(rows)) + read + SEQ_PAGE * pages


def upkeep(offered: Sequence[Offered], writes: dict[tuple[str, str], TableWrites]) -> Upkeep:
    """What each offered index costs, and what the end of heap-only updates costs once."""
    own: dict[int, float] = {}
    shared: list[Shared] = []
    by_table: dict[tuple[str, str], list[Offered]] = {}
    for item in offered:
        by_table.setdefault((item.relation.schema, item.relation.name), []).append(item)
    for key, items in sorted(by_table.items()):
        table = writes.get(key)
        if table is None or not table.any:
            continue
        relation = items[0].relation
        columns = {item.number: indexed_columns(item) for item in items}
        offered_names = {o.existing.name for o in items if o.existing}
        fixed = [i for i in relation.indexes if i.name not in offered_names]
        blocked = {c for i in fixed for c in (*i.keys, *i.include) if c}
        standing = sum(
            entry_cost(relation, i.keys[0] if i.keys else None) for i in relation.indexes
        )
        for item in items:
            price = entry_cost(relation, _first(item))
            rows = table.inserted + table.updated
            for touched, count in table.touched.items():
                if touched & (blocked | columns[item.number]):
                    rows += count
            own[item.number] = rows * price
        for touched, count in sorted(table.touched.items(), key=lambda t: sorted(t[0])):
            if touched & blocked:
                continue
            causing = set_of(n for n, cs in columns.items() if cs & touched)
            if causing:
                shared.append(Shared(causing, count * standing))
    return Upkeep(own, shared)


def combined(counted: TableWrites, told: TableWrites | None) -> TableWrites:
    """The counters' numbers with the statements' knowledge of which columns are updated."""
    if told is None or not counted.any:
        return told or counted
    updates = sum(told.touched.values())
    if not updates:
        return counted
    every = counted.updated + counted.hot
    touched = {columns: every * n / updates for columns, n in told.touched.items()}
    return TableWrites(counted.inserted, 0.0, 0.0, touched, counted.source)


def indexed_columns(item: Offered) -> frozenset[str]:
    """The columns whose change ends a heap-only update: keys, carried, in expressions, predicate."""
    if item.existing is not None:
        return _columns(item.existing.definition)
    assert item.index is not None
    return _columns(item.index.ddl())


@lru_cache(maxsize=4096)
def _columns(definition: str) -> frozenset[str]:
    try:
        kind, tree = libpg.parse(definition)[0].kind, libpg.parse(definition)[0].node
    except libpg.ParseProblem:
        return frozenset()
    found = set()
    for below, node in walk(kind, tree):
        if below == "ColumnRef":
            found.add(column_name(node)[1])
        elif below == "IndexElem" and node.get("name"):
            found.add(str(node["name"]))
    return frozenset(found)


def _first(item: Offered) -> str | None:
    """The column of the first key, None for an expression."""
    if item.existing is not None:
        return item.existing.keys[0] if item.existing.keys else None
    assert item.index is not None
    key = item.index.keys[0]
    if key.startswith("("):
        return None
    bare = key[1 : key.index('"', 1)] if key.startswith('"') else key.split(" ", 1)[0]
    return bare if item.relation.column(bare) else None
