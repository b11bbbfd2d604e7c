"""A DELETE or UPDATE spends its time looking for rows that refer to the ones it changes.

Why: for each deleted row, or changed key, PostgreSQL searches the referring table. Without an index on
    the referring columns every search is a sequential scan.
Fix: an index on the foreign key's columns.
Silent when: such an index exists (then the checks are merely many: plan/trigger-time), or the checks
    take no time worth saving.
Source: PostgreSQL manual, 5.5.5 "Foreign Keys" (index on the referencing columns); ri_triggers.c.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.catalog.model import Catalog, ForeignKey, Relation
from sqladvisor.context import Context
from sqladvisor.figures import ms
from sqladvisor.finding import Finding, Fix
from sqladvisor.plan.node import Plan
from sqladvisor.plan.weigh import MIN_MS, MIN_SHARE
from sqladvisor.rule import PLAN, rule
from sqladvisor.sql.quote import identifier, qualified

SETUP = """
CREATE TABLE parent (id int PRIMARY KEY, x int);
CREATE TABLE child (id int PRIMARY KEY, parent_id int REFERENCES parent);
INSERT INTO parent SELECT i, i FROM generate_series(1, 3000) i;
INSERT INTO child SELECT i, i FROM generate_series(1, 2000) i;
CREATE TABLE served (id int PRIMARY KEY, x int);
CREATE TABLE "Referring" (id int PRIMARY KEY, served_id int REFERENCES served);
CREATE INDEX ON "Referring" (served_id);
INSERT INTO served SELECT i, i FROM generate_series(1, 2000) i;
INSERT INTO "Referring" SELECT i, i FROM generate_series(1, 1000) i;
VACUUM ANALYZE;
"""
BAD = ["DELETE FROM parent WHERE id > 2000", "UPDATE parent SET id = id + 10000 WHERE id > 2200"]
GOOD = ["DELETE FROM served WHERE id > 1200", "UPDATE parent SET x = x + 1", "DELETE FROM child"]


@rule(PLAN, severity="warning", needs=("schema", "analyze"))
def check(plan: Plan, ctx: Context) -> Iterator[Finding]:
    total = plan.execution_ms or 0
    for trigger in plan.triggers:
        time_ms = float(trigger.get("Time", 0))
        name = str(trigger.get("Constraint Name", ""))
        if not name or time_ms < MIN_MS or time_ms < MIN_SHARE * total:
            continue
        found = unindexed_key(ctx.catalog, name, str(trigger.get("Relation", "")))
        if found is None:
            continue
        table, key = found
        calls = int(trigger.get("Calls", 0))
        columns = ", ".join(map(identifier, key.columns))
        where = qualified(None if table.schema == "public" else table.schema, table.name)
        yield ctx.finding(
            None,
            f"{calls:,} searches of {table.name} for rows that refer to the changed ones take "
            f"{ms(time_ms)} of {ms(total)}: {name} has no index on ({columns})",
            fixes=(
                Fix(
                    "index the referring columns",
                    f"CREATE INDEX CONCURRENTLY ON {where} ({columns});",
                    "ddl",
                ),
            ),
            level="measured",
            figures={"constraint": name, "trigger_ms": time_ms, "calls": calls},
        )


def unindexed_key(catalog: Catalog, name: str, changed: str) -> tuple[Relation, ForeignKey] | None:
    """The foreign key a referential check on ``changed`` is of, if no index serves the search."""
    for table in catalog.relations.values():
        for key in table.foreign_keys:
            if key.name == name and key.target == changed and not _indexed(table, key):
                return table, key
    return None


def _indexed(table: Relation, key: ForeignKey) -> bool:
    wanted = set(key.columns)
    return any(
        i.valid and not i.predicate and set(i.keys[: len(wanted)]) == wanted for i in table.indexes
    )
