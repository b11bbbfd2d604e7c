"""Schema rules on real databases: every example is a schema that is made, and read back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sqladvisor.catalog.live import read_catalog
from sqladvisor.context import Context
from sqladvisor.engine import Engine
from sqladvisor.finding import Finding
from sqladvisor.rule import CATALOG, Rule, load_rules
from sqladvisor.schema import Places, SchemaContext
from sqladvisor.server.explain import explain
from sqladvisor.sql.libpg import parse
from sqladvisor.sql.source import read_source, statements

MARK = "-- queries:\n"
RULES = [r for r in load_rules(("index",)) if CATALOG in r.on]


def run(rule: Rule, example: str, make_database: Callable[..., Any]) -> list[Finding]:
    """The findings of one rule on a schema, with the statements after ``-- queries:`` planned."""
    schema, _, queries = example.partition(MARK)
    with make_database(schema).connect() as connection:
        catalog = read_catalog(connection)
        contexts = [
            Context(s, catalog) for s in statements(read_source("queries.sql", queries.encode()))[0]
        ]
        for context in contexts:
            generic = bool(context.tree.by_kind.get("ParamRef"))
            context.plan = explain(connection, context.statement.sql, generic=generic)
    made, _ = statements(read_source("schema.sql", schema.encode()))
    return Engine([rule], strict=True).check_schema(
        SchemaContext(
            catalog, Places("server", made), contexts, (), {rule.id: rule.examples["settings"]}
        )
    )


def cases(which: str) -> list[object]:
    return [
        pytest.param(rule, example, id=f"{rule.id}-{which}{i}")
        for rule in RULES
        for i, example in enumerate(rule.examples[which])
    ]


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.id)
def test_file_is_complete(rule: Rule) -> None:
    assert rule.summary.endswith(".")
    assert [s for s in ("Why:", "Fix:", "Silent when:", "Source:") if s not in rule.doc] == []
    assert len(rule.examples["bad"]) >= 2
    assert len(rule.examples["good"]) >= 2


@pytest.mark.parametrize(("rule", "example"), cases("bad"))
def test_bad_fires_where_it_is_written(
    rule: Rule, example: str, make_database: Callable[..., Any]
) -> None:
    findings = run(rule, example, make_database)
    assert findings, "the rule did not fire on its bad example"
    schema, _, queries = example.partition(MARK)
    for finding in findings:
        at = finding.location
        lines = (schema if at.path == "schema.sql" else queries).splitlines()
        marked = lines[at.line - 1][
            at.column - 1 : at.end_column - 1 if at.end_line == at.line else None
        ]
        assert marked.split()[0].upper() in (
            "CREATE", "REFERENCES", "UNIQUE", "FOREIGN", "CONSTRAINT", "PRIMARY", "T", "PUBLIC.T",
        )  # fmt: skip
        assert "\n" not in finding.message
        for fix in finding.fixes:
            assert parse(fix.sql)


@pytest.mark.parametrize(("rule", "example"), cases("good"))
def test_good_is_silent(rule: Rule, example: str, make_database: Callable[..., Any]) -> None:
    assert [f.message for f in run(rule, example, make_database)] == []
