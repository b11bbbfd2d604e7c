"""Files that a second process has parsed give the same statements as those that this one parses."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

import pytest

from sqladvisor.migrate import ahead
from sqladvisor.migrate.files import Files
from sqladvisor.migrate.runner import read_files

TEXTS = {
    "1_a.sql": "-- é\nCREATE TABLE a (id int); CREATE INDEX ON a (id);",
    "2_b.sql": "CREATE TABLE b (id int",  # a mistake
    "3_c.sql": "/* ü */ ALTER TABLE a ADD COLUMN t text DEFAULT 'ä'; SELECT 1",
    "4_d.sql": "\\set x 1\nSELECT :x;",  # a psql command
    "5_e.sql": "CREATE TABLE ${name} (id int);",  # a template
    "6_f.sql": "\ufeffBEGIN;\nUPDATE a SET t = 'x';\nCOMMIT;\n-- end",
}
pytestmark = pytest.mark.skipif(
    not hasattr(os, "memfd_create"), reason="needs fork and memfd_create (Linux)"
)


def files() -> Files:
    return Files({path: text.encode() for path, text in TEXTS.items()})


def test_statements_are_the_same_from_either_process(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = read_files(files(), "plain")
    monkeypatch.setattr(ahead, "_worth", lambda _: True)
    asked: list[tuple[str, bool]] = []
    take = ahead.Ahead.take

    def noting(self: ahead.Ahead, path: str) -> object:
        found = take(self, path)
        asked.append((path, found is not None))
        return found

    monkeypatch.setattr(ahead.Ahead, "take", noting)
    helped = read_files(files(), "plain")
    assert ("6_f.sql", True) in asked  # the later half, as far as it is plain SQL
    assert ("4_d.sql", False) in asked
    assert ("1_a.sql", False) in asked
    assert helped == alone
    assert [s.tree for m in helped.migrations for s in m.up] == [
        s.tree for m in alone.migrations for s in m.up
    ]


def test_a_child_that_dies_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = read_files(files(), "plain")
    monkeypatch.setattr(ahead, "_worth", lambda _: True)

    def dies(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(ahead, "_parse", dies)
    assert read_files(files(), "plain") == alone


def test_no_child_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "_worth", lambda _: True)
    given = files()
    with pytest.raises(ZeroDivisionError), ahead.parsing_ahead(given.sql) as running:
        assert running is not None
        child = running.child
        raise ZeroDivisionError
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_few_files_are_not_worth_a_process() -> None:
    small = {"a.sql": b"SELECT 1;"}
    with ahead.parsing_ahead(small) as running:
        assert running is None
    assert not ahead._worth(small)


def test_migrations_are_values(monkeypatch: pytest.MonkeyPatch) -> None:
    one = read_files(files(), "plain").migrations[0].up[0]
    assert replace(one, line=1, start=0) == replace(one, start=0, line=1)
    assert replace(one, line=99) != one
