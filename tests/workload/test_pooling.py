"""The project's own pgbouncer.ini, and what prepare/pgbouncer-mode makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sqladvisor.auditor import audit
from sqladvisor.workload.pooling import pooling

APART = "PREPARE q AS SELECT name FROM users WHERE id = $1;\nEXECUTE q (1);\n"
PROGRAM = 'cursor.execute("SELECT name FROM users WHERE id = %s", (key,))\n'


def project(folder: Path, ini: str) -> Path:
    (folder / ".git").mkdir()
    (folder / "deploy").mkdir()
    (folder / "deploy" / "pgbouncer.ini").write_text(ini)
    (folder / "app" / "sql").mkdir(parents=True)
    return folder / "app" / "sql" / "queries.sql"


@pytest.mark.parametrize(
    ("ini", "mode", "prepared"),
    [
        ("[databases]\n* = host=db\n[pgbouncer]\npool_mode = transaction\n", "transaction", None),
        ("[pgbouncer]\nmax_prepared_statements = 0 \n", "session", 0),
        (
            "[databases]\nshop = host=db pool_mode=transaction\n[pgbouncer]\nmax_prepared_statements=200\n",
            "transaction",
            200,
        ),
        ("; é\n%include other.ini\n[pgbouncer]\nPOOL_MODE = Transaction\n", "transaction", None),
    ],
)
def test_reads_the_projects_configuration(
    ini: str, mode: str, prepared: int | None, tmp_path: Path
) -> None:
    found = pooling(str(project(tmp_path, ini)))
    assert found is not None
    assert (found.mode, found.prepared) == (mode, prepared)


@pytest.mark.parametrize("ini", ["no section at all = 1", "[pgbouncer\n", "\0\0"])
def test_what_is_no_configuration_says_nothing(ini: str, tmp_path: Path) -> None:
    found = pooling(str(project(tmp_path, ini)))
    assert found is None or found.mode == "session"


def test_stops_at_the_projects_root(tmp_path: Path) -> None:
    (tmp_path / "pgbouncer.ini").write_text("[pgbouncer]\npool_mode = transaction\n")
    inner = tmp_path / "inner"
    (inner / ".git").mkdir(parents=True)
    assert pooling(str(inner / "queries.sql")) is None


@pytest.mark.parametrize(("mode", "fires"), [("transaction", True), ("session", False)])
def test_the_rule_follows_it(mode: str, fires: bool, tmp_path: Path) -> None:
    path = project(tmp_path, f"[pgbouncer]\npool_mode = {mode}\n")
    path.write_text(APART)
    rules = {f.rule for f in audit([str(path)]).findings}
    assert ("prepare/pgbouncer-mode" in rules) == fires


@pytest.mark.parametrize(("number", "fires"), [("0", True), ("100", False)])
def test_drivers_that_prepare(number: str, fires: bool, tmp_path: Path) -> None:
    path = project(
        tmp_path, f"[pgbouncer]\npool_mode=transaction\nmax_prepared_statements={number}\n"
    ).with_name("app.py")
    path.write_text(PROGRAM)
    found = [f for f in audit([str(path)]).findings if f.rule == "prepare/pgbouncer-mode"]
    assert bool(found) == fires
    for finding in found:
        assert "prepare_threshold=None" in finding.evidence.notes[0]
