"""``--base``: what git says is new is judged, what it says was changed is a finding of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from sqladvisor.errors import InputError
from sqladvisor.migrate.gate import GateOptions, gate
from sqladvisor.migrate.history import changes_since
from sqladvisor.report.model import Report

INDEX = "CREATE INDEX i{0} ON users (email);\n"


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@example.com", *arguments],
        cwd=folder,
        check=True,
        capture_output=True,
    )


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    git(tmp_path, "init", "-b", "main")
    folder = tmp_path / "migrations"
    folder.mkdir()
    (folder / "1_users.sql").write_text("CREATE TABLE users (id bigint PRIMARY KEY, email text);\n")
    (folder / "2_index.sql").write_text(INDEX.format(2))
    (folder / "3_index.sql").write_text("SET lock_timeout = '1s';\n" + INDEX.format(3))
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    git(tmp_path, "checkout", "-b", "branch")
    monkeypatch.chdir(tmp_path)
    return folder


def judged(base: str = "main", *paths: str) -> Report:
    return gate(paths or ("migrations",), GateOptions(base=base, cache=False))


def found(report: Report) -> list[tuple[str, str]]:
    return [(f.location.path, f.rule) for f in report.findings if f.severity == "error"]


def test_nothing_new_is_nothing_to_judge(repository: Path) -> None:
    report = judged()
    assert found(report) == []
    assert report.statements == 0


@pytest.mark.parametrize("committed", [True, False])
def test_only_new_files_are_judged_from_the_schema_of_the_old(
    repository: Path, committed: bool
) -> None:
    (repository / "4_index.sql").write_text(INDEX.format(4).replace("email", "id, email"))
    if committed:
        git(repository, "add", ".")
        git(repository, "commit", "-m", "second")
    assert found(judged()) == [("migrations/4_index.sql", "migration/create-index")]


def test_what_main_has_added_meanwhile_is_not_the_branchs(repository: Path) -> None:
    git(repository, "checkout", "main")
    (repository / "5_other.sql").write_text(INDEX.format(5))
    git(repository, "add", ".")
    git(repository, "commit", "-m", "on main")
    git(repository, "checkout", "branch")
    assert judged().statements == 0
    assert found(judged()) == []


def test_an_edited_migration_is_a_finding(repository: Path) -> None:
    (repository / "2_index.sql").write_text("-- now other\n" + INDEX.format(2))
    assert found(judged()) == [("migrations/2_index.sql", "migration/edited-migration")]


def test_a_deleted_migration_is_a_finding(repository: Path) -> None:
    (repository / "2_index.sql").unlink()
    assert found(judged()) == [("migrations/2_index.sql", "migration/deleted-migration")]


def test_a_renamed_migration_is_a_finding(repository: Path) -> None:
    git(repository, "mv", "3_index.sql", "30_index.sql")
    rules = {r for _, r in found(judged())}
    assert "migration/deleted-migration" in rules


def test_an_edited_repeatable_migration_is_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "init", "-b", "main")
    (tmp_path / "V1__a.sql").write_text("CREATE TABLE a (id int);\n")
    (tmp_path / "R__b.sql").write_text("SELECT 1;\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    (tmp_path / "R__b.sql").write_text(INDEX.format(1))
    monkeypatch.chdir(tmp_path)
    assert found(judged("main", ".")) == [("R__b.sql", "migration/create-index")]


def test_paths_come_back_as_they_were_given(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (repository / "4 odd\tname.sql").write_text("SELECT 1;")
    monkeypatch.chdir(repository)
    assert [c.path for c in changes_since("main", ["."])] == ["4 odd\tname.sql"]


def test_unknown_commits_and_places_without_git_are_one_line(
    repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with pytest.raises(InputError, match="--base nowhere: git does not know this commit"):
        judged("nowhere")
    with pytest.raises(InputError, match="not a name of a commit"):
        judged("--output=x")
    outside = tmp_path_factory.mktemp("outside")
    (outside / "1.sql").write_text("SELECT 1;")
    with pytest.raises(InputError, match="not a git repository"):
        judged("main", str(outside))
    with pytest.raises(InputError, match="standard input has no history"):
        judged("main", "-")
