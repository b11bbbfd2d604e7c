"""What the repository offers to CI systems: the action, the hooks and the snippets, as they run."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from sqladvisor.cli import app

ROOT = Path(__file__).parent.parent
HAZARD = "CREATE INDEX users_email_idx ON users (email);\n"


def snippets() -> list[tuple[str, str]]:
    """Language and text of each fenced block of docs/ci.md."""
    text = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def yaml_files() -> dict[str, Any]:
    files = {name: ROOT / name for name in ("action.yml", ".pre-commit-hooks.yaml")}
    loaded = {
        name: yaml.safe_load(path.read_text(encoding="utf-8")) for name, path in files.items()
    }
    parts = [text for language, text in snippets() if language == "yaml"]
    assert len(parts) == 3
    return loaded | {f"ci.md {i}": yaml.safe_load(text) for i, text in enumerate(parts)}


def strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)


def commands() -> list[list[str]]:
    """The sqladvisor command lines in all of these files, without the shell's own words."""
    texts = [s for document in yaml_files().values() for s in strings(document)]
    texts += [text for language, text in snippets() if language == "sh"]
    texts += re.findall(
        r"`(sqladvisor [^`]+)`", (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
    )
    found = []
    for text in texts:
        for line in re.findall(
            r"^(?:.*&& )?(sqladvisor (?:audit|gate)\b[^\n]*)$", text, re.MULTILINE
        ):
            words = shlex.split(re.sub(r"\|\| .*", "", line))
            found.append([w for w in words[1:] if w != "--"])
    return found


def test_every_command_in_them_exists() -> None:
    group = typer.main.get_command(app)
    found = commands()
    assert len(found) >= 6
    for name, *arguments in found:
        command = group.commands[name]  # type: ignore[attr-defined]
        known = {option for parameter in command.params for option in parameter.opts}
        used = {a.partition("=")[0] for a in arguments if a.startswith("-")}
        assert used <= known, (name, used - known)
    options = re.findall(r"--[a-z-]+", yaml_files()["action.yml"]["runs"]["steps"][2]["run"])
    gate = group.commands["gate"]  # type: ignore[attr-defined]
    known = {option for parameter in gate.params for option in parameter.opts}
    assert set(options) - {"--quiet", "--verify", "--no-tags", "--depth"} <= known


def test_the_actions_inputs_are_those_the_snippet_gives() -> None:
    documents = yaml_files()
    inputs = documents["action.yml"]["inputs"]
    steps = documents["ci.md 0"]["jobs"]["gate"]["steps"]
    (used,) = [s["with"] for s in steps if s["uses"].startswith("OWNER/")]
    assert set(used) <= set(inputs)
    required = {name for name, value in inputs.items() if value.get("required")}
    assert required <= set(used)
    # No input reaches the script other than through the environment.
    assert all(
        "${{" not in step.get("run", "") for step in documents["action.yml"]["runs"]["steps"]
    )


# -- run for real ---------------------------------------------------------------------------------


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@example", "-c", "init.defaultBranch=main",
         *arguments],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A clone whose branch adds a migration to those of its origin's main."""
    origin = tmp_path / "origin"
    (origin / "db" / "my migrations").mkdir(parents=True)
    git(tmp_path, "init", "-q", str(origin))
    (origin / "db" / "my migrations" / "001_old.sql").write_text(HAZARD)
    git(origin, "add", ".")
    git(origin, "commit", "-qm", "old")
    git(tmp_path, "clone", "-q", str(origin), str(tmp_path / "clone"))
    clone = tmp_path / "clone"
    git(clone, "checkout", "-qb", "change")
    (clone / "db" / "my migrations" / "002_new.sql").write_text(HAZARD.replace("email", "name"))
    git(clone, "add", ".")
    git(clone, "commit", "-qm", "new")
    return clone


@pytest.fixture
def path_with_sqladvisor(tmp_path: Path) -> str:
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "sqladvisor"
    script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m sqladvisor "$@"\n')
    script.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def run_action(
    checkout: Path, path: str, **inputs: str
) -> tuple[subprocess.CompletedProcess[str], str]:
    """Run the action's script as GitHub's runner does; its process, and its outputs."""
    action = yaml_files()["action.yml"]
    (step,) = [s for s in action["runs"]["steps"] if s.get("id") == "gate"]
    environment = {}
    for name, value in step["env"].items():
        given = re.fullmatch(r"\$\{\{ inputs\.([a-z-]+) \}\}", value)
        assert given
        default = action["inputs"][given[1]].get("default", "")
        environment[name] = inputs.get(given[1].replace("-", "_"), default)
    output = checkout.parent / "output"
    summary = checkout.parent / "summary.md"
    output.touch()
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
        cwd=checkout,
        env={
            **os.environ, **environment, "PATH": path, "PYTHONPATH": str(ROOT),
            "GITHUB_BASE_REF": "main", "GITHUB_OUTPUT": str(output),
            "GITHUB_STEP_SUMMARY": str(summary), "GITHUB_WORKSPACE": str(checkout),
            "XDG_CACHE_HOME": str(checkout.parent / "cache"),
        },
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    return done, output.read_text()


def test_the_action_judges_what_the_branch_adds(checkout: Path, path_with_sqladvisor: str) -> None:
    (checkout / "db" / "migrations").mkdir()
    os.rename(
        checkout / "db" / "my migrations" / "002_new.sql",
        checkout / "db" / "migrations" / "002_new.sql",
    )
    (checkout / "old.sql").write_text("CREATE TABLE users (id bigint, name text);\n")
    done, output = run_action(
        checkout,
        path_with_sqladvisor,
        paths="db/migrations\n",
        schema="old.sql",
        args="--no-cache --each",
    )
    assert done.returncode == 1, done.stderr
    assert "::error file=db/migrations/002_new.sql,line=1," in done.stdout
    assert "title=migration/create-index" in done.stdout
    assert output == "exit-code=1\nsarif-file=sqladvisor.sarif\n"
    log = json.loads((checkout / "sqladvisor.sarif").read_text())
    assert "migration/create-index" in [r["ruleId"] for r in log["runs"][0]["results"]]
    assert "migration/create-index" in (checkout.parent / "summary.md").read_text()


def test_the_action_fetches_a_base_that_the_checkout_lacks(
    checkout: Path, path_with_sqladvisor: str
) -> None:
    git(checkout, "update-ref", "-d", "refs/remotes/origin/main")
    git(checkout, "mv", "db/my migrations", "db/migrations")
    done, _ = run_action(checkout, path_with_sqladvisor, paths="db/migrations", args="--no-cache")
    assert done.returncode == 1, done.stderr
    assert "002_new.sql" in done.stdout


def test_no_input_of_the_action_is_run_as_shell(checkout: Path, path_with_sqladvisor: str) -> None:
    evil = "$(touch${IFS}pwned)"
    done, output = run_action(
        checkout, path_with_sqladvisor, paths=f"{evil} `touch pwned` ;touch pwned",
        schema=evil, sarif_file="x.sarif", fail_on="never", base="none",
    )  # fmt: skip
    assert done.returncode == 2
    assert not list(checkout.rglob("*pwned*"))
    assert "exit-code=2" in output


# -- pre-commit -----------------------------------------------------------------------------------

PRE_COMMIT = Path(sys.executable).with_name("pre-commit")


def test_the_hooks_run_on_the_files_that_are_theirs(
    tmp_path: Path, path_with_sqladvisor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the hooks' own definition, but the sqladvisor of this checkout: nothing is downloaded."""
    hooks = [h | {"language": "system"} for h in yaml_files()[".pre-commit-hooks.yaml"]]
    repository = tmp_path / "repository"
    (repository / "db" / "migrations").mkdir(parents=True)
    (repository / "db" / "migrations" / "001_a.sql").write_text(HAZARD)
    (repository / "q.sql").write_text("SELECT id FROM users WHERE name = NULL;\n")
    (repository / "migrations.txt").write_text("no SQL\n")
    config = {"repos": [{"repo": "local", "hooks": hooks}]}
    (repository / ".pre-commit-config.yaml").write_text(yaml.safe_dump(config))
    git(tmp_path, "init", "-q", str(repository))
    git(repository, "add", ".")
    done = subprocess.run(
        [str(PRE_COMMIT), "run", "--all-files", "--color", "never"],
        cwd=repository,
        env={**os.environ, "PATH": path_with_sqladvisor, "PYTHONPATH": str(ROOT), "NO_COLOR": "1",
             "PRE_COMMIT_HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "cache")},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    audited, _, gated = done.stdout.partition("sqladvisor gate")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "q.sql:1:" in audited and "query/null-comparison" in audited
    assert "001_a.sql:1:1  error  migration/create-index" in gated and "q.sql" not in gated


def test_the_hooks_manifest_is_valid(tmp_path: Path) -> None:
    shutil.copy(ROOT / ".pre-commit-hooks.yaml", tmp_path)
    done = subprocess.run(
        [str(PRE_COMMIT), "validate-manifest", ".pre-commit-hooks.yaml"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("form", ["sarif", "junit", "gitlab", "markdown"])
def test_a_kept_outcome_reports_as_the_first_run_did(tmp_path: Path, form: str) -> None:
    (tmp_path / "001_a.sql").write_text(HAZARD)
    (tmp_path / "002_b.sql").write_text("CREATE TABLE fresh (id bigint PRIMARY KEY);\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    reports = [
        subprocess.run(
            [sys.executable, "-m", "sqladvisor", "gate", "001_a.sql", "002_b.sql", "--no-trace",
             "--format", form],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120,
        ).stdout
        for _ in range(2)
    ]  # fmt: skip
    assert any(p.is_file() for p in (tmp_path / "cache").rglob("*"))
    assert reports[0] == reports[1] and "create-index" in reports[0]
    assert (
        form != "sarif"
        or "SHARE" in json.loads(reports[1])["runs"][0]["results"][0]["message"]["text"]
    )
    assert form != "junit" or '"002_b.sql"' in reports[1], "a file without findings has passed"
