"""A statement is prepared in a session that the next transaction may not have: PgBouncer pools transactions.

Why: with pool_mode = transaction each transaction gets whatever server connection is free. PREPARE
    leaves its statement on one of them: the EXECUTE of a later transaction fails on another ("does
    not exist"), or meets one of the same name that somebody else prepared. PgBouncer does not look
    into SQL; it follows only what drivers prepare through the protocol, from 1.21 on and with
    max_prepared_statements above 0.
Fix: PREPARE, EXECUTE and DEALLOCATE within one transaction; or leave preparing to the driver, with
    max_prepared_statements = 200 in pgbouncer.ini; where that is 0, the driver's own preparing off
    (psycopg prepare_threshold = None, JDBC prepareThreshold = 0, asyncpg statement_cache_size = 0,
    pgx QueryExecModeExec).
Silent when: no pgbouncer.ini with pool_mode = transaction is found beside the file or above it in its
    project (the threshold transaction_pooling = 1 says that there is one elsewhere); PREPARE and its
    EXECUTEs are in one transaction; the file has only EXECUTE (who prepares is not known).
Source: PgBouncer documentation, "SQL feature map for pooling modes" and max_prepared_statements.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqladvisor.context import Context
from sqladvisor.finding import Finding, Fix
from sqladvisor.rule import WORKLOAD, rule
from sqladvisor.workload.pooling import SUPPORTED_SINCE, pooling

SETTINGS = {"transaction_pooling": 1}
BAD = [
    "PREPARE q AS SELECT name FROM users WHERE id = $1;\nEXECUTE q (1);\nEXECUTE q (2);",
    """BEGIN; PREPARE "é" (int) AS SELECT $1; COMMIT;
BEGIN; EXECUTE "é" (5); COMMIT;""",
    "PREPARE q AS DELETE FROM t WHERE id = $1; BEGIN; EXECUTE q (1); COMMIT; DEALLOCATE q;",
]
GOOD = [
    """BEGIN; PREPARE q AS SELECT name FROM users WHERE id = $1; EXECUTE q (1); EXECUTE q (2);
DEALLOCATE q; COMMIT;""",
    "EXECUTE q (1);",
    "SELECT name FROM users WHERE id = $1;",
    "PREPARE q AS SELECT 1; PREPARE r AS SELECT 2;",
    "PREPARE TRANSACTION 'x'; COMMIT PREPARED 'x';",
]

_BINDING = {
    "python": "psycopg: prepare_threshold=None; asyncpg: statement_cache_size=0",
    "java": "JDBC: prepareThreshold=0",
    "kotlin": "JDBC: prepareThreshold=0",
    "go": "pgx: default_query_exec_mode=exec; lib/pq: binary_parameters=yes",
    "javascript": "Prisma: pgbouncer=true; postgres.js: prepare: false",
    "typescript": "Prisma: pgbouncer=true; postgres.js: prepare: false",
    "ruby": "Rails: prepared_statements: false",
    "rust": "sqlx: statement_cache_capacity(0)",
}


@rule(
    WORKLOAD,
    severity="warning",
    thresholds={"transaction_pooling": 0},  # 1: transactions are pooled, by configuration elsewhere
)
def check(contexts: Sequence[Context], ctx: Context) -> Iterator[Finding]:
    found = pooling(ctx.statement.path)
    assumed = bool(ctx.threshold("transaction_pooling"))
    if not assumed and (found is None or found.mode != "transaction"):
        return
    says = (
        f"{found.path} pools transactions" if found and not assumed else "transactions are pooled"
    )
    yield from _across_transactions(contexts, ctx, says)
    if found is not None and found.mode == "transaction" and found.prepared == 0:
        yield from _by_the_driver(contexts, ctx, found.path)


def _across_transactions(contexts: Sequence[Context], ctx: Context, says: str) -> Iterator[Finding]:
    prepared: dict[str, tuple[Context, int]] = {}
    for transaction, context in _transactions(contexts):
        name = str(context.statement.tree.get("name", ""))
        if context.statement.kind == "PrepareStmt":
            prepared[name] = context, transaction
        elif context.statement.kind == "ExecuteStmt" and name in prepared:
            first, where = prepared[name]
            if where == transaction:
                continue
            del prepared[name]
            first.rule = ctx.rule
            yield first.finding(
                None,
                f"{name} is prepared in one transaction and executed in another (line "
                f"{context.statement.line}), which may be on another connection: {says}",
                fixes=(
                    Fix(
                        "prepare and execute in one transaction",
                        f"BEGIN;\n{first.statement.text};\n{context.statement.text};\n"
                        f"DEALLOCATE {_name(context)};\nCOMMIT",
                        "advice",
                    ),
                ),
                figures={"executed_in_line": context.statement.line},
            )


def _transactions(contexts: Sequence[Context]) -> Iterator[tuple[int, Context]]:
    """Each statement with its transaction's number; outside of a block it is one by itself."""
    for position, context in enumerate(contexts):
        yield context.statement.in_transaction or -1 - position, context


def _name(context: Context) -> str:
    """The prepared statement's name as EXECUTE has it."""
    start, end, _ = context.spans.tokens[1]
    return context.statement.sql[start:end]


def _by_the_driver(contexts: Sequence[Context], ctx: Context, path: str) -> Iterator[Finding]:
    """The first statement with parameters in a program whose driver prepares by itself."""
    for context in contexts:
        embedding = context.statement.embedding
        if embedding is None or embedding.language.lower() not in _BINDING:
            continue
        if context.tree.by_kind.get("ParamRef"):
            context.rule = ctx.rule
            yield context.finding(
                None,
                f"{path} pools transactions and has max_prepared_statements = 0: a statement that the "
                "driver prepares fails on the next connection",
                severity="info",
                notes=(
                    f"set max_prepared_statements = 200 (PgBouncer {SUPPORTED_SINCE} or newer), or: "
                    + _BINDING[embedding.language.lower()],
                ),
            )
            return
