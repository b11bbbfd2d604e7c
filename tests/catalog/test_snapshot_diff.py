"""Two snapshots compared: what changed is said, what ANALYZE moves each time is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sqladvisor.auditor import Options, audit
from sqladvisor.catalog.ddl import catalog_from_sql
from sqladvisor.catalog.snapshot import Snapshot, decode, encode, save
from sqladvisor.catalog.snapshot_diff import compare, stale_notes
from sqladvisor.cli import app
from sqladvisor.errors import InputError
from sqladvisor.server.binaries import find_binaries
from sqladvisor.server.snapshot import take_snapshot

SETUP = """
CREATE FUNCTION price(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 2';
CREATE TABLE orders (id int PRIMARY KEY, status text, note text, amount int);
CREATE INDEX orders_note ON orders (note);
CREATE TABLE "Old One" (a int);
INSERT INTO orders SELECT i, CASE WHEN i % 10 = 0 THEN 'paid' ELSE 'open' END, 'n' || i % 500, i
    FROM generate_series(1, 4000) i;
ANALYZE;
"""
CHANGES = """
DROP TABLE "Old One";
CREATE TABLE audit_log (at timestamptz);
ALTER TABLE orders ALTER note TYPE varchar(80);
ALTER TABLE orders ADD shipped date;
DROP INDEX orders_note;
CREATE INDEX orders_status ON orders (status);
CREATE OR REPLACE FUNCTION price(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 3';
INSERT INTO orders SELECT i, 'paid', NULL, i FROM generate_series(4001, 20000) i;
ANALYZE;
"""


@pytest.fixture
def take(make_database: Callable[..., Any]) -> Callable[..., Snapshot]:
    database = make_database(SETUP)

    def taken(sql: str = "") -> Snapshot:
        if sql:
            with database.connect() as connection:
                connection.execute(sql.encode())
        return take_snapshot(database.dsn, find_binaries(None))

    return taken


def test_every_change_is_named_once(take: Callable[..., Snapshot]) -> None:
    assert [str(c) for c in compare(take(), take(CHANGES))] == [
        '- relation public."Old One": table',
        "+ relation public.audit_log: table",
        "~ column public.orders.note: text → character varying(80)",
        "+ column public.orders.shipped: date",
        "- index public.orders.orders_note: public.orders USING btree (note)",
        "+ index public.orders.orders_status: public.orders USING btree (status)",
        "~ other CREATE FUNCTION public.price(integer) RETURNS integer: as it was → otherwise",
        "~ rows public.orders: 4,000 → 20,000",
        "~ statistics public.orders.status: commonest value 90% → commonest value 82% (another one)",
        "~ statistics public.orders.note: NULLs 0% → NULLs 80%",
    ]


def test_the_unchanged_is_the_same_bytes_but_for_time_and_counters(
    take: Callable[..., Snapshot],
) -> None:
    first, second = take(), take("SELECT count(*) FROM orders")
    assert compare(first, second) == []
    alike: dict[str, Any] = {"taken": None, "counted_days": None, "tables": (), "indexes": ()}
    assert encode(replace(first, **alike)) == encode(replace(second, **alike))
    # Which lines those are: nothing else differs in the files themselves.
    lines = [encode(s).split("\n") for s in (first, second)]
    other = [a for a, b in zip(*lines, strict=True) if a != b]
    assert all(line.startswith((' "taken"', ' "counted_days"', '  ["public", ')) for line in other)


def test_another_analyze_is_no_change(take: Callable[..., Snapshot]) -> None:
    assert compare(take(), take("ANALYZE; UPDATE orders SET amount = 1 WHERE id < 50")) == []


def test_settings_and_versions_are_compared(take: Callable[..., Snapshot]) -> None:
    old = take()
    statistics = replace(old.statistics, version=150004, settings={"random_page_cost": "1.1"})
    assert [str(c) for c in compare(old, replace(old, statistics=statistics))] == [
        f"~ database version: {old.statistics.version // 10000}.{old.statistics.version % 10000} → 15.4",
        "~ database random_page_cost: default → 1.1",
    ]


def test_statistics_that_a_role_no_longer_sees_are_missed(take: Callable[..., Snapshot]) -> None:
    old = take()
    blind = replace(old, statistics=replace(old.statistics, columns=()))
    assert [str(c) for c in compare(old, blind)] == ["- statistics public.orders: of 4 columns"]
    assert [str(c) for c in compare(blind, old)] == ["+ statistics public.orders: of 4 columns"]


def test_the_command_says_it_by_its_exit_code(
    take: Callable[..., Snapshot], tmp_path: Path
) -> None:
    old, new = str(tmp_path / "old.json.zst"), str(tmp_path / "new.json")
    save(take(), old)
    save(take("CREATE TABLE more (a int)"), new)
    run = CliRunner().invoke
    same = run(app, ["snapshot", "--diff", old, old])
    assert (same.exit_code, same.stdout) == (0, "")
    changed = run(app, ["snapshot", "--diff", old, new])
    assert (changed.exit_code, changed.stdout) == (1, "+ relation public.more: table\n")
    as_json = run(app, ["snapshot", "--diff", old, new, "--format", "json"])
    assert json.loads(as_json.stdout) == {
        "changes": [{"part": "relation", "name": "public.more", "before": None, "after": "table"}]
    }
    assert run(app, ["snapshot", "--diff", old, str(tmp_path / "none.json")]).exit_code == 2


def test_an_old_snapshot_is_said_to_be(take: Callable[..., Snapshot]) -> None:
    taken = replace(take(), taken="2026-03-01T12:00:00+00:00")
    assert stale_notes(taken, now=datetime(2026, 3, 20, tzinfo=UTC)) == []
    assert stale_notes(taken, now=datetime(2026, 5, 1, tzinfo=UTC)) == [
        "the snapshot is 60 days old (taken 2026-03-01): sizes and statistics may have moved since; "
        "take another with `sqladvisor snapshot`"
    ]
    assert stale_notes(replace(taken, taken=None)) == []
    document = json.loads(encode(taken))
    for wrong in ("yesterday", "2026-03-01", 5, "2026-03-01T12:00:00"):
        with pytest.raises(InputError, match="taken is not"):
            decode(json.dumps(document | {"taken": wrong}).encode(), "s")


def test_a_schema_beside_it_is_held_against_it(
    take: Callable[..., Snapshot], tmp_path: Path
) -> None:
    schema = (
        "CREATE TABLE orders (id int PRIMARY KEY, status text, note text, amount int, extra int);"
        "CREATE TABLE customers (id int);"
    )
    snapshot = take()
    assert stale_notes(replace(snapshot, taken=None), catalog_from_sql(schema)) == [
        "the snapshot is not of this schema: it lacks public.customers, public.orders.extra and has "
        'public."Old One", which the schema does not'
    ]
    paths = [tmp_path / name for name in ("q.sql", "schema.sql", "s.json")]
    paths[0].write_text("SELECT id FROM orders WHERE id = 1;\n")
    paths[1].write_text(schema)
    save(snapshot, str(paths[2]))
    report = audit([str(paths[0])], Options(schema=(str(paths[1]),), snapshot=str(paths[2])))
    assert [n for n in report.notes if n.startswith("the snapshot is not of this schema: it lacks")]
