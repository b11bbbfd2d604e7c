"""Values for ``$n`` parameters, taken from planner statistics, so that plans are custom plans.

A value is a literal ready to stand in the statement. Where the statistics say nothing about a
parameter there is no value: then only the generic plan can be had, and nothing is executed.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqladvisor.context import Context
from sqladvisor.sql.quote import literal
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import operator, unwrap, walk

LIMIT_VALUE, OFFSET_VALUE = "20", "0"
"""A page as applications ask for: the first one."""


def has_parameters(ctx: Context) -> bool:
    """Whether the statement has ``$n`` parameters (written so, or another style turned into them)."""
    return bool(ctx.tree.by_kind.get("ParamRef"))


def with_values(ctx: Context) -> str | None:
    """The statement's SQL with each parameter replaced by a frequent value of its column.

    None when a parameter is compared with nothing whose statistics are known.
    """
    if not has_parameters(ctx):
        return ctx.statement.sql
    values = parameter_values(ctx)
    return None if values is None else bind(ctx, values)


def parameter_values(ctx: Context) -> dict[int, str] | None:
    """A literal for each parameter's number; None when one of them cannot be given a value."""
    values = _values(ctx)
    numbers = {int(p.get("number", 0)) for p in ctx.tree.of("ParamRef")}
    return None if numbers - values.keys() else values


def bind(ctx: Context, values: Mapping[int, str]) -> str:
    """The statement's SQL with literals in the places of its parameters."""
    sql = ctx.statement.sql
    for start, end, name in reversed(ctx.spans.tokens):
        if name == "PARAM":
            sql = sql[:start] + values[int(sql[start + 1 : end])] + sql[end:]
    return sql


def with_limits(ctx: Context) -> str:
    """The statement's SQL with literals for the parameters of LIMIT and OFFSET, the others renumbered.

    For statements that pg_stat_statements recorded: it shows every literal as a parameter, and those
    of LIMIT are hardly ever anything else.
    """
    limits: dict[int, str] = {}
    for query in ctx.tree.of("SelectStmt"):
        for field, value in (("limitCount", LIMIT_VALUE), ("limitOffset", OFFSET_VALUE)):
            limits |= dict.fromkeys(_parameters(query.get(field, {})), value)
    numbers = {int(p.get("number", 0)) for p in ctx.tree.of("ParamRef")} - limits.keys()
    kept = {number: f"${place}" for place, number in enumerate(sorted(numbers), 1)}
    return bind(ctx, kept | limits) if limits else ctx.statement.sql


def with_types(ctx: Context) -> str:
    """The statement's SQL with each parameter cast to the type of the column it is compared with.

    For a parameter whose type PostgreSQL cannot infer, because of where it stands first:
    ``$1 IS NULL OR id = $1``.
    """
    types = {int(p.get("number", 0)): "" for p in ctx.tree.of("ParamRef")}
    for node in ctx.tree.of("A_Expr"):
        left, right = node.get("lexpr", {}), node.get("rexpr", {})
        array = "[]" if node.get("kind") in ("AEXPR_OP_ANY", "AEXPR_OP_ALL") else ""
        for column, other in ((left, right), (right, left)):
            binding = ctx.binding(column)
            kind, parameter = unwrap(other)
            if kind == "ParamRef" and binding is not None and binding.definition is not None:
                number = int(parameter.get("number", 0))
                types[number] = types[number] or f"::{binding.definition.type}{array}"
    return bind(ctx, {number: f"${number}{type_}" for number, type_ in types.items()})


def _values(ctx: Context) -> dict[int, str]:
    found: dict[int, str] = {}
    for node in ctx.tree.of("A_Expr"):
        left, right = node.get("lexpr", {}), node.get("rexpr", {})
        for column, other in ((left, right), (right, left)):
            binding = ctx.binding(_inner(column))
            definition = binding.definition if binding else None
            if definition is None or definition.stats is None:
                continue
            stats = definition.stats
            bounds = stats.histogram_bounds
            pool = [*stats.most_common_vals, *bounds[len(bounds) // 2 :], *bounds]
            if operator(node) in ("<", "<=", ">", ">=") and bounds:
                pool = [bounds[len(bounds) // 2], *pool]
            if not pool:
                continue
            for taken, number in enumerate(_parameters(other)):
                value = pool[min(taken, len(pool) - 1)]
                if operator(node) in ("~~", "~~*"):
                    value = value[:3] + "%"
                found.setdefault(number, _typed(value, definition.type, node))
    for query in ctx.tree.of("SelectStmt"):
        for field, value in (("limitCount", LIMIT_VALUE), ("limitOffset", OFFSET_VALUE)):
            for number in _parameters(query.get(field, {})):
                found.setdefault(number, value)
    return found


def _inner(wrapped: Node) -> Node:
    kind, node = unwrap(wrapped)
    if kind == "FuncCall" and len(node.get("args", ())) == 1:
        return _inner(node["args"][0])
    return _inner(node.get("arg", {})) if kind == "TypeCast" else wrapped


def _parameters(wrapped: Node) -> list[int]:
    kind, node = unwrap(wrapped)
    return [int(n.get("number", 0)) for k, n in walk(kind, node) if k == "ParamRef"] if kind else []


def _typed(value: str, type_name: str, comparison: Node) -> str:
    if comparison.get("kind") in ("AEXPR_OP_ANY", "AEXPR_OP_ALL"):
        return f"{literal('{' + _array_item(value) + '}')}::{type_name}[]"
    return typed_value(value, type_name)


def typed_value(value: str, type_name: str) -> str:
    """A value as PostgreSQL prints it, as a literal of its type (``format_type()``'s name)."""
    return f"{literal(value)}::{type_name}"


def _array_item(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
