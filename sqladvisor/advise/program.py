"""The integer program that picks indexes: one plan atom for each statement, under a budget.

Binary variables: index *i* exists; statement *s* runs by atom *a*. Each statement takes one atom,
and only atoms whose indexes all exist. The objective is the workload's planner cost plus what the
indexes cost its writes. Solved by HiGHS on one thread with a fixed seed, so that the same
statements give the same answer.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import highspy
import numpy as np

# The class beneath highspy.Highs, which prints a banner on standard output when it is made.
from highspy._core import _Highs

from sqladvisor.advise.pricing import IndexSet, members, set_of

MB = 1e6
GAP = 1e-6
"""Relative gap at which the program counts as solved: below the planner's own rounding."""
OBJECTIVE = 1e4
"""What the workload's cost is scaled to: HiGHS takes differences below 1e-6 for none, and its presolve
was seen to lose the optimum where a size price of 1e-9 stood beside a cost of 1."""
SIZE_PRICE = 1e-9
"""Share of the workload's cost that a megabyte costs: of equals, the smaller set."""


@dataclass(frozen=True, slots=True)
class Shared:
    """A cost of having any of some indexes, paid once: heap-only updates that come to an end."""

    indexes: IndexSet
    cost: float


@dataclass(frozen=True, slots=True)
class Floor:
    """What was proven of a statement's plans that are not known: none costs less than ``cost``

    without the parts that it pays for indexes, however cheap they be."""

    cost: float
    parts: Mapping[int, float] = field(default_factory=dict)

    def under(self, chosen: IndexSet) -> float:
        """No unknown plan with these indexes costs less."""
        return self.cost - sum(self.parts.get(i, 0.0) for i in members(chosen))


@dataclass(frozen=True, slots=True)
class Problem:
    """What to choose from. Costs in planner cost units, sizes in bytes."""

    atoms: Sequence[Sequence[tuple[IndexSet, float]]]
    """For each statement its atoms: indexes used and weighted cost."""
    sizes: Mapping[int, int]
    """What counts against the budget; existing indexes count nothing."""
    upkeep: Mapping[int, float] = field(default_factory=dict)
    """What an index costs the workload's writes."""
    shared: Sequence[Shared] = ()
    required: IndexSet = 0
    """Indexes that must be there."""
    keep_one: Sequence[IndexSet] = ()
    """Sets of which one index must be there."""
    hidden: Sequence[Mapping[IndexSet, IndexSet]] = ()
    """For each statement the atoms that cannot be had where one of some other indexes is there."""
    aliases: Sequence[Mapping[int, IndexSet]] = ()
    """For each statement, by an index of its own, the indexes of others that may stand in for it."""
    floors: Sequence[Sequence[Floor]] = ()
    """For each statement what bounds the plans that are not known. Where given, a statement may run

    by one of those: the optimum then is a bound for every choice, whatever else is found."""


@dataclass(frozen=True, slots=True)
class Solution:
    """A set of indexes, what the program expects of it, and what it could prove."""

    chosen: IndexSet
    cost: float
    """Expected cost, writes included."""
    bound: float
    """No choice among these atoms costs less."""
    complete: bool
    """Whether the gap was closed; else the time limit ended it."""
    unknown: tuple[int, ...] = ()
    """The statements that it lets run by a plan nobody has seen yet."""


@dataclass(frozen=True, slots=True)
class Prices:
    """The relaxed program's duals: what to pay, and where."""

    cost: float
    """The relaxed optimum: a bound for every choice among the atoms known."""
    megabyte: float
    """What a megabyte of the budget is worth."""
    parts: Mapping[tuple[int, int], float]
    """(statement, index): the part of the index's price that this statement has to earn."""


def solve(
    problem: Problem,
    budget: float | None,
    *,
    time_limit: float | None = None,
    gap: float = GAP,
) -> Solution:
    """The best set of indexes within ``budget`` bytes (None: any), by the atoms known."""
    model = _Model(problem, budget, relaxed=False)
    highs = model.highs
    highs.setOptionValue("mip_rel_gap", gap)
    if time_limit is not None:
        highs.setOptionValue("time_limit", max(time_limit, 0.1))
    highs.run()
    info = highs.getInfo()
    complete = highs.getModelStatus() == highspy.HighsModelStatus.kOptimal
    if info.primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
        return Solution(problem.required, float("inf"), 0.0, False)
    values = highs.getSolution().col_value
    chosen = 0
    for column, number in enumerate(model.indexes):
        if values[column] > 0.5:
            chosen |= 1 << number
    unknown = tuple(n for n, column in model.unknown.items() if values[column] > 0.5)
    bound = info.mip_dual_bound if model.indexes else info.objective_function_value
    return Solution(
        chosen, info.objective_function_value * model.scale, bound * model.scale, complete, unknown
    )


def relax(problem: Problem, budget: float | None) -> Prices:
    """The duals of the relaxed program."""
    model = _Model(problem, budget, relaxed=True)
    model.highs.run()
    duals = model.highs.getSolution().row_dual
    parts = {
        key: max(-duals[row], 0.0) * model.scale for key, row in model.links.items() if duals[row]
    }
    megabyte = max(-duals[0], 0.0) * model.scale
    return Prices(model.highs.getInfo().objective_function_value * model.scale, megabyte, parts)


class _Model:
    """The program as HiGHS takes it: columns are the indexes, then atoms, then shared costs."""

    def __init__(self, problem: Problem, budget: float | None, *, relaxed: bool) -> None:
        mentioned = problem.required
        for group in problem.keep_one:
            mentioned |= group
        for atoms in problem.atoms:
            for used, _ in atoms:
                mentioned |= used
        for floors in problem.floors:
            for floor in floors:
                mentioned |= set_of(i for i, part in floor.parts.items() if part)
        self.problem = problem
        self.indexes = list(members(mentioned))
        whole = sum(max((c for _, c in atoms), default=0.0) for atoms in problem.atoms)
        self.scale = whole / OBJECTIVE or 1.0
        self.links: dict[tuple[int, int], int] = {}
        self.unknown: dict[int, int] = {}
        self._column = {number: place for place, number in enumerate(self.indexes)}
        self._build(budget, relaxed)

    def _build(self, budget: float | None, relaxed: bool) -> None:
        problem, column = self.problem, self._column
        costs = [
            (problem.upkeep.get(i, 0.0)) / self.scale
            + SIZE_PRICE * OBJECTIVE * problem.sizes.get(i, 0) / MB
            for i in self.indexes
        ]
        lower = [1.0 if problem.required >> i & 1 else 0.0 for i in self.indexes]
        limit = highspy.kHighsInf if budget is None else budget / MB
        rows: list[tuple[float, float, list[int], list[float]]] = [
            (
                -highspy.kHighsInf,
                limit,
                list(range(len(self.indexes))),
                [problem.sizes.get(i, 0) / MB for i in self.indexes],
            )
        ]
        for group in problem.keep_one:
            places = [column[i] for i in members(group)]
            rows.append((1.0, highspy.kHighsInf, places, [1.0] * len(places)))
        for number, atoms in enumerate(problem.atoms):
            places = []
            users: dict[int, list[int]] = {}
            hidden = problem.hidden[number] if problem.hidden else {}
            for used, cost in atoms:
                place = len(costs)
                for index in members(hidden.get(used, 0)):
                    if index in column:
                        rows.append((-highspy.kHighsInf, 1.0, [place, column[index]], [1.0, 1.0]))
                costs.append(cost / self.scale)
                lower.append(0.0)
                places.append(place)
                for index in members(used):
                    users.setdefault(index, []).append(place)
            if problem.floors:
                places.append(len(costs))
                self._unknown(number, costs, lower, rows)
            rows.append((1.0, 1.0, places, [1.0] * len(places)))
            for index, using in users.items():
                self.links[number, index] = len(rows)
                serving = [column[i] for i in self._serving(number, index)]
                values = [1.0] * len(using) + [-1.0] * len(serving)
                rows.append((-highspy.kHighsInf, 0.0, [*using, *serving], values))
        for shared in problem.shared:
            place = len(costs)
            costs.append(shared.cost / self.scale)
            lower.append(0.0)
            for index in members(shared.indexes):
                if index in column:
                    rows.append((-highspy.kHighsInf, 0.0, [column[index], place], [1.0, -1.0]))
        free = {place + 1 for place in self.unknown.values()}
        self.highs = _highs(costs, lower, rows, relaxed, free)

    def _serving(self, number: int, index: int) -> list[int]:
        """The indexes of the program that give a statement what this one of its own does."""
        aliases = self.problem.aliases[number].get(index, 0) if self.problem.aliases else 0
        return [i for i in (index, *members(aliases)) if i in self._column]

    def _unknown(
        self,
        number: int,
        costs: list[float],
        lower: list[float],
        rows: list[tuple[float, float, list[int], list[float]]],
    ) -> None:
        """Columns for a plan that is not known: whether it is taken, and what it costs at least."""
        place = self.unknown[number] = len(costs)
        costs += [0.0, 1.0]
        lower += [0.0, 0.0]
        for floor in self.problem.floors[number]:
            parts: dict[int, float] = {}
            for index, part in floor.parts.items():
                for i in self._serving(number, index) if part else ():
                    place_ = self._column[i]
                    parts[place_] = parts.get(place_, 0.0) + part / self.scale
            rows.append(
                (
                    0.0,
                    highspy.kHighsInf,
                    [place, place + 1, *parts],
                    [-floor.cost / self.scale, 1.0, *parts.values()],
                )
            )


def _highs(
    costs: list[float],
    lower: list[float],
    rows: list[tuple[float, float, list[int], list[float]]],
    relaxed: bool,
    free: Collection[int],
) -> _Highs:
    highs = _Highs()
    for name, value in (
        ("output_flag", False), ("threads", 1), ("random_seed", 0),
    ):  # fmt: skip
        highs.setOptionValue(name, value)
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = len(costs), len(rows)
    lp.col_cost_ = np.array(costs)
    lp.col_lower_ = np.array(lower)
    lp.col_upper_ = np.array([highspy.kHighsInf if c in free else 1.0 for c in range(len(costs))])
    lp.row_lower_ = np.array([r[0] for r in rows])
    lp.row_upper_ = np.array([r[1] for r in rows])
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    starts = np.cumsum([0, *(len(r[2]) for r in rows)])
    lp.a_matrix_.start_ = starts
    lp.a_matrix_.index_ = np.array([p for r in rows for p in r[2]], dtype=np.int32)
    lp.a_matrix_.value_ = np.array([v for r in rows for v in r[3]])
    if not relaxed:
        whole, real = highspy.HighsVarType.kInteger, highspy.HighsVarType.kContinuous
        lp.integrality_ = [real if c in free else whole for c in range(len(costs))]
    highs.passModel(lp)
    return highs


__all__ = ["MB", "Prices", "Problem", "Shared", "Solution", "relax", "solve"]
