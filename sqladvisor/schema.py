"""What a rule about the schema itself can ask: the catalog, where it is written, who uses it.

Schema rules look at tables and indexes, not at a statement. What they find is shown at the CREATE
statement it is about, in the schema file; of a live server there is only its name to show.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqladvisor.context import SMALL_RELATION_ROWS, Context
from sqladvisor.finding import Evidence, Finding, Fix, Level, Location, Severity
from sqladvisor.sql.statement import Node, Statement
from sqladvisor.sql.tree import names, unwrap

if TYPE_CHECKING:
    from sqladvisor.catalog.model import Catalog, ForeignKey, Index, Relation
    from sqladvisor.rule import Rule

BIG_RELATION_PAGES = 1_000
"""Pages of 8192 bytes (8 MB). What an index of a smaller table costs is not worth a word."""


@dataclass(frozen=True, slots=True)
class _Made:
    """Where an object is made: characters ``start`` to ``end`` of a statement's text."""

    statement: Statement
    start: int
    end: int
    columns: tuple[str, ...] = ()


class Places:
    """Where tables, indexes and foreign keys are written in schema files.

    ``name`` is what stands for their path where there is no file: the server.
    """

    def __init__(self, name: str, statements: Iterable[Statement] = ()) -> None:
        self.name = name
        self._tables: dict[str, _Made] = {}
        self._indexes: dict[str, _Made] = {}
        self._unnamed: dict[str, list[_Made]] = {}
        self._constraints: dict[tuple[str, str], list[_Made]] = {}
        for statement in statements:
            self._read(statement)

    def table(self, relation: Relation) -> _Made | None:
        return self._tables.get(relation.name)

    def index(self, relation: Relation, index: Index) -> _Made | None:
        """CREATE INDEX; the constraint or the table that implies the index where it is implied."""
        named = self._indexes.get(index.name)
        if named is None and index.constraint:
            columns = tuple(k or "" for k in index.keys)
            named = self._constraint(relation, columns, ("CONSTR_PRIMARY", "CONSTR_UNIQUE"))
        if named is None:
            columns = tuple(k or "" for k in index.keys)
            unnamed = self._unnamed.get(relation.name, ())
            same = [m for m in unnamed if m.columns == columns]
            # Of several alike PostgreSQL numbers the names in the order of the text: a_idx, a_idx1.
            ordinal = _ordinal(relation, index)
            named = same[min(ordinal, len(same) - 1)] if same else None
        return named or self.table(relation)

    def foreign_key(self, relation: Relation, key: ForeignKey) -> _Made | None:
        return self._constraint(relation, key.columns, ("CONSTR_FOREIGN",)) or self.table(relation)

    def _constraint(
        self, relation: Relation, columns: tuple[str, ...], kinds: Sequence[str]
    ) -> _Made | None:
        found = (m for k in kinds for m in self._constraints.get((relation.name, k), ()))
        return next((m for m in found if m.columns == columns), None)

    def _read(self, statement: Statement) -> None:
        kind, tree = statement.kind, statement.tree
        table = str(tree.get("relation", {}).get("relname", ""))
        if kind == "CreateStmt":
            self._tables[table] = _whole(statement)
            for element in tree.get("tableElts", ()):
                element_kind, node = unwrap(element)
                if element_kind == "ColumnDef":
                    for constraint in node.get("constraints", ()):
                        self._add(table, unwrap(constraint)[1], (node["colname"],), statement)
                elif element_kind == "Constraint":
                    self._add(table, node, (), statement)
        elif kind == "AlterTableStmt":
            for command in tree.get("cmds", ()):
                element_kind, node = unwrap(unwrap(command)[1].get("def", {}))
                if element_kind == "Constraint":
                    self._add(table, node, (), statement)
        elif kind == "IndexStmt":
            columns = tuple(str(unwrap(p)[1].get("name", "")) for p in tree.get("indexParams", ()))
            made = _whole(statement, columns)
            if tree.get("idxname"):
                self._indexes[str(tree["idxname"])] = made
            else:
                self._unnamed.setdefault(table, []).append(made)

    def _add(self, table: str, node: Node, columns: tuple[str, ...], statement: Statement) -> None:
        kind = str(node.get("contype", ""))
        listed = names(node.get("fk_attrs") if kind == "CONSTR_FOREIGN" else node.get("keys"))
        start = statement.to_text(node.get("location", 0))
        end = start + len(statement.text[start:].split(None, 1)[0]) if start else 0
        made = _Made(statement, start, end, listed or columns)
        self._constraints.setdefault((table, kind), []).append(made)
        if node.get("conname"):
            self._indexes.setdefault(str(node["conname"]), made)


def _whole(statement: Statement, columns: tuple[str, ...] = ()) -> _Made:
    return _Made(statement, 0, len(statement.text.partition("\n")[0].rstrip()), columns)


def _ordinal(relation: Relation, index: Index) -> int:
    same = [i.name for i in relation.indexes if i.keys == index.keys and not i.constraint]
    return same.index(index.name) if index.name in same else 0


@dataclass(slots=True)
class SchemaContext:
    """The schema under audit. ``rule`` is set by the engine before each check."""

    catalog: Catalog
    places: Places
    contexts: Sequence[Context] = ()
    """The statements audited along with it. They are never all there are: an index that none of

    them uses is not thereby unused."""
    advised: Sequence[tuple[str, tuple[str, ...]]] = ()
    """(table as written in DDL, keys) of the indexes advised already."""
    thresholds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    rule: Rule = field(init=False)

    @property
    def statement(self) -> Statement:
        """Stands for the whole schema where the engine has to name a place."""
        return Statement(self.places.name, "", "", 0, 1, 1, "", {})

    def threshold(self, name: str) -> float:
        """A threshold of the running rule: the user's setting, else the rule's default."""
        own = self.thresholds.get(self.rule.id, {})
        return own.get(name, self.rule.thresholds[name])

    def tables(self) -> list[Relation]:
        """Tables and materialized views whose indexes are theirs to keep or drop, by name.

        Partitions are left out: their indexes and keys are those of the partitioned table.
        """
        return [
            r
            for _, r in sorted(self.catalog.relations.items())
            if r.kind in ("table", "partitioned", "matview") and not r.partition and not r.temporary
        ]

    def small(self, relation: Relation) -> bool:
        """Whether a table is known to be so small that its indexes do not matter."""
        return relation.rows is not None and relation.rows < SMALL_RELATION_ROWS

    def used_by(self, index: Index) -> list[Context]:
        """The audited statements whose plan uses an index."""
        return [c for c in self.contexts if c.plan and index.name in c.plan.indexes_used()]

    def finding(
        self,
        relation: Relation,
        message: str,
        *,
        index: Index | None = None,
        key: ForeignKey | None = None,
        severity: Severity | None = None,
        fixes: Iterable[Fix] = (),
        level: Level = "static",
        figures: Mapping[str, Any] | None = None,
        notes: Sequence[str] = (),
    ) -> Finding:
        """A finding of the running rule about a table, or its index or foreign key."""
        if index is not None:
            made = self.places.index(relation, index)
        elif key is not None:
            made = self.places.foreign_key(relation, key)
        else:
            made = self.places.table(relation)
        name = index.name if index else key.name if key else ""
        return Finding(
            rule=self.rule.id,
            severity=severity or self.rule.severity,
            message=message,
            location=made.statement.locate(made.start, made.end)
            if made
            else Location(self.places.name, 1, 1, 1, 1),
            statement=made.statement.text if made else "",
            fingerprint=".".join(filter(None, (relation.schema, relation.name, name))),
            evidence=Evidence(level, dict(figures or {}), tuple(notes)),
            fixes=tuple(fixes),
        )
