"""The types of expressions, as far as they can be told without a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import constant, function_name, names, operator, unwrap

if TYPE_CHECKING:
    from sqladvisor.sql.resolve import Resolver

UNKNOWN = "unknown"
"""The type of a quoted literal: it takes the type of what it is compared with."""

TIMESTAMP, TIMESTAMPTZ = "timestamp without time zone", "timestamp with time zone"
INTEGERS = frozenset(("smallint", "integer", "bigint"))
STRINGS = frozenset(("text", "character varying"))
"""Binary-coercible to each other: comparing them casts no column in a way that matters."""

# The parser's names of types by format_type()'s.
_NAMES = {
    "int2": "smallint",
    "int4": "integer",
    "int": "integer",
    "int8": "bigint",
    "float4": "real",
    "float8": "double precision",
    "bool": "boolean",
    "bpchar": "character",
    "varchar": "character varying",
    "decimal": "numeric",
    "timestamp": TIMESTAMP,
    "timestamptz": TIMESTAMPTZ,
    "time": "time without time zone",
    "timetz": "time with time zone",
    "varbit": "bit varying",
}
_FUNCTIONS = {
    "now": TIMESTAMPTZ,
    "clock_timestamp": TIMESTAMPTZ,
    "statement_timestamp": TIMESTAMPTZ,
    "transaction_timestamp": TIMESTAMPTZ,
    "make_timestamptz": TIMESTAMPTZ,
    "to_timestamp": TIMESTAMPTZ,
    "make_timestamp": TIMESTAMP,
    "make_date": "date",
    "to_date": "date",
    "date": "date",
    "make_interval": "interval",
    "lower": "text",
    "upper": "text",
    "concat": "text",
    "to_char": "text",
    "random": "double precision",
    "to_number": "numeric",
}
_VALUES = {
    "SVFOP_CURRENT_DATE": "date",
    "SVFOP_CURRENT_TIMESTAMP": TIMESTAMPTZ,
    "SVFOP_CURRENT_TIMESTAMP_N": TIMESTAMPTZ,
    "SVFOP_LOCALTIMESTAMP": TIMESTAMP,
    "SVFOP_LOCALTIMESTAMP_N": TIMESTAMP,
}
_MAX_INTEGER, _MAX_BIGINT = 2**31 - 1, 2**63 - 1
_NUMBERS = ("smallint", "integer", "bigint", "numeric", "real", "double precision")
_MOMENTS = frozenset(("date", TIMESTAMP, TIMESTAMPTZ))


def type_name(node: Node) -> str:
    """A TypeName node as format_type() prints it, without modifier: ``character varying``."""
    base = names(node.get("names"))[-1] if node.get("names") else ""
    return _NAMES.get(base, base) + "[]" * bool(node.get("arrayBounds"))


def type_of(wrapped: Node, resolver: Resolver) -> str | None:
    """The type of an expression; ``unknown`` for a quoted literal, None when it cannot be told."""
    kind, node = unwrap(wrapped)
    if kind == "A_Const":
        return _literal(node)
    if kind == "TypeCast":
        return type_name(node.get("typeName", {})) or None
    if kind == "CollateClause":
        return type_of(node.get("arg", {}), resolver)
    if kind == "ColumnRef":
        binding = resolver.resolve(node)
        definition = binding.definition if binding else None
        return definition.type if definition else None
    if kind == "SQLValueFunction":
        return _VALUES.get(str(node.get("op", "SVFOP_CURRENT_DATE")))
    if kind == "FuncCall":
        return _call(node, resolver)
    if kind == "A_Expr" and node.get("kind", "AEXPR_OP") == "AEXPR_OP":
        return _arithmetic(node, resolver)
    return None


def _literal(node: Node) -> str | None:
    if "sval" in node:
        return UNKNOWN
    if "boolval" in node:
        return "boolean"
    if "ival" in node:
        return "integer"
    if "fval" in node:
        text = str(node["fval"].get("fval", ""))
        return "bigint" if text.isdigit() and int(text) <= _MAX_BIGINT else "numeric"
    return None


def _call(node: Node, resolver: Resolver) -> str | None:
    name, args = function_name(node), node.get("args", ())
    if name == "date_trunc" and len(args) > 1:
        inner = type_of(args[1], resolver)
        return TIMESTAMPTZ if inner == "date" else inner if inner in _MOMENTS else None
    if name == "timezone" and len(args) == 2:
        inner = type_of(args[1], resolver)
        return {TIMESTAMP: TIMESTAMPTZ, TIMESTAMPTZ: TIMESTAMP, "date": TIMESTAMP}.get(inner or "")
    return _FUNCTIONS.get(name)


def _arithmetic(node: Node, resolver: Resolver) -> str | None:
    if "lexpr" not in node:
        return type_of(node.get("rexpr", {}), resolver)
    left, right = (type_of(node.get(side, {}), resolver) for side in ("lexpr", "rexpr"))
    name = operator(node)
    if name == "||" and (left in STRINGS or right in STRINGS):
        return "text"
    if name in ("->>", "#>>"):
        return "text"
    if name not in ("+", "-", "*", "/", "%"):
        return None
    if left in _NUMBERS and right in _NUMBERS:
        return _NUMBERS[max(_NUMBERS.index(left), _NUMBERS.index(right))]
    if name in ("+", "-"):
        for moment, other in ((left, right), (right, left)):
            if moment in (TIMESTAMP, TIMESTAMPTZ) and other in ("interval", UNKNOWN, None):
                # A quoted literal beside a timestamp under "-" could be another timestamp.
                return moment if other == "interval" else None
            if moment == "date" and other == "interval":
                return TIMESTAMP
            if moment == "date" and other in INTEGERS:
                return "date"
    return None


def modifiers(type_: Node) -> tuple[int, ...]:
    """The modifiers of a TypeName: ``(10, 2)`` of numeric(10,2)."""
    values = (constant(m) for m in type_.get("typmods", ()))
    return tuple(v for v in values if isinstance(v, int))
