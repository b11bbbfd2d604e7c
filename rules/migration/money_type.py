"""Amounts of money as money or as a floating-point number come out wrong.

Why: money takes its currency and its number of digits from lc_monetary: another server shows and reads other
    amounts. real and double precision cannot hold 0.10, and sums drift with the order of the rows.
Fix: numeric, and a column for the currency; or bigint in the smallest unit.
Silent when: the floating-point column's name does not speak of money; temporary tables; it is not selected
    (--select design).
Source: PostgreSQL manual, 8.2 "Monetary Types", 8.1.3 "Floating-Point Types"; PostgreSQL wiki, "Don't Do
    This".
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext
from sqladvisor.migrate.defined import DEFINES, column_type, columns_defined, type_span, with_type
from sqladvisor.rule import rule
from sqladvisor.sql.statement import Node

BAD = [
    "CREATE TABLE products (id bigint PRIMARY KEY, price money);",
    "ALTER TABLE orders ADD COLUMN total_amount double precision;",
    "ALTER TABLE orders ALTER COLUMN fee TYPE real;",
]
GOOD = [
    "CREATE TABLE products (id bigint PRIMARY KEY, price numeric(12, 2), weight double precision);",
    "CREATE TABLE points (id bigint PRIMARY KEY, x real, estimate float);",
    "CREATE TEMP TABLE scratch (price money);",
    "CREATE TABLE t (priceless boolean, costume float);",
]
_FLOATS = ("real", "double precision")
_MONEY = re.compile(
    r"(?:^|_)(?:price|amount|cost|fee|balance|salary|wage|revenue|payment|tax|vat|invoice|payout|refund|"
    r"discount|subtotal|total)s?(?:$|_)",
    re.IGNORECASE,
)


@rule(*DEFINES, severity="info", opt_in="design")
def check(node: Node, ctx: MigrationContext) -> Iterator[Finding]:
    for name, column in columns_defined(node, ctx):
        type_ = column_type(column).removesuffix("[]")
        if type_ == "money":
            message = f"{name} is money: its digits and currency depend on the server's lc_monetary"
        elif type_ in _FLOATS and _MONEY.search(name):
            message = f"{name} is {type_}, which cannot hold 0.10: sums of it drift"
        else:
            continue
        fixes = [with_type(column, "numeric", ctx, "exact decimals")]
        yield ctx.finding(type_span(column, ctx), message, fixes=fixes)
