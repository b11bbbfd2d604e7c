"""A column is compared with a value of a type that makes PostgreSQL cast the column.

Why: an integer column against 5.0 is compared as numeric, so the column is cast in every row and
    an index on it, which holds integers, cannot be used. Of citext a value declared as text makes
    the comparison that of text: it heeds case again. Text against a number is refused outright.
Fix: the value in the column's own type. Whole numbers give the same rows; where a value has to be
    rounded, or case stops mattering, it is said.
Silent when: the value is a quoted literal or a bare parameter, which take the column's type; an
    operator takes both types (integer and bigint, timestamp and date, text and varchar); the table
    is known to be small; a key finds the row anyway; the type of the column is not known.
Source: PostgreSQL manual, 10.2 "Operators" (type resolution) and 11.10 "Operator Classes and
    Operator Families".
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from sqladvisor.context import Context
from sqladvisor.finding import Edit, Finding, Fix
from sqladvisor.rule import rule
from sqladvisor.sql.casts import Cast, cast_between, column_type, value_type
from sqladvisor.sql.comparisons import FLIPPED, conditions, narrowing
from sqladvisor.sql.datatypes import INTEGERS, STRINGS
from sqladvisor.sql.resolve import Binding, Scope
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import conjuncts, function_name, is_literal, operator, unwrap, walk

if TYPE_CHECKING:
    from decimal import Decimal

SCHEMA = """
CREATE EXTENSION citext;
CREATE DOMAIN amount AS numeric(12, 2);
CREATE TABLE users (id bigint PRIMARY KEY, email citext UNIQUE, name text, code varchar(9),
    "Größe" integer, score double precision, token uuid, active boolean, created_at timestamptz);
CREATE INDEX users_size_idx ON users ("Größe");
CREATE TABLE orders (id integer PRIMARY KEY, user_id bigint REFERENCES users, total amount,
    zip text, placed_on date, epoch bigint);
CREATE INDEX orders_epoch_idx ON orders (epoch);
CREATE INDEX orders_total_idx ON orders (total);
"""
BAD = [
    "SELECT name FROM users WHERE id = 5.0",
    'SELECT u.name FROM users AS u WHERE u."Größe" > 1.5 AND u.active',
    "SELECT name FROM users WHERE id IN (1, 2.0, 3)",
    "SELECT name FROM users WHERE id = 1.5",
    "SELECT id FROM orders WHERE epoch BETWEEN 0.5 AND 1e9",
    "SELECT id FROM orders WHERE epoch >= extract(epoch FROM now())",
    "SELECT id FROM orders o WHERE o.total = 9.99::float8",
    "SELECT id FROM users WHERE id = $1::numeric",
    "SELECT id FROM users WHERE id = ANY ($1::numeric[])",
    "SELECT id FROM users WHERE email = $1::text",
    "SELECT id FROM orders WHERE zip = 12345",
    "SELECT id FROM orders WHERE zip IN (1, 2)",
    """WITH o AS (SELECT id, zip FROM orders)
       SELECT id
       FROM o
       WHERE o.zip = 80331""",
    "SELECT id FROM users WHERE id = $1::text",
    "DELETE FROM orders USING users u WHERE u.id = orders.user_id AND u.id = 7.0",
    "UPDATE users SET active = false WHERE 9.0 >= id",
    "SELECT id FROM users WHERE active = 1",
]
GOOD = [
    "SELECT id FROM users WHERE id = '5' AND \"Größe\" = 3000000000",
    "SELECT id FROM users WHERE id = $1 AND email = $2 AND created_at > '2024-01-01'",
    "SELECT id FROM orders WHERE id = 5::bigint AND user_id = 5::smallint",
    "SELECT id FROM orders WHERE total > 5 AND total = 9.99",
    "SELECT id FROM users WHERE score > 1.5 AND score = 2",
    "SELECT id FROM users WHERE created_at >= CURRENT_DATE AND created_at < DATE '2024-01-01'",
    "SELECT id FROM users WHERE code = $1::text AND name = 'x'::varchar",
    "SELECT id FROM orders WHERE placed_on = '2024-01-01'::timestamptz",
    "SELECT id FROM users WHERE email = 'x' AND token = 'd3b07384-d9a0-4c7b-8f0e-1234567890ab'",
    'SELECT id FROM users WHERE id = 5 AND "Größe" > 1.5',
    "SELECT id FROM users WHERE id <> 5.0",
    "SELECT id * 1.5, id > 1.5 FROM users",
    "SELECT name FROM elsewhere WHERE id = 5.0 AND zip = 12345",
    "SELECT id FROM users WHERE id = ANY ($1::int[]) AND name = ANY ($2::varchar[])",
    "SELECT id FROM users WHERE id = random() * 100",
]

_INDEXABLE = frozenset(("=", "<", "<=", ">", ">="))
_VOLATILE = frozenset(("random", "nextval", "clock_timestamp", "gen_random_uuid"))
# A double precision value below this is exact as a whole number (2^53).
_EXACT = 2**53
_TABLES = ("table", "partitioned", "matview")


@rule("A_Expr", "SelectStmt", "UpdateStmt", "DeleteStmt", severity="warning", needs=("schema",))
def check(node: Node, ctx: Context) -> Iterator[Finding]:
    if "lexpr" in node or "rexpr" in node:
        yield from _refused(node, ctx)
    elif "whereClause" in node or "fromClause" in node:
        scope = ctx.scope(node, "UpdateStmt" if "relation" in node else "SelectStmt")
        for part in conditions(node, scope):
            yield from _cast(part, node, scope, ctx)


def _sides(node: Node, ctx: Context) -> tuple[Node, str, Sequence[Node]] | None:
    """(column, operator as if it stood on the left, values) of a comparison with values."""
    how, name = node.get("kind", "AEXPR_OP"), operator(node)
    left, right = node.get("lexpr", {}), node.get("rexpr", {})
    if how == "AEXPR_OP" and name in FLIPPED:
        if unwrap(left)[0] != "ColumnRef":
            left, right, name = right, left, FLIPPED[name]
        values = [right]
    elif how in ("AEXPR_IN", "AEXPR_BETWEEN"):
        values = list(unwrap(right)[1].get("items", ()))
        name = "BETWEEN" if how == "AEXPR_BETWEEN" else "IN" if name == "=" else "<>"
    elif how == "AEXPR_OP_ANY" and name == "=":
        name, values = "ANY", [right]
    else:
        return None
    if unwrap(left)[0] != "ColumnRef" or not values or not all(map(_is_value, values)):
        return None
    return left, name, values


def _is_value(wrapped: Node) -> bool:
    return bool(wrapped) and not any(
        kind in ("ColumnRef", "SubLink")
        or (kind == "FuncCall" and function_name(node) in _VOLATILE)
        for kind, node in walk(*unwrap(wrapped))
    )


def _verdict(left: str, name: str, values: Sequence[Node], ctx: Context) -> tuple[Cast, str] | None:
    """What the comparison needs, and the type that is to blame."""
    for value in values:
        found = value_type(value, ctx.resolver)
        if name == "ANY":
            if not found or not found.endswith("[]"):
                continue
            found = found[:-2]
        verdict = cast_between(left, found)
        if verdict and verdict.side != "right":
            return verdict, found or ""
    return None


# -- no operator for the two types ----------------------------------------------------------------


def _refused(node: Node, ctx: Context) -> Iterator[Finding]:
    sides = _sides(node, ctx)
    if sides is None:
        return
    left, name, values = sides
    binding = ctx.binding(left)
    own = column_type(binding, ctx.resolver)
    verdict = _verdict(own, name, values, ctx) if own else None
    if not (binding and binding.sure and own and verdict) or verdict[0].side != "none":
        return
    fixes = _quoted(values, ctx) if own in STRINGS else []
    sign = "=" if name in ("IN", "ANY") else ">=" if name == "BETWEEN" else name
    yield ctx.finding(
        {"A_Expr": node},
        f"PostgreSQL refuses this: {_named(binding)} is {own}, and there is no operator "
        f"{own} {sign} {verdict[1]}",
        severity="error",
        fixes=fixes,
    )


def _quoted(values: Sequence[Node], ctx: Context) -> list[Fix]:
    """The numbers as text, where all of them are literals."""
    edits = []
    for value in values:
        kind, node = unwrap(value)
        place, text = ctx.span(value), ctx.text(value)
        if kind != "A_Const" or place is None:
            return []
        if "ival" in node or "fval" in node:
            edits.append(Edit(*place, f"'{text}'"))
    if not edits:
        return []
    return [Fix("compare with text", ctx.edit(*edits), changes_result="as written it fails")]


# -- a cast on the column -------------------------------------------------------------------------


def _cast(part: Node, query: Node, scope: Scope, ctx: Context) -> Iterator[Finding]:
    kind, node = unwrap(part)
    sides = _sides(node, ctx) if kind == "A_Expr" else None
    if sides is None:
        return
    left, name, values = sides
    binding = ctx.binding(left)
    own = column_type(binding, ctx.resolver)
    if binding is None or own is None or binding.item not in scope.items:
        return
    relation = binding.item.relation
    if name not in _INDEXABLE | {"IN", "BETWEEN", "ANY"} or relation is None:
        return
    # The blanks of char(n) are another matter: query/char-padding-compare.
    if relation.kind not in _TABLES or ctx.small(binding.item) or own == "character":
        return
    verdict = _verdict(own, name, values, ctx)
    if (
        verdict is None
        or verdict[0].side != "left"
        or _found_by_key(part, query, scope, binding, ctx)
    ):
        return
    index = next((i for i in relation.indexes if i.valid and i.keys[:1] == (binding.column,)), None)
    target = verdict[0].type
    value = " and ".join(" ".join(ctx.text(v).split()) for v in values[:3])
    value += ", …" if len(values) > 3 else ""
    effect = f"the index {index.name} cannot be used" if index else "no index on it could be used"
    never = _never(own, name, values)
    if never:
        effect = f"no whole number equals {value}, and {effect}"
    if own == "citext":
        effect = f"case matters again, and {effect}"
    yield ctx.finding(
        part,
        f"{_named(binding)} ({own}) is cast to {target} in every row to be compared with {value}: "
        f"{effect}",
        severity="warning" if index or never or own == "citext" else "info",
        fixes=[] if never else _fixes(own, name, values, verdict[1], ctx),
    )


def _named(binding: Binding) -> str:
    return f"{binding.item.name or binding.item.alias}.{binding.column}"


def _found_by_key(part: Node, query: Node, scope: Scope, binding: Binding, ctx: Context) -> bool:
    """Whether the other conditions of the WHERE find the row by a unique key."""
    where = query.get("whereClause")
    others = [p for p in conjuncts(where) if p is not part]
    rest = {**query, "whereClause": {"BoolExpr": {"boolop": "AND_EXPR", "args": others}}}
    return narrowing(scope, rest, ctx.resolver).get(id(binding.item)) == "unique"


def _never(own: str, name: str, values: Sequence[Node]) -> bool:
    """Whether an integer is compared for equality with fractions only."""
    if own not in INTEGERS or name not in ("=", "IN"):
        return False
    numbers = [_number(v) for v in values]
    return all(n is not None and n != n.to_integral_value() for n in numbers)


def _number(wrapped: Node) -> Decimal | None:
    """The exact value of a numeric literal."""
    from decimal import Decimal, InvalidOperation  # slow to import, and seldom needed

    kind, node = unwrap(wrapped)
    if kind == "TypeCast":
        name = _target(node)
        # A modifier rounds, real has seven digits: then the value is not the one written.
        if name not in ("numeric", "float8", *INTEGERS) or node["typeName"].get("typmods"):
            return None
        return _number(node.get("arg", {}))
    if kind == "A_Expr" and operator(node) == "-" and "lexpr" not in node:
        inner = _number(node.get("rexpr", {}))
        return None if inner is None else -inner
    if kind != "A_Const":
        return None
    written = node.get("fval", {}).get("fval") or node.get("sval", {}).get("sval")
    if "ival" in node:
        written = str(node["ival"].get("ival", 0))
    try:
        value = Decimal(written) if written else None
    except InvalidOperation:
        return None
    return value if value is not None and value.is_finite() and abs(value) < _EXACT else None


def _target(cast: Node) -> str:
    parts = cast["typeName"].get("names") or [{}]
    return str(parts[-1].get("String", {}).get("sval", ""))


def _fixes(own: str, name: str, values: Sequence[Node], blamed: str, ctx: Context) -> list[Fix]:
    if own in INTEGERS and name != "ANY":
        whole = [_whole(v, n) for v, n in zip(values, _roundings(name, values), strict=True)]
        if all(w is not None for w in whole):
            return _replaced(values, [str(w) for w in whole], "whole numbers", "", ctx)
    if len(values) != 1 or (own in INTEGERS and is_literal(values[0])):
        return []
    short = {"character varying": "varchar"}.get(own, own) + "[]" * (name == "ANY")
    if own in INTEGERS:
        changes = "a fraction in the value is rounded"
    elif own == "citext":
        changes = "ignores case, as the column's type does"
    else:
        changes = f"compares exactly instead of as {blamed}"
    kind, node = unwrap(values[0])
    inner = node.get("arg", {}) if kind == "TypeCast" else values[0]
    text = ctx.text(inner)
    if unwrap(inner)[0] not in ("ParamRef", "A_Const", "FuncCall"):
        text = f"({text})"
    elif unwrap(inner)[0] == "A_Const" and "sval" not in unwrap(inner)[1] and own == "numeric":
        return _replaced(values, [text], f"the value as {short}", changes, ctx) if text else []
    return _replaced(values, [f"{text}::{short}"], f"the value as {short}", changes, ctx)


def _roundings(name: str, values: Sequence[Node]) -> list[str]:
    if name == "BETWEEN":
        return ["up", "down"]
    way = {">": "down", "<=": "down", ">=": "up", "<": "up"}.get(name, "")
    return [way] * len(values)


def _whole(value: Node, way: str) -> int | None:
    number = _number(value)
    if number is None:
        return None
    if number == number.to_integral_value():
        return int(number)
    if not way:
        return None
    return math.floor(number) if way == "down" else math.ceil(number)


def _replaced(
    values: Sequence[Node], texts: Sequence[str], what: str, changes: str, ctx: Context
) -> list[Fix]:
    edits = []
    for value, text in zip(values, texts, strict=True):
        place = ctx.span(value)
        if place is None:
            return []
        edits.append(Edit(*place, text))
    said = f"write {what}" if what == "whole numbers" else f"give {what}"
    return [Fix(said, ctx.edit(*edits), changes_result=changes)]
