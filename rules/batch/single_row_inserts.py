"""Rows are inserted one statement at a time into the same table.

Why: each statement pays for its own round trip, parse, plan, executor start, and (outside a
    transaction) its own commit and WAL flush. One statement with many rows pays once.
Fix: one INSERT with several VALUES rows, written out from these statements; for thousands of rows
    COPY, or INSERT … SELECT FROM unnest($1::type[], …) with one array per column.
Silent when: there are fewer than a handful; the statements use RETURNING or ON CONFLICT DO UPDATE
    (which may depend on the order row by row); a row is computed from what the one before it
    wrote (a subquery, currval(), a function that is not immutable); two rows share a value of a
    unique column; they are not next to each other, or each is in a transaction of its own.
    Triggers are not known here: an AFTER ROW trigger then runs when all rows are in.
Source: PostgreSQL manual, 14.4 "Populating a Database".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqladvisor.context import Context
from sqladvisor.finding import Finding, Fix
from sqladvisor.rule import WORKLOAD, rule
from sqladvisor.sql.resolve import FromItem
from sqladvisor.sql.tree import constant
from sqladvisor.workload.batches import (
    ROWS_PER_STATEMENT,
    experiment,
    row_span,
    row_values,
    severity,
    single_row_inserts,
    table_name,
    together,
    toll,
)

SCHEMA = """
CREATE TABLE t (a integer, b text, c timestamptz DEFAULT now());
CREATE TABLE "T" (n integer);
CREATE TABLE keyed (id serial PRIMARY KEY, code text UNIQUE, at date);
CREATE FUNCTION next_code() RETURNS text LANGUAGE sql AS 'SELECT max(code) FROM keyed';
"""
BAD = [
    """INSERT INTO t (a, b) VALUES (1, 'x'); INSERT INTO t (a, b) VALUES (2, 'y');
       INSERT INTO t (a, b) VALUES (3, 'z'); INSERT INTO t (a, b) VALUES (4, 'w');
       INSERT INTO t (a, b) VALUES (4, 'q'); INSERT INTO t (a, b) VALUES (5, 'é;');
       INSERT INTO t (a, b) VALUES (6, 'q'); INSERT INTO t (a, b) VALUES (7, '(');
       INSERT INTO t (a, b) VALUES (-8, 'q');""",
    """BEGIN; INSERT INTO "T" VALUES (1); INSERT INTO "T" VALUES (2); insert into "T" values (3);
       INSERT INTO "T" VALUES (4); INSERT INTO "T" VALUES (5); COMMIT;""",
    """INSERT INTO public.keyed (code, at) VALUES ('a', NULL);
       INSERT INTO public.keyed (code, at) VALUES ('b', now());
       INSERT INTO public.keyed (code, at) VALUES ('ü', '2024-01-01');
       INSERT INTO public.keyed (code, at) VALUES (NULL, DEFAULT);
       INSERT INTO public.keyed (code, at) VALUES (NULL, DATE '2024-01-02');""",
    """INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING; INSERT INTO t VALUES (2) ON CONFLICT DO NOTHING;
       INSERT INTO t VALUES (3) ON CONFLICT DO NOTHING; INSERT INTO t VALUES (4) ON CONFLICT DO NOTHING;
       INSERT INTO t VALUES (5) ON CONFLICT DO NOTHING;""",
]
GOOD = [
    "INSERT INTO t (a, b) VALUES (1, 'x'), (2, 'y'), (3, 'z'), (4, 'q'), (5, 'r'), (6, 's')",
    "INSERT INTO t VALUES (1); INSERT INTO t VALUES (2); INSERT INTO t VALUES (3);",
    """INSERT INTO a VALUES (1); INSERT INTO b VALUES (1); INSERT INTO a VALUES (2);
       INSERT INTO b VALUES (2); INSERT INTO a VALUES (3); INSERT INTO b VALUES (3);""",
    """INSERT INTO t VALUES (1) RETURNING id; INSERT INTO t VALUES (2) RETURNING id;
       INSERT INTO t VALUES (3) RETURNING id; INSERT INTO t VALUES (4) RETURNING id;
       INSERT INTO t VALUES (5) RETURNING id;""",
    """INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET b = 1;
       INSERT INTO t VALUES (2) ON CONFLICT (a) DO UPDATE SET b = 1;
       INSERT INTO t VALUES (3) ON CONFLICT (a) DO UPDATE SET b = 1;
       INSERT INTO t VALUES (4) ON CONFLICT (a) DO UPDATE SET b = 1;
       INSERT INTO t VALUES (5) ON CONFLICT (a) DO UPDATE SET b = 1;""",
    # Each in a transaction of its own: batch/commit-per-row.
    """BEGIN; INSERT INTO t VALUES (1); COMMIT; BEGIN; INSERT INTO t VALUES (2); COMMIT;
       BEGIN; INSERT INTO t VALUES (3); COMMIT; BEGIN; INSERT INTO t VALUES (4); COMMIT;
       BEGIN; INSERT INTO t VALUES (5); COMMIT;""",
    # Each number follows from the row before: in one statement all would get the same.
    """INSERT INTO t (a) VALUES ((SELECT max(a) + 1 FROM t)); INSERT INTO t (a) VALUES ((SELECT max(a) + 1 FROM t));
       INSERT INTO t (a) VALUES ((SELECT max(a) + 1 FROM t)); INSERT INTO t (a) VALUES ((SELECT max(a) + 1 FROM t));
       INSERT INTO t (a) VALUES ((SELECT max(a) + 1 FROM t));""",
    """INSERT INTO keyed (code) VALUES (next_code()); INSERT INTO keyed (code) VALUES (next_code());
       INSERT INTO keyed (code) VALUES (next_code()); INSERT INTO keyed (code) VALUES (next_code());
       INSERT INTO keyed (code) VALUES (next_code());""",
    # One statement would fail as a whole where four of these succeed.
    """INSERT INTO keyed (code) VALUES ('a'); INSERT INTO keyed (code) VALUES ('b');
       INSERT INTO keyed (code) VALUES ('c'); INSERT INTO keyed (code) VALUES ('d');
       INSERT INTO keyed (code) VALUES ('a');""",
    """INSERT INTO t VALUES ($1); INSERT INTO t VALUES ($1); INSERT INTO t VALUES ($1);
       INSERT INTO t VALUES ($1); INSERT INTO t VALUES ($1);""",
]


COPY_ROWS = 1_000
"""Rows from which COPY is worth the trouble of another protocol: it parses no SQL at all."""


@rule(
    WORKLOAD,
    severity="warning",
    thresholds={"min_statements": 5},  # below it a batch saves less than a millisecond or two
)
def check(contexts: Sequence[Context], ctx: Context) -> Iterator[Finding]:
    minimum = int(ctx.threshold("min_statements"))
    for members in single_row_inserts(contexts, minimum):
        first, count = members[0], len(members)
        item = first.scope(first.statement.tree, "InsertStmt").items[0]
        if _repeats_a_key(members, item):
            continue
        first.rule = ctx.rule
        table = table_name(item)
        batched = list(_batched(members))
        yield first.finding(
            None,
            f"{count:,} single-row INSERTs into {table} in a row: {toll(first)}",
            severity=severity(members),
            fixes=(
                Fix(
                    f"one statement with {count:,} rows{together(first)}"
                    if len(batched) == 1
                    else f"{ROWS_PER_STATEMENT:,} rows a statement{together(first)}",
                    ";\n".join(batched),
                    "advice",
                ),
            ),
            figures={"statements": count},
            notes=(f"for this many rows COPY {table} FROM STDIN is faster still",)
            if count >= COPY_ROWS
            else (),
            experiment=experiment(members, batched),
        )


def _batched(members: Sequence[Context]) -> Iterator[str]:
    for begin in range(0, len(members), ROWS_PER_STATEMENT):
        some = members[begin : begin + ROWS_PER_STATEMENT]
        rows = [(c.statement.sql, row_span(c) or (0, 0)) for c in some]
        sql, (start, end) = rows[0]
        texts = [text[first:last] for text, (first, last) in rows]
        yield sql[:start].rstrip() + "\n  " + ",\n  ".join(texts) + sql[end:]


def _repeats_a_key(members: Sequence[Context], item: FromItem) -> bool:
    """Whether two rows have the same literals in the columns of a unique key."""
    tree, relation = members[0].statement.tree, item.relation
    if relation is None or tree.get("onConflictClause"):
        return False
    written = [t.get("ResTarget", {}).get("name") for t in tree.get("cols", ())]
    columns = written or [c.name for c in relation.columns]
    for key in relation.unique_keys(nullable=True):
        if not set(key) <= set(columns):
            continue
        places = [columns.index(name) for name in key]
        seen = set()
        for ctx in members:
            values = row_values(ctx)
            value = tuple(constant(values[p]) if p < len(values) else ... for p in places)
            if ... in value or None in value:
                continue
            if value in seen:
                return True
            seen.add(value)
    return False
