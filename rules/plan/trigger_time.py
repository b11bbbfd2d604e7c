"""Triggers take a large part of a statement's time, foreign-key checks included.

Why: a row-level trigger (each foreign key is one) runs for every row. A foreign key whose
    referencing column has no index makes each DELETE or key UPDATE scan the referencing table.
Fix: an index on the referencing columns; a statement-level trigger with transition tables.
Silent when: triggers take under a tenth of the time or under 5 ms.
Source: PostgreSQL manual, 5.5.5 "Foreign Keys" (index the referencing columns); EXPLAIN ANALYZE's
    trigger lines.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.figures import ms
from sqladvisor.finding import Finding
from sqladvisor.plan.node import Plan
from sqladvisor.plan.weigh import MIN_MS, MIN_SHARE
from sqladvisor.rule import PLAN, rule

SETUP = """
CREATE TABLE parent (id int PRIMARY KEY, x int);
CREATE TABLE child (id int PRIMARY KEY, parent_id int REFERENCES parent);
INSERT INTO parent SELECT i, i FROM generate_series(1, 2000) i;
INSERT INTO child SELECT i, i FROM generate_series(1, 1000) i;
CREATE TABLE lone (id int PRIMARY KEY, x int);
INSERT INTO lone SELECT i, i FROM generate_series(1, 2000) i;
VACUUM ANALYZE;
"""
BAD = ["DELETE FROM parent WHERE id > 1200", "UPDATE parent SET id = id + 10000 WHERE id > 1500"]
GOOD = ["DELETE FROM lone WHERE id > 1200", "UPDATE parent SET x = x + 1"]


@rule(PLAN, severity="warning", needs=("analyze",))
def check(plan: Plan, ctx: Context) -> Iterator[Finding]:
    total = plan.execution_ms or 0
    for trigger in plan.triggers:
        time_ms = float(trigger.get("Time", 0))
        if time_ms < MIN_MS or time_ms < MIN_SHARE * total:
            continue
        name = trigger.get("Constraint Name") or trigger.get("Trigger Name")
        calls = int(trigger.get("Calls", 0))
        what = "foreign key" if trigger.get("Constraint Name") else "trigger"
        yield ctx.finding(
            None,
            f"the {what} {name} takes {ms(time_ms)} of {ms(total)} in {calls:,} calls",
            level="measured",
            figures={"trigger": str(name), "trigger_ms": time_ms, "calls": calls},
        )
