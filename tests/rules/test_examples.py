"""Every rule's own examples, run: each bad one must fire, each good one must not."""

from __future__ import annotations

import pytest

from sqladvisor.catalog.ddl import catalog_from_sql
from sqladvisor.catalog.model import Catalog
from sqladvisor.context import Context
from sqladvisor.engine import Engine
from sqladvisor.finding import Finding
from sqladvisor.rule import ADVICE, COUNTED, PARAMETERS, PLAN, WORKLOAD, Rule, load_rules
from sqladvisor.source.read import read_program
from sqladvisor.sql.libpg import parse
from sqladvisor.sql.source import read_source, statements

STATIC = [
    r
    for r in load_rules(("query", "batch", "prepare"))
    if not {PLAN, PARAMETERS, COUNTED} & set(r.on)
]


def run(rule: Rule, sql: str, schema: str) -> list[Finding]:
    """The findings of one rule on a text, under the catalog of a schema."""
    catalog = catalog_from_sql(schema) if schema else Catalog()
    if (path := rule.examples["path"]).endswith(".sql"):
        found, problems = statements(read_source(path, sql.encode()))
    else:
        program = read_program(path, sql.encode())
        found, problems = program.statements, program.problems
    assert not problems, problems
    engine = Engine([rule], strict=True)
    settings = {rule.id: rule.examples["settings"]}
    contexts = [Context(s, catalog, thresholds=settings) for s in found]
    if WORKLOAD in rule.on:
        return engine.check_workload(contexts)
    return [f for c in contexts for f in engine.check_statement(c)]


def cases(which: str) -> list[object]:
    return [
        pytest.param(rule, example, id=f"{rule.id}-{which}{i}")
        for rule in STATIC
        for i, example in enumerate(rule.examples[which])
    ]


@pytest.mark.parametrize("rule", STATIC, ids=lambda r: r.id)
def test_file_is_complete(rule: Rule) -> None:
    sections = ("Why:", "Fix:", "Silent when:", "Source:")
    assert rule.summary.endswith("."), "the first line says what the rule finds, as a sentence"
    assert [s for s in sections if s not in rule.doc] == []
    assert len(rule.examples["bad"]) >= 2
    assert len(rule.examples["good"]) >= 2


@pytest.mark.parametrize(("rule", "sql"), cases("bad"))
def test_bad_fires(rule: Rule, sql: str) -> None:
    findings = run(rule, sql, rule.examples["schema"])
    assert findings, "the rule did not fire on its bad example"
    for finding in findings:
        lines = sql.splitlines()
        assert 1 <= finding.location.line <= len(lines)
        assert 1 <= finding.location.column <= len(lines[finding.location.line - 1]) + 1
        assert finding.message
        assert "\n" not in finding.message
        for fix in finding.fixes:
            if fix.kind != "advice":
                assert parse(fix.sql), "a fix is complete SQL that PostgreSQL can parse"


@pytest.mark.parametrize(("rule", "sql"), cases("good"))
def test_good_is_silent(rule: Rule, sql: str) -> None:
    assert [f.message for f in run(rule, sql, rule.examples["schema"])] == []


@pytest.mark.parametrize(("rule", "sql"), cases("bad") + cases("good"))
def test_never_fails_without_a_schema(rule: Rule, sql: str) -> None:
    run(rule, sql, "")


def test_advice_rules_are_tested_elsewhere() -> None:
    """Every one has rows and examples of its own, run by test_advice_examples.py; but for the first."""
    advice = [r for r in load_rules(("index",)) if ADVICE in r.on]
    assert [r.id for r in advice if not r.examples["setup"]] == ["index/missing"], (
        "tests/advise and tests/test_shop.py cover it"
    )
