"""What the gate asks of a server beyond the catalog that all others read: lengths of types, named CHECKs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqladvisor.catalog.ddl_state import Key

if TYPE_CHECKING:
    import psycopg

_USER = "n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'"
_MODIFIERS = f"""
SELECT n.nspname::text, c.relname::text, a.attname::text,
       pg_catalog.format_type(a.atttypid, a.atttypmod)
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'f') AND a.attnum > 0 AND NOT a.attisdropped AND {_USER}"""
# Printing a condition waits for whoever holds the table alone. conenforced came with 18.
_CHECKS = f"""
SELECT n.nspname::text, c.relname::text, o.conname::text, o.convalidated,
       coalesce((to_jsonb(o) ->> 'conenforced')::bool, true),
       pg_catalog.pg_get_expr(o.conbin, o.conrelid, true),
       ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
             WHERE a.attrelid = o.conrelid AND a.attnum = ANY (o.conkey) ORDER BY a.attnum)
FROM pg_catalog.pg_constraint o
JOIN pg_catalog.pg_class c ON c.oid = o.conrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE o.contype = 'c' AND {_USER} AND c.oid <> ALL (%s::int8[]::oid[])"""
_DOMAINS = """
SELECT t.typname::text FROM pg_catalog.pg_type t WHERE t.typtype = 'd'
  AND (t.typnotnull OR EXISTS (SELECT FROM pg_catalog.pg_constraint o WHERE o.contypid = t.oid))"""
_DEFAULTS = """
SELECT n.nspname::text, c.relname::text, m.nspname::text, d.relname::text
FROM pg_catalog.pg_partitioned_table p
JOIN pg_catalog.pg_class c ON c.oid = p.partrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_class d ON d.oid = p.partdefid
JOIN pg_catalog.pg_namespace m ON m.oid = d.relnamespace"""
_NUMBERS = re.compile(r"\(([\d,]+)\)")


@dataclass(frozen=True, slots=True)
class Check:
    """A CHECK as the server prints it; ``columns`` are those it is about."""

    text: str
    columns: tuple[str, ...]
    validated: bool = True
    enforced: bool = True


@dataclass(frozen=True, slots=True)
class Details:
    """``modifiers`` by relation and column, () for none; ``checks`` by relation and name."""

    modifiers: Mapping[tuple[Key, str], tuple[int, ...]] = field(default_factory=dict)
    checks: Mapping[Key, Mapping[str, Check]] = field(default_factory=dict)
    constrained_domains: frozenset[str] = frozenset()
    default_partitions: Mapping[Key, Key] = field(default_factory=dict)


def read_details(connection: psycopg.Connection) -> Details:
    """Read them from the system catalogs. Raises psycopg.Error."""
    from sqladvisor.catalog.live import locked_relations

    locked = [oid for oid, _ in locked_relations(connection)]
    modifiers = {}
    for schema, table, column, type_ in connection.execute(_MODIFIERS.encode()).fetchall():
        found = _NUMBERS.search(type_)
        numbers = tuple(int(n) for n in found[1].split(",")) if found else ()
        modifiers[(schema, table), column] = numbers
    checks: dict[Key, dict[str, Check]] = {}
    for schema, table, name, validated, enforced, text, columns in connection.execute(
        _CHECKS.encode(), [locked]
    ).fetchall():
        own = checks.setdefault((schema, table), {})
        own[name] = Check(text or "", tuple(columns), validated, enforced)
    return Details(
        modifiers,
        checks,
        frozenset(name for (name,) in connection.execute(_DOMAINS.encode()).fetchall()),
        {(r[0], r[1]): (r[2], r[3]) for r in connection.execute(_DEFAULTS.encode()).fetchall()},
    )
