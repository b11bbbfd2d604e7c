"""Rows are updated one statement at a time, each found by its key.

Why: each statement pays for its own round trip, parse, plan, executor start, and (outside a
    transaction) its own commit and WAL flush. One UPDATE joined with a list of the new values
    finds and changes the same rows and pays once.
Fix: UPDATE … FROM (VALUES …), written out from these statements, with the columns' types where
    the catalog knows them; from an application, FROM unnest($1::type[], $2::type[]) with one
    array per column.
Silent when: there are fewer than a handful, two of them share a key (the last must win), they
    change the column they look rows up by, hold a subquery or RETURNING, find their rows by
    something that is no key, or are not next to each other.
Source: PostgreSQL manual, UPDATE ("FROM"), and 14.4 "Populating a Database" for the costs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqladvisor.context import Context
from sqladvisor.finding import Finding, Fix
from sqladvisor.rule import WORKLOAD, rule
from sqladvisor.workload.batches import (
    experiment,
    joined,
    keyed_writes,
    severity,
    table_name,
    together,
    toll,
)

SCHEMA = """
CREATE TABLE products (id bigint PRIMARY KEY, sku text NOT NULL UNIQUE, price numeric(12, 2),
    stock integer, seen date, "Größe" varchar(10), category text);
CREATE TABLE lines (order_id bigint, pos integer, note text, PRIMARY KEY (order_id, pos));
CREATE INDEX ON products (category);
"""
BAD = [
    """UPDATE products SET price = 1.50 WHERE id = 1; UPDATE products SET price = 2 WHERE id = 2;
       UPDATE products SET price = NULL WHERE id = 3; UPDATE products SET price = 3 WHERE id = 4;
       UPDATE products SET price = -1 WHERE id = 5;""",
    """UPDATE public.products AS p SET seen = '2024-01-01', "Größe" = 'é' WHERE 'a' = p.sku;
       UPDATE public.products AS p SET seen = '2024-01-02', "Größe" = 'x' WHERE 'b' = p.sku;
       UPDATE public.products AS p SET seen = '2024-01-03', "Größe" = 'y' WHERE 'c' = p.sku;
       UPDATE public.products AS p SET seen = '2024-01-04', "Größe" = 'z' WHERE 'd' = p.sku;
       UPDATE public.products AS p SET seen = '2024-01-05', "Größe" = '' WHERE 'e' = p.sku;""",
    """BEGIN;
       UPDATE products SET stock = stock - 1 WHERE id = 11 AND stock > 0;
       UPDATE products SET stock = stock - 2 WHERE id = 12 AND stock > 0;
       UPDATE products SET stock = stock - 1 WHERE id = 13 AND stock > 0;
       UPDATE products SET stock = stock - 7 WHERE id = 14 AND stock > 0;
       UPDATE products SET stock = stock - 1 WHERE id = 15 AND stock > 0;
       COMMIT;""",
    """UPDATE lines SET note = 'a' WHERE order_id = 1 AND pos = 1;
       UPDATE lines SET note = 'b' WHERE order_id = 1 AND pos = 2;
       UPDATE lines SET note = 'c' WHERE order_id = 1 AND pos = 3;
       UPDATE lines SET note = 'd' WHERE order_id = 1 AND pos = 4;
       UPDATE lines SET note = 'e' WHERE order_id = 1 AND pos = 5;""",
    """UPDATE products SET category = 'a' WHERE id = 1 AND category = 'x';
       UPDATE products SET category = 'b' WHERE id = 2 AND category = 'x';
       UPDATE products SET category = 'c' WHERE id = 3 AND category = 'x';
       UPDATE products SET category = 'd' WHERE id = 4 AND category = 'x';
       UPDATE products SET category = 'e' WHERE id = 5 AND category = 'x';""",
]
GOOD = [
    "UPDATE products p SET price = v.price FROM (VALUES (1, 2), (2, 3)) AS v (id, price) WHERE p.id = v.id",
    """UPDATE products SET price = 1 WHERE id = 1; UPDATE products SET price = 2 WHERE id = 2;
       UPDATE products SET price = 3 WHERE id = 3;""",
    # The last one wins: their order matters.
    """UPDATE products SET price = 1 WHERE id = 1; UPDATE products SET price = 2 WHERE id = 2;
       UPDATE products SET price = 3 WHERE id = 3; UPDATE products SET price = 4 WHERE id = 4;
       UPDATE products SET price = 5 WHERE id = 1;""",
    # Each makes room for the next.
    """UPDATE products SET id = 6 WHERE id = 5; UPDATE products SET id = 5 WHERE id = 4;
       UPDATE products SET id = 4 WHERE id = 3; UPDATE products SET id = 3 WHERE id = 2;
       UPDATE products SET id = 2 WHERE id = 1;""",
    # Not single rows: perhaps in steps on purpose.
    """UPDATE products SET price = 1 WHERE category = 'a'; UPDATE products SET price = 2 WHERE category = 'b';
       UPDATE products SET price = 3 WHERE category = 'c'; UPDATE products SET price = 4 WHERE category = 'd';
       UPDATE products SET price = 5 WHERE category = 'e';""",
    """UPDATE products SET price = (SELECT max(price) + 1 FROM products) WHERE id = 1;
       UPDATE products SET price = (SELECT max(price) + 1 FROM products) WHERE id = 2;
       UPDATE products SET price = (SELECT max(price) + 1 FROM products) WHERE id = 3;
       UPDATE products SET price = (SELECT max(price) + 1 FROM products) WHERE id = 4;
       UPDATE products SET price = (SELECT max(price) + 1 FROM products) WHERE id = 5;""",
    """UPDATE products SET price = $1 WHERE id = $2; UPDATE products SET price = $1 WHERE id = $2;
       UPDATE products SET price = $1 WHERE id = $2; UPDATE products SET price = $1 WHERE id = $2;
       UPDATE products SET price = $1 WHERE id = $2;""",
    """BEGIN; UPDATE products SET price = 1 WHERE id = 1; COMMIT;
       BEGIN; UPDATE products SET price = 2 WHERE id = 2; COMMIT;
       BEGIN; UPDATE products SET price = 3 WHERE id = 3; COMMIT;
       BEGIN; UPDATE products SET price = 4 WHERE id = 4; COMMIT;
       BEGIN; UPDATE products SET price = 5 WHERE id = 5; COMMIT;""",
]


@rule(
    WORKLOAD,
    severity="warning",
    thresholds={"min_statements": 5},  # fewer are as likely written one by one on purpose
)
def check(contexts: Sequence[Context], ctx: Context) -> Iterator[Finding]:
    for writes in keyed_writes(contexts, "UpdateStmt", int(ctx.threshold("min_statements"))):
        first, count = writes.contexts[0], len(writes.contexts)
        first.rule = ctx.rule
        batched = joined(writes, "FROM")
        table, keys = table_name(writes.item), ", ".join(writes.keys)
        yield first.finding(
            None,
            f"{count:,} UPDATEs of {table} in a row, one for each {keys}: {toll(first)}",
            severity=severity(writes.contexts),
            fixes=()
            if batched is None
            else (
                Fix(
                    f"one statement for {count:,} rows{together(first)}",
                    ";\n".join(batched),
                    "advice",
                ),
            ),
            figures={"statements": count, "key": keys},
            notes=()
            if batched
            else (f"with a schema (--schema, --dsn) UPDATE {table} FROM (VALUES …) is written out",)
            if writes.item.relation is None
            else (),
            experiment=experiment(writes.contexts, batched) if batched else None,
        )
