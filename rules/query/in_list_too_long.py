"""An IN list of a hundred values or more, or one with a placeholder for each value.

Why: each value is a node to scan, parse and plan, in a text that is new for each list; each length
    of list is a statement of its own to pg_stat_statements (before 18) and to a driver's cache of
    prepared statements, and selectivity is estimated value by value.
Fix: = ANY with one array: one literal, or one parameter that takes any number of values.
Silent when: the list is shorter; the values are not literals or placeholders.
Source: PostgreSQL manual, 9.25.3 "ANY/SOME (array)"; scalararraysel() in
    src/backend/utils/adt/selfuncs.c; F.32 pg_stat_statements.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.finding import Edit, Finding, Fix
from sqladvisor.rule import rule
from sqladvisor.sql.datatypes import STRINGS
from sqladvisor.sql.quote import literal
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import constant, operator, unwrap

SCHEMA = """
CREATE TABLE orders (id bigint PRIMARY KEY, ref varchar(20), "Größe" int, total numeric, day date);
"""
_IDS = ", ".join(str(i) for i in range(1, 121))
_REFS = ", ".join(f"'ä{i}'" for i in range(100))
_PLACES = ", ".join(f"${i}" for i in range(2, 62))
BAD = [
    f"SELECT id FROM orders WHERE id IN ({_IDS})",
    f"""SELECT o.id, 'ü' FROM orders o
       WHERE o.total > 5 AND o.ref NOT IN ({_REFS}) ORDER BY o.id""",
    f'DELETE FROM orders WHERE "Größe" IN ({_IDS})',
    f"SELECT id FROM orders WHERE total > $1 AND id IN ({_PLACES})",
    f"UPDATE orders SET total = 0 WHERE EXISTS (SELECT 1 FROM orders o WHERE o.day IN ({_REFS}))",
]
GOOD = [
    "SELECT id FROM orders WHERE id IN (1, 2, 3)",
    f"SELECT id FROM orders WHERE id = ANY (ARRAY[{_IDS}])",
    "SELECT id FROM orders WHERE id IN (SELECT id FROM orders)",
    "SELECT id FROM orders WHERE id IN ($1, $2, $3, $4, $5)",
    f"INSERT INTO orders (id) SELECT unnest(ARRAY[{_IDS}])",
    f"INSERT INTO orders (id) VALUES ({_IDS.replace(', ', '), (')})",
]

_MAX_INTEGER, _MAX_BIGINT = 2**31 - 1, 2**63 - 1


@rule(
    "A_Expr",
    severity="info",
    # Values. Planning 1,000 of them takes about a millisecond; from 100 on it is seen in profiles.
    thresholds={
        "values": 100,
        "many_values": 5000,  # here the text has tens of kilobytes, sent and parsed each time
        "placeholders": 50,  # each of their numbers is a statement of its own
    },
)
def check(expression: Node, ctx: Context) -> Iterator[Finding]:
    if expression.get("kind") != "AEXPR_IN":
        return
    kind, node = unwrap(expression.get("rexpr", {}))
    items = node.get("items", ())
    if kind != "List" or len(items) < min(ctx.threshold("values"), ctx.threshold("placeholders")):
        return
    word = "NOT IN" if operator(expression) == "<>" else "IN"
    at = _head(expression, ctx)
    column = ctx.text(expression.get("lexpr", {}))
    if all(unwrap(i)[0] == "ParamRef" for i in items):
        if len(items) < ctx.threshold("placeholders"):
            return
        yield ctx.finding(
            at,
            f"{column} {word} has {len(items)} placeholders: every other number of values is "
            "another statement to prepare, plan and count",
            fixes=_one_parameter(expression, items, ctx),
        )
    elif len(items) >= ctx.threshold("values") and all(constant(i) is not ... for i in items):
        many = len(items) >= ctx.threshold("many_values")
        yield ctx.finding(
            at,
            f"{column} {word} lists {len(items):,} values: each is parsed and planned anew with "
            "every list, and no two lists share a prepared statement",
            severity="warning" if many else "info",
            fixes=_one_array(expression, items, ctx),
            figures={"values": len(items)},
        )


def _head(expression: Node, ctx: Context) -> tuple[int, int] | Node:
    """What to mark: the comparison up to its parenthesis, not the whole list."""
    left = ctx.span(expression.get("lexpr", {}))
    first = unwrap(expression["rexpr"])[1]["items"][0]
    right = ctx.span(first)
    if left is None or right is None:
        return {"A_Expr": expression}
    return left[0], right[1]


def _operator(expression: Node) -> str:
    return "<> ALL" if operator(expression) == "<>" else "= ANY"


def _edit(expression: Node, array: str, ctx: Context) -> str:
    """The statement with the list replaced by an array; "" where its place is unknown."""
    left = ctx.span(expression.get("lexpr", {}))
    end = _end_of_list(expression, ctx)
    if left is None or end is None:
        return ""
    return ctx.edit(Edit(left[1], end, f" {_operator(expression)} ({array})"))


def _end_of_list(expression: Node, ctx: Context) -> int | None:
    tokens = ctx.spans.tokens
    depth = 0
    for i in range(ctx.spans.token_at(expression.get("location", 0)), len(tokens)):
        name = tokens[i][2]
        depth += (name == "ASCII_40") - (name == "ASCII_41")
        if name == "ASCII_41" and depth == 0:
            return tokens[i][1]
    return None


def _one_parameter(expression: Node, items: list[Node], ctx: Context) -> list[Fix]:
    """One array parameter for the list: where it is the last of the statement's parameters."""
    numbers = [unwrap(i)[1].get("number", 0) for i in items]
    written = [p.text for p in ctx.statement.placeholders if p.number in numbers]
    if numbers != list(range(numbers[0], numbers[0] + len(items))) or len(written) != len(items):
        return []
    after = [n for n in ctx.tree.of("ParamRef") if n.get("number", 0) > numbers[-1]]
    if after and written[0] not in ("?", "%s"):
        return []
    sql = _edit(expression, written[0], ctx)
    return (
        [
            Fix("send the values as one array parameter", sql, "advice"),
        ]
        if sql
        else []
    )


def _one_array(expression: Node, items: list[Node], ctx: Context) -> list[Fix]:
    """The list as one array literal, of the type that the column has."""
    if any(unwrap(i)[0] not in ("A_Const", "A_Expr") for i in items):
        return []
    values = [constant(i) for i in items]
    binding = ctx.binding(expression.get("lexpr", {}))
    definition = binding.definition if binding else None
    if all(isinstance(v, str) for v in values):
        if definition is None or definition.base_type or definition.type.endswith("]"):
            return []
        kind = "text" if definition.type in STRINGS else definition.type
        if definition.type == "character":
            return []
        body = ",".join(json.dumps(v, ensure_ascii=False) for v in values)
        if any(ord(c) < 32 for v in values for c in str(v)):
            return []
    elif all(isinstance(v, int) and not isinstance(v, bool) for v in values):
        numbers = [int(str(v)) for v in values]
        if any(abs(n) > _MAX_BIGINT for n in numbers):
            return []
        kind = "int" if all(abs(n) <= _MAX_INTEGER for n in numbers) else "bigint"
        body = ",".join(str(n) for n in numbers)
    else:
        return []
    sql = _edit(expression, f"{literal('{' + body + '}')}::{kind}[]", ctx)
    return [Fix("write the values as one array literal", sql)] if sql else []
