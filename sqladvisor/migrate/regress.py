"""Plans of a workload before and after the migrations, on shadow planners, and who made them worse.

Each query is planned on a shadow of the database as it is, and on one of the database as it will be,
with the same statistics. What got worse is then looked for between the statements of the migrations,
by halving: the finding stands on the statement's line.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sqladvisor.catalog.live import read_catalog
from sqladvisor.catalog.statistics import Statistics
from sqladvisor.context import Context
from sqladvisor.evidence import MAX_PLANNED, Planned, as_planned
from sqladvisor.finding import Evidence, Finding, Severity
from sqladvisor.migrate.carry import carry, index_definitions
from sqladvisor.migrate.reconcile import fingerprint, first_line
from sqladvisor.migrate.stage import Stage
from sqladvisor.migrate.trace import Step, Trace, place
from sqladvisor.plan.annotate import Annotated
from sqladvisor.plan.node import Plan
from sqladvisor.server.explain import ExplainError, explain, explainable
from sqladvisor.server.parameters import with_types
from sqladvisor.server.shadow import build_shadow
from sqladvisor.server.snapshot import with_counters
from sqladvisor.sql.statement import Statement

if TYPE_CHECKING:
    import psycopg

    from sqladvisor.catalog.model import Catalog
    from sqladvisor.catalog.snapshot import Snapshot
    from sqladvisor.catalog.stand_ins import StandIns

FACTOR = 1.5
"""Times the planner's cost must grow to be called a regression."""
LOST_FACTOR = 1.1
"""Times it must grow to be worth a warning where an index that the query used is gone."""
MIN_COST = 100.0
"""Planner cost units it must grow by at least: those of 100 pages read in sequence."""
MAX_PLAN_LINES = 10
"""Lines of a plan in a finding's notes; the figures have all of them."""
# SQLSTATEs of statements that do not fit the schema: undefined or ambiguous names, types.
_BROKEN = frozenset(
    ("42P01", "42703", "42883", "42804", "3F000", "42704", "42702", "42809", "42P10", "42601",
     "22P02", "42846", "42803", "428C9")
)  # fmt: skip
_UNTYPED = frozenset(("42P08", "42P18"))
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A query's plan, or why there is none."""

    plan: Plan | None
    error: str = ""
    sqlstate: str = ""


@dataclass(slots=True)
class Compared:
    """What the migrations do to the workload. ``planned`` counts the queries compared."""

    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    planned: int = 0


@dataclass(slots=True)
class _Shadows:
    """Shadow planners behind so many statements, built when asked for and kept until the end."""

    stage: Stage
    statistics: Statistics
    defined: dict[tuple[str, str], str]
    stack: ExitStack
    say: Say
    stand_ins: StandIns | None
    open: dict[int, psycopg.Connection] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def behind(self, statements: int) -> psycopg.Connection:
        if statements not in self.open:
            self.say("building a shadow planner")
            name = f"shadow_{self.stage.start.name}_{statements}"
            with self.stage.after(statements) as sandbox, sandbox.connect() as connection:
                carried = carry(self.statistics, connection, self.defined)
                ddl = self.stage.ddl(sandbox)
            self.stack.callback(self.stage.cluster.drop_database, name)
            shadow = build_shadow(self.stage.cluster, name, ddl, carried)
            shadow.stand_ins = self.stand_ins
            self.left_out += [n for n in shadow.left_out if n not in self.left_out]
            self.open[statements] = self.stack.enter_context(shadow.connect())
        return self.open[statements]


def compare_plans(
    stage: Stage,
    statistics: Statistics,
    workload: Sequence[Statement],
    trace: Trace,
    say: Say = lambda _: None,
    *,
    factor: float = FACTOR,
    min_cost: float = MIN_COST,
    snapshot: Snapshot | None = None,
) -> Compared:
    """Plan the workload before and after. ``trace`` is that of the stage's migrations.

    ``statistics`` are those of the database as it is, or assumed ones; ``snapshot`` is what they are
    from, where they are. Raises ServerError and
    psycopg.Error when a server is lost.
    """
    result = Compared()
    if not workload:
        return result
    with ExitStack() as stack:
        with stage.start.connect() as connection:
            defined = index_definitions(connection)
        stand_ins = snapshot.stand_ins if snapshot else None
        shadows = _Shadows(stage, statistics, defined, stack, say, stand_ins)
        before = shadows.behind(0)
        catalog = read_catalog(before)
        if snapshot is not None:
            catalog = with_counters(catalog, snapshot)
        items = list(_planned(workload, catalog))
        after = shadows.behind(len(trace.steps))
        gone = _names(defined) - _names(index_definitions(after))
        limits = _Limits(factor, min_cost, gone)
        say(f"planning {len(items)} queries before and after")
        unplanned = 0
        better: list[str] = []
        worse: dict[tuple[str, int], list[Finding]] = {}
        for item in items:
            old = _plan(before, item)
            if old.plan is None:
                unplanned += 1
                continue
            result.planned += 1
            new = _plan(after, item)
            if limits.worse(old, new):
                step = _culprit(item, old, trace, shadows, limits)
                severity: Severity = "error" if limits.serious(old, new) else "warning"
                found = _finding(item, old, new, step, severity)
                worse.setdefault((item.context.fingerprint, id(step)), []).append(found)
            elif new.plan is not None and limits.over(new.plan, old.plan, factor):
                better.append(
                    f"{place(item.context.statement)}: faster: planner cost "
                    f"{old.plan.total_cost:,.0f} → {new.plan.total_cost:,.0f}"
                )
        result.findings += [_worst(found) for found in worse.values()]
        if unplanned:
            result.notes.append(
                f"{unplanned} workload quer{'ies' if unplanned > 1 else 'y'} could not be planned "
                "before the migrations either: not compared"
            )
        result.notes += [*shadows.left_out, *better]
    return result


def _planned(workload: Sequence[Statement], catalog: Catalog) -> Iterator[Planned]:
    seen: Counter[str] = Counter()
    for statement in workload:
        if not explainable(statement.kind):
            continue
        if statement.embedding and statement.embedding.partial:
            continue
        context = Context(statement, catalog)
        seen[context.fingerprint] += 1
        if seen[context.fingerprint] <= MAX_PLANNED:
            yield as_planned(context)


def _plan(connection: psycopg.Connection, item: Planned) -> Outcome:
    try:
        try:
            plan = explain(connection, item.sql, generic=item.generic, writes=item.writes)
        except ExplainError as error:
            if not item.generic or error.sqlstate not in _UNTYPED:
                raise
            item.sql = with_types(item.context)
            plan = explain(connection, item.sql, generic=True, writes=item.writes)
    except ExplainError as error:
        return Outcome(None, str(error), error.sqlstate or "")
    return Outcome(plan)


def _names(defined: dict[tuple[str, str], str]) -> frozenset[str]:
    return frozenset(name for _, name in defined)


@dataclass(frozen=True, slots=True)
class _Limits:
    """From when on a plan is worse. ``gone``: names of indexes that the migrations drop."""

    factor: float
    min_cost: float
    gone: frozenset[str]

    def serious(self, old: Outcome, new: Outcome) -> bool:
        assert old.plan is not None
        return new.plan is None or self.over(old.plan, new.plan, self.factor)

    def worse(self, old: Outcome, new: Outcome) -> bool:
        if old.plan is None:
            return False
        if new.plan is None:
            return new.sqlstate in _BROKEN
        lost = bool(old.plan.indexes_used() & self.gone)
        return self.over(old.plan, new.plan, LOST_FACTOR if lost else self.factor)

    def over(self, small: Plan, large: Plan, factor: float) -> bool:
        grown = large.total_cost - small.total_cost
        return grown >= self.min_cost and large.total_cost >= factor * small.total_cost


# -- who did it -----------------------------------------------------------------------------------


def _culprit(item: Planned, old: Outcome, trace: Trace, shadows: _Shadows, limits: _Limits) -> Step:
    """The statement behind which the query is first worse than before."""
    assert old.plan is not None
    dropping = [
        step
        for step in trace.steps
        if any(
            c.action == "dropped" and c.type == "index" and _bare(c.name) in old.plan.indexes_used()
            for c in step.changes
        )
    ]
    if len(dropping) == 1 and limits.gone & old.plan.indexes_used():
        return dropping[0]
    suspects = _suspects(item, old, trace)
    low, high = 0, len(suspects) - 1
    while low < high:
        middle = (low + high) // 2
        found = _plan(shadows.behind(suspects[middle] + 1), item)
        if limits.worse(old, found):
            high = middle
        else:
            low = middle + 1
    return trace.steps[suspects[low]]


def _suspects(item: Planned, old: Outcome, trace: Trace) -> list[int]:
    """Ordinals of the statements that changed something the query's plan rests on.

    By the tables that its plan reads, its text names, and the locks of the statements; all that
    changed anything where that finds none.
    """
    tables = {str(n.get("relname")) for n in item.context.tree.of("RangeVar")}
    assert old.plan is not None
    tables |= {n.relation for n in old.plan.nodes() if n.relation}
    changing = [i for i, s in enumerate(trace.steps) if s.traced and (s.changes or s.rewritten)]
    touching = [
        i
        for i in changing
        if any(_bare(k.relation) in tables for k in (*trace.steps[i].locks, *trace.steps[i].held))
        or any(_bare(c.name) in tables for c in trace.steps[i].changes)
        or any(c.type in ("function", "operator", "type") for c in trace.steps[i].changes)
    ]
    return touching or changing or list(range(len(trace.steps)))


def _bare(name: str) -> str:
    return name.rpartition(".")[2].strip('"').replace('""', '"')


# -- findings -------------------------------------------------------------------------------------


def _finding(item: Planned, old: Outcome, new: Outcome, step: Step, severity: Severity) -> Finding:
    query = item.context.statement
    assert old.plan is not None
    figures: dict[str, object] = {
        "query": query.text,
        "query_path": query.path,
        "query_line": query.line,
        "query_place": place(query),
        "migration": step.migration.version,
        "cost_before": old.plan.total_cost,
        "plan_before": "\n".join(plan_lines(old.plan)),
    }
    if new.plan is None:
        rule = "migration/breaks-query"
        message = f"Breaks the workload query at {place(query)}: {new.error}."
        figures["sqlstate"] = new.sqlstate
        notes = [f"query: {_short(query.text)}", *_shown("before", old.plan)]
    else:
        rule = "migration/plan-regression"
        times = new.plan.total_cost / max(old.plan.total_cost, 0.01)
        lost = sorted(old.plan.indexes_used() - new.plan.indexes_used())
        lacks = f": its plan no longer uses {', '.join(lost)}" if lost else ""
        message = (
            f"Makes the workload query at {place(query)} {_times(times)} costlier to run{lacks}."
        )
        figures |= {
            "cost_after": new.plan.total_cost,
            "plan_after": "\n".join(plan_lines(new.plan)),
            "indexes_lost": lost,
        }
        notes = [
            f"query: {_short(query.text)}",
            *_shown("before", old.plan),
            *_shown("after", new.plan),
        ]
    statement = step.statement
    return Finding(
        rule=rule,
        severity=severity,
        message=message,
        location=first_line(statement),
        statement=statement.text,
        fingerprint=fingerprint(statement),
        evidence=Evidence("estimated", figures, tuple(notes)),
    )


def _worst(found: Sequence[Finding]) -> Finding:
    """Of the findings about queries that differ in literals only the worst, with the others' lines."""
    worst = max(
        found,
        key=lambda f: (
            float(f.evidence.figures.get("cost_after", math.inf))
            / max(f.evidence.figures["cost_before"], 1.0)
        ),
    )
    others = [str(f.evidence.figures["query_place"]) for f in found if f is not worst]
    if not others:
        return worst
    evidence = worst.evidence
    notes = (*evidence.notes, f"so are those of the same form at {', '.join(others)}")
    return replace(worst, evidence=replace(evidence, notes=notes))


def _times(factor: float) -> str:
    return f"{factor:,.0f}×" if factor >= 10 else f"{factor:.1f}×"


def _shown(when: str, plan: Plan) -> list[str]:
    lines = plan_lines(plan)
    more = len(lines) - MAX_PLAN_LINES
    shown = [f"{when}: {lines[0]}", *(f"    {line}" for line in lines[1:MAX_PLAN_LINES])]
    return shown + ([f"    … {more} more lines"] if more > 0 else [])


def plan_lines(plan: Plan) -> list[str]:
    """A plan as EXPLAIN's text format has it: a node a line, conditions below."""
    lines = []
    for row in Annotated(plan, "", 0, "").rows():
        node, pad = row.node, "  " * row.node.depth
        arrow = "-> " if node.depth else ""
        cost = f"(cost={node.startup_cost:.2f}..{node.total_cost:.2f} rows={node.plan_rows:.0f})"
        lines.append(f"{pad}{arrow}{node.label}  {cost}")
        lines += [f"{pad}   {name}: {text}" for name, text in row.details if name]
    return lines


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 120 else flat[:119] + "…"
