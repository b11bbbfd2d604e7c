"""A statement with parameters, planned once for all values and once for each of some values."""

from __future__ import annotations

from dataclasses import dataclass

from sqladvisor.plan.node import Plan

_PLANNING_CALLS = 1000
_CPU_OPERATOR_COST = 0.0025
"""cached_plan_cost() in plancache.c: what PostgreSQL takes planning to cost, per relation plus one,
in units of cpu_operator_cost (its default)."""


@dataclass(frozen=True, slots=True)
class ValuePlan:
    """The custom plan for one value of parameter ``$number``, which is compared with ``column``.

    ``literal`` is SQL text; ``share`` is the fraction of the table's rows that have the value.
    ``custom_ms`` and ``generic_ms`` are median execution times with either plan, None where the
    statement was not run.
    """

    number: int
    column: str
    value: str
    literal: str
    share: float
    plan: Plan
    custom_ms: float | None = None
    generic_ms: float | None = None


@dataclass(frozen=True, slots=True)
class ParameterPlans:
    """The generic plan and the custom plans of one statement. ``relations``: those it reads."""

    generic: Plan
    values: tuple[ValuePlan, ...]
    relations: int

    def goes_generic(self) -> bool:
        """Whether PostgreSQL would come to use the generic plan after its five custom ones.

        It does where the generic plan's cost is below the average of the custom plans with what it
        charges for planning (choose_custom_plan() in plancache.c). The average depends on which
        values come first: taken are values as frequent as their rows, and each value equally often.
        """
        planning = _PLANNING_CALLS * _CPU_OPERATOR_COST * (self.relations + 1)
        costs = [v.plan.total_cost for v in self.values]
        known = sum(v.share for v in self.values)
        by_rows = (
            sum(v.share * v.plan.total_cost for v in self.values) / known if known else costs[0]
        )
        by_values = sum(costs) / len(costs)
        return self.generic.total_cost < max(by_rows, by_values) + planning
