"""Rows are deleted one statement at a time, each found by its key.

Why: each statement pays for its own round trip, parse, plan, executor start, and (outside a
    transaction) its own commit and WAL flush. One DELETE with a list of keys pays once.
Fix: one DELETE with key IN (…), or joined with the keys by USING (VALUES …) where there are
    several columns; from an application, key = ANY ($1) with one array parameter.
Silent when: there are fewer than a handful, they hold a subquery or RETURNING, find their rows by
    something that is no key (deleting in large steps is often meant), or are not next to each
    other.
Source: PostgreSQL manual, DELETE ("USING"), and 9.25.3 "ANY/SOME (array)".
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
    lookup_list,
    severity,
    table_name,
    together,
    toll,
)

SCHEMA = """
CREATE TABLE carts (id bigint PRIMARY KEY, code uuid NOT NULL UNIQUE, day date, "Käufer" text);
CREATE TABLE lines (order_id bigint, sku varchar(20), PRIMARY KEY (order_id, sku));
"""
BAD = [
    """DELETE FROM carts WHERE id = 1; DELETE FROM carts WHERE id = 2; DELETE FROM carts WHERE id = 3;
       DELETE FROM carts WHERE id = 4; DELETE FROM carts WHERE id = 5;""",
    """DELETE FROM public.carts c WHERE c.code = 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11' AND "Käufer" = 'é';
       DELETE FROM public.carts c WHERE c.code = 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12' AND "Käufer" = 'é';
       DELETE FROM public.carts c WHERE c.code = 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a13' AND "Käufer" = 'é';
       DELETE FROM public.carts c WHERE c.code = 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a14' AND "Käufer" = 'é';
       DELETE FROM public.carts c WHERE c.code = 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a15' AND "Käufer" = 'é';""",
    """DELETE FROM lines WHERE order_id = 1 AND sku = 'a'; DELETE FROM lines WHERE order_id = 1 AND sku = 'b';
       DELETE FROM lines WHERE order_id = 2 AND sku = 'a'; DELETE FROM lines WHERE order_id = 2 AND sku = 'c';
       DELETE FROM lines WHERE order_id = 3 AND sku = 'a';""",
    """BEGIN; DELETE FROM "Other" WHERE user_id = 1; DELETE FROM "Other" WHERE user_id = 2;
       DELETE FROM "Other" WHERE user_id = 3; DELETE FROM "Other" WHERE user_id = 2;
       DELETE FROM "Other" WHERE user_id = -4; COMMIT;""",
]
GOOD = [
    "DELETE FROM carts WHERE id IN (1, 2, 3, 4, 5, 6)",
    "DELETE FROM carts WHERE id = 1; DELETE FROM carts WHERE id = 2; DELETE FROM carts WHERE id = 3;",
    """DELETE FROM a; DELETE FROM b; DELETE FROM c; DELETE FROM d; DELETE FROM e; DELETE FROM f;""",
    """DELETE FROM lines WHERE order_id = 1; DELETE FROM carts WHERE id = 1;
       DELETE FROM lines WHERE order_id = 2; DELETE FROM carts WHERE id = 2;
       DELETE FROM lines WHERE order_id = 3; DELETE FROM carts WHERE id = 3;
       DELETE FROM lines WHERE order_id = 4; DELETE FROM carts WHERE id = 4;
       DELETE FROM lines WHERE order_id = 5; DELETE FROM carts WHERE id = 5;""",
    # A day at a time, so that no transaction grows too long.
    """DELETE FROM carts WHERE day = '2024-01-01'; DELETE FROM carts WHERE day = '2024-01-02';
       DELETE FROM carts WHERE day = '2024-01-03'; DELETE FROM carts WHERE day = '2024-01-04';
       DELETE FROM carts WHERE day = '2024-01-05';""",
    """DELETE FROM logs WHERE day = '2024-01-01'; DELETE FROM logs WHERE day = '2024-01-02';
       DELETE FROM logs WHERE day = '2024-01-03'; DELETE FROM logs WHERE day = '2024-01-04';
       DELETE FROM logs WHERE day = '2024-01-05';""",
    """DELETE FROM carts WHERE id = 1 RETURNING code; DELETE FROM carts WHERE id = 2 RETURNING code;
       DELETE FROM carts WHERE id = 3 RETURNING code; DELETE FROM carts WHERE id = 4 RETURNING code;
       DELETE FROM carts WHERE id = 5 RETURNING code;""",
]


@rule(
    WORKLOAD,
    severity="warning",
    thresholds={"min_statements": 5},  # fewer are as likely written one by one on purpose
)
def check(contexts: Sequence[Context], ctx: Context) -> Iterator[Finding]:
    for writes in keyed_writes(contexts, "DeleteStmt", int(ctx.threshold("min_statements"))):
        first, count = writes.contexts[0], len(writes.contexts)
        first.rule = ctx.rule
        batched = lookup_list(writes) if len(writes.keys) == 1 else joined(writes, "USING")
        keys = ", ".join(writes.keys)
        yield first.finding(
            None,
            f"{count:,} DELETEs from {table_name(writes.item)} in a row, one for each {keys}: "
            f"{toll(first)}",
            severity=severity(writes.contexts),
            fixes=(
                Fix(
                    f"one statement for all {count:,}{together(first)}",
                    ";\n".join(batched),
                    "advice",
                ),
            )
            if batched
            else (),
            figures={"statements": count, "key": keys},
            experiment=experiment(writes.contexts, batched) if batched else None,
        )
