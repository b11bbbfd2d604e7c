"""Answers kept ready: a request never asks the store, let alone a target.

An answer is worked out at its first request and again at most once in a refresh period, whatever the
number of requests; meanwhile the last one is served. One that takes long to work out is worked out
less often, so that looking never takes more than a tenth of a core.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from sqladvisor.monitor import view
from sqladvisor.monitor.metrics import Metrics
from sqladvisor.monitor.store import Store

REFRESH_S = 2.0
"""Seconds for which an answer is served; the shortest useful interval of samples is of this order."""
SHARE = 0.1
"""Of a core, at most, for working out one answer again and again."""
MAX_ANSWERS = 500
"""Answers kept: hundreds of targets in a window each. The one asked for longest ago goes first."""


@dataclass(slots=True)
class Answer:
    """A document ready to be sent, until when it is fresh, and when it was last asked for."""

    body: bytes
    until: float
    asked: float


class Snapshots:
    """The answers of a store. Of one event loop."""

    def __init__(self, path: str, *, refresh_s: float = REFRESH_S) -> None:
        """Raises InputError where there is no store."""
        self._store = Store(path, write=False)
        self._metrics = Metrics()
        self._refresh_s = refresh_s
        self._worker = ThreadPoolExecutor(1, "snapshots")
        self._answers: dict[str, Answer] = {}
        self._running: dict[str, asyncio.Task[bytes]] = {}
        self.built = 0
        """Answers worked out so far: what tests count."""

    def close(self) -> None:
        self._worker.shutdown()
        self._store.close()

    async def overview(self) -> bytes:
        """All targets and alerts, as JSON."""
        return await self._get("overview", lambda: _json(view.overview(self._store)))

    async def detail(self, target: str, window: str) -> bytes:
        """A target in a window, as JSON; empty for one that is unknown."""

        def build() -> bytes:
            found = view.detail(self._store, target, window)
            return _json(found) if found else b""

        return await self._get(f"{window} {target}", build)

    async def metrics(self) -> bytes:
        """All targets, as Prometheus reads them."""
        return await self._get("metrics", lambda: self._metrics.render(self._store))

    async def _get(self, key: str, build: Callable[[], bytes]) -> bytes:
        now = time.monotonic()
        answer = self._answers.get(key)
        if answer is not None:
            answer.asked = now
            if now >= answer.until and key not in self._running:
                self._start(key, build)
            return answer.body
        return await asyncio.shield(self._running.get(key) or self._start(key, build))

    def _start(self, key: str, build: Callable[[], bytes]) -> asyncio.Task[bytes]:
        task = self._running[key] = asyncio.create_task(self._build(key, build))
        # One that is served from the last answer has nobody who waits for it: its error is its own.
        task.add_done_callback(lambda t: t.cancelled() or t.exception())
        return task

    async def _build(self, key: str, build: Callable[[], bytes]) -> bytes:
        start = time.monotonic()
        try:
            body = await asyncio.get_running_loop().run_in_executor(self._worker, build)
        finally:
            del self._running[key]
        self.built += 1
        end = time.monotonic()
        if not body:
            return body
        if len(self._answers) >= MAX_ANSWERS and key not in self._answers:
            del self._answers[min(self._answers, key=lambda k: self._answers[k].asked)]
        asked = self._answers[key].asked if key in self._answers else end
        until = end + max(self._refresh_s, (end - start) / SHARE)
        self._answers[key] = Answer(body, until, asked)
        return body


def _json(document: object) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode(
        "utf-8", "replace"
    )
