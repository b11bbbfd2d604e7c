"""Whether a statement's answer could be kept, and for how long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqladvisor.advise.existing import named
from sqladvisor.sql.effects import writes
from sqladvisor.sql.quote import identifier
from sqladvisor.sql.tree import function_name
from sqladvisor.workload.statements import MIN_HOURS

if TYPE_CHECKING:
    from sqladvisor.workload.weights import Weighed, Workload

Table = tuple[str, str]
MAX_TTL_S, MIN_TTL_S = 3600, 5
"""Seconds. Nobody wants rows older than an hour without having asked; a cache of less than some
seconds is a queue."""
_WRITING = ("InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt", "CopyStmt")
MIN_REPEATS = 10
"""Calls for each row of its largest table, from which a statement with parameters repeats itself."""
# Functions whose value is another one at each call, or at each time of day.
_CHANGING = frozenset(
    ("now", "random", "clock_timestamp", "statement_timestamp", "transaction_timestamp", "timeofday",
     "nextval", "currval", "lastval", "setval", "gen_random_uuid", "uuid_generate_v4", "current_setting",
     "pg_sleep", "txid_current", "pg_advisory_lock", "pg_advisory_xact_lock", "pg_try_advisory_lock")
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Caching:
    """How often a statement is asked, how often its tables change, and what a cache would save."""

    sql: str
    rank: int
    tables: tuple[str, ...]
    parameters: bool
    calls_per_hour: float
    writes_per_hour: float
    ttl_s: float
    saved_ms_per_hour: float

    @property
    def reads_per_write(self) -> float:
        return self.calls_per_hour / self.writes_per_hour if self.writes_per_hour else float("inf")

    def view_sql(self) -> str:
        """A materialized view of the statement, and what keeps it fresh."""
        name = identifier(f"cached_statement_{self.rank}")
        return (
            f"CREATE MATERIALIZED VIEW {name} AS\n{self.sql};\n"
            f"-- when its tables have changed:\nREFRESH MATERIALIZED VIEW {name};"
        )


def write_rates(workload: Workload, counted_hours: float) -> Mapping[Table, float]:
    """How often each table is written, per hour: by the statements counted; where statements are
    hidden or were dropped, by the rows written, which is at least as often."""
    rates: dict[Table, float] = {}
    collected = workload.collected
    if collected.hidden or collected.evicted:
        for weighed in workload.statements:
            for r in weighed.relations:
                if r.writes is not None:
                    rows = r.writes.inserted + r.writes.updated + r.writes.deleted
                    rates[r.schema, r.name] = rows / max(counted_hours, MIN_HOURS)
        return rates
    for weighed in workload.statements:
        for r in weighed.relations:
            rates.setdefault((r.schema, r.name), 0.0)
        for kind in _WRITING:
            for node in weighed.context.tree.of(kind):
                target = node.get("relation", {})
                found = weighed.context.catalog.find(
                    target.get("relname", ""), target.get("schemaname")
                )
                if found is not None and (kind != "CopyStmt" or node.get("is_from")):
                    key = (found.schema, found.name)
                    rates[key] = rates.get(key, 0.0) + (weighed.calls_per_hour or 0.0)
    return rates


def caching(weighed: Weighed, rates: Mapping[Table, float]) -> Caching | None:
    """What a cache would be worth for a statement; None where there can be none."""
    context, calls = weighed.context, weighed.calls_per_hour
    statement = context.statement
    if statement.kind != "SelectStmt" or calls is None or writes(statement.kind, statement.tree):
        return None
    if "lockingClause" in statement.tree or context.tree.by_kind.get("SQLValueFunction"):
        return None
    functions = {function_name(f) for f in context.tree.of("FuncCall")}
    if functions & _CHANGING:
        return None
    for name in functions:
        info = context.catalog.functions.get(name)
        if info is not None and info.volatility == "volatile":
            return None
    relations = weighed.relations
    if not relations or any(r.kind != "table" or r.writes is None for r in relations):
        return None
    per_hour = sum(rates.get((r.schema, r.name), 0.0) for r in relations)
    ttl = MAX_TTL_S if not per_hour else min(MAX_TTL_S, max(MIN_TTL_S, 3600 / per_hour))
    parameters = bool(context.tree.by_kind.get("ParamRef"))
    keys = 1.0
    if parameters:
        # Nobody knows which values were asked for; but of so few rows they must have been the same.
        rows = [r.rows for r in relations]
        keys = max((r for r in rows if r is not None), default=0.0)
        if None in rows or weighed.counted.calls < MIN_REPEATS * max(keys, 1.0):
            return None
    refreshes = min(calls, max(keys, 1.0) * 3600 / ttl)
    mean = weighed.counted.mean_exec_ms
    return Caching(
        statement.text,
        weighed.rank,
        tuple(named(r) for r in relations),
        parameters,
        calls,
        per_hour,
        ttl,
        max(0.0, (calls - refreshes) * mean),
    )
