"""The loop: many targets, one task each, a bounded number of them sampling at a time.

Samples go to the store and the alerts one tick after another, in one thread; sinks are served from
a queue, so that a slow webhook keeps no sample waiting. A target that cannot be reached is asked
again after a growing pause, and what it counted meanwhile is the next tick's.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import psycopg

from sqladvisor.errors import ServerError
from sqladvisor.monitor.alert import Alert, Alerts, Event, as_row
from sqladvisor.monitor.alert_file import AlertConfig
from sqladvisor.monitor.duration import said
from sqladvisor.monitor.examine import open_findings
from sqladvisor.monitor.family import Tick
from sqladvisor.monitor.sample import Sampler
from sqladvisor.monitor.sink import Sink, SinkError
from sqladvisor.monitor.store import Store, expired
from sqladvisor.server.connect import one_line, redact_dsn

CONCURRENCY = 32
"""Targets sampled at a time: hundreds wait their turn for some tens of ms each."""
FIRST_PAUSE_S = 1.0
LAST_PAUSE_S = 60.0
"""Pauses before a target that does not answer is asked again: doubled each time up to the last."""
SWEEP_EVERY_S = 600.0
ATTEMPTS = 3
"""Times a webhook or command is tried, with pauses of 1 s and 2 s."""
QUEUE = 1_000
"""Alerts that may wait to be sent; beyond it they are only said."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Settings:
    """How to monitor. Durations in seconds; ``…_every_s`` 0: no plans, no findings are read."""

    interval_s: float = 10.0
    retention_s: float = 14 * 86400.0
    plans_every_s: float = 0.0
    findings_every_s: float = 0.0
    concurrency: int = CONCURRENCY


@dataclass(slots=True)
class Watched:
    """A target and how it stands."""

    sampler: Sampler
    failures: int = 0
    lost_at: float = 0.0
    last_at: float = 0.0


@dataclass(slots=True)
class Outcome:
    """What ``--once`` ends with."""

    unreachable: list[str] = field(default_factory=list)
    firing: list[Alert] = field(default_factory=list)


class Watch:
    """Monitors targets. ``say`` is told of alerts, ``note`` of what else a person should know."""

    def __init__(
        self, dsns: Sequence[str], store: Store, alerts: AlertConfig, settings: Settings,
        say: Say, note: Say,
    ) -> None:  # fmt: skip
        self._targets = [
            Watched(Sampler(dsn, plans_every_s=settings.plans_every_s)) for dsn in dsns
        ]
        self._store = store
        self._settings = settings
        known = [Alert(**row) for row in store.alerts()]
        self._alerts = Alerts(alerts.rules, known)
        self._sinks = alerts.sinks
        self._say, self._note = say, note
        self._slots = asyncio.Semaphore(settings.concurrency)
        # SQLite's connection has one writer, and commits wait for the disk: not in the event loop.
        self._writer = ThreadPoolExecutor(1, "store")
        self._outbox: asyncio.Queue[tuple[Sink, Event]] = asyncio.Queue(QUEUE)

    async def once(self) -> Outcome:
        """One tick of every target, with what the store remembers of the last run."""
        for watched in self._targets:
            memory = self._store.memory(watched.sampler.name)
            if memory:
                watched.sampler.recall(memory)
        await asyncio.gather(*(self._once(w) for w in self._targets))
        await self._deliver_all()
        await self._write(lambda: self._store.sweep(expired(self._settings.retention_s)))
        self._writer.shutdown()
        names = {w.sampler.name for w in self._targets}
        return Outcome(
            [w.sampler.name for w in self._targets if w.failures],
            [a for a in self._alerts.firing if a.target in names],
        )

    async def _once(self, watched: Watched) -> None:
        try:
            await self._tick(watched)
        finally:
            await watched.sampler.close()
        await self._remember(watched)

    async def run(self, stop: asyncio.Event) -> None:
        """Monitor until ``stop`` is set; then end all sessions and remember the last readings."""
        for watched in self._targets:
            memory = self._store.memory(watched.sampler.name)
            if memory:
                watched.sampler.recall(memory)
        tasks = [asyncio.create_task(self._keep_watching(w, stop)) for w in self._targets]
        tasks += [asyncio.create_task(self._deliver()), asyncio.create_task(self._sweep(stop))]
        tasks.append(asyncio.create_task(self._examine(stop)))
        stopped = asyncio.create_task(stop.wait())
        try:
            # A task ends early only by a fault, which must not go unheard.
            await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.set()
            stopped.cancel()
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            for watched in self._targets:
                await watched.sampler.close()
                await self._remember(watched)
            self._writer.shutdown()
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def _keep_watching(self, watched: Watched, stop: asyncio.Event) -> None:
        # Spread over the interval: hundreds of targets are not asked in the same moment.
        interval = self._settings.interval_s
        index = self._targets.index(watched)
        await asyncio.sleep(interval * index / len(self._targets) if index else 0.0)
        due = time.monotonic()
        while not stop.is_set():
            await self._tick(watched)
            if watched.failures:
                pause = min(LAST_PAUSE_S, FIRST_PAUSE_S * 2 ** (watched.failures - 1))
                await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - spreads load
                due = time.monotonic()
                continue
            due += interval
            behind = time.monotonic() - due
            if behind > 0:
                # A slow target skips ticks; it is not asked twice in a row to catch up.
                due += (behind // interval) * interval
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _tick(self, watched: Watched) -> None:
        async with self._slots:
            tick = await watched.sampler.tick()
        self._tell(watched, tick)
        await self._write(lambda: self._keep(tick))

    def _tell(self, watched: Watched, tick: Tick) -> None:
        name = watched.sampler.name
        if not tick.reachable:
            watched.failures += 1
            if watched.failures == 1:
                watched.lost_at = tick.at
                self._note(f"{name}: unreachable: {tick.error}")
            return
        if watched.failures:
            self._note(f"{name}: back after {said(tick.at - watched.lost_at)}")
        watched.failures, watched.last_at = 0, tick.at
        if tick.restarted:
            self._note(f"{name}: the server was started anew: counting begins again")
        for note in tick.notes:
            self._note(f"{name}: {note}")

    def _keep(self, tick: Tick) -> list[Event]:
        """In the writer's thread: the tick, and what it does to the alerts."""
        before = {a.id for a in self._alerts.of(tick.target)}
        self._store.save(tick)
        events = self._alerts.update(tick)
        now = self._alerts.of(tick.target)
        gone = before - {a.id for a in now}
        gone.update(self._alerts.forgotten)
        self._alerts.forgotten = []
        if now or gone or events:
            self._store.save_alerts(map(as_row, now), gone, map(as_row, events))
        return events

    async def _write(self, job: Callable[[], object]) -> None:
        loop = asyncio.get_running_loop()
        try:
            result = await loop.run_in_executor(self._writer, job)
        except sqlite3.Error as error:
            # A full disk or a lock: the server is watched on, and it is said.
            self._note(f"{self._store.path}: not stored: {error}")
            return
        if isinstance(result, list):
            for event in result:
                self._announce(event)

    def _announce(self, event: Event) -> None:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.at))
        word = "resolved" if event.event == "resolved" else event.severity
        self._say(f"{at} {word}: {event.text}")
        for sink in self._sinks:
            if not sink.wants(event):
                continue
            try:
                self._outbox.put_nowait((sink, event))
            except asyncio.QueueFull:
                self._note(f"{sink}: too many alerts are waiting: one was not sent")

    async def _deliver(self) -> None:
        while True:
            sink, event = await self._outbox.get()
            await self._send(sink, event)

    async def _deliver_all(self) -> None:
        while not self._outbox.empty():
            sink, event = self._outbox.get_nowait()
            await self._send(sink, event)

    async def _send(self, sink: Sink, event: Event) -> None:
        for attempt in range(ATTEMPTS):
            try:
                await asyncio.to_thread(sink.send, event)
                return
            except SinkError as error:
                if attempt == ATTEMPTS - 1:
                    self._note(f"alert not delivered: {error}")
                else:
                    await asyncio.sleep(2.0**attempt)

    async def _sweep(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self._write(lambda: self._store.sweep(expired(self._settings.retention_s)))
            await asyncio.sleep(SWEEP_EVERY_S)

    async def _examine(self, stop: asyncio.Event) -> None:
        """Run the rules on one target after another: the queries of all at once would be felt."""
        every = self._settings.findings_every_s
        if not every:
            await stop.wait()
        while not stop.is_set():
            for watched in self._targets:
                while not watched.last_at or watched.failures:
                    await asyncio.sleep(self._settings.interval_s)
                    if len(self._targets) > 1:
                        break  # the others are not kept waiting
                if watched.last_at and not watched.failures:
                    await self._examine_one(watched.sampler)
            await asyncio.sleep(every)

    async def _examine_one(self, sampler: Sampler) -> None:
        try:
            found = await asyncio.to_thread(open_findings, sampler.dsn)
        except (ServerError, psycopg.Error) as error:
            self._note(f"{sampler.name}: no findings: {one_line(error, sampler.dsn)}")
            return
        at = time.time()
        await self._write(lambda: self._store.save_findings(sampler.name, at, found))

    async def _remember(self, watched: Watched) -> None:
        if watched.failures or not watched.last_at:
            return
        name, at, memory = watched.sampler.name, watched.last_at, watched.sampler.remember()
        await self._write(lambda: self._store.save_memory(name, at, memory))


def check_targets(dsns: Sequence[str]) -> None:
    """Raises ServerError for two DSNs that name the same role and database of a server."""
    seen: set[str] = set()
    for dsn in dsns:
        name = redact_dsn(dsn)
        if name in seen:
            raise ServerError(f"{name}: is given twice")
        seen.add(name)
