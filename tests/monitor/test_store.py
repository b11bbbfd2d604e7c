"""The store: what is written is read, old samples go, and files that are not ours are refused."""

from __future__ import annotations

import sqlite3
import stat
import time
from pathlib import Path

import pytest

from sqladvisor.errors import InputError
from sqladvisor.monitor.family import Row, Sampled, SeenPlan, Tick
from sqladvisor.monitor.queries import DATABASE, FAMILIES, SIZE, STATEMENT
from sqladvisor.monitor.store import VERSION, Store, default_path


def statements(at: float, *rows: tuple[str, float]) -> Tick:
    width = len(STATEMENT.columns) - 2
    kept = tuple(Row((q,), (n, n * 2.0, *(0.0,) * width)) for q, n in rows)
    return Tick("db", at, {"statement": Sampled(STATEMENT, 10.0, kept)}, version=180000)


def sizes(at: float, **bytes_: float) -> Tick:
    kept = tuple(Row(("table", "public", name, ""), (size,)) for name, size in bytes_.items())
    return Tick("db", at, {"size": Sampled(SIZE, 300.0, kept)})


def count(store: Store, table: str) -> int:
    return int(store.query(f"SELECT count(*) FROM {table}")[0][0])


def test_a_tick_is_read_back_with_its_objects(store: Store) -> None:
    store.save(statements(100.0, ("1", 5), ("2", 6)))
    store.save(statements(110.0, ("1", 7)))
    rows = store.query(
        "SELECT t.at, o.key, s.calls, s.exec_ms FROM sample_statement s "
        "JOIN tick t ON t.id = s.tick_id JOIN object o ON o.id = s.object_id ORDER BY 1, 2"
    )
    assert rows == [(100, '["1"]', 5, 10), (100, '["2"]', 6, 12), (110, '["1"]', 7, 14)]
    target = store.targets()[0]
    assert (target.name, target.version, target.reachable) == ("db", 180000, True)


def test_a_tick_is_kept_whole_or_not_at_all(store: Store) -> None:
    bad = Tick("db", 1.0, {
        "statement": Sampled(STATEMENT, 10.0, (Row(("1",), (1.0,) * len(STATEMENT.columns)),)),
        "database": Sampled(DATABASE, 10.0, (Row((), (1.0,)),)),
    })  # fmt: skip
    with pytest.raises(sqlite3.Error):
        store.save(bad)
    assert count(store, "tick") == count(store, "sample_statement") == count(store, "object") == 0
    store.save(statements(2.0, ("1", 5)))  # the ids of the failed one are not used again
    assert store.query("SELECT key FROM object") == [('["1"]',)]


def test_outages_are_kept_and_when_they_began(store: Store) -> None:
    store.save(statements(10.0))
    store.save(Tick("db", 20.0, error="refused"))
    store.save(Tick("db", 30.0, error="refused"))
    target = store.targets()[0]
    assert (target.reachable, target.since, target.error) == (False, 20.0, "refused")
    store.save(statements(40.0))
    assert (store.targets()[0].reachable, store.targets()[0].since) == (True, 40.0)


def test_retention_leaves_what_still_holds(store: Store) -> None:
    store.save(statements(10.0, ("1", 5)))
    store.save(sizes(10.0, still=8192, grows=8192))
    store.save(sizes(20.0, grows=16384))
    store.save(Tick("db", 30.0, error="refused"))
    store.save(statements(1000.0, ("1", 6)))
    assert store.sweep(500.0, rows=500) == 4
    assert store.query("SELECT calls FROM sample_statement") == [(6,)]
    kept = store.query(
        "SELECT o.key, s.bytes, t.at FROM sample_size s JOIN object o ON o.id = s.object_id "
        "JOIN tick t ON t.id = s.tick_id ORDER BY 1"
    )
    assert kept == [
        ('["table", "public", "grows", ""]', 16384, 20),
        ('["table", "public", "still", ""]', 8192, 10),
    ]
    assert store.sweep(500.0) == 0


def test_a_plan_that_changes_and_comes_back_is_three_plans(store: Store) -> None:
    for at, shape in ((1.0, "a"), (2.0, "a"), (3.0, "b"), (4.0, "a")):
        plan = SeenPlan("7", shape, f"tree {shape}", at)
        store.save(Tick("db", at, plans=(plan,)))
    assert store.query("SELECT fingerprint, first_at, last_at, cost FROM plan ORDER BY 2") == [
        ("a", 1, 2, 2), ("b", 3, 3, 3), ("a", 4, 4, 4),
    ]  # fmt: skip


def test_memory_is_only_good_for_the_tick_it_was_made_at(store: Store) -> None:
    store.save(statements(10.0))
    store.save_memory("db", 10.0, b"x")
    assert store.memory("db") == b"x"
    store.save(Tick("db", 15.0, error="refused"))
    assert store.memory("db") == b"x"
    store.save(statements(20.0))
    assert store.memory("db") is None


def test_findings_are_replaced(store: Store) -> None:
    store.save(statements(10.0))
    store.save_findings("db", 11.0, [("a", "error", "m", "f"), ("b", "info", "m", "")])
    store.save_findings("db", 12.0, [("c", "error", "m", "f")])
    assert store.query("SELECT rule, at FROM finding") == [("c", 12)]


def test_readers_read_while_it_is_written(store: Store) -> None:
    store.save(statements(10.0, ("1", 5)))
    with Store(store.path, write=False) as reader:
        store.save(statements(20.0, ("1", 6)))
        assert len(reader.query("SELECT * FROM sample_statement")) == 2
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader.save(statements(30.0))


def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "store.sqlite"
    Store(str(path), write=True).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_every_family_has_its_table(store: Store) -> None:
    for name, family in FAMILIES.items():
        columns = [row[1] for row in store.query(f"PRAGMA table_info(sample_{name})")]
        assert columns == ["tick_id", "object_id", *family.columns]


def test_other_files_are_refused(tmp_path: Path) -> None:
    missing = tmp_path / "missing.sqlite"
    with pytest.raises(InputError, match="no such store"):
        Store(str(missing), write=False)
    text = tmp_path / "text"
    text.write_text("not a database, but long enough for SQLite to look at its header" * 3)
    with pytest.raises(InputError, match="not a database"):
        Store(str(text), write=True)
    foreign = tmp_path / "foreign.sqlite"
    with sqlite3.connect(foreign) as db:
        db.execute("CREATE TABLE mine (a)")
    with pytest.raises(InputError, match="not a store of sqladvisor"):
        Store(str(foreign), write=True)
    with pytest.raises(InputError, match="cannot be used as a store"):
        Store(str(tmp_path), write=True)
    newer = tmp_path / "newer.sqlite"
    Store(str(newer), write=True).close()
    with sqlite3.connect(newer) as db:
        db.execute(f"PRAGMA user_version = {VERSION + 1}")
    with pytest.raises(InputError, match="written by a newer sqladvisor"):
        Store(str(newer), write=True)


V1 = Path(__file__).parent / "data" / "store_v1.sql"


def structure(path: Path) -> set[tuple[str, str]]:
    with sqlite3.connect(path) as db:
        return set(
            db.execute("SELECT type, name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'")
        )


def test_an_earlier_store_is_brought_to_our_version(tmp_path: Path) -> None:
    path, fresh = tmp_path / "old.sqlite", tmp_path / "fresh.sqlite"
    with sqlite3.connect(path) as db:
        db.executescript(V1.read_text())
        db.execute("DROP TABLE sample_slot")  # as if the family had come later,
        db.execute("ALTER TABLE sample_statement DROP COLUMN wal_bytes")  # and this figure
    Store(str(fresh), write=True).close()
    with Store(str(path), write=False) as reading:
        assert reading.targets()[0].name == "db"
    with Store(str(path), write=True) as store:
        assert store.query("PRAGMA user_version") == [(VERSION,)]
        store.save(statements(200.0, ("1", 7)))
        rows = store.query(
            "SELECT t.at, s.calls FROM sample_statement s JOIN tick t ON t.id = s.tick_id "
            "JOIN object o ON o.id = s.object_id WHERE o.key = '[\"1\"]' ORDER BY 1"
        )
    assert rows == [(100, 5), (200, 7)]
    assert structure(path) == structure(fresh)


def test_a_migration_that_fails_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite"
    with sqlite3.connect(path) as db:
        db.executescript(V1.read_text())
        db.execute("CREATE INDEX alert_event_by_time ON alert_event (at)")  # in the way
    before = structure(path)
    with pytest.raises(InputError, match="alert_event_by_time already exists"):
        Store(str(path), write=True)
    assert structure(path) == before
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)


def test_names_with_every_character(store: Store, tmp_path: Path) -> None:
    with Store(str(tmp_path / "a?b #%20.sqlite"), write=True) as odd:
        odd.save(sizes(time.time(), **{"'; DROP TABLE tick; --\0": 1.0}))
        assert count(odd, "sample_size") == 1


def test_the_default_place_is_xdgs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert default_path() == "/state/sqladvisor/monitor.sqlite"
