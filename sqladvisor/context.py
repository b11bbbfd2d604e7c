"""What a rule can ask while it looks at a statement: names, text, catalog, plan, thresholds.

This is the API rule authors write against. It reads; it never prints or connects.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sqladvisor.finding import Edit, Evidence, Experiment, Finding, Fix, Level, Location, Severity
from sqladvisor.sql.spans import Spans
from sqladvisor.sql.statement import Node, Statement
from sqladvisor.sql.tree import Tree, unwrap

if TYPE_CHECKING:
    from sqladvisor.catalog.model import Catalog
    from sqladvisor.plan.node import Plan, PlanNode
    from sqladvisor.rule import Rule
    from sqladvisor.sql.resolve import Binding, FromItem, Resolver, Scope

SMALL_RELATION_ROWS = 10_000
"""Rows. Below it a sequential scan takes about a millisecond (100 to 200 pages of 8 kB at

usual row widths): performance rules stay silent where the catalog knows a relation is that small.
"""

_LABELLED = frozenset(("SelectStmt", "ReturningClause"))
_ENDS = frozenset(("ASCII_41", "ASCII_93"))
_GOES_ON = frozenset(
    ("Op", "TYPECAST", "NOT", "NOT_LA", "AND", "OR", "LIKE", "ILIKE", "SIMILAR", "IN_P", "BETWEEN",
     "COLLATE", "ZONE", "IS", "FROM", "LESS_EQUALS", "GREATER_EQUALS", "NOT_EQUALS", "OPERATOR",
     "DISTINCT", "OVER", "AS", "CASE", "WHEN", "THEN", "ELSE")
)  # fmt: skip


class Context:
    """One statement under one catalog. ``rule`` is set by the engine before each check."""

    def __init__(
        self,
        statement: Statement,
        catalog: Catalog,
        *,
        fingerprint: str = "",
        thresholds: Mapping[str, Mapping[str, float]] | None = None,
    ) -> None:
        self.statement = statement
        self.catalog = catalog
        self.plan: Plan | None = None
        self.rule: Rule
        self._fingerprint = fingerprint
        self._thresholds = thresholds or {}

    # -- the statement --------------------------------------------------------------------------

    @cached_property
    def tree(self) -> Tree:
        return Tree(self.statement.kind, self.statement.tree)

    @cached_property
    def resolver(self) -> Resolver:
        # Migrations are judged without it, mostly: start-up must not pay for it.
        from sqladvisor.sql.resolve import Resolver

        return Resolver(self.tree, self.catalog)

    @cached_property
    def spans(self) -> Spans:
        return Spans(self.statement.sql)

    @cached_property
    def fingerprint(self) -> str:
        """libpg_query's fingerprint: equal for statements that differ only in literals."""
        if not self._fingerprint:
            from sqladvisor.sql import libpg

            self._fingerprint = libpg.fingerprint(self.statement.sql)
        return self._fingerprint

    def span(self, wrapped: Node) -> tuple[int, int] | None:
        """Where a wrapped node stands: (start, end) offsets in ``statement.sql``."""
        kind, node = unwrap(wrapped)
        span = self.spans.of(kind, node)
        if span is None:
            return None
        start, end = span
        above_kind, above = self.tree.parent(node)
        if above_kind == "ResTarget" and self.tree.parent(above)[0] in _LABELLED:
            end = self._before_label(start, end, above.get("name"))
        for above_kind, above in self.tree.ancestors(node):
            if above_kind == "SelectStmt":
                break
            # An operator around the node is never in its text: the node ends before it.
            if start < above.get("location", -1) < end:
                end = self.spans.tokens[self.spans.token_at(above["location"]) - 1][1]
        return start, end

    def _before_label(self, start: int, end: int, name: str | None) -> int:
        """Where an output column's expression ends, when its span took in a name without AS."""
        tokens, last = self.spans.tokens, self.spans.token_at(end - 1)
        if name is None or tokens[last][0] <= start:
            return end
        written = self.spans.sql[tokens[last][0] : tokens[last][1]]
        named = written.strip('"').replace('""', '"') == name or written.lower() == name
        # What stands before a label ends an expression: in (1 + n) n the first n does not.
        before = tokens[last - 1][2]
        ends = before in _ENDS or not (before.startswith("ASCII_") or before in _GOES_ON)
        return tokens[last - 1][1] if named and ends else end

    def text(self, wrapped: Node) -> str:
        """The source text of a wrapped node, as written (``:id``, not ``$1``); "" if unknown."""
        span = self.span(wrapped)
        if span is None:
            return ""
        start, end = (self.statement.to_text(offset) for offset in span)
        return self.statement.text[start:end]

    def positional(self, wrapped: Node) -> bool:
        """Whether a node holds a placeholder that its place numbers (``?``, ``%s``): a rewrite

        can then neither repeat nor reorder it."""
        span = self.span(wrapped)
        if span is None:
            return bool(self.statement.placeholders)
        start, end = (self.statement.to_text(offset) for offset in span)
        return any(
            p.text in ("?", "%s") and start <= p.start < end for p in self.statement.placeholders
        )

    # -- names ----------------------------------------------------------------------------------

    def scope(self, query: Node, kind: str = "SelectStmt") -> Scope:
        """The FROM items of a query node."""
        return self.resolver.scope(query, kind)

    def resolve(self, column: Node) -> Binding | None:
        """What a (bare) ColumnRef node means."""
        return self.resolver.resolve(column)

    def binding(self, wrapped: Node) -> Binding | None:
        """What a wrapped node means if it is a plain column reference."""
        kind, node = unwrap(wrapped)
        return self.resolver.resolve(node) if kind == "ColumnRef" else None

    def rows(self, item: FromItem) -> float | None:
        """Estimated rows of a table (pg_class.reltuples), None when nobody knows."""
        return item.rows

    def small(self, item: FromItem) -> bool:
        """Whether a table is known to be so small that how it is read does not matter."""
        return item.rows is not None and item.rows < SMALL_RELATION_ROWS

    # -- results --------------------------------------------------------------------------------

    def threshold(self, name: str) -> float:
        """A threshold of the running rule: the user's setting, else the rule's default."""
        own = self._thresholds.get(self.rule.id, {})
        return own.get(name, self.rule.thresholds[name])

    def edit(self, *edits: Edit) -> str:
        """The statement's text with edits applied.

        Offsets are in ``statement.sql``; the result keeps every other byte as written.
        """
        text = self.statement.text
        for change in sorted(edits, key=lambda e: (e.start, e.end), reverse=True):
            start, end = self.statement.to_text(change.start), self.statement.to_text(change.end)
            text = text[:start] + change.text + text[end:]
        return text

    def finding(
        self,
        at: Node | tuple[int, int] | PlanNode | None,
        message: str,
        *,
        severity: Severity | None = None,
        fixes: Iterable[Fix] = (),
        level: Level = "static",
        figures: Mapping[str, Any] | None = None,
        notes: Sequence[str] = (),
        experiment: Experiment | None = None,
    ) -> Finding:
        """A finding of the running rule.

        ``at``: a wrapped node, a span of ``statement.sql``, a plan node (marked at its relation
        in the text), or None for the statement's first word.
        """
        return Finding(
            rule=self.rule.id,
            severity=severity or self.rule.severity,
            message=message,
            location=self.place(at),
            statement=self.statement.text,
            fingerprint=self.fingerprint,
            evidence=Evidence(level, dict(figures or {}), tuple(notes)),
            fixes=tuple(fixes),
            experiment=experiment,
        )

    def place(self, at: Node | tuple[int, int] | PlanNode | None) -> Location:
        """Where a finding at this place is shown: what ``finding`` takes, in the input file."""
        statement = self.statement
        span = self._span_of(at)
        if span is None:
            first = statement.text.split(None, 1)[0] if statement.text.split() else ""
            return statement.locate(0, len(first))
        return statement.locate(statement.to_text(span[0]), statement.to_text(span[1]))

    def _span_of(self, at: Node | tuple[int, int] | PlanNode | None) -> tuple[int, int] | None:
        if at is None or isinstance(at, tuple):
            return at
        if isinstance(at, dict):
            return self.span(at)
        for table in self.tree.of("RangeVar"):
            alias = table.get("alias", {}).get("aliasname") or table.get("relname")
            if at.alias == alias or (at.alias is None and at.relation == table.get("relname")):
                return self.spans.of("RangeVar", table)
        return None
