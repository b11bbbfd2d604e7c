"""What changed between two snapshots: relations, columns, indexes, sizes, and statistics that plans feel.

Counters, and statistics that moved a little as each ANALYZE moves them, are no change. Values are
never said, only how their shares moved: snapshots hold other stand-ins each time values are added.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from math import fsum
from types import MappingProxyType
from typing import Any, Literal

from sqladvisor.catalog.ddl import catalog_from_statements
from sqladvisor.catalog.model import Catalog, Relation
from sqladvisor.catalog.snapshot import Snapshot
from sqladvisor.catalog.stand_ins import array_items
from sqladvisor.catalog.statistics import ColumnStatistics, Statistics
from sqladvisor.sql.datatypes import modifiers
from sqladvisor.sql.quote import identifier, qualified
from sqladvisor.sql.source import read_source, script
from sqladvisor.sql.statement import Statement
from sqladvisor.sql.tree import unwrap

FACTOR = 2.0
"""Rows, pages and distinct values that grow or shrink by this are a change."""
MIN_ROWS = 1_000.0
"""Tables that stay below so many rows are small whatever the factor."""
SHARE = 0.1
"""Moves of a share of the rows (NULLs, the commonest value) from which on it is a change."""
COMMON = 0.02
"""Rarer values are in one sample and not in the next."""
CORRELATION = 0.5
MAX_AGE_DAYS = 30
"""From this age on a snapshot is said to be old."""
MAX_NAMED = 5

_ON_RELATIONS = frozenset(
    ("CreateStmt", "IndexStmt", "AlterTableStmt", "ViewStmt", "CreateTableAsStmt",
     "CreateForeignTableStmt", "VariableSetStmt", "SelectStmt", "AlterOwnerStmt", "CommentStmt",
     "RenameStmt", "CreateSeqStmt", "AlterSeqStmt")
)  # fmt: skip
_KINDS = {"matview": "materialized view", "partitioned": "partitioned table",
          "foreign": "foreign table"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. ``before`` or ``after`` is empty for what is new or gone."""

    part: Literal[
        "database", "relation", "column", "index", "constraint", "other", "rows", "statistics"
    ]
    name: str
    before: str = ""
    after: str = ""

    def __str__(self) -> str:
        if self.before and self.after:
            return f"~ {self.part} {self.name}: {self.before} → {self.after}"
        sign = "-" if self.before else "+"
        what = self.before or self.after
        return f"{sign} {self.part} {self.name}" + (f": {what}" if what != self.part else "")

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "before": self.before or None, "after": self.after or None}


def compare(old: Snapshot, new: Snapshot) -> list[Change]:
    """All differences that plans may feel, in a fixed order."""
    before, after = _statements(old.schema), _statements(new.schema)
    return [
        *_database(old.statistics, new.statistics),
        *relations(
            catalog_from_statements(before),
            catalog_from_statements(after),
            _modifiers(before),
            _modifiers(after),
        ),
        *_others(before, after),
        *_rows(old.statistics, new.statistics),
        *_seen(old.statistics, new.statistics),
        *_columns(old, new),
    ]


def _statements(schema: str) -> list[Statement]:
    return [s for s in script(read_source("schema", schema.encode())) if isinstance(s, Statement)]


def _database(old: Statistics, new: Statistics) -> Iterator[Change]:
    if old.version != new.version:
        yield Change("database", "version", *(_version(v) for v in (old.version, new.version)))
    if old.search_path != new.search_path:
        yield Change(
            "database", "search_path", *(", ".join(s.search_path) or "none" for s in (old, new))
        )
    for name in sorted(old.settings.keys() | new.settings.keys()):
        values = [s.settings.get(name, "default") for s in (old, new)]
        if values[0] != values[1]:
            yield Change("database", name, *values)


def _version(number: int) -> str:
    return f"{number // 10000}.{number % 10000}"


Modifiers = Mapping[tuple[str, str, str], str]
"""(schema, table, column) → what stands in brackets after its type."""


def _modifiers(statements: Sequence[Statement]) -> Modifiers:
    """Of the tables of a dump, which names their schema: the catalog of DDL has types without."""
    found = {}
    for statement in statements:
        table = statement.tree.get("relation", {})
        for element in (
            statement.tree.get("tableElts", ()) if statement.kind == "CreateStmt" else ()
        ):
            kind, column = unwrap(element)
            numbers = modifiers(column.get("typeName", {})) if kind == "ColumnDef" else ()
            if numbers:
                key = (
                    table.get("schemaname", "public"),
                    table.get("relname", ""),
                    column["colname"],
                )
                found[key] = f"({','.join(map(str, numbers))})"
    return found


def relations(
    old: Catalog,
    new: Catalog,
    old_modifiers: Modifiers = MappingProxyType({}),
    new_modifiers: Modifiers = MappingProxyType({}),
) -> Iterator[Change]:
    """Differences of two schemas' relations, their columns, indexes and constraints."""
    for key in sorted(old.relations.keys() | new.relations.keys()):
        before, after = old.relations.get(key), new.relations.get(key)
        name = qualified(*key)
        if before is None or after is None:
            yield Change("relation", name, _kind(before), _kind(after))
            continue
        if before.kind != after.kind:
            yield Change("relation", name, _kind(before), _kind(after))
        elif before.definition != after.definition:
            yield Change("relation", name, "its query", "another query")
        yield from _parts(
            "column",
            name,
            _column_texts(before, old_modifiers),
            _column_texts(after, new_modifiers),
        )
        yield from _parts("index", name, _index_texts(before), _index_texts(after))
        yield from _parts("constraint", name, _constraint_texts(before), _constraint_texts(after))


def _kind(relation: Relation | None) -> str:
    return "" if relation is None else _KINDS.get(relation.kind, relation.kind)


def _column_texts(relation: Relation, modifiers: Modifiers) -> dict[str, str]:
    return {
        c.name: c.type
        + modifiers.get((relation.schema, relation.name, c.name), "")
        + (" NOT NULL" if c.not_null else "")
        for c in relation.columns
    }


def _index_texts(relation: Relation) -> dict[str, str]:
    return {i.name: _after_on(i.definition) or ", ".join(k or "…" for k in i.keys)
            for i in relation.indexes}  # fmt: skip


def _after_on(definition: str) -> str:
    return definition.partition(" ON ")[2] or definition


def _constraint_texts(relation: Relation) -> dict[str, str]:
    keys = {
        f.name: f"FOREIGN KEY ({', '.join(f.columns)}) REFERENCES {qualified(f.target_schema, f.target)}"
        for f in relation.foreign_keys
    }
    return keys | {f"CHECK {text}": "CHECK" for text in relation.checks}


def _parts(
    part: Literal["column", "index", "constraint"],
    relation: str,
    old: Mapping[str, str],
    new: Mapping[str, str],
) -> Iterator[Change]:
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name, ""), new.get(name, "")
        if before != after:
            shown = name if name.startswith("CHECK ") else identifier(name)
            yield Change(part, f"{relation}.{shown}", before, after)


def _others(old: Sequence[Statement], new: Sequence[Statement]) -> Iterator[Change]:
    """Functions, types, extensions, policies: by their statement's first line."""
    before, after = ({s.text for s in found if s.kind not in _ON_RELATIONS} for found in (old, new))
    gone = {_head(text) for text in before - after}
    made = {_head(text) for text in after - before}
    for head in sorted(gone | made):
        if head in gone and head in made:
            yield Change("other", head, "as it was", "otherwise")
        else:
            yield Change("other", head, "other" * (head in gone), "other" * (head in made))


def _head(text: str) -> str:
    return text.split("\n", 1)[0][:80].rstrip(" (")


def _rows(old: Statistics, new: Statistics) -> Iterator[Change]:
    before = {(r.schema, r.name): r.reltuples for r in old.relations if r.kind in "rmp"}
    for r in new.relations:
        rows = before.get((r.schema, r.name))
        if r.kind not in "rmp" or rows is None:
            continue
        if (rows < 0) != (r.reltuples < 0) or (
            max(rows, r.reltuples) >= MIN_ROWS and _apart(rows, r.reltuples)
        ):
            yield Change("rows", qualified(r.schema, r.name), *map(_count, (rows, r.reltuples)))


def _count(rows: float) -> str:
    return f"{rows:,.0f}" if rows >= 0 else "never analyzed"


def _apart(a: float, b: float) -> bool:
    low, high = sorted((max(a, 0.0), max(b, 0.0)))
    return high >= FACTOR * low and high > 0


def _seen(old: Statistics, new: Statistics) -> Iterator[Change]:
    """Tables in both whose columns had statistics, or have them now: a role sees less, or more."""
    counts = [
        Counter((c.schema, c.table) for c in s.columns if c.kind not in "iI") for s in (old, new)
    ]
    known = {(r.schema, r.name) for r in old.relations} & {
        (r.schema, r.name) for r in new.relations
    }
    for key in sorted(known):
        before, after = (f"of {c[key]} columns" if c[key] else "" for c in counts)
        if bool(before) != bool(after):
            yield Change("statistics", qualified(*key), before, after)


def _columns(old: Snapshot, new: Snapshot) -> Iterator[Change]:
    before = {(c.schema, c.table, c.number, c.inherited): c for c in old.statistics.columns}
    totals = [{(r.schema, r.name): r.reltuples for r in s.statistics.relations} for s in (old, new)]
    digests = [_digests(s) for s in (old, new)]
    for column in new.statistics.columns:
        was = before.get((column.schema, column.table, column.number, column.inherited))
        if was is None or column.kind in "iI":
            continue
        name = f"{qualified(column.schema, column.table)}.{identifier(column.column)}"
        rows = [t.get((column.schema, column.table), 0.0) for t in totals]
        shares = [_shares(c, d) for c, d in zip((was, column), digests, strict=True)]
        moved = [*_moved(was, column, rows), *_moved_values(*shares)]
        if moved:
            yield Change("statistics", name, *map(", ".join, zip(*moved, strict=True)))


def _moved(
    old: ColumnStatistics, new: ColumnStatistics, rows: Sequence[float]
) -> Iterator[tuple[str, str]]:
    """What of a column's statistics differs by enough, before and after."""
    nulls = [_number(c, "null_frac") for c in (old, new)]
    if abs(nulls[0] - nulls[1]) > SHARE:
        yield _pair("NULLs", nulls, "{:.0%}")
    # A share of rows that did not change is no change, though the rows did.
    raw = [_number(c, "n_distinct") for c in (old, new)]
    distinct = [-n * max(r, 0.0) if n < 0 else n for n, r in zip(raw, rows, strict=True)]
    if not (raw[0] < 0 and raw[1] < 0 and not _apart(-raw[0], -raw[1])) and _apart(*distinct):
        yield _pair("distinct", distinct, "{:,.0f}")
    order = [_number(c, "correlation") for c in (old, new)]
    if abs(order[0] - order[1]) > CORRELATION:
        yield _pair("correlation", order, "{:.2f}")


def _digests(snapshot: Snapshot) -> dict[str, str]:
    """Stand-in → digest: the same for a value in all snapshots of a database, as stand-ins are not."""
    if snapshot.stand_ins is None:
        return {}
    return {made: digest for digest, made in snapshot.stand_ins.by_digest.items()}


def _shares(column: ColumnStatistics, digests: Mapping[str, str]) -> dict[str | None, float]:
    """The share of the rows that each common value has."""
    values, shares = (column.values.get(f"most_common_{k}") for k in ("vals", "freqs"))
    if not values or not shares:
        return {}
    found: dict[str | None, float] = {}
    for value, share in zip(array_items(values), array_items(shares), strict=False):
        with suppress(TypeError, ValueError):
            found[digests.get(value or "", value)] = float(share or "")
    return found


def _moved_values(
    old: Mapping[str | None, float], new: Mapping[str | None, float]
) -> Iterator[tuple[str, str]]:
    """Whether the share of the rows that common values have has gone to others."""
    known = (v for v in old.keys() | new.keys() if max(old.get(v, 0), new.get(v, 0)) >= COMMON)
    if fsum(abs(old.get(v, 0.0) - new.get(v, 0.0)) for v in known) > 2 * SHARE:
        first, second = (max(side, key=lambda v: side[v], default=None) for side in (old, new))
        before, after = _pair(
            "commonest value", [old.get(first, 0.0), new.get(second, 0.0)], "{:.0%}"
        )
        yield before, after + " (another one)" * (first != second)


def _pair(name: str, values: Sequence[float], form: str) -> tuple[str, str]:
    first, second = (f"{name} {form.format(v)}" for v in values)
    return first, second


def _number(column: ColumnStatistics, name: str) -> float:
    return float(column.values.get(name) or 0.0)


# -- whether a snapshot still fits ----------------------------------------------------------------


def stale_notes(
    snapshot: Snapshot, schema: Catalog | None = None, now: datetime | None = None
) -> list[str]:
    """What is to be said of a snapshot that is old, or that ``schema`` (of files) has gone past."""
    notes = []
    if snapshot.taken is not None:
        days = ((now or datetime.now(UTC)) - datetime.fromisoformat(snapshot.taken)).days
        if days > MAX_AGE_DAYS:
            notes.append(
                f"the snapshot is {days} days old (taken {snapshot.taken[:10]}): sizes and statistics "
                "may have moved since; take another with `sqladvisor snapshot`"
            )
    if schema:
        there = catalog_from_statements(_statements(snapshot.schema))
        notes += _unlike(there, schema)
    return notes


def _unlike(there: Catalog, schema: Catalog) -> list[str]:
    lacks: list[str] = []
    more: list[str] = []
    for change in relations(there, schema):
        if change.part in ("relation", "column") and not (change.before and change.after):
            (lacks if change.after else more).append(change.name)
    said = []
    if lacks:
        said.append(f"lacks {_named(lacks)}")
    if more:
        said.append(f"has {_named(more)}, which the schema does not")
    return [f"the snapshot is not of this schema: it {' and '.join(said)}"] if said else []


def _named(names: Sequence[str]) -> str:
    more = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
