"""An index that this schema lacks would make statements of this workload cheaper.

Why: without it PostgreSQL reads rows it then throws away, or sorts what an index would give in
    order. The advice is priced by the planner with the index in place (what-if), and where there
    are rows it was built and the statements were timed before and after.
Fix: CREATE INDEX CONCURRENTLY, which does not block writes while it builds.
Silent when: the planner would not use the index, saves less than a tenth with it, or the built
    index did not make the statement measurably faster. An index that saves less than 5 ms is info.
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
        yield from present.findings(advice, ctx, "no index serves this statement")
