"""Which side of a comparison PostgreSQL casts, by the types of both.

Follows oper_select_candidate() in src/backend/parser/parse_oper.c for the built-in types, tried on
PostgreSQL 18: no cast where an operator takes both types (integers among each other, dates and
timestamps, real and double precision, text and varchar); a quoted literal takes the column's type.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from sqladvisor.sql.datatypes import INTEGERS, STRINGS, TIMESTAMP, TIMESTAMPTZ, UNKNOWN, type_of
from sqladvisor.sql.resolve import Binding, Resolver
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import function_name, names, unwrap

FLOATS = frozenset(("real", "double precision"))
_NUMBERS = INTEGERS | FLOATS | {"numeric"}
_FAMILIES = {
    **dict.fromkeys(_NUMBERS, "number"),
    **dict.fromkeys((*STRINGS, "character"), "string"),
    **dict.fromkeys(("date", TIMESTAMP, TIMESTAMPTZ), "moment"),
    "boolean": "boolean",
    "uuid": "uuid",
}
_WHOLE_RESULT = frozenset(("length", "char_length", "octet_length", "cardinality", "array_length"))
_ROUNDING = frozenset(("round", "ceil", "ceiling", "floor", "trunc"))


class Cast(NamedTuple):
    """``side`` is cast to ``type``; or, for ``none``, there is no operator for the two types."""

    side: Literal["left", "right", "none"]
    type: str = ""


def cast_between(left: str | None, right: str | None) -> Cast | None:
    """What PostgreSQL does to compare values of two types; None: nothing, or it is not known."""
    if not left or not right or left == right or UNKNOWN in (left, right):
        return None
    families = _FAMILIES.get(left), _FAMILIES.get(right)
    if "citext" in (left, right):
        other, side = (right, "left") if left == "citext" else (left, "right")
        return _on(side, "text") if other in STRINGS else None
    if None in families:
        return None
    if families[0] != families[1]:
        return Cast("none")
    if families[0] == "number":
        for wide, name in ((FLOATS, "double precision"), ({"numeric"}, "numeric")):
            if (left in wide) != (right in wide):
                return _on("right" if left in wide else "left", name)
    if "character" in (left, right):
        side, other = ("left", right) if left == "character" else ("right", left)
        if other == "text":
            return _on(side, "text")
        return _on("right" if side == "left" else "left", "character")
    return None


def _on(side: str, name: str) -> Cast:
    return Cast("left" if side == "left" else "right", name)


def column_type(binding: Binding | None, resolver: Resolver) -> str | None:
    """The type of a column, through subqueries and domains, by the catalog."""
    origin = resolver.origin(binding) if binding else None
    definition = origin.definition if origin else None
    return (definition.base_type or definition.type) if definition else None


def value_type(wrapped: Node, resolver: Resolver) -> str | None:
    """The type of an expression, as ``type_of`` has it, of more functions and without domains."""
    kind, node = unwrap(wrapped)
    if kind == "ColumnRef":
        return column_type(resolver.resolve(node), resolver)
    if kind == "FuncCall":
        name, args = function_name(node), node.get("args", ())
        if names(node.get("funcname"))[:-1] not in ((), ("pg_catalog",)):
            return None
        if name in resolver.catalog.functions:
            return None
        if name in ("lower", "upper"):  # of a range, too
            inner = value_type(args[0], resolver) if args else None
            return "text" if inner in (*STRINGS, "character", UNKNOWN) else None
        if name == "extract":
            return "numeric"  # since version 14, double precision before
        if name == "date_part":
            return "double precision"
        if name in _WHOLE_RESULT:
            return "integer"
        if name in _ROUNDING and args:
            inner = value_type(args[0], resolver)
            if inner == "numeric" or len(args) > 1:
                return "numeric"
            return "double precision" if inner in INTEGERS | FLOATS else None
    return type_of(wrapped, resolver)
