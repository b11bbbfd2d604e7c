"""A name longer than 63 bytes is cut, and only a NOTICE says so.

Why: two long names that begin alike become one: the second CREATE fails, or with IF NOT EXISTS does nothing.
    Code that looks the object up by its full name in the catalogs does not find it.
Fix: a shorter name. Bytes count, not characters.
Silent when: the name has at most 63 bytes; it stands in a string or a comment; it is not selected
    (--select design).
Source: PostgreSQL manual, 4.1.1 "Identifiers and Key Words" (NAMEDATALEN).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext
from sqladvisor.rule import MIGRATION, rule

BAD = [
    "CREATE INDEX index_of_the_orders_by_their_customer_and_the_date_on_which_they_came ON orders (id);",
    'CREATE TABLE t ("größte_anzahl_der_äpfel_in_den_körben_über_alle_gärten_der_stä" int);',
]
GOOD = [
    "CREATE INDEX orders_customer_idx ON orders (id);",
    "SELECT 'index_of_the_orders_by_their_customer_and_the_date_on_which_they_came';",
    "-- index_of_the_orders_by_their_customer_and_the_date_on_which_they_came\nSELECT 1;",
]
MAX_BYTES = 63
_LONG = re.compile(r'[\w$]{22,}|"[^"]{22,}')
"""A character has at most three bytes here: nothing shorter can be too long."""


@rule(MIGRATION, severity="warning", opt_in="design")
def check(contexts: Sequence[MigrationContext], ctx: MigrationContext) -> Iterator[Finding]:
    for own in contexts:
        sql = own.statement.sql
        if not _LONG.search(sql):
            continue
        for start, end, kind in own.spans.tokens:
            if kind != "IDENT" or end - start < MAX_BYTES // 3:
                continue
            name = sql[start:end]
            if name.startswith('"'):
                name = name[1:-1].replace('""', '"')
            size = len(name.encode())
            if size > MAX_BYTES:
                kept = name.encode()[:MAX_BYTES].decode("utf-8", "ignore")
                own.rule = ctx.rule
                message = f"{name} has {size} bytes: it becomes {kept}"
                yield own.finding((start, end), message)
