"""The parameters of a statement and its rewrite: the same ones, given the same values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache

import psycopg

from sqladvisor.context import Context
from sqladvisor.prove.compared import Compared
from sqladvisor.prove.values import parameter_values
from sqladvisor.server.connect import one_line
from sqladvisor.sql.spans import Spans

Assignment = Mapping[int, str]
"""Parameter number → SQL expression."""

SETS = 4
"""Sets of values tried; the last is all NULL."""
_POSITIONAL = ("?", "%s")
_LIMITS = ("2", "1", "0", "5")
_PATTERNS = ("'a%'", "'%'", "'a'", "'_'")


def same_places(original: Context, rewrite: Context) -> str:
    """Why a client could not send the rewrite what it sends the original; "" if it could."""
    mine = [p for p in original.statement.placeholders if p.text in _POSITIONAL]
    theirs = [p for p in rewrite.statement.placeholders if p.text in _POSITIONAL]
    if len(mine) != len(theirs):
        return f"takes {len(theirs)} parameters instead of {len(mine)}"
    named = [
        {p.text for p in c.statement.placeholders if p.number and p.text not in _POSITIONAL}
        for c in (original, rewrite)
    ]
    for name in sorted(named[0] ^ named[1]):
        return f"{'no longer takes' if name in named[0] else 'takes'} the parameter {name}"
    fixed = [
        Counter(p.text for p in c.statement.placeholders if not p.number)
        for c in (original, rewrite)
    ]
    if fixed[0].keys() != fixed[1].keys():
        return "has other template marks"
    return ""


def same_numbers(original: Context, rewrite: Context) -> tuple[dict[int, int], dict[int, int]]:
    """For each of both statements: its parameters' numbers → the original's for the same one."""
    known: dict[tuple[str, int], int] = {}
    found = []
    for ctx in (original, rewrite):
        numbers: dict[int, int] = {}
        place = 0
        for mark in ctx.statement.placeholders:
            if not mark.number:
                continue
            place += mark.text in _POSITIONAL
            key = (mark.text, place if mark.text in _POSITIONAL else 0)
            numbers[mark.number] = known.setdefault(key, mark.number)
        for node in ctx.tree.of("ParamRef"):
            number = int(node.get("number", 0))
            numbers.setdefault(number, number)
        found.append(numbers)
    return found[0], found[1]


def parameter_types(connection: psycopg.Connection, ctx: Context) -> tuple[str, ...] | str:
    """The types that the server infers for the parameters, in order; or why it refuses them."""
    try:
        connection.execute(f"PREPARE sqladvisor_types AS {ctx.statement.sql}".encode())
        row = connection.execute(
            "SELECT parameter_types::text[] FROM pg_prepared_statements "
            "WHERE name = 'sqladvisor_types'"
        ).fetchone()
        connection.execute("DEALLOCATE sqladvisor_types")
    except psycopg.Error as error:
        if connection.closed:
            raise
        return one_line(error)
    return tuple(row[0]) if row else ()


def assignments(types: Sequence[str], what: Compared) -> list[Assignment]:
    """Sets of values for parameters of these types."""
    if not types:
        return [{}]
    choices: dict[int, Sequence[str]] = {}
    for number, type_ in enumerate(types, 1):
        operators = {how for _, how in what.parameters.get(number, {})}
        if number in what.limits:
            choices[number] = _LIMITS
        elif operators & {"~~", "~~*", "!~~", "!~~*"}:
            choices[number] = _PATTERNS
        else:
            choices[number] = parameter_values(type_) or ("NULL",)
    found: list[Assignment] = [
        {n: values[(turn + n - 1) % len(values)] for n, values in choices.items()}
        for turn in range(SETS - 1)
    ]
    found.append({n: "1" if n in what.limits else "NULL" for n in choices})
    return found


def bound(sql: str, types: Sequence[str], numbers: Mapping[int, int], values: Assignment) -> str:
    """The statement with values in the places of its parameters."""
    if not types:
        return sql
    pieces = []
    for text, number in _pieces(sql):
        pieces.append(text)
        if number:
            value = values.get(numbers.get(number, number), "NULL")
            pieces.append(f"({value})::{types[number - 1]}")
    return "".join(pieces)


@lru_cache(maxsize=8)
def _pieces(sql: str) -> tuple[tuple[str, int], ...]:
    """The text between parameters, each piece with the number of the one after it (0: none)."""
    pieces, position = [], 0
    for start, end, name in Spans(sql).tokens:
        if name == "PARAM":
            pieces.append((sql[position:start], int(sql[start + 1 : end])))
            position = end
    return (*pieces, (sql[position:], 0))
