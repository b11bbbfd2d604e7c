"""Plan rules on real plans: every example is run with EXPLAIN ANALYZE on the embedded server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from sqladvisor.catalog.live import read_catalog
from sqladvisor.catalog.model import Catalog
from sqladvisor.context import Context
from sqladvisor.engine import Engine
from sqladvisor.finding import Finding
from sqladvisor.plan.read import read_json
from sqladvisor.rule import PLAN, Rule, load_rules
from sqladvisor.server.explain import explain
from sqladvisor.sql.effects import writes
from sqladvisor.sql.source import read_source, statements

RECORDED = "-- plan: "
PLANS = Path(__file__).parents[2] / "fixtures" / "plans"
RULES = [r for r in load_rules(("plan",)) if PLAN in r.on]


@contextmanager
def prepared(make_database: Callable[..., Any], rule: Rule) -> Iterator[psycopg.Connection]:
    database = make_database(rule.examples["setup"])
    with database.connect() as connection:
        connection.execute("SET client_min_messages = error")
        yield connection


def recorded(rule: Rule, name: str) -> list[Finding]:
    """The findings on a plan in fixtures/plans: of what the embedded server cannot do (JIT), or

    what the state of its caches would decide."""
    (document,) = json.loads((PLANS / f"{name}.json").read_text())
    (statement,) = statements(read_source("example.sql", b"SELECT 1"))[0]
    context = Context(statement, Catalog())
    context.plan = read_json(document)
    return Engine([rule], strict=True).check_plan(context)


def run(rule: Rule, sql: str, connection: psycopg.Connection) -> list[Finding]:
    """The findings of one rule on the plan of the last statement of an example, run for real."""
    if sql.startswith(RECORDED):
        return recorded(rule, sql.removeprefix(RECORDED))
    found, problems = statements(read_source("example.sql", sql.encode()))
    assert not problems
    connection.execute("RESET ALL")
    for setting in found[:-1]:
        connection.execute(setting.sql)
    statement = found[-1]
    context = Context(statement, read_catalog(connection))
    is_write = writes(statement.kind, statement.tree)
    engine = Engine([rule], strict=True)
    # Twice: the first run reads the tables from disk, which is not what the examples are about.
    for _ in range(2):
        context.plan = explain(
            connection, statement.sql, analyze=True, writes=is_write, allow_writes=True
        )
    return engine.check_plan(context)


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.id)
def test_examples_on_a_real_server(rule: Rule, make_database: Callable[..., Any]) -> None:
    assert len(rule.examples["bad"]) >= 2
    assert len(rule.examples["good"]) >= 2
    with prepared(make_database, rule) as connection:
        for sql in rule.examples["bad"]:
            # A node's share of the time is measured: when something else runs, it may lie elsewhere.
            tries = (run(rule, sql, connection) for _ in range(3))
            findings = next(filter(None, tries), [])
            assert findings, f"did not fire on: {sql}"
            for finding in findings:
                assert finding.evidence.level == "measured"
                assert "\n" not in finding.message
        for sql in rule.examples["good"]:
            assert [f.message for f in run(rule, sql, connection)] == [], f"fired on: {sql}"


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.id)
def test_documentation_is_complete(rule: Rule) -> None:
    assert rule.summary.endswith(".")
    for section in ("Why:", "Fix:", "Silent when:", "Source:"):
        assert section in rule.doc
