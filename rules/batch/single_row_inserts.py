"""Rows are inserted one statement at a time into the same table.

Why: each statement pays for its own round trip, parse, plan, executor start, and (outside a
    transaction) its own commit and WAL flush. One statement with many rows pays once.
Fix: one INSERT with several VALUES rows, written out from these statements; for thousands of rows
    COPY, or INSERT … SELECT FROM unnest($1::type[], …) with one array per column.
Silent when: there are fewer than a handful, the statements use RETURNING or ON CONFLICT DO UPDATE
    (which may depend on the order row by row), or are not next to each other.
Source: PostgreSQL manual, 14.4 "Populating a Database".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqladvisor.context import Context
from sqladvisor.finding import Experiment, Finding, Fix
from sqladvisor.rule import WORKLOAD, rule
from sqladvisor.sql.tree import unwrap
from sqladvisor.workload.repeats import runs

BAD = [
    """INSERT INTO t (a, b) VALUES (1, 'x'); INSERT INTO t (a, b) VALUES (2, 'y');
       INSERT INTO t (a, b) VALUES (3, 'z'); INSERT INTO t (a, b) VALUES (4, 'w');
       INSERT INTO t (a, b) VALUES (4, 'q'); INSERT INTO t (a, b) VALUES (5, 'é;');
       INSERT INTO t (a, b) VALUES (6, 'q'); INSERT INTO t (a, b) VALUES (7, '(');
       INSERT INTO t (a, b) VALUES (-8, 'q');""",
    """BEGIN; INSERT INTO "T" VALUES (1); INSERT INTO "T" VALUES (2); insert into "T" values (3);
       INSERT INTO "T" VALUES (4); INSERT INTO "T" VALUES (5); COMMIT;""",
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
]


@rule(
    WORKLOAD,
    severity="warning",
    thresholds={"min_statements": 5},  # below it a batch saves less than a millisecond or two
)
def check(contexts: Sequence[Context], ctx: Context) -> Iterator[Finding]:
    for group in runs(contexts, "InsertStmt", int(ctx.threshold("min_statements"))):
        first = group.contexts[0]
        rows = [_row(c) for c in group.contexts]
        if not all(rows):
            continue
        start, end = rows[0] or (0, 0)
        sql = first.statement.sql
        texts = [
            c.statement.sql[r[0] : r[1]] for c, r in zip(group.contexts, rows, strict=True) if r
        ]
        batched = sql[:start] + "\n  " + ",\n  ".join(texts) + sql[end:]
        table = first.statement.tree.get("relation", {}).get("relname", "")
        count = len(group.contexts)
        first.rule = ctx.rule
        yield first.finding(
            None,
            f"{count} single-row INSERTs into {table} in a row: each pays its own round trip, plan "
            "and commit" + ("" if not first.statement.in_transaction else " (here one commit)"),
            fixes=(Fix(f"one statement with {count} rows", batched),),
            figures={"statements": count},
            experiment=Experiment(
                "batch",
                tuple(c.statement.sql for c in group.contexts),
                (batched,),
                "row by row",
                "batched",
            ),
        )


def _row(ctx: Context) -> tuple[int, int] | None:
    """The span of the single ``(…)`` after VALUES; None when the statement is not of that shape."""
    tree = ctx.statement.tree
    query = unwrap(tree.get("selectStmt", {}))[1]
    conflict = tree.get("onConflictClause", {})
    returning = tree.get("returningClause") or tree.get("returningList")
    if (
        len(query.get("valuesLists", ())) != 1
        or returning
        or conflict.get("action") == "ONCONFLICT_UPDATE"
        or tree.get("withClause")
        or ctx.tree.by_kind.get("ParamRef")
    ):
        return None
    tokens = ctx.spans.tokens
    index = ctx.spans.keyword("VALUES")
    if index is None:
        return None
    depth = 0
    for _, end, name in tokens[index + 1 :]:
        depth += (name == "ASCII_40") - (name == "ASCII_41")
        if depth == 0:
            return tokens[index + 1][0], end
    return None
