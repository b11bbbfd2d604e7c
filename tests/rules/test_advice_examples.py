"""Rules about statements that need rows to be tried on: their examples are audited for real."""

from __future__ import annotations

from pathlib import Path

import pytest

from sqladvisor.auditor import Options, audit
from sqladvisor.engine import Selection
from sqladvisor.finding import Finding
from sqladvisor.rule import ADVICE, PARAMETERS, PLAN, Rule, load_rules

RULES = [
    r
    for r in load_rules(("index", "prepare"))
    if {ADVICE, PARAMETERS, PLAN} & set(r.on) and r.examples["setup"]
]


def audited(rule: Rule, folder: Path) -> dict[str, list[Finding]]:
    """The rule's findings on all its examples, by the example's text."""
    examples = [*rule.examples["bad"], *rule.examples["good"]]
    (folder / "schema.sql").write_text(rule.examples["setup"])
    (folder / "queries.sql").write_text(";\n".join(examples) + ";\n")
    report = audit(
        [str(folder / "queries.sql")],
        Options(
            schema=(str(folder / "schema.sql"),),
            analyze=True,
            selection=Selection((rule.id,)),
            thresholds={rule.id: rule.examples["settings"]},
        ),
    )
    assert report.problems == ()
    found: dict[str, list[Finding]] = {example: [] for example in examples}
    for finding in report.findings:
        found[finding.statement].append(finding)
    return found


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.id)
def test_examples_on_real_rows(rule: Rule, tmp_path: Path) -> None:
    assert len(rule.examples["bad"]) >= 2
    assert len(rule.examples["good"]) >= 2
    found = audited(rule, tmp_path)
    silent = [e for e in rule.examples["bad"] if not found[e]]
    assert silent == [], "did not fire"
    assert [(e, f.message) for e in rule.examples["good"] for f in found[e]] == [], "fired"
    for finding in (f for e in rule.examples["bad"] for f in found[e]):
        assert finding.evidence.level == "measured"
        assert "\n" not in finding.message


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.id)
def test_documentation_is_complete(rule: Rule) -> None:
    assert rule.summary.endswith(".")
    for section in ("Why:", "Fix:", "Silent when:", "Source:"):
        assert section in rule.doc
