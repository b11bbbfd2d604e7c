"""What the page shows of a target in a window of time, worked out from the store.

Everything is plain data, ready for JSON. Rates are differences over the time that they span.
Percentiles are estimates: pg_stat_statements keeps a mean and a deviation, from which a log-normal
distribution is taken, the usual shape of response times.
"""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from sqladvisor.monitor.figures import Figure, Series, Span, over, percentiles, rounded, share
from sqladvisor.monitor.growth import relations
from sqladvisor.monitor.store import Store, TargetState
from sqladvisor.server.session import MARK

WINDOWS = {"15m": 900, "1h": 3_600, "6h": 21_600, "24h": 86_400, "7d": 604_800}
"""Seconds that can be looked back on."""
POINTS = 120
"""Points of a curve, at most."""
TOP = 25
"""Statements listed."""
STALE_FACTOR = 6
STALE_S = 60.0
"""Intervals, and at least seconds, without a sample after which a target's figures are called old."""


def overview(store: Store, now: float | None = None) -> dict[str, Any]:
    """All targets with how they stand, and all alerts."""
    now = now or time.time()
    alerts = store.alerts()
    latest = _latest(store, now)
    return {
        "at": now,
        "windows": list(WINDOWS),
        "targets": [
            _target(t) | latest.get(t.id, {})
            | {"alerts": sum(a["target"] == t.name and a["state"] == "firing" for a in alerts)}
            for t in store.targets()
        ],
        "alerts": alerts,
    }  # fmt: skip


def _latest(store: Store, now: float) -> dict[int, dict[str, Figure]]:
    """Transactions a second and hit ratio over the last five minutes, by target."""
    rows = store.query(
        "SELECT t.target_id, sum(m.elapsed_s), sum(s.xact_commit + s.xact_rollback), "
        "sum(s.blks_hit), sum(s.blks_read) FROM tick t JOIN sampled m ON m.tick_id = t.id "
        "AND m.family = 'database' AND m.elapsed_s > 0 JOIN sample_database s ON s.tick_id = t.id "
        "WHERE t.at > ? GROUP BY 1",
        (now - 300,),
    )
    return {
        target: {"transactions_per_s": over(done, elapsed), "cache_hit": share(hit, read)}
        for target, elapsed, done, hit, read in rows
    }


def _target(target: TargetState) -> dict[str, Any]:
    return {
        "name": target.name,
        "version": _version(target.version),
        "reachable": target.reachable,
        "error": target.error,
        "since": target.since,
        "last_at": target.last_at,
    }


def detail(store: Store, name: str, window: str, now: float | None = None) -> dict[str, Any] | None:
    """One target over a window; None for a target that the store does not know."""
    now = now or time.time()
    target = next((t for t in store.targets() if t.name == name), None)
    if target is None:
        return None
    span = _span(store, target.id, now, WINDOWS[window])
    view = _View(store, target.id, span, now)
    statements = view.statements()
    return {
        "at": now,
        "window": window,
        "target": _target(target) | {"stale": view.stale(target)},
        "times": span.times(),
        "width_s": span.width_s,
        "down": view.down(),
        **view.database(),
        **view.latency(),
        "sessions": view.sessions("CASE WHEN o.state <> '' THEN o.state ELSE 'other' END"),
        "waits": view.sessions(
            "CASE WHEN o.wait_event_type = '' THEN 'CPU' ELSE o.wait_event_type END",
            "o.state = 'active'",
        ),
        "wait_events": view.wait_events(),
        **view.server(),
        "checkpoints": view.checkpoints(),
        "statements": statements,
        **relations(store, target.id, span),
        "plan_changes": view.plan_changes(),
        "alerts": [a for a in store.alerts() if a["target"] == name],
        "alert_events": view.alert_events(name),
        "findings": view.findings(),
    }


def _span(store: Store, target: int, now: float, seconds: int) -> Span:
    """Buckets no narrower than the samples lie apart: a narrower one would be empty."""
    rows = store.query(
        "SELECT avg(m.elapsed_s) FROM tick t JOIN sampled m ON m.tick_id = t.id AND "
        "m.family = 'database' WHERE t.target_id = ? AND t.at > ?",
        (target, now - seconds),
    )
    interval = float(rows[0][0] or 0)
    width = max(seconds / POINTS, 1.5 * interval)
    return Span(now - seconds, width, math.ceil(seconds / width), interval)


class _View:
    """The parts of ``detail``, each a query or two."""

    def __init__(self, store: Store, target: int, span: Span, now: float) -> None:
        self._store, self._target, self._span, self._now = store, target, span, now
        self._bucket = f"CAST((t.at - {span.start!r}) / {span.width_s!r} AS INTEGER)"

    def _query(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        return self._store.query(
            sql.format(bucket=self._bucket), (self._target, self._span.start, *parameters)
        )

    def _elapsed(self, family: str) -> dict[int, tuple[float, int]]:
        """By bucket: seconds that the differences span, and the number of samples."""
        return {
            b: (elapsed or 0.0, count)
            for b, elapsed, count in self._query(
                "SELECT {bucket}, sum(m.elapsed_s), count(*) FROM tick t "
                "JOIN sampled m ON m.tick_id = t.id AND m.family = ?3 "
                "WHERE t.target_id = ?1 AND t.at >= ?2 GROUP BY 1",
                family,
            )
        }

    def _sums(self, family: str, columns: Sequence[str]) -> dict[int, dict[str, Figure]]:
        """By bucket: sums of differences, and ``elapsed`` in seconds."""
        elapsed = self._elapsed(family)
        sums = ", ".join(f"sum(s.{column})" for column in columns)
        rows = self._query(
            f"SELECT {{bucket}}, {sums} FROM tick t JOIN sample_{family} s ON s.tick_id = t.id "
            "WHERE t.target_id = ?1 AND t.at >= ?2 GROUP BY 1"
        )
        found: dict[int, dict[str, Figure]] = {
            b: {"elapsed": seconds, **dict.fromkeys(columns, 0.0)}
            for b, (seconds, _) in elapsed.items()
            if seconds
        }
        for b, *values in rows:
            if b in found:
                found[b].update(zip(columns, values, strict=True))
        return found

    def _series(self, found: Mapping[int, Figure]) -> Series:
        return [rounded(found.get(b)) for b in range(self._span.buckets)]

    def stale(self, target: TargetState) -> bool:
        return self._now - target.last_at > max(STALE_S, STALE_FACTOR * self._span.interval_s)

    def down(self) -> list[bool]:
        """By bucket: whether the target was found unreachable."""
        rows = self._query(
            "SELECT DISTINCT {bucket} FROM tick t "
            "WHERE t.target_id = ?1 AND t.at >= ?2 AND NOT t.reachable"
        )
        found = {b for (b,) in rows}
        return [b in found for b in range(self._span.buckets)]

    def database(self) -> dict[str, Any]:
        columns = (
            "xact_commit", "xact_rollback", "blks_hit", "blks_read", "temp_bytes", "deadlocks",
            "tup_returned", "tup_inserted", "tup_updated", "tup_deleted",
        )  # fmt: skip
        sums = self._sums("database", columns)
        rates = {c: {b: over(s[c], s["elapsed"]) for b, s in sums.items()} for c in columns}
        hit = {b: share(s["blks_hit"], s["blks_read"]) for b, s in sums.items()}
        total = {c: sum(s[c] or 0 for s in sums.values()) for c in (*columns, "elapsed")}
        return {
            "throughput": {
                "commits": self._series(rates["xact_commit"]),
                "rollbacks": self._series(rates["xact_rollback"]),
            },
            "rows": {
                "inserted": self._series(rates["tup_inserted"]),
                "updated": self._series(rates["tup_updated"]),
                "deleted": self._series(rates["tup_deleted"]),
            },
            "cache_hit": self._series(hit),
            "temp_bytes_per_s": self._series(rates["temp_bytes"]),
            "totals": {
                "transactions_per_s": over(
                    total["xact_commit"] + total["xact_rollback"], total["elapsed"]
                ),
                "rollback_ratio": share(total["xact_rollback"], total["xact_commit"]),
                "cache_hit": share(total["blks_hit"], total["blks_read"]),
                "deadlocks": total["deadlocks"],
                "temp_bytes": total["temp_bytes"],
            },
        }

    def latency(self) -> dict[str, Any]:
        """All statements of the database together."""
        sums = self._sums("statement", ("calls", "exec_ms", "exec_ms_squared", "wal_bytes"))
        points: dict[int, dict[str, float]] = {
            b: percentiles(s["calls"], s["exec_ms"], s["exec_ms_squared"]) for b, s in sums.items()
        }
        total = [
            sum(s[c] or 0 for s in sums.values()) for c in ("calls", "exec_ms", "exec_ms_squared")
        ]
        names = ("mean", "p50", "p95", "p99")
        return {
            "latency_ms": {
                n: self._series({b: p.get(n) for b, p in points.items()}) for n in names
            },
            "latency_total": percentiles(*total),
            "statements_per_s": self._series(
                {b: over(s["calls"], s["elapsed"]) for b, s in sums.items()}
            ),
        }

    _ACTIVITY = (
        "SELECT id, json_extract(key, '$[1]') AS state, json_extract(key, '$[2]') AS "
        "wait_event_type, json_extract(key, '$[3]') AS wait_event, json_extract(key, '$[0]') AS "
        "backend_type FROM object WHERE target_id = ?1 AND family = 'activity'"
    )

    def sessions(self, group: str, where: str = "true") -> dict[str, Series]:
        """Sessions by what ``group`` says of them, on average over the samples of each bucket."""
        samples = self._elapsed("activity")
        rows = self._query(
            f"SELECT {{bucket}}, {group} AS name, sum(s.sessions) FROM tick t "
            f"JOIN sample_activity s ON s.tick_id = t.id JOIN ({self._ACTIVITY}) o "
            "ON o.id = s.object_id WHERE t.target_id = ?1 AND t.at >= ?2 AND "
            f"o.backend_type IN ('client backend', 'parallel worker', 'hidden') AND {where} "
            "GROUP BY 1, 2"
        )
        by_name: dict[str, dict[int, Figure]] = defaultdict(lambda: dict.fromkeys(samples, 0.0))
        for b, name, sessions in rows:
            if b in samples:
                by_name[name][b] = sessions / samples[b][1]
        return {name: self._series(found) for name, found in sorted(by_name.items())}

    def wait_events(self) -> list[dict[str, Any]]:
        """What active sessions waited for, as sessions on average over the whole window."""
        samples = sum(count for _, count in self._elapsed("activity").values())
        rows = self._query(
            "SELECT o.wait_event_type, o.wait_event, sum(s.sessions) FROM tick t "
            f"JOIN sample_activity s ON s.tick_id = t.id JOIN ({self._ACTIVITY}) o "
            "ON o.id = s.object_id WHERE t.target_id = ?1 AND t.at >= ?2 AND o.state = 'active' "
            "AND o.backend_type IN ('client backend', 'parallel worker') GROUP BY 1, 2 "
            "ORDER BY 3 DESC LIMIT 12"
        )
        return [
            {"type": kind or "CPU", "event": event or "running", "sessions": total / samples}
            for kind, event, total in rows
        ]

    def server(self) -> dict[str, Any]:
        sums = self._sums("server", ("wal_position_bytes",))
        rows = self._query(
            "SELECT s.clients, s.max_clients, s.xid_age, s.in_recovery, s.replay_delay_s, s.uptime_s "
            "FROM tick t JOIN sample_server s ON s.tick_id = t.id "
            "WHERE t.target_id = ?1 AND t.at >= ?2 ORDER BY t.at DESC LIMIT 1"
        )
        names = ("clients", "max_clients", "xid_age", "in_recovery", "replay_delay_s", "uptime_s")
        return {
            "wal_bytes_per_s": self._series(
                {b: over(s["wal_position_bytes"], s["elapsed"]) for b, s in sums.items()}
            ),
            "now": dict(zip(names, rows[0], strict=True)) if rows else {},
        }

    def checkpoints(self) -> dict[str, Figure]:
        sums = self._sums("checkpointer", ("timed", "requested"))
        return {c: sum(s[c] or 0 for s in sums.values()) for c in ("timed", "requested")}

    def statements(self) -> list[dict[str, Any]]:
        """The statements with the most execution time, with their share of the whole.

        Ours are one row, the last.
        """
        columns = (
            "calls", "exec_ms", "exec_ms_squared", "plan_ms", "rows", "shared_blks_hit",
            "shared_blks_read", "temp_blks_written", "wal_bytes",
        )  # fmt: skip
        sums = ", ".join(f"sum(s.{c})" for c in columns)
        rows = self._query(
            f"SELECT s.object_id, {sums} FROM tick t JOIN sample_statement s ON s.tick_id = t.id "
            "WHERE t.target_id = ?1 AND t.at >= ?2 GROUP BY 1 ORDER BY 3 DESC"
        )
        whole = sum(row[2] or 0 for row in rows)
        names = {
            at: (json.loads(key)[0], text or "")
            for at, key, text in self._store.query(
                "SELECT id, key, text FROM object WHERE target_id = ? AND family = 'statement'",
                (self._target,),
            )
        }
        ours = [row for row in rows if MARK in names[row[0]][1]]
        rows = [row for row in rows if MARK not in names[row[0]][1]][:TOP]
        if ours:
            sums_ = [sum(v or 0 for v in column) for column in list(zip(*ours, strict=True))[1:]]
            names[0] = ("own", "")
            rows.append((0, *sums_))
        curves = self._curves([row[0] for row in rows if row[0]])
        found = []
        for at, *values in rows:
            queryid, text = names[at]
            s = dict(zip(columns, values, strict=True))
            found.append(
                {
                    "queryid": queryid,
                    "text": text,
                    "calls": s["calls"],
                    "exec_ms": s["exec_ms"],
                    "share": s["exec_ms"] / whole if whole else 0.0,
                    "plan_ms": s["plan_ms"],
                    "rows_per_call": over(s["rows"], s["calls"]),
                    "cache_hit": share(s["shared_blks_hit"], s["shared_blks_read"]),
                    "blocks_per_call": over(
                        s["shared_blks_hit"] + s["shared_blks_read"], s["calls"]
                    ),
                    "temp_blocks": s["temp_blks_written"],
                    "wal_bytes": s["wal_bytes"],
                    **percentiles(s["calls"], s["exec_ms"], s["exec_ms_squared"]),
                    "mean_over_time": curves.get(at, []),
                }
            )
        return found

    def _curves(self, objects: Sequence[int]) -> dict[int, Series]:
        """Mean execution time by bucket, of some statements."""
        marks = ", ".join(map(str, objects)) or "NULL"
        rows = self._query(
            "SELECT s.object_id, {bucket}, sum(s.exec_ms) / sum(s.calls) FROM tick t "
            f"JOIN sample_statement s ON s.tick_id = t.id AND s.object_id IN ({marks}) "
            "WHERE t.target_id = ?1 AND t.at >= ?2 AND s.calls > 0 GROUP BY 1, 2"
        )
        found: dict[int, dict[int, Figure]] = defaultdict(dict)
        for at, b, mean in rows:
            found[at][b] = mean
        return {at: self._series(points) for at, points in found.items()}

    def plan_changes(self) -> list[dict[str, Any]]:
        """Statements that got another plan in the window, newest first."""
        rows = self._store.query(
            "SELECT p.queryid, p.first_at, p.tree, p.cost, b.tree, b.cost, o.text FROM plan p "
            "JOIN plan b ON b.target_id = p.target_id AND b.queryid = p.queryid AND b.first_at = "
            "(SELECT max(first_at) FROM plan c WHERE c.target_id = p.target_id "
            " AND c.queryid = p.queryid AND c.first_at < p.first_at) "
            "LEFT JOIN object o ON o.target_id = p.target_id AND o.family = 'statement' "
            "AND o.key = json_array(p.queryid) WHERE p.target_id = ? AND p.first_at >= ? "
            "ORDER BY p.first_at DESC LIMIT 20",
            (self._target, self._span.start),
        )
        names = ("queryid", "at", "tree", "cost", "tree_before", "cost_before", "text")
        found = []
        for row in rows:
            change = dict(zip(names, row, strict=True))
            change["mean_ms_before"] = self._mean(change["queryid"], 0, change["at"])
            change["mean_ms"] = self._mean(change["queryid"], change["at"], self._now)
            found.append(change)
        return found

    def _mean(self, queryid: str, start: float, end: float) -> Figure:
        rows = self._query(
            "SELECT sum(s.exec_ms), sum(s.calls) FROM tick t JOIN sample_statement s "
            "ON s.tick_id = t.id JOIN object o ON o.id = s.object_id "
            "WHERE t.target_id = ?1 AND t.at >= ?2 AND t.at > ?3 AND t.at <= ?4 "
            "AND o.key = json_array(?5)",
            start,
            end,
            queryid,
        )
        return over(*rows[0])

    def alert_events(self, name: str) -> list[dict[str, Any]]:
        names = ("at", "rule", "label", "event", "severity", "value", "message")
        rows = self._store.query(
            f"SELECT {', '.join(names)} FROM alert_event WHERE target = ? AND at >= ? "
            "ORDER BY id DESC LIMIT 50",
            (name, self._span.start),
        )
        return [dict(zip(names, row, strict=True)) for row in rows]

    def findings(self) -> list[dict[str, Any]]:
        names = ("at", "rule", "severity", "message", "fix")
        rows = self._store.query(
            f"SELECT {', '.join(names)} FROM finding WHERE target_id = ? ORDER BY "
            "CASE severity WHEN 'error' THEN 0 WHEN 'warning' THEN 1 ELSE 2 END, rowid LIMIT 100",
            (self._target,),
        )
        return [dict(zip(names, row, strict=True)) for row in rows]


def _version(number: int) -> str:
    return f"{number // 10000}.{number % 10000}" if number else ""
