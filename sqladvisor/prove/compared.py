"""What statements compare their columns with: the values around which a wrong rewrite shows.

Read from parse trees: constants, parameters, other columns. Columns are named by their table where
the catalog tells it, by their name alone otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from sqladvisor.context import Context
from sqladvisor.sql.comparisons import FLIPPED
from sqladvisor.sql.quote import literal
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import (
    children,
    constant,
    function_name,
    is_pseudo_constant,
    names,
    operator,
    unwrap,
    walk,
)

Key = tuple[str, str]
"""(``schema.table``, column); the table is "" where it is not known."""

_FIXED = frozenset(
    ("A_Const", "TypeCast", "FuncCall", "SQLValueFunction", "A_Expr", "A_ArrayExpr", "CoalesceExpr",
     "RowExpr")
)  # fmt: skip
MAX_OPERANDS = 40
"""Of one column: what a list of thousands of values has beyond it tells nothing new."""


@dataclass(frozen=True, slots=True)
class Operand:
    """A constant expression, as SQL text, and the operator as if the column stood on the left."""

    text: str
    operator: str


@dataclass(slots=True)
class Compared:
    """What all the statements given compare, in the order of their text."""

    operands: dict[Key, dict[Operand, None]] = field(default_factory=dict)
    parameters: dict[int, dict[tuple[Key, str], None]] = field(default_factory=dict)
    """Columns and operators by the number of the parameter they are compared with."""
    limits: set[int] = field(default_factory=set)
    """Parameters that stand in LIMIT or OFFSET."""
    links: list[tuple[Key, Key]] = field(default_factory=list)
    """Columns that are compared with each other."""
    literals: dict[str, None] = field(default_factory=dict)
    """Every constant, wherever it stands."""
    names: set[str] = field(default_factory=set)
    """Names of all columns mentioned."""
    whole_rows: bool = False
    """Whether columns are used that are not mentioned (``*``, NATURAL JOIN)."""


def compared(contexts: Iterable[Context], numbers: bool = True) -> Compared:
    """What these statements compare; ``numbers`` False leaves their parameters out."""
    result = Compared()
    for ctx in contexts:
        _names(ctx, result)
        for node in ctx.tree.of("A_Expr"):
            _expression(node, ctx, result, numbers)
        for node in ctx.tree.of("SubLink"):
            _sublink(node, ctx, result)
        for node in ctx.tree.of("A_Const"):
            if (text := _constant({"A_Const": node})) is not None:
                result.literals.setdefault(text)
        for select in ctx.tree.of("SelectStmt"):
            for name in ("limitCount", "limitOffset"):
                for kind, inner in walk(*unwrap(select.get(name, {}))):
                    if kind == "ParamRef" and numbers:
                        result.limits.add(int(inner.get("number", 0)))
    return result


def _names(ctx: Context, result: Compared) -> None:
    tree = ctx.tree
    for node in tree.of("ColumnRef"):
        parts = names(node.get("fields"))
        if parts:
            result.names.add(parts[-1])
            result.whole_rows |= parts[-1] == "*"
    for node in tree.of("ResTarget"):
        result.names.add(str(node.get("name", "")))
    for join in tree.of("JoinExpr"):
        result.whole_rows |= bool(join.get("isNatural"))
        using = names(join.get("usingClause"))
        result.names.update(using)
    for insert in tree.of("InsertStmt"):
        result.whole_rows |= "cols" not in insert


@dataclass(slots=True)
class _Parts:
    columns: list[Node] = field(default_factory=list)
    constants: list[Node] = field(default_factory=list)
    parameters: list[int] = field(default_factory=list)


def _parts(wrapped: Node, found: _Parts) -> _Parts:
    kind, node = unwrap(wrapped)
    if kind == "ColumnRef":
        found.columns.append(node)
    elif kind == "ParamRef":
        found.parameters.append(int(node.get("number", 0)))
    elif kind in _FIXED and is_pseudo_constant(wrapped) and not _has_parameter(kind, node):
        found.constants.append(wrapped)
    elif kind not in ("SubLink", "String", "TypeName", ""):
        for child_kind, child in children(node):
            _parts({child_kind: child}, found)
    return found


def _has_parameter(kind: str, node: Node) -> bool:
    return any(k == "ParamRef" for k, _ in walk(kind, node))


def _expression(node: Node, ctx: Context, result: Compared, numbers: bool) -> None:
    name = operator(node)
    left = _parts(node.get("lexpr", {}), _Parts())
    right = _parts(node.get("rexpr", {}), _Parts())
    for one, other, how in ((left, right, name), (right, left, FLIPPED.get(name, name))):
        keys = [k for column in one.columns if (k := _key(column, ctx))]
        # What stands opposite the column first; what it is computed with after it.
        texts = [t for c in (*other.constants, *one.constants) if (t := _text(c, ctx))]
        texts += _sums(one.constants, other.constants)
        if node.get("kind") in ("AEXPR_OP_ANY", "AEXPR_OP_ALL"):
            texts += [f"({t}::text[])[{place}]" for t in texts[:1] for place in (1, 2, 3)]
        for key in keys:
            known = result.operands.setdefault(key, {})
            for text in texts[: MAX_OPERANDS - len(known)]:
                known.setdefault(Operand(text, how))
            for number in (*other.parameters, *one.parameters) if numbers else ():
                result.parameters.setdefault(number, {}).setdefault((key, how))
        if one is left:
            others = [k for column in right.columns if (k := _key(column, ctx))]
            result.links += [(a, b) for a in keys for b in others if a != b]


def _sums(mine: list[Node], others: list[Node]) -> list[str]:
    """Where ``column + 1 > 100`` turns: at 99."""
    found = []
    for a in mine[:2]:
        for b in others[:2]:
            x, y = constant(a), constant(b)
            if isinstance(x, int | float) and isinstance(y, int | float):
                found += [f"{y} - {x}" if x >= 0 else f"{y} + {-x}", f"{y} + {x}"]
                found += [f"{y}::numeric / {x}"] if x else []
    return found


def _sublink(node: Node, ctx: Context, result: Compared) -> None:
    tested = _parts(node.get("testexpr", {}), _Parts()).columns
    kind, query = unwrap(node.get("subselect", {}))
    if kind != "SelectStmt":
        return
    for column, target in zip(tested, query.get("targetList", ()), strict=False):
        inner_kind, inner = unwrap(target.get("ResTarget", {}).get("val", {}))
        one = _key(column, ctx)
        other = _key(inner, ctx) if inner_kind == "ColumnRef" else None
        if one and other:
            result.links.append((one, other))


def _key(column: Node, ctx: Context) -> Key | None:
    parts = names(column.get("fields"))
    if not parts or parts[-1] == "*":
        return None
    binding = ctx.resolve(column)
    origin = ctx.resolver.origin(binding) if binding else None
    found = origin or binding
    relation = found.item.relation if found else None
    if found and relation and relation.kind != "view":
        return f"{relation.schema}.{relation.name}", found.column
    return "", found.column if found else parts[-1]


def _text(wrapped: Node, ctx: Context) -> str | None:
    kind, node = unwrap(wrapped)
    if kind == "A_Const":
        return _constant(wrapped)
    if kind == "FuncCall" and function_name(node) in ("array_agg",):
        return None
    span = ctx.span(wrapped)
    if span is None:
        value = constant(wrapped)
        return literal(value) if isinstance(value, str) else None
    return ctx.statement.sql[span[0] : span[1]]


def _constant(wrapped: Node) -> str | None:
    value = constant(wrapped)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return literal(value)
    if isinstance(value, int | float):
        return str(value)
    return None
