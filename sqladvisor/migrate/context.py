"""What a migration rule can ask. The API for the files of ``rules/migration/``.

A rule subscribes with ``@rule(subject, …, severity=…)`` to

- statements, by node type: ``@rule("IndexStmt")`` gets the statement's node. Only whole statements,
  never what stands within them (``ctx.tree.of("FuncCall")`` finds that);
- subcommands of ALTER TABLE: ``@rule("AT_AddColumn")`` gets each AlterTableCmd node;
- ``migration``: gets the list of the contexts of one migration's statements (``ctx`` is the first);
- ``migration-set``: gets the list of all judged statements' contexts (``ctx`` is the first).

It yields ``ctx.finding(at, message, table=…, lock=…, work=…, fixes=[…])``::

    @rule("AT_AlterColumnType", severity="error")
    def check(command: Node, ctx: MigrationContext) -> Iterator[Finding]:
        table = ctx.table()                      # what the ALTER TABLE is about
        if not table.settled:                    # created in this set, temporary, a view…: free
            return
        yield ctx.finding(
            command, f"… {table.shown} …", table=table, lock="ACCESS EXCLUSIVE", work="rewrite",
            fixes=[ctx.sequence("description", "ALTER TABLE …;", "ALTER TABLE …;")],
        )

``ctx.state`` is the schema **before** the statement (for ``migration`` and ``migration-set``: after
the last one; what must be known of a statement's own moment is kept in ``ctx.locks``,
``ctx.transaction`` and ``ctx.settings``). Down migrations come as migrations of their own, when asked
for. Examples: a string is one plain file, a dict is file name → text; lines such as
``-- pg_version: 16`` or ``-- runner: goose`` at their top set either, ``SCHEMA`` is the starting
schema, ``ROWS`` the rows of its tables by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sqladvisor.catalog.ddl_state import Key
from sqladvisor.catalog.model import Catalog, Column, Index, Relation
from sqladvisor.context import Context
from sqladvisor.finding import Finding, Fix, Level, Severity
from sqladvisor.migrate.locks import BLOCKS, CONFLICTS, LOCKING, Lock, Mode, Work, statement_locks
from sqladvisor.migrate.model import Migration, MigrationSet
from sqladvisor.migrate.state import SetState
from sqladvisor.migrate.transactions import Transaction
from sqladvisor.record import record
from sqladvisor.sql.quote import identifier, qualified
from sqladvisor.sql.statement import Node, Statement
from sqladvisor.sql.tree import names, unwrap

DEFAULT_PG_VERSION = 18
"""Major version judged for without ``--pg-version``: that of the embedded server."""
DEFAULT_MIN_ROWS = 10_000
"""Rows. A table known to have fewer is scanned, rewritten or indexed in some milliseconds."""


@dataclass(slots=True)
class Settings:
    """How a gate judges: what all contexts of a run share.

    ``rows``: known row counts by (schema, name); ``together``: tables that earlier migrations of the
    set created are empty (all of them are deployed in one go), else only those of the same one.
    """

    pg_version: int = DEFAULT_PG_VERSION
    rows: Mapping[Key, float] = field(default_factory=dict)
    min_rows: float = DEFAULT_MIN_ROWS
    together: bool = True
    thresholds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@record(frozen=True, slots=True)
class Table:
    """A table as a statement names it, with what is known of it at that point."""

    key: Key
    relation: Relation | None
    """None: nobody has declared it. It exists all the same, with rows that nobody counted."""
    new: bool
    """Created by the set itself (or temporary): empty, and used by nobody yet."""
    rows: float | None = None
    qualified: bool = False
    """Whether the statement writes the schema."""
    kind: str = "table"
    """``table``, ``partitioned``, ``matview``, ``view``, ``foreign``: ``table`` where nobody knows."""

    @property
    def settled(self) -> bool:
        """Whether others may use it and it may hold rows: not new, not a view, not foreign."""
        return not self.new and self.kind in ("table", "partitioned", "matview")

    @property
    def partitioned(self) -> bool:
        return self.kind == "partitioned"

    @property
    def sql(self) -> str:
        """The name for a statement, quoted where needed, with a schema where it was written."""
        return qualified(self.key[0] if self.qualified else None, self.key[1])

    @property
    def shown(self) -> str:
        """The name for a message."""
        return f"{self.key[0]}.{self.key[1]}" if self.qualified else self.key[1]

    def column(self, name: str) -> Column | None:
        return self.relation.column(name) if self.relation else None


class MigrationContext(Context):
    """One statement of a migration, the schema before it, and where it stands."""

    def __init__(
        self,
        statement: Statement,
        migration: Migration,
        number: int,
        state: SetState,
        transaction: Transaction,
        settings: Settings,
        migrations: MigrationSet,
    ) -> None:
        super().__init__(statement, state.catalog, thresholds=settings.thresholds)
        self.migration = migration
        self.number = number
        """Ordinal of the migration in its set."""
        self.state = state
        self.transaction = transaction
        self.migrations = migrations
        self.options = settings
        self.settings: Mapping[str, str] = dict(state.settings) if state.settings else _NONE
        """Session settings at this point (``lock_timeout``), as written."""
        self.made: tuple[Node, Index | None] | None = None
        """The index that ``migrate.indexes.index_of`` has read here already."""
        self._own: Table | None = None
        self._tables: dict[tuple[object, ...], Table] = {}
        self._at = state.version
        self.siblings: Sequence[MigrationContext] = ()
        """The contexts of the migration so far, this one among them, in order."""
        self.statements: Sequence[Statement] = ()
        """All statements of the migration (direction)."""
        self.position = 0
        self.held: Sequence[tuple[MigrationContext, Lock, Table]] = ()
        """Strong locks on tables in use that the transaction holds when this statement begins (as of

        then: the list grows with the transaction), with the statement that took each."""
        self.locks: tuple[tuple[Lock, Table], ...] = ()
        """The locks it takes, each with its table as known at this point."""
        if statement.kind in LOCKING:
            self.locks = tuple(
                (lock, self.table(lock.schema, lock.name))
                for lock in statement_locks(statement.kind, statement.tree)
            )

    @property
    def pg_version(self) -> int:
        """The major version judged for."""
        return self.options.pg_version

    @property
    def functions(self) -> Catalog:
        """The catalog with the functions that are known at this point, for ``volatile()``."""
        return self.state.builder.catalog()

    # -- tables ---------------------------------------------------------------------------------

    def table(self, schema: str | Node | None = None, name: str = "") -> Table:
        """A table by RangeVar node, or by (schema or None, name); the statement's own by nothing."""
        if schema is None and not name:
            if self._own is None or self._at != self.state.version:
                self._own = self.table(self.statement.tree.get("relation", {}))
            return self._own
        node = schema if isinstance(schema, dict) else {"schemaname": schema, "relname": name}
        if self._at != self.state.version:
            self._tables.clear()
            self._at = self.state.version
        place = (node.get("schemaname"), node.get("relname"), node.get("relpersistence"))
        found = self._tables.get(place)
        if found is None:
            found = self._tables[place] = self._table(node)
        return found

    def _table(self, node: Node) -> Table:
        key = self.state.key(node)
        relation = self.state.builder.state.relations.get(key)
        new = node.get("relpersistence") == "t" or bool(relation and relation.temporary)
        if not new:
            made = self.state.created.get(key)
            new = made is not None and (self.options.together or made == self.number)
        rows = self.options.rows.get(key)
        if rows is None and relation is not None:
            rows = relation.rows
        kind: str = relation.kind if relation else "table"
        if relation is None and node is self.statement.tree.get("relation"):
            kind = _KINDS.get(str(self.statement.tree.get("objtype")), kind)
        return Table(key, relation, new, rows, bool(node.get("schemaname")), kind)

    def new_object(self, kind: str, name: str) -> bool:
        """Whether the set itself made a ``type``, ``domain``, ``function``, ``index``, ``trigger``,

        ``schema`` or ``extension`` of that name."""
        made = self.state.objects.get((kind, name))
        return made is not None and (self.options.together or made == self.number)

    def modifiers(self, table: Table, column: str) -> tuple[int, ...] | None:
        """Type modifiers of a column (``(40,)`` of varchar(40)); None when nobody knows."""
        return self.state.modifiers.get((table.key, column))

    def table_from(self, item: Node) -> Table:
        """The table that a DROP's wrapped object (a List of names) or a wrapped RangeVar means."""
        kind, node = unwrap(item)
        if kind == "RangeVar":
            return self.table(node)
        parts = names(node.get("items"))
        return self.table(parts[-2] if len(parts) > 1 else None, parts[-1] if parts else "?")

    # -- time -----------------------------------------------------------------------------------

    @property
    def before(self) -> Sequence[MigrationContext]:
        """The earlier statements of the same migration (direction)."""
        return self.siblings[: self.position]

    @property
    def after(self) -> Sequence[Statement]:
        """The later statements of the same migration."""
        return self.statements[self.position + 1 :]

    @cached_property
    def together(self) -> Sequence[MigrationContext]:
        """The earlier statements in the same transaction; none outside one."""
        if not self.transaction.inside:
            return ()
        return [c for c in self.before if c.transaction.number == self.transaction.number]

    def small(self, table: Any) -> bool:
        """Whether a table is known to have fewer rows than matter (``--min-rows-for-error``)."""
        return table.rows is not None and table.rows < self.options.min_rows

    # -- results --------------------------------------------------------------------------------

    def sequence(
        self, description: str, *statements: str, changes_result: str = "", note: str = ""
    ) -> Fix:
        """The safe sequence of statements as a fix, one a line."""
        sql = "\n".join(s if s.endswith(";") or s.startswith("--") else s + ";" for s in statements)
        return Fix(
            description + (f" ({note})" if note else ""), sql, "ddl", changes_result=changes_result
        )

    def finding(  # type: ignore[override]
        self,
        at: Node | tuple[int, int] | None,
        message: str,
        *,
        table: Table | None = None,
        lock: Mode | None = None,
        work: Work = "",
        severity: Severity | None = None,
        fixes: Iterable[Fix] = (),
        level: Level = "static",
        figures: Mapping[str, Any] | None = None,
        notes: Sequence[str] = (),
    ) -> Finding:
        """A finding of the running rule on this statement.

        ``at``: a bare node (its place in the text is found), a span of ``statement.sql``, or None
        for the first word. ``table``: whose rows decide: known to be few, an error or warning about
        ``lock`` or ``work`` becomes info. ``lock`` and ``work``: what it takes and does, told in the
        evidence as ``relation``, ``lock``, ``blocks``, ``conflicts_with`` and ``work``: the trace
        compares these.
        """
        told: dict[str, Any] = {}
        if table is not None:
            told["relation"] = f"{table.key[0]}.{table.key[1]}"
            if table.rows is not None:
                told["rows"] = int(table.rows)
        if lock is not None:
            told |= {
                "lock": lock,
                "blocks": BLOCKS[lock],
                "conflicts_with": list(CONFLICTS[lock]),
                "work": work or "none",
            }
            if table is not None and self.small(table):
                severity = "info"
                notes = (*notes, f"{table.shown} has {table.rows:,.0f} rows only")
        told |= figures or {}
        place = self.place_of(at) if isinstance(at, dict) else at
        return super().finding(
            place,
            message,
            severity=severity,
            fixes=fixes,
            level=level,
            figures=told,
            notes=notes,
        )

    def name_span(self, relation: Node) -> tuple[int, int]:
        """Where the name of a RangeVar (``schema.table``) stands in ``statement.sql``."""
        tokens = self.spans.tokens
        first = last = self.spans.token_at(relation.get("location", 0))
        while last + 2 < len(tokens) and tokens[last + 1][2] == "ASCII_46":
            last += 2
        return tokens[first][0], tokens[last][1]

    def place_of(self, node: Node) -> tuple[int, int] | None:
        """The word of the text at which a node (a subcommand, a constraint) begins."""
        start = _first_location(node)
        if start is None:
            return None
        tokens = self.spans.tokens
        index = self.spans.token_at(start)
        if tokens[index][0] != start:
            return None
        return tokens[index][0], tokens[index][1]


_NONE: Mapping[str, str] = {}
_KINDS = {"OBJECT_FOREIGN_TABLE": "foreign", "OBJECT_VIEW": "view", "OBJECT_MATVIEW": "matview"}


def _first_location(node: Node) -> int | None:
    first: int | None = None
    stack: list[Any] = [node]
    while stack:
        item = stack.pop()
        if isinstance(item, list):
            stack.extend(item)
            continue
        if not isinstance(item, dict):
            continue
        for key, value in item.items():
            if key == "location":
                if value >= 0 and (first is None or value < first):
                    first = value
            elif isinstance(value, dict | list):
                stack.append(value)
    return first


def blocks(mode: Mode) -> str:
    """``takes ACCESS EXCLUSIVE, which blocks reads and writes``: the lock in a message's words."""
    return f"takes {mode}, which blocks {BLOCKS[mode]}"


def columns_sql(columns: Iterable[str]) -> str:
    """A list of column names for a statement."""
    return ", ".join(identifier(c) for c in columns)
