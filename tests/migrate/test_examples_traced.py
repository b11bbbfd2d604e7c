"""What the rules' own bad examples claim of locks, tried: the trace confirms each."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from sqladvisor.engine import Engine
from sqladvisor.migrate.check import check_set
from sqladvisor.migrate.context import DEFAULT_PG_VERSION, Settings
from sqladvisor.migrate.files import Files
from sqladvisor.migrate.model import Migration
from sqladvisor.migrate.reconcile import reconcile
from sqladvisor.migrate.runner import read_files
from sqladvisor.migrate.stage import apply
from sqladvisor.migrate.start import start_state
from sqladvisor.migrate.trace import trace
from sqladvisor.rule import Rule, load_rules
from sqladvisor.server.sandbox import Sandbox
from sqladvisor.sql.source import read_source, statements

LOCKING = [
    r
    for r in load_rules(("migration",))
    if re.search(r"\block=", Path(r.path).read_text(encoding="utf-8"))
]


@pytest.mark.parametrize("rule", LOCKING, ids=lambda r: r.id)
def test_claims_hold(rule: Rule, make_sandbox: Callable[..., Sandbox]) -> None:
    start = make_sandbox()
    schema = statements(read_source("schema", rule.examples["schema"].encode()))[0]
    apply(start, [Migration("", "", "", tuple(schema), transaction="none")])
    missing = []
    for number, example in enumerate(rule.examples["bad"]):
        files = {"migration.sql": example} if isinstance(example, str) else example
        text = next(iter(files.values()))
        options = dict(re.findall(r"^-- (pg_version|runner): (\S+)$", text, re.MULTILINE))
        sql = {p: t.encode() for p, t in files.items() if p.endswith(".sql")}
        found = read_files(
            Files(sql, lambda p, files=files: files[p].encode() if p in files else None),
            options.get("runner"),
        )
        version = int(options.get("pg_version", DEFAULT_PG_VERSION))
        settings = Settings(
            pg_version=version,
            rows={("public", name): count for name, count in rule.examples["rows"].items()},
        )
        state = start_state(rule.examples["schema"])
        told = check_set(found, Engine([rule], strict=True), settings, state).findings
        if not any("lock" in f.evidence.figures for f in told):
            continue
        sandbox = Sandbox(start.cluster, f"{start.name}_{number}", template=start)
        left, _ = reconcile(told, trace(sandbox, found), pg_version=version)
        start.cluster.drop_database(sandbox.name)
        kept = {(f.rule, f.location, f.message) for f in left}
        missing += [f.statement for f in told if (f.rule, f.location, f.message) not in kept]
    assert missing == []
