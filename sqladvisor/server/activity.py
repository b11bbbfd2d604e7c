"""What sessions do, sampled over a short time: how many work, wait and idle, and on what they wait."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from statistics import fmean

import psycopg

from sqladvisor.errors import ServerError
from sqladvisor.server.session import MARK, LiveSession

INTERVAL_S = 0.2
"""Between two samples. One takes about a tenth of a millisecond of the server's time."""
OURS = "sqladvisor"

_SAMPLE = """
SELECT coalesce(state, 'unseen'), coalesce(wait_event_type, ''), coalesce(wait_event, ''),
       count(*)::int
FROM pg_stat_activity
WHERE pid <> pg_backend_pid() AND application_name IS DISTINCT FROM 'sqladvisor'
  AND (backend_type = 'client backend' OR backend_type IS NULL AND datid IS NOT NULL)
GROUP BY 1, 2, 3"""
_COUNTERS = "SELECT sum(xact_commit + xact_rollback)::float8 FROM pg_stat_database WHERE datid > 0"
# pg_stat_database.sessions came with 14.
_START = """
SELECT current_setting('max_connections')::int, sum(xact_commit + xact_rollback)::float8,
       extract(epoch FROM now() - coalesce(min(stats_reset), pg_postmaster_start_time()))::float8,
       {sessions}::float8
FROM pg_stat_database WHERE datid > 0"""


@dataclass(frozen=True, slots=True)
class Activity:
    """Client sessions of the whole server but ours, as means and maxima over the samples."""

    samples: int
    window_s: float
    connections: float
    active: float
    active_max: int
    on_cpu: float
    """Active and waiting for nothing that PostgreSQL knows of."""
    idle: float
    idle_in_transaction: float
    unseen: float
    """Sessions whose state this role may not see."""
    max_connections: int
    waits: dict[str, float] = field(default_factory=dict)
    """Mean number of active sessions that wait, by ``type: event``."""
    transactions_per_s: float | None = None
    new_sessions_per_s: float | None = None
    """Since the counters began (14+)."""


class Sampler:
    """Samples in a thread of its own, on a session of its own, from ``start`` to ``stop``."""

    def __init__(self, dsn: str, window_s: float) -> None:
        self._dsn = dsn
        self._window_s = window_s
        self._stopped = threading.Event()
        self._samples: list[list[tuple[str, str, str, int]]] = []
        self._rates: tuple[float | None, float | None] = (None, None)
        self._max_connections = 0
        self._took = 0.0
        self.notes: list[str] = []
        self._thread = threading.Thread(target=self._run, name="sqladvisor-sampler", daemon=True)

    def start(self) -> Sampler:
        self._thread.start()
        return self

    def cancel(self) -> None:
        """End before the window does."""
        self._stopped.set()
        self._thread.join(timeout=5)

    def result(self) -> Activity | None:
        """Wait for the window to end. None where nothing could be sampled: ``notes`` say why."""
        self._thread.join()
        if not self._samples:
            return None
        return _summed(self._samples, self._took, self._max_connections, self._rates)

    def _run(self) -> None:
        try:
            with LiveSession(self._dsn, statement_timeout_ms=2_000) as session:
                self._sample(session)
                self.notes += session.notes
        except (ServerError, psycopg.Error) as error:
            self.notes.append(f"sessions were not sampled to the end: {error}")

    def _sample(self, session: LiveSession) -> None:
        def row(sql: str) -> tuple[float, ...]:
            found = session.run(lambda c: c.execute(f"{sql} {MARK}".encode()).fetchone())
            assert found is not None
            return found

        counted = session.connection.info.server_version >= 140000
        start = _START.format(sessions="sum(sessions)" if counted else "NULL")
        limit, first, age, sessions = row(start)
        self._max_connections, began = int(limit), time.monotonic()
        while not self._stopped.is_set():
            self._samples.append(
                session.run(
                    lambda c: c.execute(f"{_SAMPLE} {MARK}".encode(), prepare=True).fetchall()
                )
            )
            self._took = time.monotonic() - began
            if self._took >= self._window_s:
                break
            self._stopped.wait(INTERVAL_S)
        passed = max(self._took, INTERVAL_S)
        self._rates = (
            max(0.0, (row(_COUNTERS)[0] - first) / passed),
            None if sessions is None else sessions / max(age, 1.0),
        )


def _summed(
    samples: list[list[tuple[str, str, str, int]]],
    took: float,
    max_connections: int,
    rates: tuple[float | None, float | None],
) -> Activity:
    states: list[Counter[str]] = []
    waits: Counter[str] = Counter()
    for sample in samples:
        counts: Counter[str] = Counter()
        for state, kind, event, number in sample:
            counts[state] += number
            # An active session that waits for its client sends rows: it is at work for somebody.
            if state == "active" and kind:
                waits[f"{kind}: {event}"] += number
                counts["waiting"] += number
        states.append(counts)
    active = [c["active"] for c in states]
    return Activity(
        samples=len(samples),
        window_s=took,
        connections=fmean(sum(c.values()) - c["waiting"] for c in states),
        active=fmean(active),
        active_max=max(active),
        on_cpu=fmean(c["active"] - c["waiting"] for c in states),
        idle=fmean(c["idle"] for c in states),
        idle_in_transaction=fmean(
            sum(n for s, n in c.items() if s.startswith("idle in transaction")) for c in states
        ),
        unseen=fmean(c["unseen"] for c in states),
        max_connections=max_connections,
        waits={name: n / len(samples) for name, n in waits.most_common()},
        transactions_per_s=rates[0],
        new_sessions_per_s=rates[1],
    )
