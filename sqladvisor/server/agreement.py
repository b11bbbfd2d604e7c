"""How far a shadow can be trusted: plans of reading statements on the server and on its shadow.

What-if figures are the shadow's. Where it plans a statement as it stands otherwise than the server
does, what it says of that statement with an index more is worth less, and is said to be.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg

from sqladvisor.errors import ServerError
from sqladvisor.plan.node import Plan
from sqladvisor.server.explain import explain
from sqladvisor.server.whatif import WhatIf
from sqladvisor.sql.effects import writes
from sqladvisor.sql.libpg import ParseProblem, parse

MAX_ASKED = 10
"""Statements that are planned on the server for this."""
BUDGET_MS = 100.0
"""After so many milliseconds of that no further one is."""
WITHIN = 0.01
"""The share by which total costs may differ."""
MAX_NAMED = 5
_ALIKE = ("Join Type", "Strategy", "Partial Mode", "Workers Planned")


@dataclass(frozen=True, slots=True)
class Asked:
    """A statement to compare. ``plan``: the server's, where it has been asked for it already."""

    name: str
    sql: str
    generic: bool = False
    plan: Plan | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """A statement that the shadow plans otherwise. ``other_plan``: not only at another cost."""

    name: str
    other_plan: bool
    cost_server: float
    cost_shadow: float
    where: str = ""
    """The first step in which the plans differ."""

    def __str__(self) -> str:
        if self.other_plan:
            return f"{self.name} ({self.where})"
        ratio = self.cost_shadow / self.cost_server if self.cost_server else 0.0
        return f"{self.name} (the same plan at {ratio:.2f} times the cost)"


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of how many statements the plans were compared, and which differed."""

    compared: int
    different: tuple[Difference, ...] = ()

    def line(self) -> str:
        """For the report, in one line."""
        if not self.different:
            return f"the shadow plans {_all(self.compared)} as the server does, cost within 1 %"
        named = ", ".join(map(str, self.different[:MAX_NAMED]))
        more = len(self.different) - MAX_NAMED
        return (
            f"the shadow's plan differs from the server's for {len(self.different)} of "
            f"{self.compared} statements compared: {named}"
            + (f" and {more} more" if more > 0 else "")
        )

    def figures(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "compared": self.compared,
            "same": self.compared - len(self.different),
            "different": [
                {
                    "name": d.name,
                    "other_plan": d.other_plan,
                    "where": d.where,
                    "cost_server": d.cost_server,
                    "cost_shadow": d.cost_shadow,
                }
                for d in self.different
            ],
        }

    def of(self, names: Iterable[str]) -> tuple[Difference, ...]:
        """The differences among these statements."""
        wanted = set(names)
        return tuple(d for d in self.different if d.name in wanted)


def _all(count: int) -> str:
    return "the one statement compared" if count == 1 else f"all {count} statements compared"


def compare(server: psycopg.Connection, whatif: WhatIf, asked: Iterable[Asked]) -> Agreement | None:
    """Compare plans; None where there was nothing to compare. Raises ServerError on a lost session.

    The server is asked for at most ``MAX_ASKED`` plans, in ``BUDGET_MS``, and for none of a
    statement that writes or locks rows: EXPLAIN takes the locks of what it explains.
    """
    compared, spent, count = 0, 0.0, 0
    different: list[Difference] = []
    calls = whatif.calls
    for item in asked:
        plan = item.plan
        if plan is None:
            if count >= MAX_ASKED or spent >= BUDGET_MS or not _only_reads(item.sql):
                continue
            count += 1
            began = time.monotonic()
            try:
                plan = explain(server, item.sql, generic=item.generic)
            except ServerError:
                if server.closed:
                    raise
                continue  # it does not plan there: that is said elsewhere
            finally:
                spent += (time.monotonic() - began) * 1000
        try:
            other = whatif.cost(item.sql, (), generic=item.generic)
        except ServerError:
            continue
        compared += 1
        if (found := _difference(item.name, plan, other)) is not None:
            different.append(found)
    whatif.calls = calls  # these priced nothing
    return Agreement(compared, tuple(different)) if compared else None


def _only_reads(sql: str) -> bool:
    try:
        parsed = parse(sql)
    except ParseProblem:
        return False
    return (
        len(parsed) == 1
        and parsed[0].kind == "SelectStmt"
        and not writes(parsed[0].kind, parsed[0].node)
    )


def _difference(name: str, server: Plan, shadow: Plan) -> Difference | None:
    costs = server.total_cost, shadow.total_cost
    here, there = list(server.nodes()), list(shadow.nodes())
    for a, b in zip(here, there, strict=False):
        if (a.path, a.node_type, a.relation, a.alias, a.index, *_kind(a.raw)) != (
            b.path, b.node_type, b.relation, b.alias, b.index, *_kind(b.raw)
        ):  # fmt: skip
            where = f"{b.label} instead of {a.label}" if a.label != b.label else a.label
            return Difference(name, True, *costs, where)
    if len(here) != len(there):
        return Difference(name, True, *costs, "another number of steps")
    if abs(costs[1] - costs[0]) > WITHIN * costs[0]:
        return Difference(name, False, *costs)
    return None


def _kind(raw: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(raw.get(key, "")) for key in _ALIKE)
