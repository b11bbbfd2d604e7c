"""An index that this schema lacks would make statements of this workload cheaper.

Why: without it PostgreSQL reads rows it then throws away, or sorts what an index would give in
    order. The advice is priced by the planner with the index in place (what-if), and where there
    are rows it was built and the statements were timed before and after.
Fix: CREATE INDEX CONCURRENTLY, which does not block writes while it builds.
Silent when: the planner would not use the index, saves less than a tenth with it, or the built
    index did not make the statement measurably faster; an index has its keys already, and carrying
    more columns saves less than a quarter. An index that saves less than 5 ms is info; so is, where
    there are neither rows nor statistics, one that makes the statement less than ten times cheaper.
Source: PostgreSQL manual, chapter 11 "Indexes"; costs are EXPLAIN's, on the same statistics.
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


@rule(
    ADVICE,
    severity="warning",
    needs=("plan",),
    thresholds={"min_warning_ms": 5},  # as for plan nodes: less is felt only at thousands a second
)
def check(advice: IndexAdvice, ctx: Context) -> Iterator[Finding]:
    if advice.index.method == "btree" and present.reordered(advice) is None:
        have = present.covered(advice)
        what = (
            f"{have.name} finds the rows but does not hold all columns that this statement reads"
            if have
            else "no index serves this statement"
        )
        yield from present.findings(advice, ctx, what)
