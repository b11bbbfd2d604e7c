"""The names PostgreSQL gives to what DDL leaves unnamed (indexes and constraints)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sqladvisor.sql import libpg
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import unwrap

_NAME_BYTES = 63
"""NAMEDATALEN - 1 of a default build (src/include/pg_config_manual.h)."""


def key_name(element: Node) -> str:
    """What an index key contributes to an unnamed index's name."""
    if "name" in element:
        return str(element["name"])
    from sqladvisor.sql.column_names import output_name

    named = output_name(*unwrap(element.get("expr", {})))
    return named if named != "?column?" else "expr"


def expression_name(expression: str) -> str:
    """The same, of an expression key known by its text alone."""
    try:
        ((_, _, _, select),) = libpg.parse(f"SELECT {expression}")
    except (libpg.ParseProblem, ValueError):
        return "expr"
    return key_name({"expr": select["targetList"][0]["ResTarget"]["val"]})


def key_names(columns: Iterable[str]) -> str:
    """The middle of an index's name: its columns joined (ChooseIndexNameAddition, indexcmds.c).

    A column name given twice is numbered, as ChooseIndexColumnNames does.
    """
    chosen: list[str] = []
    for column in columns:
        name, n = column, 0
        while name in chosen:
            n += 1
            name = _clip(column, _NAME_BYTES - len(str(n))) + str(n)
        chosen.append(name)
    return "_".join(chosen)


def object_name(table: str, middle: str, label: str, taken: Callable[[str], bool]) -> str:
    """``table_middle_label``, shortened to 63 bytes and numbered until it is free.

    makeObjectName and ChooseRelationName (indexcmds.c): the longer of the first two parts is
    shortened first; the number goes behind the label.
    """
    n = 0
    while True:
        ending = label + (str(n) if n else "")
        budget = _NAME_BYTES - len(ending) - 1 - (1 if middle else 0)
        first, second = len(table.encode()), len(middle.encode())
        while first + second > budget:
            if first > second:
                first -= 1
            else:
                second -= 1
        name = "_".join(p for p in (_clip(table, first), _clip(middle, second), ending) if p)
        if not taken(name):
            return name
        n += 1


def _clip(text: str, size: int) -> str:
    return text.encode()[:size].decode(errors="ignore")
