"""A strong lock is asked for without a lock_timeout: while it waits, everybody waits behind it.

Why: a lock that conflicts with a running query or an open transaction waits for it, and all that comes
    after, reads too where it is ACCESS EXCLUSIVE, queues behind the waiting one. An idle transaction of
    a minute makes a statement of a millisecond an outage of a minute.
Fix: SET lock_timeout = '2s' (SET LOCAL within a transaction) before it, and run the migration again when it
    gives up.
Silent when: the migration has set lock_timeout or statement_timeout before; the tables are new in the set,
    or temporary; locks that writes do not wait for. Told once a migration, at the first such statement.
Source: PostgreSQL manual, 19.11 lock_timeout; squawk require-timeout-settings; eugene E9; strong_migrations
    "lock timeouts".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext
from sqladvisor.migrate.state import seconds
from sqladvisor.rule import MIGRATION, rule

SCHEMA = "CREATE TABLE users (id bigint PRIMARY KEY, email text);"
BAD = [
    "ALTER TABLE users ADD COLUMN a int;",
    "BEGIN; SET LOCAL lock_timeout = '2s'; COMMIT;\nDROP TABLE users;",
    "SET lock_timeout = 0;\nALTER TABLE users DROP COLUMN email;",
    "CREATE TABLE n (a int);\nALTER TABLE n ADD COLUMN b int; TRUNCATE users;",
]
GOOD = [
    "SET lock_timeout = '2s';\nALTER TABLE users ADD COLUMN a int;",
    "BEGIN; SET LOCAL lock_timeout TO 2000; ALTER TABLE users ADD COLUMN a int; COMMIT;",
    "SELECT set_config('lock_timeout', '2s', false);\nALTER TABLE users ADD COLUMN a int;",
    "SET statement_timeout = '10s';\nALTER TABLE users ADD COLUMN a int;",
    "CREATE TABLE n (a int);\nALTER TABLE n ADD COLUMN b int;",
    "CREATE INDEX CONCURRENTLY ue ON users (email);",
    "ALTER TABLE users VALIDATE CONSTRAINT c;",
    "CREATE TEMP TABLE n (a int);\nALTER TABLE n ADD COLUMN b int;",
]


@rule(MIGRATION, severity="warning", thresholds={"connection_lock_timeout_ms": 0})
def check(contexts: Sequence[MigrationContext], first: MigrationContext) -> Iterator[Finding]:
    if first.threshold("connection_lock_timeout_ms") > 0:
        return  # the role or the runner's connection sets one
    for ctx in contexts:
        if any(_set(ctx.settings.get(name)) for name in ("lock_timeout", "statement_timeout")):
            continue
        for lock, table in ctx.locks:
            if not lock.strong or not table.settled:
                continue
            ctx.rule = first.rule
            local = "LOCAL " if ctx.transaction.inside else ""
            yield ctx.finding(
                None,
                f"waits without limit for {lock.mode} on {table.shown}; while it waits, "
                f"{'reads and ' if lock.mode == 'ACCESS EXCLUSIVE' else ''}writes queue behind it",
                table=table,
                lock=lock.mode,
                fixes=[
                    ctx.sequence(
                        "before it; run it again when it gives up",
                        f"SET {local}lock_timeout = '2s'",
                    )
                ],
            )
            return


def _set(value: str | None) -> bool:
    return value is not None and seconds(value) != 0
