"""Once prepared, this statement may keep one plan for all values, which is far worse for some of them.

Why: after five executions of a prepared statement PostgreSQL compares the average cost of the plans
    it made for the values with that of one generic plan, and keeps the generic one where it looks
    no dearer. A generic plan is made for an average value: with a value that a third of the table
    has, or hardly any row where others have many, it can be the wrong one by orders of magnitude,
    from the sixth execution on.
Fix: plan_cache_mode = force_custom_plan for this statement (its transaction, function or role), or a
    statement of its own, with the value written into it, for the values that are not like the others.
Silent when: the values of the column are about equally frequent; the plans differ in the values only;
    PostgreSQL would stay with custom plans by itself; the statement was timed, and the generic plan
    loses less than 5 ms or takes less than three times as long; without rows, where its estimated cost
    at that value is less than ten times the custom plan's.
Source: PostgreSQL manual, PREPARE ("Notes") and plan_cache_mode in 19.7.4; choose_custom_plan() in
    plancache.c.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.figures import ms
from sqladvisor.finding import Edit, Finding, Fix
from sqladvisor.plan.by_value import ParameterPlans, ValuePlan
from sqladvisor.plan.node import Plan, PlanNode
from sqladvisor.rule import PARAMETERS, rule

SETUP = """
CREATE TABLE jobs (id int PRIMARY KEY, state text NOT NULL, tenant int NOT NULL, pad text);
INSERT INTO jobs SELECT i, CASE WHEN i % 20000 = 0 THEN 'failed' WHEN i % 3 = 0 THEN 'open' ELSE 'done' END,
    CASE WHEN i % 2 = 0 THEN 1 ELSE i END, repeat('x', 100) FROM generate_series(1, 200000) i;
CREATE INDEX ON jobs (state);
CREATE INDEX ON jobs (tenant);
ALTER TABLE jobs ALTER state SET STATISTICS 1000;
"""
BAD = [
    "SELECT id, pad FROM jobs WHERE state = $1 ORDER BY id LIMIT 20",
    "SELECT count(*)\n  FROM (SELECT * FROM jobs AS j WHERE j.state = :state ORDER BY j.id DESC LIMIT 20) recent",
]
GOOD = [
    "SELECT * FROM jobs WHERE id = $1",
    "SELECT id, pad FROM jobs WHERE state = $1",
    "SELECT * FROM jobs WHERE state = $1 AND id = $2",
    "SELECT id FROM jobs WHERE state = 'failed' ORDER BY id LIMIT 20",
    "SELECT id, pad FROM jobs WHERE state <> $1",
]


@rule(
    PARAMETERS,
    severity="warning",
    needs=("plan",),
    thresholds={
        "min_factor": 3,  # times of a warm cache vary by less than two
        "min_lost_ms": 5,  # as for plan nodes
        "min_cost_factor": 10,  # estimates alone: the field's first step of a misestimate
    },
)
def check(plans: ParameterPlans, ctx: Context) -> Iterator[Finding]:
    if not plans.goes_generic():
        return
    worst: dict[int, tuple[float, ValuePlan]] = {}
    for value in plans.values:
        lost = _lost(value, plans.generic, ctx)
        if lost > worst.get(value.number, (0.0, value))[0]:
            worst[value.number] = lost, value
    for lost, value in worst.values():
        yield _finding(lost, value, plans, ctx)


def _lost(value: ValuePlan, generic: Plan, ctx: Context) -> float:
    """How much the generic plan loses with this value (ms, or cost units); 0 for nothing to tell."""
    if value.custom_ms is not None and value.generic_ms is not None:
        lost = value.generic_ms - value.custom_ms
        far = value.generic_ms >= ctx.threshold("min_factor") * value.custom_ms
        return lost if far and lost >= ctx.threshold("min_lost_ms") else 0.0
    cost = _cost_at(value, generic)
    far = cost >= ctx.threshold("min_cost_factor") * value.plan.total_cost
    return cost - value.plan.total_cost if far else 0.0


def _cost_at(value: ValuePlan, generic: Plan) -> float:
    """The generic plan's cost at a value: in proportion to the rows it would find there.

    0 where the plans do the same, or cannot be compared.
    """
    table = value.column.rpartition(".")[0]
    ours, theirs = _scan(value.plan, table), _scan(generic, table)
    if ours is None or theirs is None:
        return 0.0
    if (ours.node_type, ours.index) == (theirs.node_type, theirs.index):
        return 0.0
    if theirs.node_type == "Seq Scan":
        return generic.total_cost  # reads everything, whatever the value
    limit = _limit_over(generic, theirs)
    if limit is not None and ours.plan_rows < theirs.plan_rows:
        # It reads on until it has found enough rows; of a rare value there are not enough.
        return theirs.total_cost * min(1.0, limit.plan_rows / max(ours.plan_rows, 1.0))
    return generic.total_cost * max(1.0, ours.plan_rows / max(theirs.plan_rows, 1.0))


def _limit_over(plan: Plan, scan: PlanNode) -> PlanNode | None:
    """The LIMIT whose rows come straight from a scan that throws others away; None where there is none."""
    limit = next((n for n in plan.nodes() if n.node_type == "Limit"), None)
    below = limit.children if limit is not None and scan.filter else ()
    while len(below) == 1 and below[0] is not scan and below[0].node_type in _PASSING:
        below = below[0].children
    return limit if len(below) == 1 and below[0] is scan else None


_PASSING = frozenset(("Subquery Scan", "Result", "ProjectSet", "LockRows"))
"""Nodes that hand on rows as they come."""


def _scan(plan: Plan, table: str) -> PlanNode | None:
    return next((n for n in plan.nodes() if n.relation == table), None)


def _finding(lost: float, value: ValuePlan, plans: ParameterPlans, ctx: Context) -> Finding:
    shown = value.value if len(value.value) <= 40 else value.value[:39] + "…"
    rows = f"{value.share * 100:.2g}% of the rows"
    measured = value.custom_ms is not None and value.generic_ms is not None
    if value.custom_ms is not None and value.generic_ms is not None:
        than = f"{ms(value.generic_ms)} instead of {ms(value.custom_ms)}"
    else:
        cost = value.plan.total_cost + lost
        than = f"about {cost:,.0f} cost units instead of {value.plan.total_cost:,.0f}"
    figures: dict[str, object] = {
        "parameter": value.number,
        "column": value.column,
        "value": value.value,
        "share_of_rows": value.share,
        "generic_cost": plans.generic.total_cost,
        "custom_cost": value.plan.total_cost,
        "planning_ms": value.plan.planning_ms,
    }
    if measured:
        figures |= {"time_generic_ms": value.generic_ms, "time_custom_ms": value.custom_ms}
    return ctx.finding(
        None,
        f"prepared, this statement may keep one plan for all values of {value.column}: for '{shown}' "
        f"({rows}) it takes {than}",
        fixes=_fixes(value, ctx),
        level="measured" if measured else "estimated",
        figures=figures,
        notes=(
            f"the generic plan: {_ways(plans.generic)}; for '{shown}': {_ways(value.plan)}",
            f"a custom plan costs {value.plan.planning_ms or 0:.2g} ms of planning each time",
        ),
    )


def _ways(plan: Plan) -> str:
    """How a plan reads its tables, in a few words."""
    scans = [n.label for n in plan.nodes() if n.relation]
    return ", ".join(scans[:4]) + (", …" if len(scans) > 4 else "")


def _fixes(value: ValuePlan, ctx: Context) -> Iterator[Fix]:
    text = ctx.statement.text
    yield Fix(
        "plan it for each value, in its transaction (or by ALTER ROLE or ALTER FUNCTION … SET)",
        f"BEGIN;\nSET LOCAL plan_cache_mode = force_custom_plan;\n{text};\nCOMMIT",
        "advice",
    )
    edits = [
        Edit(start, end, value.literal)
        for start, end, kind in ctx.spans.tokens
        if kind == "PARAM" and ctx.statement.sql[start:end] == f"${value.number}"
    ]
    if edits:
        yield Fix("or write that value into a statement of its own", ctx.edit(*edits), "advice")
