"""A floating-point column is tested for equality with a value it can hardly have.

Why: real and double precision hold binary fractions. The nearest real to 1.1 is 1.10000002384…, and
    PostgreSQL compares a real column with the literal 1.1 as double precision: never equal, whatever
    the column holds. A sum of doubles is as seldom exactly the decimal that was meant.
Fix: the value as real, or numeric for what is counted in decimals (money, quantities).
Silent when: the value is whole, or a binary fraction as 0.5 that both types hold exactly; the
    value is quoted or a parameter; a double precision column is compared with a plain literal,
    which finds what was stored from the same literal.
Source: PostgreSQL manual, 8.1.3 "Floating-Point Types".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sqladvisor.context import Context
from sqladvisor.finding import Edit, Finding, Fix
from sqladvisor.rule import rule
from sqladvisor.sql.casts import FLOATS, column_type, value_type
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import operator, unwrap

if TYPE_CHECKING:
    from fractions import Fraction

SCHEMA = """
CREATE TABLE items (id bigint PRIMARY KEY, weight real, "Höhe" real, price double precision,
    qty integer, total numeric);
CREATE TABLE scales (id bigint PRIMARY KEY, reading double precision, step real);
"""
BAD = [
    "SELECT id FROM items WHERE weight = 1.1",
    'SELECT i.id FROM items i WHERE i."Höhe" <> 0.3 AND i.qty > 5',
    """DELETE FROM items
       WHERE 2.7::numeric = weight""",
    "SELECT id FROM items WHERE weight IN (1.1)",
    "SELECT i.id FROM items i JOIN scales s ON s.reading = i.weight",
    "WITH w AS (SELECT id, weight AS kg FROM items) UPDATE scales SET step = 1 FROM w WHERE w.kg = -0.1",
    "SELECT id FROM items WHERE price * 1.1 = 3.3",
]
GOOD = [
    'SELECT id FROM items WHERE weight = 1.5 AND "Höhe" = 2',
    "SELECT id FROM items WHERE weight = '1.1' OR weight = 1.1::real OR weight = $1",
    "SELECT id FROM items WHERE weight IN (1.1, 2.2)",
    "SELECT id FROM items WHERE price = 1.1 AND total = 1.1",
    "SELECT id FROM items WHERE weight > 1.1 AND weight <= 2.3",
    "SELECT id FROM items WHERE price * 2 = 10 AND qty * 1.1 = 3.3",
    "SELECT a.id FROM items a JOIN items b ON a.weight = b.weight AND a.price = b.price",
    "SELECT id FROM elsewhere WHERE weight = 1.1",
]


@rule("A_Expr", severity="warning", needs=("schema",))
def check(node: Node, ctx: Context) -> Iterator[Finding]:
    how, name = node.get("kind", "AEXPR_OP"), operator(node)
    left, right = node.get("lexpr", {}), node.get("rexpr", {})
    if how == "AEXPR_IN":
        items = unwrap(right)[1].get("items", ())
        # Of several values PostgreSQL makes an array of the column's type.
        right = items[0] if len(items) == 1 else {}
    elif how != "AEXPR_OP":
        return
    if name not in ("=", "<>") or not left or not right:
        return
    for side, value in ((left, right), (right, left)):
        found = _real(node, name, side, value, ctx) or _computed(node, name, side, value, ctx)
        if found:
            yield found
            return
    types = [column_type(ctx.binding(side), ctx.resolver) for side in (left, right)]
    if set(types) == FLOATS:
        yield ctx.finding(
            {"A_Expr": node},
            f"{ctx.text(left)} is {types[0]}, {ctx.text(right)} is {types[1]}: they are equal only "
            "where the value has no more than the 24 bits of a real",
        )


def _real(node: Node, name: str, side: Node, value: Node, ctx: Context) -> Finding | None:
    """A real column against a decimal fraction that no real is."""
    import struct

    number = _decimal(value)
    if number is None or column_type(ctx.binding(side), ctx.resolver) != "real":
        return None
    try:
        (nearest,) = struct.unpack("f", struct.pack("f", float(number)))
    except OverflowError:
        return None
    # The literal is compared as the double precision nearest to it.
    if nearest == float(number):
        return None
    text, place = ctx.text(value), ctx.span(value)
    fixes = []
    if place and text:
        written = text.partition("::")[0] if unwrap(value)[0] == "TypeCast" else text
        quoted = f"'{written}'::real" if not written.lower().startswith("cast") else ""
        if quoted:
            fixes.append(
                Fix(
                    "compare with the nearest real",
                    ctx.edit(Edit(*place, quoted)),
                    changes_result=f"finds the rows with {written}, as stored"
                    if name == "="
                    else f"leaves out the rows with {written}, as stored",
                )
            )
    never = "never true" if name == "=" else "true for every value"
    return ctx.finding(
        {"A_Expr": node},
        f"{ctx.text(side)} {name} {text} is {never}: {ctx.text(side)} is real, and the real "
        f"nearest to {text} is {nearest:.12g}",
        severity="error",
        fixes=fixes,
    )


def _computed(node: Node, name: str, side: Node, value: Node, ctx: Context) -> Finding | None:
    """Arithmetic on floating-point columns against a decimal fraction."""
    number = _decimal(value)
    kind, _ = unwrap(side)
    if number is None or kind != "A_Expr" or value_type(side, ctx.resolver) not in FLOATS:
        return None
    if type(number)(float(number)) == number:
        return None
    return ctx.finding(
        {"A_Expr": node},
        f"{ctx.text(side)} is computed in floating point: whether it is exactly {ctx.text(value)} "
        "depends on rounding",
        severity="info",
    )


def _decimal(wrapped: Node) -> Fraction | None:
    """The value of a numeric literal, with its sign or a cast to numeric."""
    kind, node = unwrap(wrapped)
    if kind == "A_Expr" and operator(node) == "-" and "lexpr" not in node:
        inner = _decimal(node.get("rexpr", {}))
        return None if inner is None else -inner
    if kind == "TypeCast":
        parts = node["typeName"].get("names") or [{}]
        target = parts[-1].get("String", {}).get("sval")
        plain = target in ("numeric", "float8") and not node["typeName"].get("typmods")
        return _decimal(node.get("arg", {})) if plain else None
    if kind != "A_Const" or "fval" not in node:
        return None
    from fractions import Fraction  # slow to import, and seldom needed

    try:
        return Fraction(str(node["fval"].get("fval", "")))
    except ValueError:
        return None
