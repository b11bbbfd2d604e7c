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


TRACED = "SET lock_timeout = '1s';\nCREATE INDEX i ON users (email);\n"


@pytest.fixture
def traced(folder: Path) -> Callable[..., Report]:
    (folder / "1_a.sql").write_text(TRACED)
    (folder.parent / "schema.sql").write_text("CREATE TABLE users (id int, email text);")
    (folder.parent / "w.sql").write_text("SELECT * FROM users WHERE email = 'a';")

    def run(**options: object) -> Report:
        chosen: dict[str, object] = {
            "schema": (str(folder.parent / "schema.sql"),),
            "workload": (str(folder.parent / "w.sql"),),
            "trace_report": True,
        }
        return gate(["."], GateOptions(**{**chosen, "trace": True, **options}))  # type: ignore[arg-type]

    return run


def test_a_trace_is_kept_and_says_so(
    traced: Callable[..., Report], checks: Callable[[], int]
) -> None:
    first, second = traced(), traced()
    assert checks() == 1
    assert first.findings == second.findings != ()
    assert first.server == second.server != ""
    assert first.details == second.details
    assert second.notes == (*first.notes, gate_module.FROM_CACHE)
    assert gate_module.FROM_CACHE not in traced(cache=False).notes
    assert checks() == 2


def test_whatever_a_trace_rests_on_makes_it_anew(
    traced: Callable[..., Report],
    checks: Callable[[], int],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    traced()
    expected = 1
    for path, text in [
        ("schema.sql", "CREATE TABLE users (id int, email varchar(9));"),
        ("w.sql", "SELECT * FROM users WHERE email = 'b';"),
        ("m/1_a.sql", TRACED + "DROP INDEX i;"),
    ]:
        (folder.parent / path).write_text(text)
        traced()
        expected += 1
        assert checks() == expected, path
    for options in (
        {"assume_rows": 10}, {"plan_factor": 9.0}, {"check_down": False}, {"workload": ()},
        {"trace_report": False}, {"trace": False},
    ):  # fmt: skip
        traced(**options)
        expected += 1
        assert checks() == expected, options
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    traced()
    assert checks() == expected + 1
    monkeypatch.delenv("TZ")
    traced()
    assert checks() == expected + 1


def test_other_programs_make_another_trace(
    traced: Callable[..., Report], checks: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    traced()
    monkeypatch.setattr(cache, "machine", lambda _: ["/elsewhere/bin", 170000, 1, 1])
    traced()
    assert checks() == 2


def test_what_was_not_tried_to_the_end_is_not_kept(
    traced: Callable[..., Report], checks: Callable[[], int], folder: Path
) -> None:
    (folder / "1_a.sql").write_text("SET statement_timeout = '20ms';\nSELECT pg_sleep(1);\n")
    traced(workload=())
    traced(workload=())
    traced(workload=(), postgres_bin="/nowhere/bin")
    traced(workload=(), postgres_bin="/nowhere/bin")
    assert checks() == 4
