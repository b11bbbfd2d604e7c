"""One transaction takes strong locks on several tables: each is held until the last was had.

Why: locks last to the end of the transaction. While it waits for the lock of the second table, the first is
    closed already; and two transactions that lock the same tables in another order deadlock.
Fix: a migration, or a transaction, for each table.
Silent when: the tables are new in the set, or temporary; a single statement that needs them all; locks that
    writes do not wait for; outside a transaction.
Source: PostgreSQL manual, 13.3.1 and 13.3.4 "Deadlocks"; eugene E4 "running more statements after taking
    AccessExclusiveLock"; GitLab's "with_lock_retries" guide.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext
from sqladvisor.migrate.locks import BLOCKS, Mode
from sqladvisor.rule import MIGRATION, rule

SCHEMA = """CREATE TABLE users (id bigint PRIMARY KEY); CREATE TABLE orders (id bigint, user_id bigint);
CREATE TABLE items (id bigint);"""
BAD = [
    "BEGIN;\nALTER TABLE users ADD COLUMN a int;\nALTER TABLE orders ADD COLUMN a int;\nCOMMIT;",
    "-- runner: goose\n-- +goose Up\nDROP TABLE items;\nALTER TABLE users DROP COLUMN id;\n",
]
GOOD = [
    "ALTER TABLE users ADD COLUMN a int;\nALTER TABLE orders ADD COLUMN a int;",
    "BEGIN; ALTER TABLE users ADD COLUMN a int; ALTER TABLE users ADD COLUMN b int; COMMIT;",
    "BEGIN; CREATE TABLE n (a int); ALTER TABLE n ADD b int; ALTER TABLE users ADD COLUMN a int; COMMIT;",
    "BEGIN; ALTER TABLE orders ADD FOREIGN KEY (user_id) REFERENCES users NOT VALID; COMMIT;",
    "BEGIN; ALTER TABLE users ADD a int; COMMIT; BEGIN; ALTER TABLE orders ADD a int; COMMIT;",
]


@rule(MIGRATION, severity="warning")
def check(contexts: Sequence[MigrationContext], first: MigrationContext) -> Iterator[Finding]:
    held: dict[int, dict[tuple[str, str], tuple[str, Mode]]] = {}
    told: set[int] = set()
    for ctx in contexts:
        number = ctx.transaction.number
        if not number or number in told:
            continue
        own = held.setdefault(number, {})
        strong = [(lock, table) for lock, table in ctx.locks if lock.strong and table.settled]
        new = [(lock, table) for lock, table in strong if table.key not in own]
        if own and new:
            (lock, table), (name, mode) = new[0], next(iter(own.values()))
            ctx.rule = first.rule
            told.add(number)
            yield ctx.finding(
                None,
                f"waits for {lock.mode} on {table.shown} while the transaction holds {mode} on {name}, "
                f"which blocks {BLOCKS[mode]} until both are done",
                table=table,
                lock=lock.mode,
            )
        own.update({t.key: (t.shown, k.mode) for k, t in strong})
