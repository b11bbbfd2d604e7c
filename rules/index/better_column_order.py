"""An index has the right columns for a statement, in an order that does not serve it.

Why: a b-tree is searched by its first columns. An equality on the second finds nothing by itself, and
    what follows a range is compared entry by entry: the same columns, those compared by = first, then
    the one compared by a range or ordered by, are read in one short run.
Fix: CREATE INDEX CONCURRENTLY with the columns the other way round; the old index can go where no
    other statement needs its order and no constraint rests on it.
Silent when: the planner would not use the other order, saves less than a tenth with it, or it was
    built and did not make the statement measurably faster. Less than 5 ms saved is info.
Source: PostgreSQL manual, 11.3 "Multicolumn Indexes"; Winand, "SQL Performance Explained", chapter 2.
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
CREATE TABLE visits (at timestamptz NOT NULL, "Nutzer" int NOT NULL, shop int NOT NULL, pad text);
INSERT INTO visits SELECT timestamptz '2024-01-01' + i * interval '1 min', (i::bigint * 7919) % 51,
    (i::bigint * 6101) % 401, repeat('x', 100) FROM generate_series(1, 150000) i;
CREATE INDEX visits_at_nutzer ON visits (at, "Nutzer");
CREATE INDEX visits_shop_at ON visits (shop, at);
"""
BAD = [
    "SELECT * FROM visits WHERE \"Nutzer\" = 7 AND at > '2024-03-25'",
    """SELECT max(v.pad)
 FROM visits v WHERE v.at >= '2024-02-01' AND v.at < '2024-03-01' AND v."Nutzer" = 8""",
]
GOOD = [
    "SELECT * FROM visits WHERE shop = 7 AND at > '2024-02-01'",
    "SELECT * FROM visits WHERE at BETWEEN '2024-02-01 10:00' AND '2024-02-01 10:20'",
    "SELECT count(*) FROM visits WHERE pad = 'y'",
]


@rule(
    ADVICE,
    severity="warning",
    needs=("plan",),
    thresholds={"min_warning_ms": 5},  # as for index/missing
)
def check(advice: IndexAdvice, ctx: Context) -> Iterator[Finding]:
    have = present.reordered(advice)
    if have is None:
        return
    columns = ", ".join(k or "…" for k in have.keys)
    keep = have.unique or not have.removable
    advice.notes.append(
        f"{have.name} stays: it guards a constraint"
        if keep
        else f"{have.name} may go where no other statement needs its order"
        + (f" ({have.scans:,} scans so far)" if have.scans else "")
    )
    yield from present.findings(
        advice,
        ctx,
        f"{have.name} has these columns as ({columns}), which this statement cannot search",
    )
