"""The store as Prometheus reads it.

Counters begin with this process and grow by what the monitor stored since; gauges are those of the
last tick. Statements have a series each, the busiest ones only.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from sqladvisor.monitor.store import Store

TOP_STATEMENTS = 100
"""Statements of a target with series of their own."""
_COUNTERS = {
    "transactions": ("database", "xact_commit + s.xact_rollback", "Transactions ended."),
    "rollbacks": ("database", "xact_rollback", "Transactions rolled back."),
    "deadlocks": ("database", "deadlocks", "Deadlocks."),
    "blocks_hit": ("database", "blks_hit", "Blocks found in shared buffers."),
    "blocks_read": ("database", "blks_read", "Blocks not found in shared buffers."),
    "temp_bytes": ("database", "temp_bytes", "Bytes written to temporary files."),
    "wal_bytes": ("server", "wal_position_bytes", "Bytes of WAL written by the server."),
}
_GAUGES = {
    "clients": ("clients", "Client sessions of the whole server."),
    "clients_limit": ("max_clients", "Client sessions allowed."),
    "xid_age": ("xid_age", "Age of the oldest unfrozen transaction id."),
    "server_uptime_seconds": ("uptime_s", "Seconds since the server was started."),
}


class Metrics:
    """Counts what is new in the store each time it is asked."""

    def __init__(self) -> None:
        self._seen: int | None = None
        self._totals: Counter[tuple[str, str]] = Counter()
        self._statements: Counter[tuple[str, str, str]] = Counter()
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._store: Store | None = None

    def render(self, store: Store) -> bytes:
        """The metrics in Prometheus' text format."""
        self._store = store
        self._count(store)
        return generate_latest(self._registry)

    def _count(self, store: Store) -> None:
        last = int(store.query("SELECT coalesce(max(id), 0) FROM tick")[0][0])
        if self._seen is None:
            self._seen = last
        new = (self._seen, last)
        for name, (family, column, _) in _COUNTERS.items():
            for target, value in store.query(
                f"SELECT g.name, sum(s.{column}) FROM sample_{family} s JOIN tick t ON t.id = s.tick_id "
                "JOIN target g ON g.id = t.target_id WHERE s.tick_id > ? AND s.tick_id <= ? GROUP BY 1",
                new,
            ):
                self._totals[name, target] += value or 0
        for target, key, calls, ms in store.query(
            "SELECT g.name, o.key, sum(s.calls), sum(s.exec_ms) FROM sample_statement s "
            "JOIN object o ON o.id = s.object_id JOIN target g ON g.id = o.target_id "
            "WHERE s.tick_id > ? AND s.tick_id <= ? GROUP BY 1, 2",
            new,
        ):
            queryid = json.loads(key)[0]
            self._statements[target, queryid, "calls"] += calls
            self._statements[target, queryid, "seconds"] += ms / 1000
        self._seen = last

    def collect(self) -> Iterator[Metric]:
        """What prometheus_client asks a collector for."""
        store = self._store
        if store is None:
            return
        yield from self._targets(store)
        for name, (_, _, about) in _COUNTERS.items():
            counter = CounterMetricFamily(f"sqladvisor_{name}", about, labels=["target"])
            for target in store.targets():
                counter.add_metric([target.name], self._totals[name, target.name])
            yield counter
        yield from self._statement_counters()
        yield from self._last(store)
        yield from self._sizes(store)
        alerts = GaugeMetricFamily(
            "sqladvisor_alert_firing", "Alerts that fire.",
            labels=["target", "rule", "label", "severity"],
        )  # fmt: skip
        for alert in store.alerts():
            if alert["state"] == "firing":
                labels = [alert[k] for k in ("target", "rule", "label", "severity")]
                alerts.add_metric(labels, 1)
        yield alerts

    def _targets(self, store: Store) -> Iterator[Metric]:
        up = GaugeMetricFamily("sqladvisor_up", "Whether the target answers.", labels=["target"])
        at = GaugeMetricFamily(
            "sqladvisor_last_sample_timestamp_seconds", "When it was last looked at.",
            labels=["target"],
        )  # fmt: skip
        for target in store.targets():
            up.add_metric([target.name], float(target.reachable))
            at.add_metric([target.name], target.last_at)
        yield up
        yield at

    def _statement_counters(self) -> Iterator[Metric]:
        by_target: dict[str, list[tuple[float, str]]] = {}
        for (target, queryid, kind), seconds in self._statements.items():
            if kind == "seconds":
                by_target.setdefault(target, []).append((seconds, queryid))
        for kind, about in (("calls", "Executions"), ("seconds", "Execution time")):
            counter = CounterMetricFamily(
                f"sqladvisor_statement_{kind}", f"{about} of a statement.",
                labels=["target", "queryid"],
            )  # fmt: skip
            for target, found in by_target.items():
                for _, queryid in sorted(found, reverse=True)[:TOP_STATEMENTS]:
                    counter.add_metric([target, queryid], self._statements[target, queryid, kind])
            yield counter

    def _last(self, store: Store) -> Iterator[Metric]:
        """Gauges of each target's last tick."""
        for name, (column, about) in _GAUGES.items():
            gauge = GaugeMetricFamily(f"sqladvisor_{name}", about, labels=["target"])
            for target, value in store.query(
                f"SELECT g.name, s.{column} FROM target g JOIN sample_server s "
                f"ON s.tick_id = {_LAST_TICK} WHERE s.{column} IS NOT NULL"
            ):
                gauge.add_metric([target], value)
            yield gauge
        for name, part, about in (
            ("sessions", "$[1]", "Client sessions of the database by state."),
            ("waiting_sessions", "$[2]", "Active sessions of the database by what they wait for."),
        ):
            label = "state" if name == "sessions" else "wait_event_type"
            gauge = GaugeMetricFamily(f"sqladvisor_{name}", about, labels=["target", label])
            where = "" if name == "sessions" else "AND json_extract(o.key, '$[1]') = 'active' "
            for target, value, sessions in store.query(
                f"SELECT g.name, json_extract(o.key, '{part}'), sum(s.sessions) FROM target g "
                f"JOIN sample_activity s ON s.tick_id = {_LAST_TICK} JOIN object o "
                "ON o.id = s.object_id WHERE json_extract(o.key, '$[0]') = 'client backend' "
                f"{where}GROUP BY 1, 2"
            ):
                gauge.add_metric([target, value], sessions)
            yield gauge

    def _sizes(self, store: Store) -> Iterator[Metric]:
        gauge = GaugeMetricFamily(
            "sqladvisor_size_bytes", "Size of all tables and all indexes of the database.",
            labels=["target", "kind"],
        )  # fmt: skip
        for target, kind, size in store.query(
            "SELECT g.name, json_extract(o.key, '$[0]'), sum(s.bytes) FROM object o "
            "JOIN target g ON g.id = o.target_id JOIN sample_size s ON s.object_id = o.id "
            "AND s.tick_id = (SELECT max(tick_id) FROM sample_size WHERE object_id = o.id) "
            "WHERE o.family = 'size' GROUP BY 1, 2"
        ):
            gauge.add_metric([target, kind], size or 0)
        yield gauge


_LAST_TICK = "(SELECT id FROM tick WHERE target_id = g.id AND reachable ORDER BY at DESC LIMIT 1)"
