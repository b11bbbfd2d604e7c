"""What AND-ed comparisons with literals leave of a column's values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from sqladvisor.sql.comparisons import comparison, only_column
from sqladvisor.sql.datatypes import STRINGS
from sqladvisor.sql.expressions import shape
from sqladvisor.sql.resolve import Binding, Resolver
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import constant, unwrap
from sqladvisor.sql.volatility import volatile

_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?")
# Words that a boolean or date column reads in more than one spelling.
_SPELLINGS = frozenset(
    ("t", "true", "y", "yes", "on", "1", "f", "false", "n", "no", "off", "0", "now", "today",
     "yesterday", "tomorrow", "infinity", "-infinity", "epoch", "allballs", "nan")
)  # fmt: skip
_BOUNDS = frozenset(("<", "<=", ">", ">="))
_MAX_LIMITS = 200
"""Conditions on one column. More were written by a program, and are compared in pairs."""


class Limit(NamedTuple):
    """A comparison of a column with literals: one of AND-ed conditions."""

    part: Node
    operator: str
    """``=`` (one of the values), ``<>``, a bound, ``null`` or ``not null``."""
    values: tuple[Any, ...] = ()


class Limits(NamedTuple):
    """All that is said about one column (or one expression over one column) of a FROM item."""

    binding: Binding
    limits: list[Limit]

    @property
    def text_like(self) -> bool:
        definition = self.binding.definition
        return definition is not None and definition.type in STRINGS and not definition.collation


def limits(parts: Iterable[Node], resolver: Resolver) -> list[Limits]:
    """What AND-ed conditions say about each column that they compare with literals.

    Columns with hundreds of conditions are left out.
    """
    found: dict[object, Limits] = {}
    for part in parts:
        for side, limit in _limits_of(part):
            binding = only_column(side, resolver)
            if binding is None or volatile(*unwrap(side), resolver.catalog):
                continue
            key = (id(binding.item), shape(side))
            found.setdefault(key, Limits(binding, [])).limits.append(limit)
    return [f for f in found.values() if len(f.limits) <= _MAX_LIMITS]


def _limits_of(part: Node) -> Iterator[tuple[Node, Limit]]:
    kind, node = unwrap(part)
    if kind == "NullTest":
        what = "null" if node.get("nulltesttype", "IS_NULL") == "IS_NULL" else "not null"
        yield node.get("arg", {}), Limit(part, what)
        return
    c = comparison(part)
    if c is None:
        return
    values = tuple(constant(v) for v in c.values)
    if not all(isinstance(v, str | int | float) for v in values):
        return
    if c.operator in ("=", "IN"):
        yield c.side, Limit(part, "=", values)
    elif c.operator == "<>" or c.operator in _BOUNDS:
        yield c.side, Limit(part, c.operator, values)
    elif c.operator == "BETWEEN" and len(values) == 2:
        yield c.side, Limit(part, ">=", values[:1])
        yield c.side, Limit(part, "<=", values[1:])


def order(one: Any, other: Any) -> int | None:
    """-1, 0 or 1 as ``one`` is less than, equal to or greater than ``other``; None if unknown.

    Strings are ordered only where both are days or moments written alike: how others compare
    depends on type and collation.
    """
    if isinstance(one, bool) or isinstance(other, bool):
        return None
    if isinstance(one, str) and isinstance(other, str):
        if one == other:
            return 0
        alike = any(p.fullmatch(one) and p.fullmatch(other) for p in (_DAY, _MOMENT))
        if not alike or len(one) != len(other):
            return None
    elif isinstance(one, str) or isinstance(other, str):
        return None
    return int(one > other) - int(one < other)


def differ(one: Any, other: Any, text_like: bool) -> bool:
    """Whether two literals are certainly two values of the column they are compared with."""
    if isinstance(one, str) != isinstance(other, str) or isinstance(one, bool) != isinstance(
        other, bool
    ):
        return False
    if not isinstance(one, str):
        return bool(one != other)
    if text_like:
        return bool(one != other)
    if (found := order(one, other)) is not None:
        return found != 0
    a, b = one.strip().lower(), other.strip().lower()
    plain = not any(c.isdigit() for c in a + b) and a not in _SPELLINGS and b not in _SPELLINGS
    return a != b and plain


def satisfies(value: Any, operator: str, bound: Any) -> bool | None:
    """Whether ``value operator bound`` holds; None where it cannot be told."""
    found = order(value, bound)
    if found is None:
        return None
    return {"<": found < 0, "<=": found <= 0, ">": found > 0, ">=": found >= 0}[operator]


def contradiction(of: Limits) -> tuple[Limit, Limit] | None:
    """Two conditions on a column that no value meets together."""
    for place, one in enumerate(of.limits):
        for other in of.limits[place + 1 :]:
            if _excludes(one, other, of.text_like) or _excludes(other, one, of.text_like):
                return one, other
    return None


def _excludes(one: Limit, other: Limit, text_like: bool) -> bool:
    if one.operator == "null":
        return other.operator != "null"
    if one.operator == "=" and other.operator == "=":
        return all(differ(a, b, text_like) for a in one.values for b in other.values)
    if one.operator == "=" and other.operator == "<>":
        return all(v == other.values[0] for v in one.values)
    if one.operator == "=" and other.operator in _BOUNDS:
        return all(satisfies(v, other.operator, other.values[0]) is False for v in one.values)
    if one.operator in (">", ">=") and other.operator in ("<", "<="):
        found = order(one.values[0], other.values[0])
        touching = one.operator == ">=" and other.operator == "<="
        return found == 1 or (found == 0 and not touching)
    return False


def implied(of: Limits) -> list[tuple[Limit, Limit]]:
    """Conditions on a column that another one makes superfluous, each with that other."""
    result: list[tuple[Limit, Limit]] = []
    dropped: set[int] = set()
    counted: dict[int, int] = {}
    for limit in of.limits:
        counted[id(limit.part)] = counted.get(id(limit.part), 0) + 1
    for one in of.limits:
        for other in of.limits:
            if one is other or one.part is other.part or id(other.part) in dropped:
                continue
            # Half of a BETWEEN cannot be dropped.
            if id(one.part) not in dropped and counted[id(one.part)] == 1 and _implies(other, one):
                dropped.add(id(one.part))
                result.append((one, other))
    return result


def _implies(one: Limit, other: Limit) -> bool:
    """Whether whatever meets ``one`` meets ``other``."""
    if other.operator == "not null":
        return one.operator not in ("null", "not null")
    if one.operator == "=" and other.operator == "=":
        return set(map(_typed, one.values)) < set(map(_typed, other.values))
    if one.operator == "=" and other.operator in _BOUNDS:
        return all(satisfies(v, other.operator, other.values[0]) is True for v in one.values)
    if one.operator in _BOUNDS and other.operator in _BOUNDS:
        if one.operator[0] != other.operator[0]:
            return False
        found = order(one.values[0], other.values[0])
        if found == 0:
            return one.operator != other.operator and len(one.operator) == 1
        return found == (1 if one.operator[0] == ">" else -1)
    return False


def _typed(value: Any) -> tuple[type, Any]:
    return type(value), value
