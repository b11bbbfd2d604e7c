"""Predicates on a computed column rewritten as predicates on the bare column.

``date(created_at) = '2024-01-01'`` as the half-open range of that day, ``id + 1 > 10`` as
``id > 9``: only where the result is the same, or with the difference named.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from sqladvisor.sql.comparisons import FLIPPED, Comparison
from sqladvisor.sql.datatypes import INTEGERS, STRINGS, TIMESTAMP, TIMESTAMPTZ, UNKNOWN, type_of
from sqladvisor.sql.quote import literal
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import constant, function_name, names, operator, unwrap

if TYPE_CHECKING:
    from sqladvisor.context import Context


@dataclass(frozen=True, slots=True)
class Rewrite:
    """A predicate on the bare column. ``changes_result`` is empty when it is exactly equal."""

    text: str
    changes_result: str = ""


DAYLIGHT = "can differ by an hour around daylight saving changes"
MONTHS = "can differ at the ends of months"

_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:[ T]00:00(?::00(?:\.0+)?)?)?\Z")
_INTERVAL = re.compile(r"\s*(\d+)\s*([a-z]+?)s?\s*\Z", re.IGNORECASE)
_CLOCK_UNITS = frozenset(("hour", "hr", "h", "minute", "min", "m", "second", "sec"))
_DAY_UNITS = frozenset(("day", "d", "week", "w"))
_FORMATS = {
    "YYYY-MM-DD": ("day", re.compile(r"(\d{4})-(\d\d)-(\d\d)\Z")),
    "YYYYMMDD": ("day", re.compile(r"(\d{4})(\d\d)(\d\d)\Z")),
    "YYYY-MM": ("month", re.compile(r"(\d{4})-(\d\d)\Z")),
    "YYYYMM": ("month", re.compile(r"(\d{4})(\d\d)\Z")),
    "YYYY": ("year", re.compile(r"(\d{4})\Z")),
}
_MOMENTS = ("", "date", TIMESTAMP, TIMESTAMPTZ)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
_WHOLE = re.compile(r"(0|-?[1-9]\d{0,17})\Z")


def on_bare_column(c: Comparison, column_type: str, ctx: Context) -> Rewrite | None:
    """The comparison with nothing but the column on its left, None when there is no such form.

    ``column_type`` is the column's type as format_type() prints it, "" when unknown.
    """
    kind, node = unwrap(c.side)
    if kind == "TypeCast":
        target = names(node["typeName"].get("names"))[-1]
        if target == "date":
            return _period("day", node["arg"], c, column_type, ctx)
        if target in ("text", "varchar"):
            return _as_text(node["arg"], c, column_type, ctx)
    elif kind == "FuncCall":
        return _call(node, c, column_type, ctx)
    elif kind == "A_Expr":
        return _arithmetic(node, c, column_type, ctx)
    elif kind == "CoalesceExpr":
        return _coalesce(node, c, column_type, ctx)
    return None


def _call(node: Node, c: Comparison, column_type: str, ctx: Context) -> Rewrite | None:
    name, args = function_name(node), node.get("args", ())
    if name == "date" and len(args) == 1:
        return _period("day", args[0], c, column_type, ctx)
    if len(args) < 2:
        return None
    first = constant(args[0])
    if name == "date_trunc" and len(args) == 2 and isinstance(first, str):
        return _period(first.lower(), args[1], c, column_type, ctx)
    if name in ("extract", "date_part") and isinstance(first, str) and first.lower() == "year":
        return _period("extract year", args[1], c, column_type, ctx)
    if name == "to_char" and c.operator == "=":
        return _formatted(args, c, column_type, ctx)
    if name in ("left", "substr", "substring"):
        return _prefix(name, args, c, column_type, ctx)
    return None


# -- periods: a day, a month, a year ------------------------------------------------------------


def year_and_month(c: Comparison, month: int, column_type: str, ctx: Context) -> Rewrite | None:
    """``EXTRACT(year …) = y`` together with ``EXTRACT(month …) = month``, as one range."""
    year = constant(c.values[0])
    if not isinstance(year, int) or c.operator != "=":
        return None
    bounds = _bounds("month", year, month, 1)
    return _half_open(unwrap(c.side)[1]["args"][1], [bounds], c, column_type, ctx)


def _period(
    unit: str, target: Node, c: Comparison, column_type: str, ctx: Context
) -> Rewrite | None:
    bounds = [_bounds_of(unit, value, column_type, ctx) for value in c.values]
    return _half_open(target, bounds, c, column_type, ctx)


def _half_open(
    target: Node,
    bounds: list[tuple[Any, Any] | None],
    c: Comparison,
    column_type: str,
    ctx: Context,
) -> Rewrite | None:
    """``bounds``: start and end of the period of each value, as a date or as SQL text."""
    zone = ""
    kind, node = unwrap(target)
    if kind == "FuncCall" and function_name(node) == "timezone" and column_type == TIMESTAMPTZ:
        where = constant(node["args"][0])
        if not isinstance(where, str) or len(node["args"]) != 2:
            return None
        zone, target = f" AT TIME ZONE {literal(where)}", node["args"][1]
        kind, node = unwrap(target)
    if kind != "ColumnRef" or column_type not in _MOMENTS:
        return None
    column = ctx.text(target)
    sides = []
    for low, high in (b for b in bounds if b):
        if zone and not isinstance(low, date):
            return None
        sides.append(tuple(_moment(m, zone, column_type) for m in (low, high)))
    if len(sides) != len(bounds) or not column:
        return None
    (low, high), (_, last) = sides[0], sides[-1]
    twice = c.operator in ("=", "BETWEEN")
    if c.operator not in ("=", "BETWEEN", ">", ">=", "<", "<="):
        return None
    if c.operator == "=" and any(ctx.positional(v) for v in c.values):
        return None  # a positional placeholder cannot be used twice
    if twice:
        return Rewrite(f"{column} >= {low} AND {column} < {last}")
    sign, bound = {
        ">=": (">=", low),
        ">": (">=", high),
        "<": ("<", low),
        "<=": ("<", high),
    }[c.operator]
    return Rewrite(f"{column} {sign} {bound}")


def _moment(value: date | str, zone: str, column_type: str) -> str:
    if isinstance(value, str):
        return value
    quoted = f"'{value.isoformat()}'"
    if zone:
        return f"TIMESTAMP {quoted}{zone}"
    # Of a column of unknown type, DATE says what is meant and fails on text, as the original did.
    return quoted if column_type else f"DATE {quoted}"


def _bounds(unit: str, year: int, month: int, day: int) -> tuple[date, date] | None:
    """First day of a period and of the next one; None when the given day does not begin one."""
    try:
        start = date(year, month, day)
        if unit == "day":
            return start, start + timedelta(days=1)
        if unit == "week":
            return (start, start + timedelta(days=7)) if start.weekday() == 0 else None
        months = {"month": 1, "quarter": 3, "year": 12}.get(unit, 0)
        if not months or day != 1 or (month - 1) % months:
            return None
        after = year * 12 + month - 1 + months
        return start, date(after // 12, after % 12 + 1, 1)
    except (ValueError, OverflowError):
        return None


def _bounds_of(
    unit: str, value: Node, column_type: str, ctx: Context
) -> tuple[date | str, date | str] | None:
    fixed = constant(value)
    if unit == "extract year":
        return _bounds_of_year(value, fixed, ctx)
    if isinstance(fixed, str):
        match = _DATE.match(fixed)
        return _bounds(unit, *map(int, match.groups())) if match else None
    text = ctx.text(value)
    kind, node = unwrap(value)
    if unit == "day" and function_name(node) != "date_trunc":
        if kind == "ParamRef":
            return f"{text}::date", f"{text}::date + 1"
        if type_of(value, ctx.resolver) == "date":
            return text, f"({text}) + 1" if kind == "A_Expr" else f"{text} + 1"
        return None
    if _begins(unit, value):
        return text, f"{text} + interval '1 {unit}'"
    return None


def _bounds_of_year(value: Node, fixed: object, ctx: Context) -> tuple[Any, Any] | None:
    kind, node = unwrap(value)
    if isinstance(fixed, int):
        return _bounds("year", fixed, 1, 1)
    if kind == "ParamRef":
        text = ctx.text(value)
        return f"make_date({text}::int, 1, 1)", f"make_date({text}::int + 1, 1, 1)"
    args = node.get("args", ())
    if function_name(node) in ("extract", "date_part") and constant(args[0]) == "year":
        start = f"date_trunc('year', {ctx.text(args[1])})"
        return start, f"{start} + interval '1 year'"
    return None


def _begins(unit: str, value: Node) -> bool:
    """Whether a value is the start of a ``unit`` by construction: date_trunc, ± whole units."""
    kind, node = unwrap(value)
    if kind == "FuncCall" and function_name(node) == "date_trunc":
        return constant(node["args"][0]) == unit
    if kind == "A_Expr" and operator(node) in ("+", "-"):
        step = constant(node.get("rexpr", {}))
        match = _INTERVAL.match(step) if isinstance(step, str) else None
        return bool(match and match[2].lower() == unit) and _begins(unit, node.get("lexpr", {}))
    return False


def _formatted(args: list[Node], c: Comparison, column_type: str, ctx: Context) -> Rewrite | None:
    fmt, value = constant(args[1]), constant(c.values[0])
    if not isinstance(fmt, str) or not isinstance(value, str) or fmt not in _FORMATS:
        return None
    unit, pattern = _FORMATS[fmt]
    match = pattern.match(value)
    if not match:
        return None
    year, month, day = [*map(int, match.groups()), 1, 1][:3]
    return _half_open(args[0], [_bounds(unit, year, month, day)], c, column_type, ctx)


# -- arithmetic ---------------------------------------------------------------------------------


def _arithmetic(node: Node, c: Comparison, column_type: str, ctx: Context) -> Rewrite | None:
    sign = operator(node)
    left, right = node.get("lexpr", {}), node.get("rexpr", {})
    if sign not in ("+", "-") or not left or c.operator not in FLIPPED:
        return None
    value = c.values[0]
    if unwrap(left)[0] == "ColumnRef":
        return _moved(left, "-" if sign == "+" else "+", right, value, c.operator, column_type, ctx)
    if unwrap(right)[0] != "ColumnRef":
        return None
    if sign == "+":
        return _moved(right, "-", left, value, c.operator, column_type, ctx)
    return _taken_from(right, left, value, FLIPPED[c.operator], column_type, ctx)


def _moved(
    column: Node, sign: str, shift: Node, value: Node, how: str, column_type: str, ctx: Context
) -> Rewrite | None:
    """``column how value sign shift``."""
    name = ctx.text(column)
    by, to = constant(shift), constant(value)
    if column_type in INTEGERS or column_type == "numeric":
        if not isinstance(by, int) or isinstance(by, bool):
            return None
        if isinstance(to, int):
            return Rewrite(f"{name} {how} {to - by if sign == '-' else to + by}")
        if unwrap(value)[0] == "ParamRef":
            return Rewrite(f"{name} {how} {ctx.text(value)}::{column_type} {sign} {by}")
        return None
    if column_type == "date" and isinstance(by, int):
        typed = _typed(value, "date", ctx)
        return Rewrite(f"{name} {how} {typed} {sign} {by}") if typed else None
    if column_type in (TIMESTAMP, TIMESTAMPTZ, "") and _is_interval(shift):
        typed = _typed(value, column_type, ctx)
        if typed is None:
            return None
        difference = _difference(by, column_type)
        return Rewrite(f"{name} {how} {typed} {sign} {ctx.text(shift)}", difference)
    return None


def _taken_from(
    column: Node, whole: Node, value: Node, how: str, column_type: str, ctx: Context
) -> Rewrite | None:
    """``whole - column`` compared with a value: ``column how whole - value`` (``how`` flipped)."""
    name, text = ctx.text(column), ctx.text(whole)
    whole_type = type_of(whole, ctx.resolver)
    fixed = constant(value)
    if column_type in ("date", "") and whole_type == "date" and isinstance(fixed, int):
        return Rewrite(f"{name} {how} {text} - {fixed}")
    if column_type not in (TIMESTAMP, TIMESTAMPTZ, "") or whole_type not in (
        TIMESTAMP,
        TIMESTAMPTZ,
    ):
        return None
    if not _is_interval(value) and not isinstance(fixed, str):
        return None
    shift = ctx.text(value) if _is_interval(value) else f"interval {ctx.text(value)}"
    return Rewrite(f"{name} {how} {text} - {shift}", _difference(fixed, column_type or whole_type))


def _is_interval(wrapped: Node) -> bool:
    kind, node = unwrap(wrapped)
    return kind == "TypeCast" and names(node["typeName"].get("names"))[-1] == "interval"


def _difference(interval: object, column_type: str) -> str:
    """How moving an interval across a comparison can change its result."""
    match = _INTERVAL.match(interval) if isinstance(interval, str) else None
    unit = match[2].lower() if match else ""
    if unit in _CLOCK_UNITS or (unit in _DAY_UNITS and column_type == TIMESTAMP):
        return ""
    return DAYLIGHT if unit in _DAY_UNITS else MONTHS


def _typed(value: Node, wanted: str, ctx: Context) -> str | None:
    """A value's text with its type made certain, so that arithmetic on it means the same."""
    text = ctx.text(value)
    have = type_of(value, ctx.resolver)
    short = {TIMESTAMP: "timestamp", TIMESTAMPTZ: "timestamptz"}.get(wanted, wanted)
    if have == UNKNOWN or unwrap(value)[0] == "ParamRef":
        return f"{text}::{short}" if wanted else None
    if have not in ("date", TIMESTAMP, TIMESTAMPTZ) or (wanted == "date" and have != "date"):
        return None
    return f"({text})" if unwrap(value)[0] == "A_Expr" else text


# -- coalesce, prefixes, casts to text ----------------------------------------------------------


def _coalesce(node: Node, c: Comparison, column_type: str, ctx: Context) -> Rewrite | None:
    args = node.get("args", ())
    if len(args) != 2 or unwrap(args[0])[0] != "ColumnRef" or c.operator not in FLIPPED:
        return None
    default, value = constant(args[1]), constant(c.values[0])
    column = ctx.text(args[0])
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (default, value))
    if not numbers and not (
        isinstance(default, str) and isinstance(value, str) and c.operator == "="
    ):
        return None
    if not numbers and default != value and column_type not in ("", *STRINGS):
        return None  # '7' and '07' are one number, '2024-1-1' and '2024-01-01' one day
    a: Any = default
    b: Any = value
    chosen = {"=": a == b, "<>": a != b}
    if numbers:
        chosen |= {"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}
    plain = f"{column} {c.operator} {ctx.text(c.values[0])}"
    return Rewrite(f"({plain} OR {column} IS NULL)" if chosen[c.operator] else plain)


def _prefix(
    name: str, args: list[Node], c: Comparison, column_type: str, ctx: Context
) -> Rewrite | None:
    """``left(col, 3) = 'abc'`` as ``col LIKE 'abc%'``."""
    numbers = [constant(a) for a in args[1:]]
    value = constant(c.values[0])
    if unwrap(args[0])[0] != "ColumnRef" or column_type not in STRINGS or c.operator != "=":
        return None
    if numbers[:-1] != ([] if name == "left" else [1]) or not isinstance(value, str):
        return None
    if numbers[-1] != len(value) or not value:
        return None
    escaped = re.sub(r"([%_\\])", r"\\\1", value)
    return Rewrite(f"{ctx.text(args[0])} LIKE {literal(escaped + '%')}")


def _as_text(arg: Node, c: Comparison, column_type: str, ctx: Context) -> Rewrite | None:
    """``id::text = '5'`` as ``id = 5``."""
    if unwrap(arg)[0] != "ColumnRef" or c.operator not in ("=", "IN"):
        return None
    if column_type not in INTEGERS and column_type != "uuid":
        return None
    column = ctx.text(arg)
    if c.operator == "=" and unwrap(c.values[0])[0] == "ParamRef":
        return Rewrite(
            f"{column} = {ctx.text(c.values[0])}::{column_type}",
            f"a value that is no {column_type} raises an error instead of matching nothing",
        )
    values = [constant(v) for v in c.values]
    pattern = _UUID if column_type == "uuid" else _WHOLE
    if not all(isinstance(v, str) and pattern.match(v) for v in values):
        return None
    written = [f"'{v}'" if column_type == "uuid" else str(v) for v in values]
    listed = written[0] if c.operator == "=" else f"({', '.join(written)})"
    return Rewrite(f"{column} {c.operator} {listed}")
