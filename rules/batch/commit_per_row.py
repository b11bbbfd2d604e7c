"""Every row is written in a transaction of its own.

Why: a COMMIT returns when its WAL is on disk: one flush (0.1 to 10 ms, by the disk) for each row,
    and a round trip each for BEGIN, the write and COMMIT. A hundred rows in one transaction are
    flushed once.
Fix: one transaction around all of them. Where each row must be committed by itself but losing the
    last few in a crash of the server is bearable, synchronous_commit = off for this session saves
    the wait (it never corrupts data); it is a choice, not a repair.
Silent when: there are fewer than a handful; a transaction holds more than one write, or a write of
    many rows (large changes are cut into transactions on purpose); BEGIN sets an isolation level.
    Nothing is measured here: the sandbox does not wait for its disk.
Source: PostgreSQL manual, 14.4.1 "Disable Autocommit" and 28.4 "Asynchronous Commit".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqladvisor.context import Context
from sqladvisor.finding import Finding, Fix
from sqladvisor.rule import WORKLOAD, rule
from sqladvisor.sql.tree import unwrap
from sqladvisor.workload.batches import found_by_key, table_name

SCHEMA = """
CREATE TABLE t (id bigint PRIMARY KEY, a text);
CREATE TABLE logs (day date, line text);
"""
BAD = [
    """BEGIN; INSERT INTO t VALUES (1, 'é'); COMMIT; BEGIN; INSERT INTO t VALUES (2, 'b'); COMMIT;
       BEGIN; INSERT INTO t VALUES (3, NULL); COMMIT; BEGIN; INSERT INTO t VALUES (4, 'd'); COMMIT;
       BEGIN; INSERT INTO t VALUES (5, now()); COMMIT;""",
    """START TRANSACTION; UPDATE public.t SET a = 'x' WHERE id = 1; COMMIT;
       START TRANSACTION; UPDATE public.t SET a = 'y' WHERE id = 2; COMMIT;
       START TRANSACTION; UPDATE public.t SET a = 'z' WHERE id = 3; COMMIT;
       START TRANSACTION; UPDATE public.t SET a = 'x' WHERE id = 4; COMMIT;
       START TRANSACTION; UPDATE public.t SET a = 'x' WHERE id = 5; COMMIT;""",
    """BEGIN; DELETE FROM t WHERE id = 1; END; BEGIN; DELETE FROM t WHERE id = 2; END;
       BEGIN; DELETE FROM t WHERE id = 3; END; BEGIN; DELETE FROM t WHERE id = 4; END;
       BEGIN; DELETE FROM t WHERE id = 5; END;""",
    """SELECT 1; BEGIN; INSERT INTO "T x" (a) VALUES (:a); COMMIT; BEGIN; INSERT INTO "T x" (a) VALUES (:b); COMMIT;
       BEGIN; INSERT INTO "T x" (a) VALUES (:c); COMMIT; BEGIN; INSERT INTO "T x" (a) VALUES (:d); COMMIT;
       BEGIN; INSERT INTO "T x" (a) VALUES (:e); COMMIT; SELECT 2;""",
]
GOOD = [
    """BEGIN; INSERT INTO t VALUES (1, 'a'); INSERT INTO t VALUES (2, 'b'); INSERT INTO t VALUES (3, 'c');
       INSERT INTO t VALUES (4, 'd'); INSERT INTO t VALUES (5, 'e'); COMMIT;""",
    """BEGIN; INSERT INTO t VALUES (1, 'a'); COMMIT; BEGIN; INSERT INTO t VALUES (2, 'b'); COMMIT;
       BEGIN; INSERT INTO t VALUES (3, 'c'); COMMIT;""",
    # A day at a time, so that no transaction grows too long.
    """BEGIN; DELETE FROM logs WHERE day = '2024-01-01'; COMMIT; BEGIN; DELETE FROM logs WHERE day = '2024-01-02'; COMMIT;
       BEGIN; DELETE FROM logs WHERE day = '2024-01-03'; COMMIT; BEGIN; DELETE FROM logs WHERE day = '2024-01-04'; COMMIT;
       BEGIN; DELETE FROM logs WHERE day = '2024-01-05'; COMMIT;""",
    """BEGIN; INSERT INTO t SELECT 1, line FROM logs; COMMIT; BEGIN; INSERT INTO t SELECT 2, line FROM logs; COMMIT;
       BEGIN; INSERT INTO t SELECT 3, line FROM logs; COMMIT; BEGIN; INSERT INTO t SELECT 4, line FROM logs; COMMIT;
       BEGIN; INSERT INTO t SELECT 5, line FROM logs; COMMIT;""",
    """BEGIN; UPDATE t SET a = 'x' WHERE id = 1; INSERT INTO logs VALUES (now(), 'x'); COMMIT;
       BEGIN; UPDATE t SET a = 'x' WHERE id = 2; INSERT INTO logs VALUES (now(), 'x'); COMMIT;
       BEGIN; UPDATE t SET a = 'x' WHERE id = 3; INSERT INTO logs VALUES (now(), 'x'); COMMIT;
       BEGIN; UPDATE t SET a = 'x' WHERE id = 4; INSERT INTO logs VALUES (now(), 'x'); COMMIT;
       BEGIN; UPDATE t SET a = 'x' WHERE id = 5; INSERT INTO logs VALUES (now(), 'x'); COMMIT;""",
    """BEGIN; INSERT INTO t VALUES (1, 'a'); ROLLBACK; BEGIN; INSERT INTO t VALUES (2, 'b'); ROLLBACK;
       BEGIN; INSERT INTO t VALUES (3, 'c'); ROLLBACK; BEGIN; INSERT INTO t VALUES (4, 'd'); ROLLBACK;
       BEGIN; INSERT INTO t VALUES (5, 'e'); ROLLBACK;""",
    """BEGIN ISOLATION LEVEL SERIALIZABLE; UPDATE t SET a = 'x' WHERE id = 1; COMMIT;
       BEGIN ISOLATION LEVEL SERIALIZABLE; UPDATE t SET a = 'x' WHERE id = 2; COMMIT;
       BEGIN ISOLATION LEVEL SERIALIZABLE; UPDATE t SET a = 'x' WHERE id = 3; COMMIT;
       BEGIN ISOLATION LEVEL SERIALIZABLE; UPDATE t SET a = 'x' WHERE id = 4; COMMIT;
       BEGIN ISOLATION LEVEL SERIALIZABLE; UPDATE t SET a = 'x' WHERE id = 5; COMMIT;""",
]

_VERBS = {"InsertStmt": "INSERT into", "UpdateStmt": "UPDATE of", "DeleteStmt": "DELETE from"}


@rule(
    WORKLOAD,
    severity="warning",
    thresholds={"min_statements": 5},  # fewer flushes take less than the time to read of them
)
def check(contexts: Sequence[Context], ctx: Context) -> Iterator[Finding]:
    minimum = int(ctx.threshold("min_statements"))
    for run in _runs(contexts, minimum):
        first, count = run[0], len(run)
        kind, table = _what(first) or ("", "")
        first.rule = ctx.rule
        writes = ";\n".join(c.statement.text for c in run)
        yield first.finding(
            None,
            f"{count:,} transactions in a row hold one {_VERBS[kind]} {table} each: every one of "
            "them waits for its own flush of the WAL",
            fixes=(
                Fix(
                    "one transaction, one flush; a row that fails then fails them all",
                    f"BEGIN;\n{writes};\nCOMMIT",
                    "advice",
                ),
            ),
            figures={"transactions": count},
            notes=(
                "if each must be committed by itself: SET synchronous_commit = off saves the wait, "
                "and a crash of the server loses the last moments' commits",
            ),
        )


def _runs(contexts: Sequence[Context], minimum: int) -> Iterator[list[Context]]:
    """The writes of transactions that follow one another, each with nothing else in it."""
    current: list[Context] = []
    last: tuple[str, str] | None = None
    position = 0
    while position < len(contexts):
        three = contexts[position : position + 3]
        write = three[1] if _is_transaction(three) else None
        what = _what(write) if write else None
        if what != last:
            if len(current) >= minimum:
                yield current
            current = []
        if write is not None and what is not None:
            current.append(write)
        last = what
        position += 3 if what else 1
    if len(current) >= minimum:
        yield current


def _is_transaction(three: Sequence[Context]) -> bool:
    if [c.statement.kind == "TransactionStmt" for c in three] != [True, False, True]:
        return False
    begin, end = three[0].statement.tree, three[2].statement.tree
    return (
        begin.get("kind", "TRANS_STMT_BEGIN") in ("TRANS_STMT_BEGIN", "TRANS_STMT_START")
        and "options" not in begin
        and end.get("kind") == "TRANS_STMT_COMMIT"
        and "chain" not in end
    )


def _what(ctx: Context) -> tuple[str, str] | None:
    """The kind of a single-row write and its table; None for anything else."""
    kind, tree = ctx.statement.kind, ctx.statement.tree
    if kind not in _VERBS or tree.get("withClause"):
        return None
    if kind == "InsertStmt":
        query = unwrap(tree.get("selectStmt", {}))[1]
        single = len(query.get("valuesLists", ())) == 1
    else:
        single = found_by_key(ctx)
    return (kind, table_name(ctx.scope(tree, kind).items[0])) if single else None
