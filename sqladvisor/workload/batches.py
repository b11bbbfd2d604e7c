"""What the rules that turn many writes into one share: which statements differ only in values,

and when running them together means the same as one after another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import EllipsisType

from sqladvisor.catalog.model import Relation
from sqladvisor.context import Context
from sqladvisor.finding import Edit, Experiment, Severity
from sqladvisor.sql.comparisons import comparison
from sqladvisor.sql.datatypes import type_name
from sqladvisor.sql.quote import identifier
from sqladvisor.sql.resolve import FromItem
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import (
    column_name,
    conjuncts,
    constant,
    function_name,
    is_literal,
    operator,
    unwrap,
    walk,
)
from sqladvisor.workload.repeats import adjacent, tokens_around

ROWS_PER_STATEMENT = 1_000
"""Rows of one batched statement: beyond it the gain per row is spent, and a failure, the memory

of the parser and the time that locks are held keep growing."""
MEASURED_STATEMENTS = 1_000
"""Statements of a batch that are run to measure it: more take seconds and say the same."""
MANY_IN_TRANSACTION = 20
"""Statements. Within one transaction each saves a round trip (about 0.5 ms on a network) and no

commit: fewer together cost less than 10 ms."""

_SEQUENCE_STATE = frozenset(("currval", "lastval", "setval"))


def independent(wrapped: Node, ctx: Context) -> bool:
    """Whether an expression's value cannot depend on what the statement before it wrote."""
    for kind, node in walk(*unwrap(wrapped)):
        if kind in ("SubLink", "ParamRef"):
            return False
        if kind == "FuncCall":
            name = function_name(node)
            info = ctx.catalog.functions.get(name)
            if name in _SEQUENCE_STATE or (info and info.volatility != "immutable"):
                return False
    return True


def severity(contexts: Sequence[Context]) -> Severity:
    """A warning where each statement commits on its own, or where they are many."""
    alone = not contexts[0].statement.in_transaction
    return "warning" if alone or len(contexts) >= MANY_IN_TRANSACTION else "info"


def toll(ctx: Context) -> str:
    """What each of the statements pays that one for all would pay once."""
    if ctx.statement.in_transaction:
        return "each pays its own round trip and plan"
    return "each pays its own round trip, plan and commit"


def together(ctx: Context) -> str:
    """What changes for the writes of one statement that were committed one by one."""
    return "" if ctx.statement.in_transaction else "; a row that fails then fails them all"


def experiment(contexts: Sequence[Context], batched: Sequence[str]) -> Experiment:
    """Both ways, as far as they are worth running. ``batched`` has ROWS_PER_STATEMENT each."""
    return Experiment(
        "batch",
        tuple(c.statement.sql for c in contexts[:MEASURED_STATEMENTS]),
        tuple(batched[: MEASURED_STATEMENTS // ROWS_PER_STATEMENT]),
        "one by one",
        "batched",
    )


def single_row_inserts(contexts: Sequence[Context], at_least: int) -> Iterator[list[Context]]:
    """INSERTs of one row each, in a row, that could be one statement."""
    if sum(c.statement.kind == "InsertStmt" for c in contexts) >= at_least:
        yield from adjacent(contexts, _insert_shape, at_least)


def _insert_shape(ctx: Context) -> tuple[object, ...] | None:
    """What single-row INSERTs must have in common to be one: all but the values of the row."""
    row = row_span(ctx) if ctx.statement.kind == "InsertStmt" else None
    return row and (len(row_values(ctx)), *tokens_around(ctx, [row]))


def row_values(ctx: Context) -> list[Node]:
    """The values of an INSERT of one row; [] for any other."""
    query = unwrap(ctx.statement.tree.get("selectStmt", {}))[1]
    lists = query.get("valuesLists", ())
    return list(unwrap(lists[0])[1].get("items", ())) if len(lists) == 1 else []


def row_span(ctx: Context) -> tuple[int, int] | None:
    """The span of the single ``(…)`` after VALUES; None when the statement is not of that shape."""
    tree = ctx.statement.tree
    values = row_values(ctx)
    if (
        not values
        or tree.get("returningClause")
        or tree.get("returningList")
        or tree.get("onConflictClause", {}).get("action") == "ONCONFLICT_UPDATE"
        or tree.get("withClause")
        or ctx.statement.placeholders
        or not all(independent(v, ctx) for v in values)
    ):
        return None
    tokens = ctx.spans.tokens
    index = ctx.spans.keyword("VALUES")
    if index is None:
        return None
    depth = 0
    for _, end, name in tokens[index + 1 :]:
        depth += (name == "ASCII_40") - (name == "ASCII_41")
        if depth == 0:
            return tokens[index + 1][0], end
    return None


@dataclass(frozen=True, slots=True)
class Slot:
    """A literal of an UPDATE or DELETE that may differ between statements.

    ``column`` is the column it is compared with or assigned to; ``condition`` the comparison, None
    for an assignment; ``whole`` is False for a number within the assigned expression.
    """

    value: Node
    span: tuple[int, int]
    column: str
    condition: Node | None = None
    whole: bool = True


@dataclass(frozen=True, slots=True)
class KeyedWrites:
    """UPDATEs or DELETEs of one table in a row that differ only in the values of some slots."""

    contexts: tuple[Context, ...]
    slots: tuple[tuple[Slot, ...], ...]
    """Per statement, in the order of the text: the slots whose values differ somewhere."""
    item: FromItem

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns whose values tell the statements apart."""
        return tuple(s.column for s in self.slots[0] if s.condition is not None)


def keyed_writes(contexts: Sequence[Context], kind: str, at_least: int) -> Iterator[KeyedWrites]:
    """The runs of UPDATEs or DELETEs by key that could be one statement.

    Each finds its row by equality with literals, no two the same one, and does not change what
    the others are found by: their order is then of no consequence.
    """
    if sum(c.statement.kind == kind for c in contexts) < at_least:
        return
    found: dict[int, list[Slot]] = {}

    def key(ctx: Context) -> tuple[str, ...] | None:
        slots = _slots(ctx) if ctx.statement.kind == kind else None
        if not slots:
            return None
        found[id(ctx)] = slots
        return tokens_around(ctx, [s.span for s in slots])

    for members in adjacent(contexts, key, at_least):
        first = members[0]
        item = first.scope(first.statement.tree, kind).items[0]
        table = [found[id(c)] for c in members]
        varying = [
            i
            for i in range(len(table[0]))
            if len({_written(c, row[i]) for c, row in zip(members, table, strict=True)}) > 1
        ]
        writes = KeyedWrites(
            tuple(members), tuple(tuple(row[i] for i in varying) for row in table), item
        )
        if writes.keys and found_by_key(first):
            assigned = {
                t.get("ResTarget", {}).get("name")
                for t in first.statement.tree.get("targetList", ())
            }
            if not assigned & set(writes.keys) and (kind == "DeleteStmt" or _distinct(writes)):
                yield writes


def _written(ctx: Context, slot: Slot) -> str:
    return ctx.statement.sql[slot.span[0] : slot.span[1]]


def _slots(ctx: Context) -> list[Slot] | None:
    """The literals an UPDATE or DELETE assigns and compares with; None where it does more."""
    tree = ctx.statement.tree
    if (
        any(tree.get(f) for f in ("fromClause", "usingClause", "returningClause", "withClause"))
        or tree.get("returningList")
        or ctx.statement.placeholders
        or not independent({ctx.statement.kind: tree}, ctx)
    ):
        return None
    slots: list[Slot | None] = []
    for wrapped in tree.get("targetList", ()):
        target = wrapped.get("ResTarget", {})
        value = target.get("val", {})
        if "indirection" in target or unwrap(value)[0] == "MultiAssignRef":
            return None
        slots += [
            _slot(ctx, literal, str(target.get("name")), whole=literal is value)
            for literal in _assigned(value)
        ]
    for part in conjuncts(tree.get("whereClause")):
        kind, node = unwrap(part)
        if kind == "A_Expr" and node.get("kind") == "AEXPR_OP" and operator(node) == "=":
            left, right = node.get("lexpr", {}), node.get("rexpr", {})
            if is_literal(left):
                left, right = right, left
            binding = ctx.binding(left)
            if binding and is_literal(right):
                slots.append(_slot(ctx, right, binding.column, part))
    return None if None in slots else [s for s in slots if s]


def _slot(
    ctx: Context, value: Node, column: str, condition: Node | None = None, whole: bool = True
) -> Slot | None:
    span = ctx.span(value)
    return Slot(value, span, column, condition, whole) if span else None


def _assigned(value: Node) -> list[Node]:
    """The literals of an assigned value: itself, or a number it adds, subtracts or multiplies."""
    if constant(value) is not ...:
        return [value]
    kind, node = unwrap(value)
    if kind == "A_Expr" and node.get("kind") == "AEXPR_OP" and operator(node) in ("+", "-", "*"):
        sides = (node.get("lexpr", {}), node.get("rexpr", {}))
        return [s for s in sides if {"ival", "fval"} & s.get("A_Const", {}).keys()]
    return []


def found_by_key(ctx: Context) -> bool:
    """Whether an UPDATE or DELETE finds single rows of its table, as far as that is known."""
    tree = ctx.statement.tree
    if tree.get("fromClause") or tree.get("usingClause"):
        return False
    compared = set()
    for part in conjuncts(tree.get("whereClause")):
        c = comparison(part)
        binding = ctx.binding(c.side) if c and c.operator == "=" else None
        if binding:
            compared.add(binding.column)
    return _is_key(ctx.scope(tree, ctx.statement.kind).items[0], compared)


def _is_key(item: FromItem, compared: set[str]) -> bool:
    relation = item.relation
    if relation is not None:
        return relation.kind in ("table", "partitioned") and relation.is_unique_on(
            compared, nullable=True
        )
    return any(c in ("id", "uuid") or c.endswith("_id") for c in compared)


def _distinct(writes: KeyedWrites) -> bool:
    """Whether each statement has a key of its own: of two that share one, the last must win."""
    seen = set()
    for row in writes.slots:
        value = tuple(_normal(constant(s.value)) for s in row if s.condition is not None)
        if value in seen:
            return False
        seen.add(value)
    return True


def _normal(value: str | float | bool | EllipsisType | None) -> str:
    """A key as text, one for all that PostgreSQL might hold equal: case, blanks, leading zeros."""
    text = str(value).strip().lower()
    return text.lstrip("0") if text.isdigit() else text


def joined(writes: KeyedWrites, keyword: str) -> list[str] | None:
    """The statements as few that join the table with their values (``FROM`` or ``USING``).

    None where the values' types are not known, or names would clash.
    """
    first, slots = writes.contexts[0], writes.slots[0]
    where = first.spans.keyword("WHERE")
    casts = _casts(writes)
    columns = _column_names(first, slots)
    conditions = [first.span(s.condition) if s.condition else s.span for s in slots]
    if where is None or casts is None or columns is None or None in conditions:
        return None
    table = identifier(writes.item.alias)
    alias = "v" if table != "v" else "batch"
    edits = []
    for slot, column, span in zip(slots, columns, conditions, strict=True):
        assert span
        text = f"{alias}.{identifier(column)}"
        if slot.condition:
            text = f"{table}.{identifier(slot.column)} = {text}"
        edits.append(Edit(*span, text))
    place = first.spans.tokens[where][0]
    listed = ", ".join(map(identifier, columns))
    before = first.statement.sql[:place].rstrip(" \t")
    begin = place
    if not before.endswith("\n"):
        begin, keyword = len(before), f"\n{keyword}"
    return [
        first.edit(
            Edit(begin, place, f"{keyword} (VALUES\n{rows}) AS {alias} ({listed})\n"), *edits
        )
        for rows in _values(writes, casts)
    ]


def _column_names(ctx: Context, slots: Sequence[Slot]) -> list[str] | None:
    """Names for the columns of VALUES that no column reference of the statement can mean."""
    plain = [s.column if s.whole else f"{s.column}_by" for s in slots]
    replaced = {
        id(node)
        for s in slots
        if s.condition
        for kind, node in walk(*unwrap(s.condition))
        if kind == "ColumnRef"
    }
    used = {
        column_name(c)[1]
        for c in ctx.tree.of("ColumnRef")
        if column_name(c)[0] is None and id(c) not in replaced
    }
    for names in (plain, [f"new_{n}" for n in plain]):
        if len(set(names)) == len(names) and not used & set(names):
            return names
    return None


def _values(writes: KeyedWrites, casts: list[str]) -> Iterator[str]:
    """The rows of VALUES, by ROWS_PER_STATEMENT; the first of each says what types they have."""
    rows = list(zip(writes.contexts, writes.slots, strict=True))
    for begin in range(0, len(rows), ROWS_PER_STATEMENT):
        texts = []
        for number, (ctx, slots) in enumerate(rows[begin : begin + ROWS_PER_STATEMENT]):
            written = [
                _typed(_written(ctx, s), s.value, "" if number else cast)
                for s, cast in zip(slots, casts, strict=True)
            ]
            texts.append(f"  ({', '.join(written)})")
        yield ",\n".join(texts)


def _typed(text: str, value: Node, cast: str) -> str:
    bare = not cast or ("A_Const" in value and not text.startswith("-"))
    return text + cast if bare else f"({text}){cast}"


def _casts(writes: KeyedWrites) -> list[str] | None:
    """What to append to the first row's values so that each column of VALUES has its column's

    type; None where nobody knows that type.
    """
    result = []
    for position, slot in enumerate(writes.slots[0]):
        values = [row[position].value for row in writes.slots]
        cast = _cast(values, slot, writes.item.relation) if slot.whole else ""
        if cast is None:
            return None
        result.append(cast)
    return result


def _cast(values: list[Node], slot: Slot, relation: Relation | None) -> str | None:
    types = {
        type_name(unwrap(v)[1].get("typeName", {})) for v in values if unwrap(v)[0] == "TypeCast"
    }
    fixed = {type(c) for v in values if (c := constant(v)) is not None}
    if types:
        # Where all that are not NULL are cast to one type, nothing needs to be added.
        cast_all = all(unwrap(v)[0] == "TypeCast" or constant(v) is None for v in values)
        return "" if len(types) == 1 and cast_all else None
    if fixed in ({bool}, {int}, {float}, {int, float}):
        return ""
    column = relation.column(slot.column) if relation else None
    if column is None or not fixed <= {str}:
        return None
    if column.type == "text" and fixed:
        return ""
    if column.type.startswith(("bit", "character[")):
        return None
    # Without a length, character is character(1) in a cast.
    return "::" + ("bpchar" if column.type == "character" else column.type)


def lookup_list(writes: KeyedWrites) -> list[str]:
    """The statements of one key as few with ``key IN (…)``: valid whatever the key's type is."""
    first, (slot,) = writes.contexts[0], writes.slots[0]
    assert slot.condition
    span = first.span(slot.condition)
    node = unwrap(slot.condition)[1]
    key = first.text(node["rexpr"] if is_literal(node["lexpr"]) else node["lexpr"])
    values = list(
        dict.fromkeys(_written(c, s) for c, (s,) in zip(writes.contexts, writes.slots, strict=True))
    )
    return [
        first.edit(Edit(*span, f"{key} IN ({', '.join(values[i : i + ROWS_PER_STATEMENT])})"))
        for i in range(0, len(values), ROWS_PER_STATEMENT)
        if span
    ]


def table_name(item: FromItem) -> str:
    """The written table as a message names it."""
    return item.name if item.schema is None else f"{item.schema}.{item.name}"
