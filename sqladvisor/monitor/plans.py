"""The plans that the busiest statements have now, to see when one gets another plan.

EXPLAIN (GENERIC_PLAN) of pg_stat_statements' own texts, on 16 and newer. Only of statements that
read and lock no row: planning those takes ACCESS SHARE on their tables, as any query does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import psycopg

from sqladvisor.errors import InputError
from sqladvisor.monitor.family import SeenPlan
from sqladvisor.plan.node import Plan
from sqladvisor.plan.read import read_json
from sqladvisor.server.explain import GENERIC_PLAN_VERSION
from sqladvisor.server.session import MARK

TOP = 20
"""Statements explained at a time, by execution time."""


async def read_plans(
    connection: psycopg.AsyncConnection, statements: Sequence[tuple[str, str]]
) -> tuple[tuple[SeenPlan, ...], str]:
    """Plans of (queryid, text), and what is to be said about those that cannot be had."""
    version = connection.info.server_version
    if version < GENERIC_PLAN_VERSION:
        return (), f"no plans: PostgreSQL {version // 10000} has no EXPLAIN (GENERIC_PLAN)"
    plans = []
    # Their names are meant as the role's own sessions have them.
    await connection.execute("RESET search_path")
    # Of those who look at the catalogs (monitors, ourselves) nobody asks for the plan.
    asked = [s for s in statements if "pg_catalog." not in s[1] and MARK not in s[1]]
    wanted = [s for s in asked if only_reads(s[1])]
    for queryid, text in wanted[:TOP]:
        plan = await _explain(connection, text)
        if plan is not None:
            plans.append(SeenPlan(queryid, fingerprint(plan), tree(plan), plan.total_cost))
    await connection.execute("SET search_path = pg_catalog")
    return tuple(plans), ""


def only_reads(text: str) -> bool:
    """Whether a text is one SELECT that changes and locks nothing."""
    from sqladvisor.sql.effects import writes
    from sqladvisor.sql.libpg import ParseProblem, parse

    try:
        found = parse(text)
    except (ParseProblem, ValueError):
        return False
    return (
        len(found) == 1
        and found[0].kind == "SelectStmt"
        and not writes("SelectStmt", found[0].node)
    )


async def _explain(connection: psycopg.AsyncConnection, text: str) -> Plan | None:
    # The text is one statement by the parser's word: GENERIC_PLAN takes the simple protocol only.
    try:
        async with psycopg.AsyncRawCursor(connection) as cursor:
            await cursor.execute(
                f"EXPLAIN (FORMAT JSON, GENERIC_PLAN) {text}".encode(), prepare=False
            )
            row = await cursor.fetchone()
    except psycopg.Error:
        if connection.closed:
            raise
        return None  # names of another search_path, a type that cannot be guessed, a lock
    try:
        return read_json(row[0]) if row else None
    except InputError:
        return None


def fingerprint(plan: Plan) -> str:
    """The same for plans of one shape: nodes, relations and indexes, without costs and rows."""
    return hashlib.sha256(tree(plan).encode("utf-8", "replace")).hexdigest()[:16]


def tree(plan: Plan) -> str:
    """The nodes as EXPLAIN names them, one a line, indented."""
    return "\n".join(f"{'  ' * node.depth}{node.label}" for node in plan.nodes())
