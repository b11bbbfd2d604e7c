"""A large table is read whole for a range of a column in whose order its rows lie: BRIN would leave most out.

Why: rows that are only ever appended lie in the order of their time or number. BRIN keeps the smallest
    and largest value of each 128 pages: a thousandth of a b-tree's size, hardly any work at INSERT,
    and a range is found by leaving out all pages but those it lies in.
Fix: CREATE INDEX CONCURRENTLY … USING brin; with autosummarize = on new pages are summarised as they
    fill. It pays as long as the order holds: updates that move rows, or rows that come late, undo it.
Silent when: the table is under 50 MB; the column's correlation with the physical order is below 0.9,
    or not known; an index serves already; the planner would not use it, or a b-tree saves
    more by a seventh of the gain; the built index did not make the statement measurably faster.
Source: PostgreSQL manual, 64.5 "BRIN Indexes", and pg_stats.correlation in 53.27.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sqladvisor.advise import present
from sqladvisor.context import Context
from sqladvisor.finding import Finding
from sqladvisor.rule import ADVICE, rule

if TYPE_CHECKING:
    from sqladvisor.advise.select import IndexAdvice

SETUP = """
CREATE TABLE log (id int, at timestamptz NOT NULL, level int, pad text STORAGE plain)
    WITH (toast_tuple_target = 8160, autovacuum_enabled = off);
INSERT INTO log SELECT i, timestamptz '2024-01-01' + i * interval '1 min', (i::bigint * 7919) % 100003, repeat('x', 5000)
    FROM generate_series(1, 20000) i;
CREATE TABLE little (id int, at timestamptz NOT NULL);
INSERT INTO little SELECT id, at FROM log;
CREATE TABLE served (LIKE log);
INSERT INTO served SELECT id, at, level, left(pad, 1000) FROM log;
CREATE INDEX ON served USING brin (at);
"""
BAD = [
    "SELECT sum(level) FROM log WHERE at >= '2024-01-08' AND at < '2024-01-08 04:00'",
    "SELECT count(pad)\n  FROM public.log AS l WHERE l.id BETWEEN 9000 AND 9200",
]
GOOD = [
    "SELECT sum(level) FROM served WHERE at >= '2024-01-08' AND at < '2024-01-08 04:00'",
    "SELECT count(pad) FROM log WHERE level BETWEEN 20000 AND 20100",
    "SELECT count(*) FROM little WHERE at >= '2024-01-08' AND at < '2024-01-08 04:00'",
    "SELECT max(pad) FROM log WHERE at >= '2023-01-01'",
]


@rule(
    ADVICE,
    severity="warning",
    needs=("plan",),
    thresholds={"min_warning_ms": 5},  # as for index/missing
)
def check(advice: IndexAdvice, ctx: Context) -> Iterator[Finding]:
    if advice.index.method == "brin":
        table, column = advice.index.table, advice.index.keys[0]
        yield from present.findings(
            advice,
            ctx,
            f"all of {table} is read for a range of {column}, in whose order its rows lie",
        )
