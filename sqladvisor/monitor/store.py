"""The embedded store: one SQLite file, with a table of plain columns for each family.

One process writes (``monitor``), any number read (``serve``, sqlite3): WAL mode. ``user_version`` is
the version of the schema: a store of an earlier one is brought to ours when it is opened to be written,
and read as it is; one of a later sqladvisor is refused. Times are Unix seconds.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqladvisor.errors import InputError
from sqladvisor.monitor.family import Family, Key, Tick
from sqladvisor.monitor.queries import FAMILIES

APPLICATION_ID = 0x5341444D  # "SADM"
VERSION = 2
MIGRATIONS = {
    1: "CREATE INDEX finding_by_target ON finding (target_id);"
    "CREATE INDEX alert_event_by_time ON alert_event (at);"
}
"""Version → what makes the next one of it. Families that came later get their tables by themselves."""
BUSY_TIMEOUT_S = 10.0
SWEEP_ROWS = 20_000
"""Rows deleted in one transaction: readers and the next tick are not kept waiting."""

_SCHEMA = """
CREATE TABLE target (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, version INTEGER NOT NULL DEFAULT 0,
    first_at REAL NOT NULL, last_at REAL NOT NULL, reachable INTEGER NOT NULL DEFAULT 1,
    error TEXT NOT NULL DEFAULT '', since REAL NOT NULL, memory BLOB, memory_at REAL);
CREATE TABLE tick (
    id INTEGER PRIMARY KEY, target_id INTEGER NOT NULL REFERENCES target, at REAL NOT NULL,
    reachable INTEGER NOT NULL, restarted INTEGER NOT NULL DEFAULT 0, error TEXT NOT NULL DEFAULT '');
CREATE INDEX tick_by_target ON tick (target_id, at);
CREATE TABLE sampled (
    tick_id INTEGER NOT NULL, family TEXT NOT NULL, elapsed_s REAL, resets INTEGER NOT NULL,
    PRIMARY KEY (tick_id, family)) WITHOUT ROWID;
CREATE TABLE object (
    id INTEGER PRIMARY KEY, target_id INTEGER NOT NULL REFERENCES target, family TEXT NOT NULL,
    key TEXT NOT NULL, text TEXT, UNIQUE (target_id, family, key));
CREATE TABLE plan (
    target_id INTEGER NOT NULL, queryid TEXT NOT NULL, fingerprint TEXT NOT NULL,
    first_at REAL NOT NULL, last_at REAL NOT NULL, cost REAL NOT NULL, tree TEXT NOT NULL,
    PRIMARY KEY (target_id, queryid, first_at)) WITHOUT ROWID;
CREATE TABLE alert (
    target TEXT NOT NULL, rule TEXT NOT NULL, label TEXT NOT NULL, state TEXT NOT NULL,
    severity TEXT NOT NULL, since REAL NOT NULL, at REAL NOT NULL, value REAL,
    message TEXT NOT NULL, PRIMARY KEY (target, rule, label)) WITHOUT ROWID;
CREATE TABLE alert_event (
    id INTEGER PRIMARY KEY, at REAL NOT NULL, target TEXT NOT NULL, rule TEXT NOT NULL,
    label TEXT NOT NULL, event TEXT NOT NULL, severity TEXT NOT NULL, value REAL,
    message TEXT NOT NULL);
CREATE TABLE finding (
    target_id INTEGER NOT NULL, at REAL NOT NULL, rule TEXT NOT NULL, severity TEXT NOT NULL,
    message TEXT NOT NULL, fix TEXT NOT NULL);
CREATE INDEX finding_by_target ON finding (target_id);
CREATE INDEX alert_event_by_time ON alert_event (at);
"""


def table_of(family: Family) -> str:
    """The name of a family's table."""
    return f"sample_{family.name}"


def _family_schema(family: Family) -> str:
    columns = "".join(f", {column} REAL" for column in family.columns)
    return (
        f"CREATE TABLE {table_of(family)} (tick_id INTEGER NOT NULL, object_id INTEGER NOT NULL"
        f"{columns}, PRIMARY KEY (tick_id, object_id)) WITHOUT ROWID;\n"
        f"CREATE INDEX {table_of(family)}_by_object ON {table_of(family)} (object_id, tick_id);\n"
        if family.sparse
        else f"CREATE TABLE {table_of(family)} (tick_id INTEGER NOT NULL, object_id INTEGER NOT NULL"
        f"{columns}, PRIMARY KEY (tick_id, object_id)) WITHOUT ROWID;\n"
    )


@dataclass(frozen=True, slots=True)
class TargetState:
    """What the store knows of a target. ``since``: how long it has been as it is."""

    id: int
    name: str
    version: int
    last_at: float
    reachable: bool
    error: str
    since: float


class Store:
    """An open store. Of one thread at a time."""

    def __init__(self, path: str, *, write: bool) -> None:
        """Open a store, made if it is to be written and missing. Raises InputError."""
        self.path = path
        self._objects: dict[tuple[int, str, Key], int] = {}
        try:
            self._db = _open(path, write)
        except (sqlite3.Error, OSError) as error:
            cause = getattr(error, "strerror", None) or str(error)
            raise InputError(f"{path}: cannot be used as a store: {cause}") from None

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One transaction, rolled back when its block fails."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
        except BaseException:
            self._db.execute("ROLLBACK")
            self._objects.clear()  # ids of rows that are gone again
            raise
        self._db.execute("COMMIT")

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of a query."""
        return self._db.execute(sql, parameters).fetchall()

    # -- writing ------------------------------------------------------------------------------

    def save(self, tick: Tick) -> None:
        """Keep a tick, whole or not at all."""
        with self.transaction() as db:
            target = self._target(tick)
            row = db.execute(
                "INSERT INTO tick (target_id, at, reachable, restarted, error) "
                "VALUES (?, ?, ?, ?, ?) RETURNING id",
                (target, tick.at, tick.reachable, tick.restarted, tick.error),
            ).fetchone()
            for name, sampled in tick.families.items():
                db.execute(
                    "INSERT INTO sampled VALUES (?, ?, ?, ?)",
                    (row[0], name, sampled.elapsed_s, sampled.resets),
                )
                family = sampled.family
                marks = ", ".join("?" * (2 + len(family.columns)))
                # By name: columns that a later version added stand last.
                named = ", ".join(("tick_id", "object_id", *family.columns))
                db.executemany(
                    f"INSERT INTO {table_of(family)} ({named}) VALUES ({marks})",
                    [(row[0], self._object(target, name, r.key), *r.values) for r in sampled.rows],
                )
                if family.sparse and family.gauges and sampled.elapsed_s is None:
                    # What went while nobody looked.
                    db.execute(
                        f"INSERT INTO {table_of(family)} (tick_id, object_id) SELECT ?1, id "
                        "FROM object WHERE target_id = ?2 AND family = ?3 AND id NOT IN "
                        f"(SELECT object_id FROM {table_of(family)} WHERE tick_id = ?1)",
                        (row[0], target, name),
                    )
            for queryid, text in tick.statements.items():
                at = self._object(target, "statement", (queryid,))
                db.execute("UPDATE object SET text = ? WHERE id = ?", (text, at))
            for plan in tick.plans:
                self._save_plan(
                    target, tick.at, plan.queryid, plan.fingerprint, plan.cost, plan.tree
                )

    def _target(self, tick: Tick) -> int:
        row = self._db.execute(
            "INSERT INTO target (name, first_at, last_at, since, reachable, error, version) "
            "VALUES (?1, ?2, ?2, ?2, ?3, ?4, ?5) ON CONFLICT (name) DO UPDATE SET last_at = ?2, "
            "since = CASE WHEN reachable = ?3 THEN since ELSE ?2 END, reachable = ?3, error = ?4, "
            "version = CASE WHEN ?5 > 0 THEN ?5 ELSE version END RETURNING id",
            (tick.target, tick.at, tick.reachable, tick.error, tick.version),
        ).fetchone()
        return int(row[0])

    def _object(self, target: int, family: str, key: Key) -> int:
        known = self._objects.get((target, family, key))
        if known is None:
            text = json.dumps(key, ensure_ascii=False)
            self._db.execute(
                "INSERT OR IGNORE INTO object (target_id, family, key) VALUES (?, ?, ?)",
                (target, family, text),
            )
            row = self._db.execute(
                "SELECT id FROM object WHERE target_id = ? AND family = ? AND key = ?",
                (target, family, text),
            ).fetchone()
            known = self._objects[target, family, key] = int(row[0])
        return known

    def _save_plan(
        self, target: int, at: float, queryid: str, fingerprint: str, cost: float, tree: str
    ) -> None:
        last = self._db.execute(
            "SELECT first_at, fingerprint FROM plan WHERE target_id = ? AND queryid = ? "
            "ORDER BY first_at DESC LIMIT 1",
            (target, queryid),
        ).fetchone()
        if last and last[1] == fingerprint:
            self._db.execute(
                "UPDATE plan SET last_at = ?, cost = ? "
                "WHERE target_id = ? AND queryid = ? AND first_at = ?",
                (at, cost, target, queryid, last[0]),
            )
        else:
            self._db.execute(
                "INSERT INTO plan VALUES (?, ?, ?, ?, ?, ?, ?)",
                (target, queryid, fingerprint, at, at, cost, tree),
            )

    def save_memory(self, target: str, at: float, memory: bytes) -> None:
        """What the next process needs to go on from the tick at ``at``."""
        with self.transaction() as db:
            db.execute(
                "UPDATE target SET memory = ?, memory_at = ? WHERE name = ?", (memory, at, target)
            )

    def memory(self, target: str) -> bytes | None:
        """The memory of a target, unless ticks were taken after it: differences would count twice."""
        rows = self.query(
            "SELECT memory FROM target WHERE name = ? AND memory_at = "
            "(SELECT max(at) FROM tick WHERE target_id = target.id AND reachable)",
            (target,),
        )
        return rows[0][0] if rows else None

    def save_findings(
        self, target: str, at: float, findings: Iterable[tuple[str, str, str, str]]
    ) -> None:
        """Replace a target's open findings by these: rule, severity, message, fix."""
        with self.transaction() as db:
            row = db.execute("SELECT id FROM target WHERE name = ?", (target,)).fetchone()
            if row is None:
                return
            db.execute("DELETE FROM finding WHERE target_id = ?", row)
            db.executemany(
                "INSERT INTO finding VALUES (?, ?, ?, ?, ?, ?)",
                [(row[0], at, *finding) for finding in findings],
            )

    def sweep(self, before: float, *, rows: int = SWEEP_ROWS) -> int:
        """Delete ticks taken before a time, in small transactions; the number of ticks deleted.

        Of a sparse family, an object's newest row is kept however old: it still holds.
        """
        gone = 0
        while True:
            with self.transaction() as db:
                old = [
                    row[0]
                    for row in db.execute(
                        "SELECT id FROM tick WHERE at < ? AND id IN "
                        "(SELECT tick_id FROM sampled UNION SELECT id FROM tick WHERE NOT reachable) "
                        "ORDER BY at LIMIT ?",
                        (before, max(1, rows // 500)),
                    )
                ]
                if not old:
                    break
                marks = ", ".join("?" * len(old))
                for family in FAMILIES.values():
                    table = table_of(family)
                    kept = (
                        f" AND EXISTS (SELECT 1 FROM {table} newer WHERE newer.object_id = "
                        f"{table}.object_id AND newer.tick_id > {table}.tick_id)"
                        if family.sparse
                        else ""
                    )
                    db.execute(f"DELETE FROM {table} WHERE tick_id IN ({marks}){kept}", old)
                db.execute(f"DELETE FROM sampled WHERE tick_id IN ({marks})", old)
                db.execute(f"DELETE FROM tick WHERE id IN ({marks}) AND NOT reachable", old)
                gone += len(old)
        with self.transaction() as db:
            held = " UNION ALL ".join(
                f"SELECT tick_id FROM {table_of(f)}" for f in FAMILIES.values() if f.sparse
            )
            db.execute(f"DELETE FROM tick WHERE at < ? AND id NOT IN ({held})", (before,))
            db.execute("DELETE FROM alert_event WHERE at < ?", (before,))
            db.execute("DELETE FROM plan WHERE last_at < ?", (before,))
        return gone

    # -- reading ------------------------------------------------------------------------------

    def targets(self) -> list[TargetState]:
        """All targets, by name."""
        return [
            TargetState(r[0], r[1], r[2], r[3], bool(r[4]), r[5], r[6])
            for r in self.query(
                "SELECT id, name, version, last_at, reachable, error, since FROM target ORDER BY name"
            )
        ]

    # -- alerts -------------------------------------------------------------------------------

    def save_alerts(
        self,
        states: Iterable[Mapping[str, Any]],
        gone: Iterable[tuple[str, str, str]],
        events: Iterable[Mapping[str, Any]],
    ) -> None:
        """Keep alert states, forget ``gone`` ones (target, rule, label), and write down events."""
        with self.transaction() as db:
            db.executemany(
                "DELETE FROM alert WHERE target = ? AND rule = ? AND label = ?", list(gone)
            )
            db.executemany(
                "INSERT OR REPLACE INTO alert VALUES (:target, :rule, :label, :state, :severity, "
                ":since, :at, :value, :message)",
                list(states),
            )
            db.executemany(
                "INSERT INTO alert_event (at, target, rule, label, event, severity, value, message) "
                "VALUES (:at, :target, :rule, :label, :event, :severity, :value, :message)",
                list(events),
            )

    def alerts(self) -> list[dict[str, Any]]:
        """Alert states as they were saved last."""
        names = ("target", "rule", "label", "state", "severity", "since", "at", "value", "message")
        rows = self.query(f"SELECT {', '.join(names)} FROM alert ORDER BY target, rule, label")
        return [dict(zip(names, row, strict=True)) for row in rows]


def default_path() -> str:
    """Where the store lies unless told: XDG's directory for state."""
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.path.join(base, "sqladvisor", "monitor.sqlite")


def _open(path: str, write: bool) -> sqlite3.Connection:
    if write:
        folder = os.path.dirname(os.path.abspath(path))
        os.makedirs(folder, mode=0o700, exist_ok=True)
        # Texts of statements are in it: nobody else's business.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    elif not os.path.exists(path):
        raise InputError(f"{path}: no such store: `sqladvisor monitor` makes it")
    mode = "rw" if write else "ro"
    uri = f"file:{_quoted(os.path.abspath(path))}?mode={mode}"
    db = sqlite3.connect(
        uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
    )
    try:
        _prepare(db, path, write)
    except BaseException:
        db.close()
        raise
    return db


def _prepare(db: sqlite3.Connection, path: str, write: bool) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    owner = db.execute("PRAGMA application_id").fetchone()[0]
    empty = not db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
    if owner != APPLICATION_ID and not empty:
        raise InputError(f"{path}: a SQLite file, but not a store of sqladvisor")
    if version > VERSION and not empty:
        raise InputError(
            f"{path}: written by a newer sqladvisor (schema {version}, this one knows {VERSION}): "
            "upgrade sqladvisor, or start a new store with --store"
        )
    if not write:
        if empty:
            raise InputError(f"{path}: an empty store: `sqladvisor monitor` fills it")
        return
    db.execute("PRAGMA journal_mode = WAL")
    # Safe against a crash of ours; of the machine, the last seconds of samples may go.
    db.execute("PRAGMA synchronous = NORMAL")
    if empty:
        script = _SCHEMA + "".join(_family_schema(f) for f in FAMILIES.values())
        db.executescript(
            f"BEGIN IMMEDIATE; {script} PRAGMA application_id = {APPLICATION_ID};"
            f"PRAGMA user_version = {VERSION}; COMMIT;"
        )
    elif version < VERSION:
        _migrate(db, path)


def _migrate(db: sqlite3.Connection, path: str) -> None:
    """Bring an earlier store to our version, whole or not at all."""
    db.execute("BEGIN IMMEDIATE")
    try:
        # Asked again under the lock: another monitor may have been first.
        version = int(db.execute("PRAGMA user_version").fetchone()[0])
        for number in range(version, VERSION):
            if number not in MIGRATIONS:
                raise InputError(
                    f"{path}: schema {number} is older than what can be brought to {VERSION}"
                )
            for statement in filter(None, MIGRATIONS[number].split(";")):
                db.execute(statement)
        there = {n for (n,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        for family in FAMILIES.values():
            if table_of(family) not in there:
                for statement in filter(str.strip, _family_schema(family).split(";")):
                    db.execute(statement)
                continue
            columns = {r[1] for r in db.execute(f"PRAGMA table_info({table_of(family)})")}
            for column in family.columns:
                if column not in columns:
                    db.execute(f"ALTER TABLE {table_of(family)} ADD COLUMN {column} REAL")
        db.execute(f"PRAGMA user_version = {VERSION}")
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def _quoted(path: str) -> str:
    from urllib.parse import quote

    return quote(path)


def expired(retention_s: float) -> float:
    """The Unix time before which samples are to go."""
    return time.time() - retention_s
