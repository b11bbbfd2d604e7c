"""Every rewrite that a rule offers as meaning the same, tried on databases made to refute it.

Each bad example of each rule is rewritten under the rule's own schema; one database on which the
rewrite gives something else is a bug of the rule, and the assertion shows its rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import pytest

from sqladvisor.catalog.live import read_catalog
from sqladvisor.context import Context
from sqladvisor.engine import Engine
from sqladvisor.prove.ground import Ground
from sqladvisor.prove.prover import prove
from sqladvisor.rule import ADVICE, PLAN, WORKLOAD, Rule, load_rules
from sqladvisor.server.embedded import Cluster
from sqladvisor.server.sandbox import Loaded, Sandbox
from sqladvisor.sql.source import read_source, statements

RULES = [
    r
    for r in load_rules(("query", "batch", "prepare"))
    if not {PLAN, ADVICE, WORKLOAD} & set(r.on) and r.examples["schema"]
]
_numbers = count(1)


@contextmanager
def ground_with(cluster: Cluster, schema: str) -> Iterator[Ground]:
    sandbox = Sandbox(cluster, f"proving_{next(_numbers)}")
    try:
        loaded = Loaded()
        if "citext" in schema and "CREATE EXTENSION citext" not in schema:
            with cluster.connect(sandbox.name) as admin:
                admin.execute("CREATE EXTENSION citext")
        source = read_source("schema.sql", schema.encode())
        sandbox.load_ddl([source], lambda _: None, loaded)
        assert [p.message for p in loaded.problems] == []
        with sandbox.connect() as connection:
            yield Ground(connection)
    finally:
        cluster.drop_database(sandbox.name)


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.id)
def test_no_rewrite_is_refuted(rule: Rule, cluster: Cluster) -> None:
    refuted = []
    with ground_with(cluster, rule.examples["schema"]) as ground:
        catalog = read_catalog(ground.connection)
        engine = Engine([rule], strict=True)
        for sql in rule.examples["bad"]:
            for statement in statements(read_source("example.sql", sql.encode()))[0]:
                context = Context(statement, catalog)
                for finding in engine.check_statement(context):
                    for fix in finding.fixes:
                        if fix.kind == "rewrite" and not fix.changes_result:
                            proof = prove(ground, context, fix.sql)
                            if proof.refuted:
                                refuted.append(
                                    f"{sql}\n→ {fix.sql}\n{proof.refuted}, with:\n  "
                                    + "\n  ".join(proof.counterexample)
                                )
    assert not refuted, "\n\n".join(refuted)
