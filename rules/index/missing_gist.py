"""A statement asks for ranges that overlap, places within others or the nearest ones, and no GiST index serves it.

Why: overlap, containment and distance have no one-dimensional order that a b-tree could keep. GiST
    keeps bounding values: it finds what overlaps or contains, and gives rows by distance, nearest
    first, so that ORDER BY place <-> point LIMIT 10 reads ten rows and not all of them.
Fix: CREATE INDEX CONCURRENTLY … USING gist. Where two rows must never overlap, EXCLUDE USING gist
    (room WITH =, during WITH &&) guards that and brings the same index; with the extension btree_gist
    a plain column can stand before the range.
Silent when: the planner would not use it, saves less than a tenth with it, or the built index did not
    make the statement measurably faster; distances without a LIMIT or in descending order. Less than
    5 ms saved is info.
Source: PostgreSQL manual, 64.2 "GiST Indexes", 8.17.10 "Constraints on Ranges" and 11.2 "Index Types".
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
CREATE EXTENSION btree_gist;
CREATE TABLE stays (id int PRIMARY KEY, room int, during tstzrange, "Ort" point, pad text);
INSERT INTO stays SELECT i, i % 500, tstzrange(t, t + interval '2 hours'), point(i % 1000, (i::bigint * 7919) % 997),
    repeat('x', 200)
    FROM generate_series(1, 80000) i, LATERAL (SELECT timestamptz '2020-01-01' + ((i::bigint * 7919) % 80000) * interval '10 min' t) s;
CREATE TABLE served (id int PRIMARY KEY, during tstzrange, place point);
INSERT INTO served SELECT id, during, "Ort" FROM stays;
CREATE INDEX ON served USING gist (during);
CREATE INDEX ON served USING gist (place);
CREATE TABLE nets (id int PRIMARY KEY, net inet);
INSERT INTO nets SELECT i, ('10.' || i % 256 || '.' || i / 256 % 256 || '.0/24')::inet FROM generate_series(1, 65000) i;
"""
BAD = [
    "SELECT id FROM stays WHERE during && tstzrange('2020-06-01 10:00', '2020-06-01 10:05')",
    "SELECT id FROM stays s WHERE s.room = 77 AND s.during @> timestamptz '2020-03-01 12:00'",
    'SELECT id, pad\n FROM stays ORDER BY "Ort" <-> point(5, 5) LIMIT 10',
    'SELECT id, "Ort" <-> point(1, 2) AS far FROM stays ORDER BY far LIMIT 5',
    'SELECT count(*) FROM stays WHERE "Ort" <@ box(point(1, 1), point(5, 5))',
    "SELECT id FROM nets WHERE net >>= inet '10.77.3.9'",
]
GOOD = [
    "SELECT id FROM served WHERE during && tstzrange('2020-06-01 10:00', '2020-06-01 10:05')",
    "SELECT id FROM served ORDER BY place <-> point(5, 5) LIMIT 10",
    'SELECT id FROM stays ORDER BY "Ort" <-> point(5, 5)',
    "SELECT id FROM stays WHERE id = 7 AND during && tstzrange('2020-06-01 10:00', '2020-06-01 10:05')",
    "SELECT max(pad) FROM stays WHERE during && tstzrange('2000-01-01', '2030-01-01')",
]


@rule(
    ADVICE,
    severity="warning",
    needs=("plan",),
    thresholds={"min_warning_ms": 5},  # as for index/missing
)
def check(advice: IndexAdvice, ctx: Context) -> Iterator[Finding]:
    if advice.index.method == "gist":
        column = advice.index.keys[-1].partition(" ")[0]
        yield from present.findings(
            advice,
            ctx,
            f"no index finds rows of {advice.index.table} by place or overlap of {column}",
        )
