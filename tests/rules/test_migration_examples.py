"""Every migration rule's own examples, run: each bad one must fire, each good one must not.

An example is the text of one plain file, or a dict of file name → text. Lines ``-- pg_version: 16``
and ``-- runner: goose`` at the top of (the first) text set either. The rule file's ``SCHEMA`` is what
was there before, ``ROWS`` how many rows its tables have.
"""

from __future__ import annotations

import re

import pytest

from sqladvisor.catalog.ddl import catalog_from_sql
from sqladvisor.engine import Engine
from sqladvisor.finding import Finding
from sqladvisor.migrate.check import check_set
from sqladvisor.migrate.context import DEFAULT_PG_VERSION, Settings
from sqladvisor.migrate.files import Files
from sqladvisor.migrate.runner import read_files
from sqladvisor.migrate.start import start_state
from sqladvisor.rule import Rule, load_rules
from sqladvisor.sql.libpg import parse

RULES = load_rules(("migration",))
Example = str | dict[str, str]


def files_of(example: Example) -> dict[str, str]:
    return {"migration.sql": example} if isinstance(example, str) else example


def setting(example: Example, name: str) -> str | None:
    text = next(iter(files_of(example).values()))
    match = re.search(rf"^-- {name}: (\S+)$", text, re.MULTILINE)
    return match[1] if match else None


def run(rule: Rule, example: Example, schema: str, rows: dict[str, float]) -> list[Finding]:
    """The findings of one rule on a migration set that meets a schema."""
    files = files_of(example)
    sql = {p: t.encode() for p, t in files.items() if p.endswith(".sql")}
    found = read_files(
        Files(sql, lambda p: files[p].encode() if p in files else None), setting(example, "runner")
    )
    assert not found.problems, found.problems
    settings = Settings(
        pg_version=int(setting(example, "pg_version") or DEFAULT_PG_VERSION),
        rows={("public", name): count for name, count in rows.items()},
    )
    state = start_state(schema)
    return check_set(found, Engine([rule], strict=True), settings, state).findings


def cases(which: str) -> list[object]:
    return [
        pytest.param(rule, example, id=f"{rule.id}-{which}{i}")
        for rule in RULES
        for i, example in enumerate(rule.examples[which])
    ]


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.id)
def test_file_is_complete(rule: Rule) -> None:
    assert rule.summary.endswith("."), "the first line says what the rule finds, as a sentence"
    assert [s for s in ("Why:", "Fix:", "Silent when:", "Source:") if s not in rule.doc] == []
    assert len(rule.examples["bad"]) >= 2
    assert len(rule.examples["good"]) >= 2
    catalog_from_sql(rule.examples["schema"])


@pytest.mark.parametrize(("rule", "example"), cases("bad"))
def test_bad_fires(rule: Rule, example: Example) -> None:
    findings = run(rule, example, rule.examples["schema"], rule.examples["rows"])
    assert findings, "the rule did not fire on its bad example"
    files = files_of(example)
    for finding in findings:
        lines = files[finding.location.path].splitlines()
        assert 1 <= finding.location.line <= len(lines)
        assert 1 <= finding.location.column <= len(lines[finding.location.line - 1]) + 1
        assert finding.message
        assert "\n" not in finding.message
        for fix in finding.fixes:
            if fix.kind != "advice":
                assert parse(fix.sql), "a fix is complete SQL that PostgreSQL can parse"


@pytest.mark.parametrize(("rule", "example"), cases("good"))
def test_good_is_silent(rule: Rule, example: Example) -> None:
    found = run(rule, example, rule.examples["schema"], rule.examples["rows"])
    assert [f.message for f in found] == []


@pytest.mark.parametrize(("rule", "example"), cases("bad") + cases("good"))
def test_never_fails_without_a_schema(rule: Rule, example: Example) -> None:
    run(rule, example, "", {})
