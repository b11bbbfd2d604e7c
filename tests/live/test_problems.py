"""`sqladvisor live` on a server with ten known problems: it names all ten, in time, and what first."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest
from known_problems import ROOT, problems

from sqladvisor.report.json import schema
from sqladvisor.server.embedded import Cluster

PROMISE_S = 30
"""From command to report, as the README promises."""


def run(cluster: Cluster, *arguments: str, user: str = "postgres") -> tuple[str, float]:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "sqladvisor", "live", cluster.dsn("shop", user), *arguments],
        capture_output=True, text=True, cwd=ROOT, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout, time.monotonic() - began


@pytest.fixture(scope="module")
def document(problem_server: Cluster) -> dict[str, object]:
    text, _ = run(problem_server, "--format", "json", "--window", "1")
    loaded: dict[str, object] = json.loads(text)
    return loaded


def test_report_names_all_ten_in_time(problem_server: Cluster) -> None:
    text, seconds = run(problem_server)
    for problem, (rule, word) in problems.PROBLEMS.items():
        assert any(
            rule in head and word in "\n".join(text.splitlines()[n : n + 6])
            for n, head in enumerate(text.splitlines())
        ), f"{problem} is not named:\n{text}"
    assert seconds < PROMISE_S
    assert text.index("The three changes that matter most") < text.index("Workload")


def test_document_names_all_ten(document: dict) -> None:
    jsonschema.validate(document, schema())
    assert document["errors"] == []
    for problem, (rule, word) in problems.PROBLEMS.items():
        named = [f["message"] for f in document["findings"] if f["rule"] == rule]
        assert any(word in message for message in named), f"{problem}: {named}"


def test_what_can_stop_the_server_and_what_saves_most_come_first(document: dict) -> None:
    changes = document["live"]["changes"]
    rules = [document["findings"][c["findings"][0]]["rule"] for c in changes[:2]]
    assert rules == ["database/int-key-exhaustion", "index/missing"]
    assert changes[0]["outage"]
    assert changes[1]["saved_share"] > 0.3
    assert changes[1]["saved_per_hour_ms"] > 0
    assert "called" in changes[1]["evidence"][0]


def test_findings_carry_what_their_statement_costs(document: dict) -> None:
    (finding,) = [f for f in document["findings"] if f["rule"] == "query/function-on-column"]
    statement = next(
        s
        for s in document["live"]["workload"]["statements"]
        if s["rank"] == finding["location"]["line"]
    )
    evidence = finding["evidence"]
    assert statement["queryid"] == evidence["queryid"]
    assert evidence["calls"] == statement["calls"] == 25
    assert evidence["share_of_time"] == pytest.approx(statement["share"], abs=0.001)
    assert finding["fix"]["sql"].startswith("SELECT count(*) FROM events WHERE created_at >=")


def test_shares_are_of_the_whole(document: dict) -> None:
    workload = document["live"]["workload"]
    statements = workload["statements"]
    assert [s["rank"] for s in statements] == list(range(1, len(statements) + 1))
    assert sum(s["share"] for s in statements) <= 1.001
    assert statements[0]["total_ms"] == max(s["total_ms"] for s in statements)
    assert workload["since_reset"] and workload["hours"] < 1


def test_a_plain_role_is_told_what_it_does_not_see(problem_server: Cluster, tmp_path: Path) -> None:
    with problem_server.connect("shop") as admin:
        admin.execute("CREATE ROLE passer_by LOGIN")
    try:
        text, _ = run(problem_server, "--format", "json", "--window", "0.3", user="passer_by")
    finally:
        with problem_server.connect("shop") as admin:
            admin.execute("DROP OWNED BY passer_by; DROP ROLE passer_by")
    document = json.loads(text)
    assert document["errors"] == []
    notes = "\n".join(document["notes"])
    assert "GRANT pg_monitor TO passer_by" in notes
    assert document["live"]["workload"]["hidden"] > 0
    named = {f["rule"] for f in document["findings"]}
    assert {"database/duplicate-index", "database/invalid-index", "database/inactive-slot"} <= named
    assert "database/idle-in-transaction" not in named
