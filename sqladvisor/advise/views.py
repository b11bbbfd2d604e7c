"""What a statement wants of the tables behind views: its conditions on a view's columns, at their tables.

PostgreSQL pulls a plain view's query up into the statement: a condition on a column that the view takes
from a table as it is can use an index of that table.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from sqladvisor.advise.wants import Wanted, wanted
from sqladvisor.context import Context
from sqladvisor.sql.resolve import Binding
from sqladvisor.sql.source import read_source, statements
from sqladvisor.sql.tree import column_name, unwrap

MAX_DEPTH = 8
"""Views within views that are looked through."""
_KEEPS_CONDITIONS_OUT = frozenset(
    ("groupClause", "distinctClause", "limitCount", "limitOffset", "havingClause")
)
"""Clauses of a view's query that a condition is not (or not always) moved across."""


def wanted_behind_views(ctx: Context, depth: int = 0) -> list[Wanted]:
    """What ``wants.wanted`` says, with each view replaced by the tables behind it."""
    result: list[Wanted] = []
    for want in wanted(ctx):
        relation = want.item.relation
        if relation is not None and relation.kind == "view":
            if relation.definition and depth < MAX_DEPTH:
                result += _behind(want, relation.definition, ctx, depth)
        else:
            result.append(want)
    return result


def _behind(want: Wanted, definition: str, ctx: Context, depth: int) -> Iterator[Wanted]:
    found, _ = statements(read_source("view", definition.encode()))
    if len(found) != 1 or found[0].kind != "SelectStmt":
        return
    inner = Context(found[0], ctx.catalog)
    select = found[0].tree
    levels = wanted(inner)
    # ``op`` is there, as SETOP_NONE, in every SELECT.
    set_operation = select.get("op", "SETOP_NONE") != "SETOP_NONE"
    if not set_operation and not _KEEPS_CONDITIONS_OUT & select.keys():
        _move(want, levels, inner)
    for level in levels:
        relation = level.item.relation
        if relation is not None and relation.kind == "view":
            if relation.definition and depth + 1 < MAX_DEPTH:
                yield from _behind(level, relation.definition, ctx, depth + 1)
        else:
            yield level


def _move(want: Wanted, levels: list[Wanted], inner: Context) -> None:
    """Add what is wanted of a view's columns to what is wanted of the tables that they come from."""
    columns = dict(_outputs(inner))
    by_item = {id(level.item): level for level in levels}
    for predicate in want.predicates:
        source = columns.get(predicate.key)
        level = by_item.get(id(source.item)) if source else None
        if source and level and not predicate.is_expression:
            level.predicates.append(
                replace(
                    predicate,
                    key=source.column,
                    columns=(source.column,),
                    literal=False,
                    bare="",
                )
            )
    ordered = [(columns.get(name), direction) for name, direction in want.order]
    first = ordered[0][0] if ordered else None
    if first and all(b and b.item is first.item for b, _ in ordered):
        level = by_item.get(id(first.item))
        if level is not None:
            level.order = tuple((b.column, direction) for b, direction in ordered if b)
            level.limited = want.limited


def _outputs(inner: Context) -> Iterator[tuple[str, Binding]]:
    """The view's columns that are a table's columns as they are, by name."""
    for target in inner.statement.tree.get("targetList", ()):
        node = target.get("ResTarget", {})
        kind, column = unwrap(node.get("val", {}))
        binding = inner.resolve(column) if kind == "ColumnRef" else None
        if binding is not None and binding.definition is not None and not binding.depth:
            yield str(node.get("name") or column_name(column)[1]), binding
