"""The generated databases: few rows, each database made to break another kind of wrong rewrite.

Deterministic: the same statement and schema give the same rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from sqladvisor.prove.compared import Compared, Key
from sqladvisor.prove.tables import Column, ForeignKey, Table, Used
from sqladvisor.prove.values import Pool, kind_of

ROWS = 12
"""Rows of a table where the statement reads one or two; fewer where it reads more."""
MAX_SWEEP = 40
"""Rows of a table whose column takes one value after the other."""

# Zones whose clocks change by night, at midnight, by half an hour, or not at all. Left out are the
# few that go back over midnight (Azores, Cuba): there no two instants bound a day.
ZONES = ("America/New_York", "Asia/Kolkata", "America/Sao_Paulo", "Australia/Lord_Howe", "UTC")

Row = Mapping[str, str]
"""Column name → its value as SQL text."""


@dataclass(frozen=True, slots=True)
class Database:
    """Rows by table (its oid). ``zone`` is the session's time zone, "" the one it has."""

    label: str
    rows: dict[int, tuple[Row, ...]]
    zone: str = ""

    def reversed(self) -> Database:
        """The same rows, put in the other way round."""
        return Database(
            self.label, {t: tuple(reversed(rows)) for t, rows in self.rows.items()}, self.zone
        )


@dataclass(frozen=True, slots=True)
class _Design:
    """How the rows of a database are drawn. Shares are between 0 and 1."""

    label: str
    hit: float
    """Share of values that satisfy what the column is compared with."""
    near: float = 0.5
    """Of the others: share of values around those."""
    null: float = 0.15
    rows: float = 1.0
    """Factor on the number of rows."""
    few: bool = False
    """Whether columns take two values only: ties and duplicates."""
    edges: bool = False
    twice: bool = False
    """Whether each row is there twice, where keys allow it."""


_DESIGNS = (
    _Design("rows that match", 1.0, null=0.0),
    _Design("one row each", 1.0, null=0.0, rows=0.0),
    _Design("nearly all match", 0.9, null=0.05),
    _Design("most match", 0.75),
    _Design("values around those compared", 0.5, near=0.9, null=0.05),
    _Design("half NULL", 0.6, null=0.5),
    _Design("NULL wherever it may be", 0.8, null=1.0),
    _Design("ties", 0.7, few=True, null=0.2),
    _Design("ties without NULL", 0.9, few=True, null=0.0),
    _Design("each row twice", 0.8, twice=True, rows=0.5),
    _Design("each row twice, NULL among them", 0.7, twice=True, rows=0.5, null=0.4),
    _Design("few match", 0.2),
    _Design("any values", 0.0, near=0.3),
    _Design("many rows", 0.7, rows=2.5),
    _Design("ends of the types", 0.5, edges=True),
    _Design("values around those compared, again", 0.6, near=1.0, null=0.0),
    _Design("values around those compared, mostly", 0.3, near=1.0, null=0.0),
    _Design("values around those compared, in few rows", 0.6, near=1.0, null=0.0, rows=0.4),
    _Design("values around those compared, in few rows, again", 0.6, near=1.0, rows=0.4),
    _Design("most match, again", 0.75),
    _Design("half match", 0.5),
)


def generate(
    used: Used, pools: Mapping[Key, Pool], compared: Compared, seed: str
) -> list[Database]:
    """The databases for statements that read these tables, no two of them the same."""
    rows = max(3, min(ROWS, 2 * ROWS // max(len(used.tables), 1)))
    maker = _Maker(used, pools, compared, rows)
    found = [Database("no rows at all", {t.oid: () for t in used.tables})]
    if len(used.tables) > 1:
        for table in used.tables[:6]:
            rng = Random(f"{seed} without {table.key}")  # noqa: S311 - repeatable on purpose
            full = maker.database(_DESIGNS[2], rng)
            found.append(
                Database(f"{table.key} without rows", {**full.rows, table.oid: ()}, full.zone)
            )
        for table in used.tables[:6]:
            found.append(maker.fan_out(table, Random(f"{seed} fan {table.key}")))  # noqa: S311
    for number, design in enumerate(_DESIGNS):
        rng = Random(f"{seed} {design.label}")  # noqa: S311 - repeatable on purpose
        zone = ("", *ZONES)[number % (len(ZONES) + 1)]
        found.append(maker.database(design, rng, zone))
    for number, table in enumerate(used.tables[:6]):
        rng = Random(f"{seed} sweep {table.key}")  # noqa: S311 - repeatable on purpose
        for zone in ("", ZONES[number % len(ZONES)]):
            found.append(maker.sweep(table, rng, zone))
    distinct: dict[str, Database] = {}
    for database in found:
        contents = repr([sorted(map(repr, rows)) for rows in database.rows.values()])
        distinct.setdefault(contents + database.zone * ("::timestamp" in contents), database)
    return list(distinct.values())


EVERYDAY_ROWS = 10
"""More than there are everyday values of most types: some come twice."""
NULL_ROWS = 16
"""And so many with NULL at most: with both, no more than keys have values."""
_EVERYDAY = _Design("everyday rows", 0.4, near=0.0, null=0.0)
_FAR = "1000"
"""A number that no row has as its key."""


def everyday(used: Used, pools: Mapping[Key, Pool], seed: str) -> tuple[list[Table], Database]:
    """Rows that no statement in particular is to be tried with, and the order to put them in.

    Values that repeat where they may; rows with NULL in one column each, as a rule of the schema
    may refuse it in another; and one with numbers that refer to nothing.
    """
    compared = Compared(whole_rows=True)
    maker = _Maker(used, pools, compared, EVERYDAY_ROWS + NULL_ROWS)
    drawn = maker.database(_EVERYDAY, Random(seed))  # noqa: S311 - repeatable on purpose
    referring = {(k.table, c) for k in used.keys for c in k.columns}
    rows: dict[int, tuple[Row, ...]] = {}
    for table in maker.tables:
        made = [dict(row) for row in drawn.rows[table.oid]]
        nullable = [c.name for c in table.columns if not c.not_null]
        plain = made[:EVERYDAY_ROWS]
        alone = made[EVERYDAY_ROWS : EVERYDAY_ROWS + len(nullable)]
        for number, row in enumerate(alone):
            row |= dict.fromkeys(nullable[number :: len(alone)], "NULL")
        for column in table.columns:
            free = not column.unique and (table.oid, column.name) not in referring
            if plain and free and kind_of(column.base, column.category) == "number":
                plain[-1][column.name] = _FAR
        rows[table.oid] = (*plain, *alone)
    return maker.tables, Database(drawn.label, rows)


class _Maker:
    def __init__(
        self, used: Used, pools: Mapping[Key, Pool], compared: Compared, rows: int
    ) -> None:
        self.used = used
        self.pools = pools
        self.compared = compared
        self.row_count = rows
        self.tables = _parents_first(used.tables, used.keys)

    def database(self, design: _Design, rng: Random, zone: str = "") -> Database:
        count = max(1, round(self.row_count * design.rows))
        rows = {}
        for table in self.tables:
            drawn = self._draw(table, design, rng, count)
            rows[table.oid] = drawn * 2 if design.twice else drawn
        return Database(design.label, rows, zone)

    def fan_out(self, parent: Table, rng: Random) -> Database:
        """Rows of one table that have none, one, two … partners in the others."""
        design = _Design("", 1.0, null=0.0)
        rows = {}
        for table in self.tables:
            if table is parent:
                rows[table.oid] = self._draw(table, design, rng, 8)
                continue
            drawn = [dict(r) for r in self._draw(table, design, rng, 28)]
            for column in table.columns:
                pool = self.pools[table.of(column.name)]
                if not column.unique and self._joined(table, column, parent):
                    # 0 + 1 + 2 + … + 7 rows for the first eight values
                    of_each = [v for i, v in enumerate(pool.all[:8]) for _ in range(i)]
                    for row, value in zip(drawn, of_each, strict=False):
                        row[column.name] = value
            rows[table.oid] = tuple(drawn)
        return Database(f"rows of {parent.key} with none, one, two and more partners", rows)

    def sweep(self, swept: Table, rng: Random, zone: str) -> Database:
        """A row that matches, and copies of it that differ in one column."""
        matching = _Design("", 1.0, null=0.0)
        rows = {t.oid: self._draw(t, matching, rng, 2) for t in self.tables}
        base = rows[swept.oid][0] if rows[swept.oid] else {}
        columns = [c for c in swept.columns if self._mentioned(c)]
        own = {c.name for c in swept.columns if c.unique} | self._turning(swept)
        changes: list[list[tuple[str, str]]] = []
        for column in columns:
            if not column.unique:
                pool = self.pools[swept.of(column.name)]
                values = [*pool.hits[:6], *pool.near, *pool.plain[:4]]
                if not column.not_null:
                    values.insert(0, "NULL")
                changes.append([(column.name, v) for v in values])
        picked: list[tuple[str, str]] = []
        while any(changes) and len(picked) < MAX_SWEEP:
            for change in changes:
                if change:
                    picked.append(change.pop(0))
        copies = list(self._draw(swept, matching, rng, len(picked)))
        result = []
        for (name, value), copy in zip(picked, copies, strict=False):
            fresh = {column: copy[column] for column in own if column in copy}
            result.append({**base, **fresh, name: value})
        rows[swept.oid] = (*rows[swept.oid], *result)
        return Database(f"one value after the other in {swept.key}", rows, zone)

    def _draw(self, table: Table, design: _Design, rng: Random, count: int) -> tuple[Row, ...]:
        serial = {c.name: self._keys(table, c, design, rng) for c in table.columns if c.unique}
        turning = self._turning(table)
        drawn = []
        for i in range(count):
            row = {}
            for column in table.columns:
                pool = self.pools[table.of(column.name)]
                if column.unique:
                    keys = serial[column.name]
                    if i >= len(keys) and (column.not_null or not keys):
                        break
                    row[column.name] = keys[i] if i < len(keys) else "NULL"
                elif column.name in turning and pool.all:
                    row[column.name] = pool.all[i % len(pool.all)]
                elif not self._mentioned(column):
                    row[column.name] = (
                        (pool.all[0] if pool.all else "") if column.not_null else "NULL"
                    )
                else:
                    row[column.name] = self._value(column, pool, design, rng)
                if not row[column.name]:
                    del row[column.name]  # of a type without known values: its default, if any
            else:
                drawn.append(row)
                continue
            break
        return tuple(drawn)

    def _keys(self, table: Table, column: Column, design: _Design, rng: Random) -> list[str]:
        pool = self.pools[table.of(column.name)]
        keys = list(pool.all)
        if design.hit < 1 and len(pool.hits) < len(keys):
            rest = keys[len(pool.hits) :]
            rng.shuffle(rest)
            keys = [*pool.hits, *rest]
        if not column.not_null and design.null >= 0.5:
            keys = [k if rng.random() >= design.null else "NULL" for k in keys]
        return keys

    def _turning(self, table: Table) -> set[str]:
        """One column of each key of several columns, to take one value after the other: else

        rows that match would mostly be refused as duplicates."""
        mentioned = {c.name for c in table.columns if self._mentioned(c)}
        return {next((c for c in key if c not in mentioned), key[-1]) for key in table.keys if key}

    def _value(self, column: Column, pool: Pool, design: _Design, rng: Random) -> str:
        nullable = not column.not_null
        if nullable and rng.random() < design.null:
            return "NULL"
        if design.few:
            values = pool.all[:2]
        elif design.edges and pool.edges and rng.random() < 0.5:
            values = pool.edges
        elif rng.random() < design.hit:
            values = pool.hits
        elif pool.near and rng.random() < design.near:
            values = pool.near
        else:
            values = pool.plain or pool.hits
        if not values:
            return "NULL" if nullable else ""
        return rng.choice(values)

    def _mentioned(self, column: Column) -> bool:
        return self.compared.whole_rows or column.name in self.compared.names

    def _joined(self, table: Table, column: Column, parent: Table) -> bool:
        """Whether a column refers to the parent, or shares its values with a key of it."""
        for key in self.used.keys:
            if key.table == table.oid and key.target == parent.oid and column.name in key.columns:
                return True
        mine = (table.of(column.name), ("", column.name))
        return any(
            (a in mine and b[0] in (parent.key, "")) or (b in mine and a[0] in (parent.key, ""))
            for a, b in self.compared.links
        )


def _parents_first(tables: Sequence[Table], keys: Sequence[ForeignKey]) -> list[Table]:
    left, done = list(tables), list[Table]()
    while left:
        for table in left:
            waits = {k.target for k in keys if k.table == table.oid} - {table.oid}
            if not waits & {t.oid for t in left}:
                break
        else:
            table = left[0]  # a circle of references
        left.remove(table)
        done.append(table)
    return done
