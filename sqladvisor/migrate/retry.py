"""Statements that ask again for a lock they do not get: how that is written, and read again.

A DO block tries them in a subtransaction. When lock_timeout ends the wait, what the subtransaction
had locked is free again, and others get through while the block sleeps. So each wait is bounded by
lock_timeout, and nobody queues for longer. That needs a transaction that holds no strong lock from
before, nor rows: those it would keep while it sleeps.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from sqladvisor.migrate.context import MigrationContext
from sqladvisor.sql.source import read_source, statements
from sqladvisor.sql.statement import Statement
from sqladvisor.suppress import MARK

ATTEMPTS = 10
LONGEST_PAUSE_S = 5
"""Seconds slept at most between two attempts: as many as there were attempts, up to this."""
# Utility statements: PL/pgSQL runs them as they are, and replaces no variables in them.
_KINDS = frozenset(
    ("AlterTableStmt", "RenameStmt", "AlterObjectSchemaStmt", "DropStmt", "TruncateStmt",
     "CreateStmt", "IndexStmt", "CreateTrigStmt", "CreatePolicyStmt", "AlterPolicyStmt", "RuleStmt",
     "CommentStmt", "AlterDomainStmt", "CreateSeqStmt", "AlterSeqStmt", "CreateStatsStmt",
     "AlterEnumStmt", "CompositeTypeStmt", "CreateEnumStmt", "CreateDomainStmt", "ViewStmt",
     "LockStmt", "GrantStmt")
)  # fmt: skip
# What may have changed rows, or locked anything, before the block: it would stay locked.
_HOLDS = frozenset(
    ("InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt", "SelectStmt", "DoStmt", "CallStmt",
     "CopyStmt", "ExecuteStmt")
)  # fmt: skip
_BLOCK = re.compile(
    r"DO\s+(?P<tag>\$\w*\$)\s*BEGIN\s+FOR\s+(?P<n>\w+)\s+IN\s+1\s*\.\.\s*\d+\s+LOOP\s+BEGIN\s+"
    r"(?P<body>.*?;)\s*EXIT;\s*EXCEPTION\s+WHEN\s+lock_not_available\s+THEN\s+"
    r"IF\s+(?P=n)\s*=\s*\d+\s+THEN\s+RAISE;\s*END\s+IF;\s*PERFORM\s+pg_sleep\([^;]*\);\s*"
    r"END;\s*END\s+LOOP;\s*END;?\s*(?P=tag)\Z",
    re.IGNORECASE | re.DOTALL,
)


def retried(statement: Statement) -> tuple[Statement, ...]:
    """The statements that a block of the kind written here tries, at their places; () for any other."""
    if statement.kind != "DoStmt" or statement.embedding or statement.offsets:
        return ()
    match = _BLOCK.match(statement.sql)
    if match is None:
        return ()
    found, problems = statements(read_source(statement.path, match["body"].encode()))
    if problems:
        return ()
    result = []
    for inner in found:
        offset = match.start("body") + inner.start
        at = statement.locate(offset)
        result.append(
            replace(
                inner, text=statement.text[offset : offset + len(inner.text)], start=statement.start + offset, line=at.line, column=at.column,
                in_transaction=statement.in_transaction, run=statement.run,
            )
        )  # fmt: skip
    return tuple(result)


def opened(found: Sequence[Statement]) -> tuple[Statement, ...]:
    """Statements with those in place of each block that tries them again."""
    return tuple(s for statement in found for s in (retried(statement) or (statement,)))


def groups(contexts: Sequence[MigrationContext], text: str) -> Iterator[list[Statement]]:
    """The statements of one migration that are to be tried again together, in order.

    In a transaction those from the first strong lock to the last, up to what must not be repeated;
    nothing where rows were changed before. Outside of one each statement that takes a strong lock.
    """
    done: set[int] = set()
    for i, first in enumerate(contexts):
        number = first.transaction.number
        if number in done or not _waits(first):
            continue
        if not first.transaction.inside:
            if _alone(first):
                yield [first.statement]
            continue
        done.add(number)
        own = [c for c in contexts if c.transaction.number == number]
        if any(c.statement.kind in _HOLDS for c in own[: own.index(first)]):
            continue
        group: list[MigrationContext] = []
        for context in contexts[i:]:
            statement = context.statement
            if context.transaction.number != number or not _alone(context):
                break
            if group and MARK in text[_end(group[-1].statement) : statement.start]:
                break
            group.append(context)
        while group and not _waits(group[-1]):
            group.pop()
        if group:
            yield [c.statement for c in group]


def block(found: Sequence[Statement], text: str, attempts: int = ATTEMPTS) -> str:
    """The DO block that tries these consecutive statements of a text; without a semicolon."""
    tag = "$retry$"
    begin, end = found[0].start, _end(found[-1])
    number = 1
    while tag in text[begin:end]:
        number += 1
        tag = f"$retry{number}$"
    lines = []
    for i, statement in enumerate(found):
        lines.append(f"{statement.text};")
        if i + 1 < len(found):
            between = text[_end(statement) : found[i + 1].start].lstrip("; \t")
            lines += [line.strip() for line in between.splitlines() if line.strip()]
    body = "\n".join(f"      {line}" for line in lines)
    return f"""DO {tag}
BEGIN
  FOR attempt IN 1..{attempts} LOOP
    BEGIN
{body}
      EXIT;
    EXCEPTION WHEN lock_not_available THEN
      IF attempt = {attempts} THEN RAISE; END IF;
      PERFORM pg_sleep(least(attempt, {LONGEST_PAUSE_S}) + random());
    END;
  END LOOP;
END {tag}"""


def _waits(context: MigrationContext) -> bool:
    return any(lock.strong and table.settled for lock, table in context.locks)


def _alone(context: MigrationContext) -> bool:
    """Whether a statement can be tried again, and is not yet."""
    statement = context.statement
    return statement.kind in _KINDS and any(
        s.start == statement.start for s in context.migration.up
    )


def _end(statement: Statement) -> int:
    return statement.start + len(statement.text)
