"""Identifiers as SQL text, quoted where PostgreSQL's quote_ident() would quote them."""

from __future__ import annotations

import re
from functools import cache

from sqladvisor.sql import libpg

_PLAIN = re.compile(r"[a-z_][a-z0-9_$]*\Z")


@cache
def identifier(name: str) -> str:
    """``name`` as it must be written: quoted unless it is a plain, unreserved lower-case word."""
    if _PLAIN.match(name):
        token = libpg.scan(name)[0]
        if token.kind in ("NO_KEYWORD", "UNRESERVED_KEYWORD"):
            return name
    return '"' + name.replace('"', '""') + '"'


def qualified(schema: str | None, name: str) -> str:
    """``schema.name``, the schema left out when None."""
    return identifier(name) if schema is None else f"{identifier(schema)}.{identifier(name)}"


def literal(value: str) -> str:
    """A string constant, safe with standard_conforming_strings on or off."""
    quoted = "'" + value.replace("'", "''") + "'"
    return "E" + quoted.replace("\\", "\\\\") if "\\" in quoted else quoted
