"""Whether a rewrite does what its original does, tried on generated databases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import psycopg

from sqladvisor.context import Context
from sqladvisor.prove.compared import Compared, Operand, compared
from sqladvisor.prove.databases import Database, Row, generate
from sqladvisor.prove.ground import Ground
from sqladvisor.prove.parameters import (
    Assignment,
    assignments,
    bound,
    parameter_types,
    same_numbers,
    same_places,
)
from sqladvisor.prove.results import (
    Arranged,
    Given,
    arrange,
    difference,
    error_matters,
    order_of,
    run,
)
from sqladvisor.prove.tables import Used, relation_names, used_tables
from sqladvisor.prove.values import make_pools
from sqladvisor.server.connect import one_line
from sqladvisor.sql.source import read_source, statements
from sqladvisor.sql.tree import function_name

PROVABLE = frozenset(("SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"))
ENOUGH = 4
"""Databases on which both must have run for a proof."""
MAX_CANCELED = 2
"""Databases on which a statement may be too slow before the trial is given up."""
MAX_SHRINKING = 150
"""Runs spent on making a counterexample small."""

_CHANCE = frozenset(
    ("random", "random_normal", "nextval", "lastval", "clock_timestamp", "statement_timestamp", "timeofday",
     "gen_random_uuid", "uuidv4", "uuidv7", "uuid_generate_v1", "uuid_generate_v4")
)  # fmt: skip
"""Functions whose difference between two runs says nothing."""
# Ways to run the same query: one whose result depends on them does not determine it.
OTHER_PLANS = (
    ("SET LOCAL enable_hashjoin = off", "SET LOCAL enable_hashagg = off"),
    ("SET LOCAL enable_mergejoin = off", "SET LOCAL enable_nestloop = off"),
    ("SET LOCAL enable_seqscan = off", "SET LOCAL enable_sort = off"),
    ("SET LOCAL enable_indexscan = off", "SET LOCAL enable_material = off"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Proof:
    """What came of a trial. ``databases`` on which both gave the same, ``rows`` of them in all.

    ``refuted`` says how the rewrite differs, ``counterexample`` on which rows. ``impossible`` says
    why nothing can be said.
    """

    databases: int = 0
    rows: int = 0
    refuted: str = ""
    counterexample: tuple[str, ...] = ()
    impossible: str = ""

    @property
    def proven(self) -> bool:
        return not self.refuted and not self.impossible


def prove(ground: Ground, original: Context, rewritten: str) -> Proof:
    """Run a statement and its rewrite on generated databases and compare what they do.

    Raises psycopg.Error when the connection is lost.
    """
    rewrite = _context(rewritten, original)
    if rewrite is None:
        return Proof(impossible="the rewrite cannot be read as one statement")
    if original.tree.kind not in PROVABLE or rewrite.tree.kind not in PROVABLE:
        return Proof(impossible="only queries and INSERT, UPDATE, DELETE and MERGE can be compared")
    if reason := same_places(original, rewrite):
        return Proof(refuted=reason)
    try:
        return _Trial(ground, original, rewrite).run()
    except psycopg.Error as error:
        if ground.connection.closed:
            raise
        return Proof(impossible=one_line(error))


def _context(text: str, original: Context) -> Context | None:
    found, problems = statements(read_source("rewrite", text.encode()))
    if problems or len(found) != 1:
        return None
    return Context(found[0], original.catalog)


@dataclass(frozen=True, slots=True)
class _Side:
    """One of the two statements, ready to be run with any parameters."""

    ctx: Context
    arranged: Arranged
    types: tuple[str, ...]
    numbers: dict[int, int]
    """Its parameters' numbers → the original's."""

    def texts(self, values: Assignment) -> tuple[str, str]:
        sql = bound(self.arranged.sql, self.types, self.numbers, values)
        rest = self.arranged.unlimited
        return sql, bound(rest, self.types, self.numbers, values) if rest else ""


class _Trial:
    def __init__(self, ground: Ground, original: Context, rewrite: Context) -> None:
        self.ground = ground
        self.connection = ground.connection
        self.original = original
        self.rewrite = rewrite
        self.order = order_of(original)
        self.chance = _depends_on_chance(original) or _depends_on_chance(rewrite)
        self.used: Used
        self.before: tuple[str, ...] = ()
        self.written: tuple[str, ...] = ()

    def run(self) -> Proof:
        contexts = (self.original, self.rewrite)
        self.used = used_tables(
            self.connection, relation_names(c.tree for c in contexts), self.ground.foreign_keys
        )
        if not self.used.tables and any(map(_reads_relations, contexts)):
            return Proof(impossible="it reads no table that rows can be generated for")
        types = [parameter_types(self.connection, c) for c in contexts]
        for found in types:
            if isinstance(found, str):
                return Proof(impossible=f"it cannot be run: {found}")
        numbers = same_numbers(*contexts)
        sides = [
            _Side(c, self._arranged(c), t, n)
            for c, t, n in zip(contexts, types, numbers, strict=True)
            if isinstance(t, tuple)
        ]
        self.one, self.other = sides
        if reason := _other_types(self.one, self.other):
            return Proof(refuted=reason)
        self._look_at_writes()
        what = self._compared()
        values = assignments(self.one.types, what)
        for number, columns in what.parameters.items():
            for key, how in columns:
                known = what.operands.setdefault(key, {})
                for assignment in values:
                    if assignment.get(number, "NULL") != "NULL":
                        known.setdefault(Operand(assignment[number], how))
        pools = make_pools(self.connection, self.used.tables, what, self.used.keys)
        databases = generate(self.used, pools, what, self.original.fingerprint)
        return self._compare(databases, values)

    def _compared(self) -> Compared:
        contexts = [self.original]
        for text in self.used.views:
            found, _ = statements(read_source("view", text.encode()))
            contexts += [Context(s, self.original.catalog) for s in found]
        what = compared(contexts)
        # Where the rewrite draws its lines is where it can be wrong.
        theirs = compared([self.rewrite], numbers=False)
        for key, operands in theirs.operands.items():
            what.operands.setdefault(key, {}).update(operands)
        what.literals.update(theirs.literals)
        what.links += theirs.links
        what.names |= theirs.names
        what.whole_rows |= theirs.whole_rows
        return what

    def _arranged(self, ctx: Context) -> Arranged:
        arranged = arrange(ctx, self.order)
        if arranged.added or arranged.unlimited:
            changed = replace(ctx.statement, sql=arranged.sql)
            if isinstance(parameter_types(self.connection, Context(changed, ctx.catalog)), str):
                return Arranged(ctx.statement.sql)
        return arranged

    def _look_at_writes(self) -> None:
        names = {
            node["relation"].get("relname")
            for c in (self.original, self.rewrite)
            for kind in ("InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt")
            for node in c.tree.of(kind)
        }
        if names:
            self.written = tuple(t.sql for t in self.used.tables)
            self.before = tuple(
                f"SELECT setval('{s.replace(chr(39), chr(39) * 2)}', 1000)"
                for s in self.used.sequences
            )

    def _compare(self, databases: Sequence[Database], values: Sequence[Assignment]) -> Proof:
        done = rows = canceled = undetermined = 0
        why = ""
        seen: set[object] = set()
        for database in databases:
            compared_here = False
            for given in values:
                outcome, one = self._try(database, given)
                if outcome is None:
                    if one.result.canceled:
                        canceled += 1
                    why = why or one.result.error
                    if canceled > MAX_CANCELED:
                        return Proof(impossible="it takes too long on a few rows")
                    continue
                if outcome and not self.chance and self._determined(database, given):
                    return self._refuted(database, given, outcome)
                if outcome:
                    undetermined += 1
                else:
                    compared_here = True
                    everything = one.unlimited.rows if one.unlimited else one.result.rows
                    rows += len(everything) or sum(map(len, one.result.tables))
                    seen.add((everything, one.result.tables, one.result.count))
            done += compared_here
        if done < min(ENOUGH, len(databases)) or undetermined > done:
            reason = why or "its result depends on chance"
            return Proof(done, rows, impossible=f"no comparison on generated rows: {reason}")
        if len(seen) < 2 and self.used.tables:
            return Proof(done, rows, impossible="the statement itself returns the same on each")
        return Proof(done, rows)

    def _try(self, database: Database, values: Assignment) -> tuple[str | None, Given]:
        """How the rewrite differs there ("": not), and what the original gave; None: no telling."""
        with self.connection.transaction(force_rollback=True):
            self.ground.fill(database, self.used)
            one = self._given(self.one, values)
            other = self._given(self.other, values)
        if one.result.error:
            if error_matters(one.result, other.result):
                return f"does not fail, as the original does: {one.result.error}", one
            return None, one
        if other.result.canceled:
            return None, other
        return difference(self.order, one, other), one

    def _given(self, side: _Side, values: Assignment) -> Given:
        sql, unlimited = side.texts(values)
        result = run(self.connection, sql, self.written, self.before)
        everything = run(self.connection, unlimited) if unlimited and not result.error else None
        return Given(result, side.arranged.added, everything)

    def _determined(self, database: Database, values: Assignment) -> bool:
        """Whether the original gives the same however it is planned and its rows are stored.

        All in one transaction: in another one now() is another time."""
        first: Given | None = None
        with self.connection.transaction(force_rollback=True):
            for turned in (database, database.reversed()):
                with self.connection.transaction(force_rollback=True):
                    self.ground.fill(turned, self.used)
                    for settings in ((), *OTHER_PLANS):
                        with self.connection.transaction(force_rollback=True):
                            for command in settings:
                                self.connection.execute(command.encode())
                            again = self._given(self.one, values)
                        first = first or again
                        if again.result.error != first.result.error:
                            return False
                        if not first.result.error and difference(self.order, first, again):
                            return False
        return True

    def _refuted(self, database: Database, values: Assignment, outcome: str) -> Proof:
        database, outcome = self._smaller(database, values, outcome)
        shown = [_row(t.key, row) for t in self.used.tables for row in database.rows[t.oid]]
        shown += [f"${n} = {v}" for n, v in sorted(values.items())]
        if database.zone and any("timestamptz" in s or "time zone" in s for s in shown):
            shown.append(f"time zone {database.zone}")
        return Proof(refuted=outcome, counterexample=tuple(shown) or ("no rows",))

    def _smaller(
        self, database: Database, values: Assignment, outcome: str
    ) -> tuple[Database, str]:
        """The database without rows, and rows without values, that the difference does not need."""
        runs = 0
        for smaller_of in (_without_zone, _without_rows, _with_nulls):
            again = True
            while again and runs < MAX_SHRINKING:
                again = False
                for smaller in smaller_of(database):
                    runs += 1
                    found, _ = self._try(smaller, values)
                    if found and self._determined(smaller, values):
                        database, outcome, again = smaller, found, True
                        break
                    if runs >= MAX_SHRINKING:
                        break
        return database, outcome


def _depends_on_chance(ctx: Context) -> bool:
    """Whether a statement asks for what differs from one run to the next."""
    return bool(ctx.tree.by_kind.get("RangeTableSample")) or any(
        function_name(call) in _CHANCE for call in ctx.tree.of("FuncCall")
    )


def _reads_relations(ctx: Context) -> bool:
    """Whether a statement names a relation that is no common table expression."""
    ctes = {c.get("ctename") for c in ctx.tree.of("CommonTableExpr")}
    return any("schemaname" in t or t.get("relname") not in ctes for t in ctx.tree.of("RangeVar"))


def _other_types(one: _Side, other: _Side) -> str:
    for number, original in other.numbers.items():
        theirs, mine = other.types[number - 1], one.types[original - 1]
        if theirs != mine and {theirs, mine} - {"text", "character varying"}:
            return f"takes parameter {original} as {theirs} instead of {mine}"
    return ""


def _without_zone(database: Database) -> Iterator[Database]:
    if database.zone:
        yield replace(database, zone="")


def _without_rows(database: Database) -> Iterator[Database]:
    for table, rows in database.rows.items():
        if len(rows) > 3:
            half = len(rows) // 2
            for part in (rows[:half], rows[half:]):
                yield replace(database, rows={**database.rows, table: part})
        for i in range(len(rows)):
            left = rows[:i] + rows[i + 1 :]
            yield replace(database, rows={**database.rows, table: left})


def _with_nulls(database: Database) -> Iterator[Database]:
    for table, rows in database.rows.items():
        for i, row in enumerate(rows):
            for column, value in row.items():
                if value != "NULL":
                    changed = {**row, column: "NULL"}
                    left = (*rows[:i], changed, *rows[i + 1 :])
                    yield replace(database, rows={**database.rows, table: left})


def _row(table: str, row: Row) -> str:
    given = ", ".join(f"{c} = {v}" for c, v in row.items() if v != "NULL")
    return f"{table}: {given or 'all NULL'}"
