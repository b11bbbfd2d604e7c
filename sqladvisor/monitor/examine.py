"""The open findings of a database: the database/ rules, run now and then beside the samples.

In a session of its own, which is closed again: these queries take longer than a sample may.
"""

from __future__ import annotations

from functools import cache

from sqladvisor.rule import Rule, load_rules
from sqladvisor.server.connect import redact_dsn
from sqladvisor.server.health import examine
from sqladvisor.server.session import LiveSession

TIMEOUT_MS = 5_000
LOCK_TIMEOUT_MS = 100

Found = tuple[str, str, str, str]
"""Rule, severity, message, SQL of the fix."""


def open_findings(dsn: str) -> list[Found]:
    """What the rules find. Raises ServerError where the server cannot be had."""
    with LiveSession(
        dsn, statement_timeout_ms=TIMEOUT_MS, lock_timeout_ms=LOCK_TIMEOUT_MS
    ) as session:
        health = examine(session, _rules(), {}, redact_dsn(dsn), lambda _: None)
    return [
        (f.rule, f.severity, f.message, f.fixes[0].sql if f.fixes else "") for f in health.findings
    ]


@cache
def _rules() -> tuple[Rule, ...]:
    return tuple(load_rules(("database",)))
