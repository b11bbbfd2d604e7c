"""Looks at one target: one guarded session, kept open, its readings turned into ticks.

A query that fails (no right, a lock that would have to be waited for) costs its family this tick
and is noted once; a session that dies costs the tick.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import psycopg

from sqladvisor.errors import ServerError
from sqladvisor.monitor import queries
from sqladvisor.monitor.delta import difference
from sqladvisor.monitor.family import Family, Key, Raw, Reading, Row, Sampled, SeenPlan, Tick
from sqladvisor.monitor.plans import read_plans
from sqladvisor.server.connect import connect_target_async, one_line, redact_dsn, scrub
from sqladvisor.server.session import MARK

STATEMENT_TIMEOUT_MS = 5_000
LOCK_TIMEOUT_MS = 100
"""A sample is worth no wait: whoever holds a lock is not to have us in the queue behind."""
MAX_STATEMENTS = 500
"""Statements kept of a tick, by execution time; the rest are added up as one."""
OTHERS = "others"
TEXTS_EVERY_S = 10.0
TEXTS_SHARE = 0.01
"""Least seconds between readings of the file of statement texts, and of the time, at most, spent on it:
the file may have hundreds of megabytes."""
MAX_TEXT = 10_000
"""Characters kept of a statement's text."""


class Sampler:
    """The samples of one database. Not for two tasks at a time."""

    def __init__(self, dsn: str, *, plans_every_s: float = 0.0) -> None:
        self.dsn = dsn
        self.name = redact_dsn(dsn)
        self._connection: psycopg.AsyncConnection | None = None
        self._started = ""
        self._restarted = False
        self._schema = ""
        self._extension = 0
        self._readings: dict[str, Reading] = {}
        self._named: set[str] = set()
        self._texts: dict[str, str] = {}
        self._texts_due = 0.0
        self._plans_every_s = plans_every_s
        self._plans_at = 0.0
        self._noted: set[str] = set()

    async def tick(self) -> Tick:
        """Look once. An unreachable server is a tick with an error, never an exception."""
        try:
            return await self._look()
        except ServerError as error:
            await self.close()
            # The note is for people, who know the target's name already.
            return Tick(self.name, time.time(), error=str(error).removeprefix(f"{self.name}: "))
        except (psycopg.Error, OSError) as error:
            await self.close()
            return Tick(self.name, time.time(), error=one_line(error, self.dsn))

    async def close(self) -> None:
        """End the session. The next tick opens another and goes on from the last readings."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _look(self) -> Tick:
        fresh = self._connection is None
        if self._connection is None:
            self._connection = await connect_target_async(
                self.dsn,
                statement_timeout_ms=STATEMENT_TIMEOUT_MS,
                lock_timeout_ms=LOCK_TIMEOUT_MS,
            )
        connection = self._connection
        notes: list[str] = []
        if fresh:
            for setting in queries.SETTINGS:
                await connection.execute(setting)
            await self._identify(connection, notes)
        at = time.time()
        families: dict[str, Sampled] = {}
        readings = dict(self._readings)
        for family in queries.FAMILIES.values():
            before = self._readings.get(family.name)
            # A tick is late or early by some milliseconds: that is no reason to leave one out.
            if before and family.every_s and at - before.at < family.every_s - 0.5:
                continue
            reading = await self._read(connection, family, notes)
            if reading is not None:
                families[family.name] = _bounded(difference(family, before, reading))
                readings[family.name] = reading
            else:
                readings.pop(family.name, None)
        texts = await self._name_statements(connection, families.get("statement"), notes)
        plans = await self._see_plans(connection, families.get("statement"), notes)
        # Only now: of a tick that is broken off nothing is kept, so the next one spans it.
        self._readings = readings
        restarted, self._restarted = self._restarted, False
        self._note_losses(families, notes)
        return Tick(
            self.name,
            at,
            families,
            version=connection.info.server_version,
            restarted=restarted,
            notes=tuple(notes),
            statements=texts,
            plans=plans,
        )

    async def _identify(self, connection: psycopg.AsyncConnection, notes: list[str]) -> None:
        """Learn what server this is, and whether it has started anew since the last session."""
        row = await (await connection.execute(queries.IDENTITY + MARK)).fetchone()
        assert row is not None
        _, started, sees_all, extension, _ = row
        schema, _, version = (extension or "").rpartition(" ")
        major, _, minor = version.partition(".")
        self._schema = schema
        self._extension = int(major) * 100 + int(minor) if minor.isdigit() else 0
        if not sees_all:
            self._note(
                notes, "the role sees only its own sessions and statements: GRANT pg_monitor"
            )
        if not self._extension:
            self._note(notes, "no statements: CREATE EXTENSION pg_stat_statements is missing")
        if self._started != started:
            # Another start, or another server behind the same name: nothing is comparable.
            self._readings.clear()
            self._restarted = bool(self._started)
        self._started = started

    async def _read(
        self, connection: psycopg.AsyncConnection, family: Family, notes: list[str]
    ) -> Reading | None:
        version = self._extension if family.extension else connection.info.server_version
        query = family.query(version)
        if query is None:
            return None
        if family.extension:
            query = query.format(schema=self._schema)
        try:
            cursor = await connection.execute((query + MARK).encode())
            at = time.time()
            rows = await cursor.fetchall()
        except psycopg.Error as error:
            if connection.closed:
                raise
            self._note(notes, f"{family.name}: {one_line(error, self.dsn)}")
            return None
        names = [column.name for column in cursor.description or ()]
        return Reading(at, _raws(family, names, rows))

    async def _name_statements(
        self, connection: psycopg.AsyncConnection, sampled: Sampled | None, notes: list[str]
    ) -> dict[str, str]:
        """Texts of the statements that are seen for the first time."""
        if sampled is None or time.monotonic() < self._texts_due:
            return {}
        wanted = sorted({row.key[0] for row in sampled.rows} - self._named - {OTHERS})
        if not wanted:
            return {}
        query = queries.STATEMENT_TEXTS.format(schema=self._schema) + MARK
        start = time.monotonic()
        try:
            rows = await (await connection.execute(query.encode(), [wanted])).fetchall()
        except psycopg.Error as error:
            if connection.closed:
                raise
            self._note(notes, f"statement texts: {one_line(error, self.dsn)}")
            return {}
        end = time.monotonic()
        self._texts_due = end + max(TEXTS_EVERY_S, (end - start) / TEXTS_SHARE)
        self._named.update(wanted)
        texts = {queryid: without_values(text) for queryid, text in rows if text}
        if self._plans_every_s:
            self._texts |= texts
        return texts

    async def _see_plans(
        self, connection: psycopg.AsyncConnection, sampled: Sampled | None, notes: list[str]
    ) -> tuple[SeenPlan, ...]:
        due = self._plans_every_s and time.time() - self._plans_at >= self._plans_every_s
        if not due or sampled is None or sampled.elapsed_s is None:
            return ()
        self._plans_at = time.time()
        at = sampled.family.columns.index("exec_ms")
        by_time = sorted(sampled.rows, key=lambda row: row.values[at] or 0.0, reverse=True)
        known = [(q, self._texts[q]) for row in by_time if (q := row.key[0]) in self._texts]
        plans, problem = await read_plans(connection, known)
        if problem:
            self._note(notes, problem)
        return plans

    def _note_losses(self, families: Mapping[str, Sampled], notes: list[str]) -> None:
        """Say where counts are lower bounds: counters were reset, entries evicted."""
        for name, sampled in families.items():
            # One object that began anew was dropped or evicted; most of them were reset.
            if sampled.resets and sampled.resets * 2 >= sampled.compared:
                notes.append(f"{name}: the counters were reset")
        info = families.get("statement_info")
        if info is not None and info.total("evictions"):
            self._note(
                notes,
                "pg_stat_statements evicts entries: what they counted since the last sample is "
                "lost (raise pg_stat_statements.max)",
            )

    def _note(self, notes: list[str], text: str) -> None:
        """Say a thing once, not at every tick."""
        if text not in self._noted:
            self._noted.add(text)
            notes.append(text)

    # -- between processes (--once) -----------------------------------------------------------

    def remember(self) -> bytes:
        """What the next process needs to go on from here."""
        state = {
            "started": self._started,
            "readings": {
                name: [r.at, [[k, x.epoch, x.counters, x.gauges] for k, x in r.rows.items()]]
                for name, r in self._readings.items()
            },
        }
        return zlib.compress(json.dumps(state).encode())

    def recall(self, memory: bytes) -> None:
        """Go on from what another process remembered; what cannot be read is a fresh start."""
        try:
            state = json.loads(zlib.decompress(memory))
            readings = {
                name: Reading(at, {tuple(k): Raw(e, tuple(c), tuple(g)) for k, e, c, g in rows})
                for name, (at, rows) in state["readings"].items()
                if _fits(name, rows)
            }
            self._started, self._readings = str(state["started"]), readings
        except (ValueError, TypeError, KeyError, zlib.error):
            self._started, self._readings = "", {}


def _fits(name: str, rows: list[Any]) -> bool:
    """Whether remembered rows are of the family as it is today."""
    family = queries.FAMILIES.get(name)
    return family is not None and all(
        len(k) == len(family.keys) + len(family.identity)
        and len(c) == len(family.counters)
        and len(g) == len(family.gauges)
        for k, _, c, g in rows
    )


def _raws(family: Family, names: list[str], rows: Iterable[tuple[Any, ...]]) -> dict[Key, Raw]:
    at = {name: i for i, name in enumerate(names)}
    keys = [at[name] for name in family.keys + family.identity]
    counters = [at.get(name) for name in family.counters]
    gauges = [at.get(name) for name in family.gauges]
    epoch = at.get("epoch")
    found: dict[Key, Raw] = {}
    for row in rows:
        key = tuple("" if row[i] is None else str(row[i]) for i in keys)
        found[key] = Raw(
            "" if epoch is None else str(row[epoch] or ""),
            tuple(_figure(row, i) for i in counters),
            tuple(_figure(row, i) for i in gauges),
        )
    return found


def _figure(row: tuple[Any, ...], at: int | None) -> float | None:
    if at is None or row[at] is None:
        return None
    value = row[at]
    return value if isinstance(value, int) else float(value)


def _bounded(sampled: Sampled) -> Sampled:
    """The statements that matter one by one, the rest as one row, so that sums stay true."""
    family, rows = sampled.family, sampled.rows
    if family is not queries.STATEMENT or len(rows) <= MAX_STATEMENTS:
        return sampled
    at = family.columns.index("exec_ms")
    ranked = sorted(rows, key=lambda row: row.values[at] or 0.0, reverse=True)
    rest = ranked[MAX_STATEMENTS:]
    sums = tuple(
        sum(v or 0.0 for v in column) for column in zip(*(r.values for r in rest), strict=True)
    )
    return replace(sampled, rows=(*ranked[:MAX_STATEMENTS], Row((OTHERS,), sums)))


def without_values(text: str) -> str:
    """A statement's text without its literals: utility statements come with theirs, passwords too."""
    from sqladvisor.sql.libpg import ParseProblem, normalize

    # Not PostgreSQL's grammar: cut off, or an extension's.
    with contextlib.suppress(ParseProblem, ValueError):
        text = normalize(text)
    # What normalising leaves: a program of COPY, a body of DO, a text that did not parse.
    return scrub(_QUOTED.sub("'…'", text))[:MAX_TEXT]


_QUOTED = re.compile(r"'(?:[^']|'')*(?:'|\Z)|\$([A-Za-z_]\w*)?\$.*?(?:\$\1\$|\Z)", re.DOTALL)
