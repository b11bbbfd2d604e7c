"""The cache: the same outcome in less time, never a wrong one, whatever happened to its files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sqladvisor.migrate import cache
from sqladvisor.migrate import gate as gate_module
from sqladvisor.migrate.gate import GateOptions, gate
from sqladvisor.report.model import Report
from sqladvisor.report.text import render

TEXT = "-- migrate:up\nCREATE INDEX i ON users (email);\nSELEC 1;\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    place = tmp_path / "m"
    place.mkdir()
    (place / "1_a.sql").write_text(TEXT)
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Counts how often a set was really judged."""
    count = 0
    judge = gate_module.judged_report

    def counted(*arguments: object) -> Report:
        nonlocal count
        count += 1
        return judge(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(gate_module, "judged_report", counted)
    return lambda: count


def run(**options: object) -> Report:
    return gate(["."], GateOptions(**options))  # type: ignore[arg-type]


def test_a_second_run_is_the_same_and_judges_nothing(
    folder: Path, checks: Callable[[], int]
) -> None:
    first, second = run(), run()
    assert render(first) == render(second)
    assert first.findings == second.findings
    assert first.problems == second.problems != ()
    assert checks() == 1


@pytest.mark.parametrize(
    "options",
    [
        {"pg_version": 11},
        {"each": True},
        {"judge_down": True},
        {"runner": "plain"},
        {"min_rows": 1},
    ],
)
def test_other_options_are_another_outcome(
    folder: Path, checks: Callable[[], int], options: dict[str, object]
) -> None:
    run()
    run(**options)
    assert checks() == 2


def test_a_changed_file_is_judged_anew(folder: Path, checks: Callable[[], int]) -> None:
    run()
    (folder / "1_a.sql").write_text(TEXT + "DROP TABLE users;\n")
    run()
    assert checks() == 2


def test_a_file_beside_the_migrations_counts(folder: Path, checks: Callable[[], int]) -> None:
    run()
    (folder / "atlas.sum").write_text("h1:x")
    assert run().details["runner"] == "atlas"
    assert checks() == 2


def test_damage_is_as_if_nothing_was_kept(folder: Path, checks: Callable[[], int]) -> None:
    expected = render(run())
    kept = [os.path.join(cache.folder(), n) for n in os.listdir(cache.folder())]
    whole = Path(kept[0]).read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], whole.replace(b"users", b"nsers"), b"\xff" * 99):
        Path(kept[0]).write_bytes(damaged)
        assert render(run()) == expected
    assert checks() == 5


def test_no_cache_leaves_no_trace(folder: Path) -> None:
    run(cache=False)
    assert not os.path.exists(cache.folder())


def test_a_cache_that_cannot_be_written_costs_only_time(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert run().findings == run().findings != ()


def test_only_the_latest_outcomes_are_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "KEPT", 3)
    for number in range(6):
        run(pg_version=12 + number)
    assert len(os.listdir(cache.folder())) == 3
