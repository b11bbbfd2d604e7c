"""The same statement is sent again and again with other literals: it is parsed and planned each time.

Why: PostgreSQL plans every statement text it gets. For short statements planning takes as long as
    execution; a prepared statement is parsed once and, after five runs, usually planned once.
    Literals in the text also defeat pg_stat_statements-like tools' plan caches and invite injection.
Fix: PREPARE once and EXECUTE with values, or (in an application) bind parameters through the
    driver, which prepares by itself: psycopg's prepare_threshold, JDBC's prepareThreshold, pgx.
Silent when: the statements are few, are single-row INSERTs or key-by-key SELECTs in a row (those
    are better batched: see batch/), or PREPARE was measured and saves nothing.
Source: PostgreSQL manual, PREPARE ("Notes": custom and generic plans).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqladvisor.context import Context
from sqladvisor.finding import Experiment, Finding, Fix
from sqladvisor.rule import WORKLOAD, rule
from sqladvisor.workload.repeats import Group, groups, literal_spans, literals, runs

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
]

ROUNDS = 10
"""The statements are repeated this often in the measurement: PostgreSQL keeps making custom plans
for the first five executions of a prepared statement, which is not how an application lives."""


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
            yield _finding(group, ctx)


def _better_batched(contexts: Sequence[Context], minimum: int) -> Iterator[Context]:
    for run in runs(contexts, "InsertStmt", minimum):
        yield from run.contexts
    for run in runs(contexts, "SelectStmt", minimum):
        if len(run.varying) == 1:
            yield from run.contexts


def _finding(group: Group, ctx: Context) -> Finding:
    first = group.contexts[0]
    first.rule = ctx.rule
    prepare, executes = _prepared(group)
    count = len(group.contexts)
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
            tuple(c.statement.sql for c in group.contexts) * ROUNDS,
            (prepare, *(executes * ROUNDS), "DEALLOCATE repeated"),
            "literals",
            "prepared",
        ),
    )


def _prepared(group: Group) -> tuple[str, tuple[str, ...]]:
    first = group.contexts[0]
    sql = first.statement.sql
    spans = literal_spans(first)
    for number, ordinal in reversed(list(enumerate(group.varying, 1))):
        start, end = spans[ordinal]
        sql = f"{sql[:start]}${number}{sql[end:]}"
    executes = []
    for member in group.contexts:
        values = literals(member)
        executes.append(f"EXECUTE repeated ({', '.join(values[i] for i in group.varying)})")
    return f"PREPARE repeated AS {sql}", tuple(executes)
