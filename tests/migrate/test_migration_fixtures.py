"""The folders of fixtures/migrations, each in a runner's own layout, with the report expected of it.

``UPDATE_EXPECTED=1 pytest tests/migrate/test_migration_fixtures.py`` writes the reports anew: read the diff.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sqladvisor.migrate.gate import GateOptions, gate
from sqladvisor.report.text import render

FOLDERS = Path(__file__).resolve().parents[2] / "fixtures" / "migrations"
NAMES = sorted(p.name for p in FOLDERS.iterdir() if p.is_dir())


def test_every_layout_is_there() -> None:
    assert len(NAMES) >= 12


@pytest.mark.parametrize("name", NAMES)
def test_report_is_as_expected(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = FOLDERS / name
    monkeypatch.chdir(folder)
    schema = ("schema.sql",) if (folder / "schema.sql").exists() else ()
    paths = [p.name for p in sorted(folder.iterdir()) if p.is_dir() and p.name != "meta"]
    if any(p.suffix == ".sql" and p.name != "schema.sql" for p in folder.iterdir()):
        paths = ["."]
    if name in ("sqitch", "diesel"):
        paths = ["."]
    report = gate(paths, GateOptions(schema=schema, cache=False))
    assert report.details["runner"] == name
    text = render(report)
    expected = folder / "expected.txt"
    if os.environ.get("UPDATE_EXPECTED"):
        expected.write_text(text, encoding="utf-8")
    assert text == expected.read_text(encoding="utf-8")
