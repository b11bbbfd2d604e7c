"""What is shipped: the wheel holds the rules and fixtures, the docs are current, the API is there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import sqladvisor

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked wheel, built from the working tree."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
         "--disable-pip-version-check", "--wheel-dir", str(folder), str(ROOT)],
        check=True,
    )  # fmt: skip
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run(installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sqladvisor", *arguments],
        cwd=installed.parent,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_wheel_has_the_rules_in_it(installed: Path) -> None:
    here = {
        p.relative_to(ROOT / "rules")
        for p in (ROOT / "rules").rglob("*")
        if p.suffix in (".py", ".sql")
    }
    there = installed / "sqladvisor" / "_rules"
    assert {p.relative_to(there) for p in there.rglob("*") if p.suffix in (".py", ".sql")} == here
    done = run(installed, "rules")
    assert done.returncode == 0, done.stderr
    assert f"{len(here)} rules" in done.stdout


def test_wheel_audits_the_fixture_it_carries(installed: Path) -> None:
    path = installed / "sqladvisor" / "_fixtures" / "shop" / "queries.sql"
    done = run(installed, "audit", str(path), "--fail-on", "never")
    assert done.returncode == 0, done.stderr
    assert "query/outer-join-nullified" in done.stdout


def test_rules_page_is_current() -> None:
    done = subprocess.run([sys.executable, "docs/generate.py", "--check"], cwd=ROOT, check=False)
    assert done.returncode == 0, "run `make docs`"


def test_readme_names_only_rules_and_commands_that_exist() -> None:
    from sqladvisor.rule import load_rules

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    known = {r.id for r in load_rules(("query", "index", "batch", "prepare", "plan", "database"))}
    named = set(re.findall(r"\b(?:query|index|batch|prepare|plan|database)/[a-z][a-z-]+\b", text))
    assert named <= known, named - known
    targets = set(re.findall(r"`?make ([a-z]+)", text))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(re.search(rf"^{t}:", makefile, re.MULTILINE) for t in targets)


def test_library_gives_what_the_command_gives(tmp_path: Path) -> None:
    path = tmp_path / "q.sql"
    path.write_text("SELECT id FROM users WHERE date(created_at) = '2024-01-01';")
    report = sqladvisor.audit([str(path)])
    assert isinstance(report, sqladvisor.Report)
    assert [f.rule for f in report.findings] == ["query/function-on-column"]
    with pytest.raises(AttributeError):
        sqladvisor.nothing  # noqa: B018
