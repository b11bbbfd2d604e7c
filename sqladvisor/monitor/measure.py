"""The figures that alert rules can watch, each worked out from one tick.

A measure yields a value for each label: "" where there is one for the target, else what it is about
(a table, a standby). It yields None where its families were not read in this tick, or have nothing
to compare with yet: then nothing is known, which is not the same as "all well".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sqladvisor.monitor.family import Sampled, Tick

Values = Mapping[str, float] | None

FEW_BLOCKS = 1_000
"""Blocks read in an interval below which a hit ratio is noise."""
FEW_TRANSACTIONS = 10
FEW_DEAD_ROWS = 10_000
"""Below the rows of a table that autovacuum's own threshold makes it visit soon anyway."""
WRAPAROUND = 2**31
"""Transaction ids until wraparound (xid comparison is modulo 2^32, transam.c)."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A named figure. ``unit`` is shown after the value; ``about`` says what it is."""

    name: str
    unit: str
    about: str
    read: Callable[[Tick], Values]


def _one(value: float | None) -> Values:
    return None if value is None else {"": value}


def _rate(tick: Tick, family: str, *columns: str, per_s: float = 1.0) -> Values:
    sampled = tick.families.get(family)
    if sampled is None or not sampled.elapsed_s:
        return None
    known = [v for c in columns if (v := sampled.total(c)) is not None]
    return _one(sum(known) / sampled.elapsed_s * per_s) if known else None


def _gauge(tick: Tick, family: str, column: str) -> float | None:
    sampled = tick.families.get(family)
    return sampled.total(column) if sampled and sampled.rows else None


def _share(part: float | None, rest: float | None, few: float) -> Values:
    """``part`` of ``part + rest``: nothing is said (an empty mapping) where there is little of both."""
    if part is None or rest is None:
        return None
    return {"": part / (part + rest)} if part + rest >= max(few, 1) else {}


def _counted(tick: Tick, family: str) -> Sampled | None:
    sampled = tick.families.get(family)
    return sampled if sampled is not None and sampled.elapsed_s else None


def _connections(tick: Tick) -> Values:
    used, limit = _gauge(tick, "server", "clients"), _gauge(tick, "server", "max_clients")
    return None if used is None or not limit else {"": used / limit}


def _idle_in_transaction(tick: Tick) -> Values:
    sampled = tick.families.get("activity")
    if sampled is None:
        return None
    ages = [
        r["oldest_state_s"] or 0.0
        for r in sampled.records()
        if r["state"].startswith("idle in transaction")
    ]
    return {"": max(ages, default=0.0)}


def _oldest_transaction(tick: Tick) -> Values:
    sampled = tick.families.get("activity")
    if sampled is None:
        return None
    return {"": max((r["oldest_transaction_s"] or 0.0 for r in sampled.records()), default=0.0)}


def _waiting(tick: Tick) -> Values:
    sampled = tick.families.get("activity")
    if sampled is None:
        return None
    return {"": sum(r["sessions"] for r in sampled.records() if r["wait_event_type"] == "Lock")}


def _active(tick: Tick) -> Values:
    sampled = tick.families.get("activity")
    if sampled is None:
        return None
    return {"": sum(r["sessions"] for r in sampled.records() if r["state"] == "active")}


def _cache_hit(tick: Tick) -> Values:
    sampled = _counted(tick, "database")
    if sampled is None:
        return None
    return _share(sampled.total("blks_hit"), sampled.total("blks_read"), FEW_BLOCKS)


def _rollback(tick: Tick) -> Values:
    sampled = _counted(tick, "database")
    if sampled is None:
        return None
    return _share(sampled.total("xact_rollback"), sampled.total("xact_commit"), FEW_TRANSACTIONS)


def _requested_checkpoints(tick: Tick) -> Values:
    return _rate(tick, "checkpointer", "requested", per_s=3600)


def _standbys(column: str) -> Callable[[Tick], Values]:
    def read(tick: Tick) -> Values:
        sampled = tick.families.get("replication")
        if sampled is None:
            return None
        return {
            f"{r['standby']} {r['address']}": r[column]
            for r in sampled.records()
            if r[column] is not None
        }

    return read


def _slots(tick: Tick) -> Values:
    sampled = tick.families.get("slot")
    if sampled is None:
        return None
    return {
        r["slot"]: r["retained_bytes"]
        for r in sampled.records()
        if not r["active"] and r["retained_bytes"] is not None
    }


def _xid_age(tick: Tick) -> Values:
    age = _gauge(tick, "server", "xid_age")
    return None if age is None else {"": age / WRAPAROUND}


def _dead_rows(tick: Tick) -> Values:
    sampled = tick.families.get("table")
    if sampled is None:
        return None
    live, dead = (sampled.family.gauges.index(c) for c in ("live_rows", "dead_rows"))
    found = {
        f"{key[0]}.{key[1]}": (g[live] or 0, g[dead] or 0) for key, g in sampled.current.items()
    }
    return {name: d / (d + n) for name, (n, d) in found.items() if d >= FEW_DEAD_ROWS}


def _statement_mean(tick: Tick) -> Values:
    sampled = _counted(tick, "statement")
    if sampled is None:
        return None
    return {
        r["queryid"]: r["exec_ms"] / r["calls"]
        for r in sampled.records()
        if r["calls"] and r["exec_ms"] is not None
    }


MEASURES: dict[str, Measure] = {
    measure.name: measure
    for measure in (
        Measure("up", "", "1 where the target answers, 0 where it does not",
                lambda t: {"": float(t.reachable)}),
        Measure("connections_used_ratio", "", "client sessions of the whole server / those allowed",
                _connections),
        Measure("active_sessions", "sessions", "sessions of the database that run something", _active),
        Measure("lock_waiting_sessions", "sessions", "sessions that wait for a lock", _waiting),
        Measure("idle_in_transaction_s", "s", "longest time idle in an open transaction",
                _idle_in_transaction),
        Measure("oldest_transaction_s", "s", "age of the oldest transaction", _oldest_transaction),
        Measure("transactions_per_s", "/s", "commits and rollbacks",
                lambda t: _rate(t, "database", "xact_commit", "xact_rollback")),
        Measure("rollback_ratio", "", "rollbacks / transactions", _rollback),
        Measure("deadlocks_per_min", "/min", "deadlocks",
                lambda t: _rate(t, "database", "deadlocks", per_s=60)),
        Measure("temp_bytes_per_s", "bytes/s", "temporary files written",
                lambda t: _rate(t, "database", "temp_bytes")),
        Measure("cache_hit_ratio", "", "blocks found in shared buffers / blocks asked for", _cache_hit),
        Measure("wal_bytes_per_s", "bytes/s", "WAL written by the server",
                lambda t: _rate(t, "server", "wal_position_bytes")),
        Measure("requested_checkpoints_per_h", "/h", "checkpoints forced before their time",
                _requested_checkpoints),
        Measure("statement_mean_ms", "ms", "mean execution time, by queryid", _statement_mean),
        Measure("dead_rows_ratio", "", "dead rows / rows, by table with 10,000 dead ones or more",
                _dead_rows),
        Measure("xid_age_ratio", "", "age of the oldest unfrozen transaction id / 2^31", _xid_age),
        Measure("replication_lag_bytes", "bytes", "WAL that a standby has not replayed",
                _standbys("lag_bytes")),
        Measure("replication_lag_s", "s", "replay lag of a standby", _standbys("replay_lag_s")),
        Measure("replay_delay_s", "s", "on a standby: age of the last transaction replayed",
                lambda t: _one(_gauge(t, "server", "replay_delay_s"))),
        Measure("inactive_slot_bytes", "bytes", "WAL kept for a replication slot that nobody reads",
                _slots),
    )
}  # fmt: skip
