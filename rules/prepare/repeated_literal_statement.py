"""The same statement is sent again and again with other literals: it is parsed and planned each time.

Why: PostgreSQL plans every statement text it gets. For short statements planning takes as long as
    execution; a prepared statement is parsed once and, after five runs, usually planned once.
    Literals in the text also defeat pg_stat_statements-like tools' plan caches and invite injection.
Fix: PREPARE once and EXECUTE with values, or (in an application) bind parameters through the
    driver, which prepares by itself: psycopg's prepare_threshold, JDBC's prepareThreshold, pgx.
Silent when: the statements are few, are single-row writes or key-by-key SELECTs in a row (those
    are better batched: see batch/), have parameters already, differ in what cannot be a parameter
    (ORDER BY 1, a type's length), or PREPARE was measured and saves nothing.
Source: PostgreSQL manual, PREPARE ("Notes": custom and generic plans).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqladvisor.context import Context
from sqladvisor.finding import Experiment, Finding, Fix
from sqladvisor.rule import WORKLOAD, rule
from sqladvisor.workload.batches import keyed_writes, single_row_inserts
from sqladvisor.workload.prepared import prepared
from sqladvisor.workload.repeats import Group, groups, runs

BAD = [
    """SELECT name FROM users WHERE id = 1; SELECT 1; SELECT name FROM users WHERE id = 2; SELECT 1;
       SELECT name FROM users WHERE id = 3; SELECT 1; SELECT name FROM users WHERE id = 4; SELECT 1;
       SELECT name FROM users WHERE id = 5;""",
    """SELECT a FROM t WHERE b = 1 AND c = 'x'; SELECT a FROM t WHERE b = 2 AND c = 'y';
       SELECT a FROM t WHERE b = 3 AND c = 'z'; SELECT a FROM t WHERE b = 4 AND c = 'é';
       SELECT a FROM t WHERE b = 5 AND c = 'w';""",
    """UPDATE t SET a = 1 WHERE id = 1; SELECT 1; UPDATE t SET a = 2 WHERE id = 2; SELECT 1;
       UPDATE t SET a = 3 WHERE id = 3; SELECT 1; UPDATE t SET a = 4 WHERE id = 4; SELECT 1;
       UPDATE t SET a = 5 WHERE id = 5;""",
    """SELECT date_trunc('day', at), count(*) FROM "Ö" WHERE at >= DATE '2024-01-01' AND n BETWEEN -5 AND 5 GROUP BY date_trunc('day', at); SELECT 1;
       SELECT date_trunc('week', at), count(*) FROM "Ö" WHERE at >= DATE '2024-01-02' AND n BETWEEN -6 AND 5 GROUP BY date_trunc('week', at); SELECT 1;
       SELECT date_trunc('month', at), count(*) FROM "Ö" WHERE at >= DATE '2024-01-03' AND n BETWEEN -7 AND 5 GROUP BY date_trunc('month', at); SELECT 1;
       SELECT date_trunc('day', at), count(*) FROM "Ö" WHERE at >= DATE '2024-01-04' AND n BETWEEN 8 AND 5 GROUP BY date_trunc('day', at); SELECT 1;
       SELECT date_trunc('day', at), count(*) FROM "Ö" WHERE at >= DATE '2024-01-05' AND n BETWEEN 9 AND 5 GROUP BY date_trunc('day', at);""",
]
GOOD = [
    "SELECT a FROM t WHERE b = 1; SELECT a FROM t WHERE b = 2; SELECT a FROM t WHERE b = 3;",
    "SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1; SELECT 1;",
    """SELECT a FROM t WHERE b = $1; SELECT a FROM t WHERE b = $1; SELECT a FROM t WHERE b = $1;
       SELECT a FROM t WHERE b = $1; SELECT a FROM t WHERE b = $1;""",
    """SELECT * FROM orders WHERE user_id = 1; SELECT * FROM orders WHERE user_id = 2;
       SELECT * FROM orders WHERE user_id = 3; SELECT * FROM orders WHERE user_id = 4;
       SELECT * FROM orders WHERE user_id = 5;""",
    """INSERT INTO t VALUES (1); INSERT INTO t VALUES (2); INSERT INTO t VALUES (3);
       INSERT INTO t VALUES (4); INSERT INTO t VALUES (5); INSERT INTO t VALUES (6);""",
    # What is ordered by changes, not a value.
    """SELECT a, b FROM t ORDER BY 1; SELECT 1; SELECT a, b FROM t ORDER BY 2; SELECT 1; SELECT a, b FROM t ORDER BY 1; SELECT 1;
       SELECT a, b FROM t ORDER BY 2; SELECT 1; SELECT a, b FROM t ORDER BY 1;""",
    # $1 would mean two things.
    """SELECT a FROM t WHERE b = $1 AND c = 1; SELECT 1; SELECT a FROM t WHERE b = $1 AND c = 2; SELECT 1;
       SELECT a FROM t WHERE b = $1 AND c = 3; SELECT 1; SELECT a FROM t WHERE b = $1 AND c = 4; SELECT 1;
       SELECT a FROM t WHERE b = $1 AND c = 5;""",
    """DELETE FROM t WHERE id = 1; DELETE FROM t WHERE id = 2; DELETE FROM t WHERE id = 3;
       DELETE FROM t WHERE id = 4; DELETE FROM t WHERE id = 5;""",
]

ROUNDS = 10
"""The statements are repeated this often in the measurement: PostgreSQL keeps making custom plans
for the first five executions of a prepared statement, which is not how an application lives."""
MEASURED_STATEMENTS = 100
"""Statements that are run to measure it, each ROUNDS times."""


@rule(
    WORKLOAD,
    severity="info",
    thresholds={"min_statements": 5},  # the server itself waits for five before a generic plan
)
def check(contexts: Sequence[Context], ctx: Context) -> Iterator[Finding]:
    minimum = int(ctx.threshold("min_statements"))
    batched = {id(c) for c in _better_batched(contexts, minimum)}
    for kind in ("SelectStmt", "UpdateStmt", "DeleteStmt", "InsertStmt"):
        for group in groups(contexts, kind, minimum):
            if not group.varying or any(id(c) in batched for c in group.contexts):
                continue
            statement = prepared(group)
            if statement:
                yield _finding(group, *statement, ctx)


def _better_batched(contexts: Sequence[Context], minimum: int) -> Iterator[Context]:
    for inserts in single_row_inserts(contexts, minimum):
        yield from inserts
    for kind in ("UpdateStmt", "DeleteStmt"):
        for writes in keyed_writes(contexts, kind, minimum):
            yield from writes.contexts
    for run in runs(contexts, "SelectStmt", minimum):
        if len(run.varying) == 1:
            yield from run.contexts


def _finding(group: Group, prepare: str, executes: tuple[str, ...], ctx: Context) -> Finding:
    first = group.contexts[0]
    first.rule = ctx.rule
    count = len(group.contexts)
    measured = group.contexts[:MEASURED_STATEMENTS]
    # Inserted twice, a key would be there already.
    rounds = 1 if first.statement.kind == "InsertStmt" else ROUNDS
    lines = sorted({c.statement.line for c in group.contexts[1:]})
    shown = ", ".join(map(str, lines[:8])) + (", …" if len(lines) > 8 else "")
    return first.finding(
        None,
        f"this statement is sent {count} times with other literals (lines {shown}): it is parsed "
        "and planned each time",
        fixes=(
            Fix(
                "prepare it once; from an application bind parameters and let the driver prepare",
                ";\n".join((prepare, *executes)),
                "advice",
            ),
        ),
        figures={"statements": count, "parameters": len(group.varying)},
        experiment=Experiment(
            "prepare",
            tuple(c.statement.sql for c in measured) * rounds,
            (prepare, *(executes[: len(measured)] * rounds), "DEALLOCATE repeated"),
            "literals",
            "prepared",
        ),
    )
