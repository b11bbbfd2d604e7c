"""Chooses the indexes for a workload: discovery and integer program in turn, until neither helps.

For a storage budget: the relaxed program prices the indexes, the statements are searched for plans
worth those prices (``discover``), the new plan atoms go back into the program, and so on until no
plan is missing. The integer program picks the set. Then it is solved once more with a plan for each
statement that nobody has seen, at the least that it can cost by what is proven (``Floor``): where the
optimum takes such plans they are looked for, and where it takes none, no set is better. What is chosen
is explained for real, and what that shows goes back in as well. One set of atoms serves every budget. It can be stopped at any time and
has the best set so far.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sqladvisor.advise import discover
from sqladvisor.advise.pricing import (
    EXACT,
    IndexSet,
    Priced,
    members,
    set_of,
    total,
    undominated,
)
from sqladvisor.advise.program import Floor, Problem, Shared, relax, solve

ROUNDS = 60
"""Pricing rounds for one budget; the relaxed program settles after 5 to 25 on TPC-H."""
SEARCH_CALLS = 10
"""Planner calls for one statement in one round: prices change, so a long search waits for better."""
CLOSING_CALLS = 350
"""Planner calls for one budget, after the search, to prove its choice or to find a better one."""
CLOSING_SEARCH = 30
"""Planner calls of them for one statement at first; twice as many each time that was too few."""
CLOSED = 0.0002
"""Relative gap at which nothing more is looked for. On TPC-H the sets of two advisers that both are
good differ by .0003."""
CONFIRMED = 8
"""Sets explained for real for one budget, each chosen knowing what the last one has shown."""
TIE = 1e-7
"""Relative difference by which a known plan is better than an unknown one of the same cost."""
SOLVER_S = 20.0
"""Seconds for one integer program; it takes milliseconds to a few seconds as a rule."""


@dataclass(slots=True)
class Stop:
    """When to end: at a deadline, at a number of planner calls, or when asked to."""

    deadline: float | None = None
    """time.monotonic() at which to answer."""
    calls: int | None = None
    asked: bool = False

    def now(self, calls: int) -> bool:
        """Whether it is time to answer with what there is."""
        return (
            self.asked
            or (self.calls is not None and calls >= self.calls)
            or (self.deadline is not None and time.monotonic() >= self.deadline)
        )

    def left_s(self) -> float:
        """Seconds for the solver."""
        if self.deadline is None:
            return SOLVER_S
        return min(max(self.deadline - time.monotonic(), 1.0), SOLVER_S)


@dataclass(frozen=True, slots=True)
class Terms:
    """What a choice of indexes has to respect, beside the budget."""

    sizes: Mapping[int, int]
    upkeep: Mapping[int, float] = field(default_factory=dict)
    shared: Sequence[Shared] = ()
    required: IndexSet = 0
    keep_one: Sequence[IndexSet] = ()
    """Of each of these sets one index must be there: a foreign key's look-ups."""
    today: IndexSet = 0
    """The offered indexes that exist."""
    worst: float = 1.1
    """How many times its cost of today a statement may cost at most."""
    use: Sequence[float] = ()
    """For each statement what a new index in its plan has to save it, to be worth having."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The indexes for one budget. Costs in planner cost units of the weighted workload."""

    budget_bytes: float | None
    indexes: IndexSet
    size_bytes: int
    cost: float
    """Explained for real; writes left out."""
    value: float
    """The cost with upkeep, and with what each index has to save to be worth having."""
    bound: float
    """No set of offered indexes within the budget has a lower value."""
    complete: bool
    """Whether the search ended by itself."""
    calls: int
    """Planner calls made up to here."""
    created: int = 0
    """How many of the indexes do not exist today."""

    @property
    def gap(self) -> float:
        """How much cheaper, relatively, another choice could be at most."""
        return max(1 - self.bound / self.value, 0.0) if self.value else 0.0


class Optimiser:
    """Chooses among offered indexes; keeps what it has learned from one budget to the next."""

    def __init__(
        self, statements: Sequence[Priced], terms: Terms, say: Callable[[str], None] | None = None
    ) -> None:
        self.statements = statements
        self.terms = terms
        self._say = say or (lambda _: None)
        self._found: list[IndexSet] = []
        self._refuted: list[dict[int, IndexSet]] = [{} for _ in statements]
        self._floors: list[list[tuple[IndexSet, Floor]]] = [[] for _ in statements]
        self._today = [s.plan(terms.today).cost for s in statements]
        self.base = sum(s.weight * c for s, c in zip(statements, self._today, strict=True))

    @property
    def calls(self) -> int:
        return sum(s.calls for s in self.statements)

    def upkeep(self, chosen: IndexSet) -> float:
        """What a set of indexes costs the writes."""
        own = sum(self.terms.upkeep.get(i, 0.0) for i in members(chosen))
        return own + sum(s.cost for s in self.terms.shared if s.indexes & chosen)

    def choose(self, budget: float | None, stop: Stop) -> Choice:
        """The best set of indexes within ``budget`` bytes (None: any)."""
        sizes = self.terms.sizes.items()
        fitting = set_of(i for i, size in sizes if budget is None or size <= budget)
        best = self._measure(self.terms.today | self.terms.required)
        for earlier in self._found:
            if budget is None or self._size(earlier) <= budget:
                best = min(best, self._measure(earlier))
        bound, complete = self._price(budget, fitting, stop)
        best = min(best, self._settle(budget, fitting, stop))
        best, bound = self._close(budget, fitting, best, bound, stop)
        best = self._confirm(budget, fitting, best, stop)
        value, chosen = best
        self._found.append(chosen)
        return Choice(
            budget,
            chosen,
            self._size(chosen),
            total(self.statements, chosen),
            value,
            min(bound, value),
            complete and not stop.now(self.calls),
            self.calls,
            (chosen & ~self.terms.today).bit_count(),
        )

    def _price(self, budget: float | None, fitting: IndexSet, stop: Stop) -> tuple[float, bool]:
        """Search at the relaxed program's prices until they stay: a bound, and whether they do."""
        bound, complete = 0.0, False
        for round_ in range(ROUNDS):
            kept = [len(own) for own in self._floors]
            self._say(f"searching plans: round {round_ + 1}, {self.calls:,} planner calls")
            problem = self._problem(fitting, hopeful=True)
            prices = relax(problem, budget)
            shares = discover.shares(problem, prices, self.statements)
            before = self._known()
            found = []
            for number, own in enumerate(shares):
                if stop.now(self.calls):
                    return bound, False
                found.append(self._search(number, own, fitting, SEARCH_CALLS))
            bound = max(
                bound, discover.bound(problem, prices, self.statements, shares, found, budget)
            )
            if self._known() == before:
                complete = all(f.complete for f in found)
                break
            for proven, count in zip(self._floors, kept, strict=True):
                del proven[
                    count:
                ]  # what the last prices prove is enough, and the program stays small
        return bound, complete

    def _search(
        self,
        number: int,
        own: Mapping[int, float],
        fitting: IndexSet,
        calls: int,
        slack: float = 0.0,
        free: bool = False,
    ) -> discover.Found:
        """Search one statement's plans at these prices, and keep what that proves."""
        priced = self._with_use(number, own)
        found = discover.search(self.statements[number], priced, slack, calls, fitting, free)
        self._floors[number].append((fitting, Floor(found.floor, own)))
        return found

    def _close(
        self,
        budget: float | None,
        fitting: IndexSet,
        best: tuple[float, IndexSet],
        bound: float,
        stop: Stop,
    ) -> tuple[tuple[float, IndexSet], float]:
        """Ask the program what plan nobody has seen would pay, and look whether it exists.

        Where the optimum needs none, it is proven."""
        start = self.calls
        turns = [0] * len(self.statements)
        while True:
            self._say(f"closing the gap: {self.calls:,} planner calls")
            before = self._known()
            floors = self._floors_for(fitting)
            problem = replace(self._problem(fitting, hopeful=True), floors=floors)
            solution = solve(problem, budget, time_limit=stop.left_s(), gap=CLOSED / 2)
            bound = max(bound, solution.bound)
            if stop.now(self.calls):
                break
            best = min(best, self._measure(solution.chosen))
            if not solution.unknown or bound >= best[0] * (1 - CLOSED):
                break
            if self.calls - start >= CLOSING_CALLS:
                break
            raised = False
            for number in solution.unknown:
                own = self.statements[number].own(solution.chosen)
                floor = max(floors[number], key=lambda f: f.under(own))
                lacks = self._cost(number, solution.chosen) - floor.under(own)
                if lacks <= EXACT * floor.cost:
                    continue
                priced = self._with_use(number, floor.parts)
                lowest = discover.lowest(self.statements[number], priced, fitting)
                slack = max(floor.cost + lacks - lowest, 0.0)
                calls = CLOSING_SEARCH * 2 ** turns[number]
                found = self._search(number, floor.parts, fitting, calls, slack, free=True)
                turns[number] += not found.complete
                raised = raised or found.floor > floor.cost * (1 + EXACT)
            if self._known() != before:
                best = min(best, self._settle(budget, fitting, stop))
            elif not raised:
                break
        return best, bound

    def _floors_for(self, fitting: IndexSet) -> list[list[Floor]]:
        """What is proven of each statement's unknown plans with these indexes."""
        result = []
        for statement, own in zip(self.statements, self._floors, strict=True):
            least = min(statement.least, *statement.atoms.values())
            # A hair more than a known plan of the same cost, which is then taken in its place.
            lowest = Floor(statement.weight * least * (1 + TIE))
            result.append([lowest, *(floor for held, floor in own if not fitting & ~held)])
        return result

    def _settle(
        self, budget: float | None, fitting: IndexSet, stop: Stop
    ) -> tuple[float, IndexSet]:
        """Solve, explain the answer for real, learn from it, until it holds what it promises."""
        best = float("inf"), self.terms.today
        for _ in range(ROUNDS):
            before = self._known()
            solution = solve(self._problem(fitting), budget, time_limit=stop.left_s())
            best = min(best, self._measure(solution.chosen))
            if self._known() == before or stop.now(self.calls):
                break
        return best

    def _confirm(
        self,
        budget: float | None,
        fitting: IndexSet,
        best: tuple[float, IndexSet],
        stop: Stop,
    ) -> tuple[float, IndexSet]:
        """Explain the best set for real; where an index hides a plan, solve again knowing that."""
        confirmed = self._measure(self.terms.today | self.terms.required)
        chosen = best[1]
        for _ in range(CONFIRMED):
            if stop.now(self.calls):
                return min(confirmed, self._measure(chosen))
            before = self._known(), self._hidden()
            value, kept = self._explained(chosen)
            if kept != chosen:
                value, kept = self._explained(kept)
            confirmed = min(confirmed, (value, kept))
            if before == (self._known(), self._hidden()):
                break
            chosen = solve(self._problem(fitting), budget, time_limit=stop.left_s()).chosen
        return confirmed

    def _explained(self, chosen: IndexSet) -> tuple[float, IndexSet]:
        """The value of a set as the planner itself says it."""
        for statement in self.statements:
            statement.confirm(chosen)
        return self._measure(chosen)

    def _hidden(self) -> int:
        return sum(by.bit_count() for s in self.statements for by in s.hidden.values())

    def _size(self, chosen: IndexSet) -> int:
        return sum(self.terms.sizes.get(i, 0) for i in members(chosen))

    def _measure(self, chosen: IndexSet) -> tuple[float, IndexSet]:
        """The value of a set, explained; without the indexes that no plan uses."""
        used = self.terms.required | (chosen & self.terms.today)
        for statement in self.statements:
            used |= statement.plan(chosen).used
        self._refute(chosen)
        keep = used & chosen
        for group in self.terms.keep_one:
            if not group & keep:
                keep |= chosen & group
        if not self.allowed(keep):
            return float("inf"), self.terms.today
        return self._value(keep), keep

    def _value(self, chosen: IndexSet) -> float:
        """The cost of an explained set as the program counts it."""
        result = self.upkeep(chosen)
        for number, statement in enumerate(self.statements):
            statement.plan(chosen)
            result += self._cost(number, chosen)
        return result

    def _cost(self, number: int, chosen: IndexSet) -> float:
        """What a statement's plan costs with a set that was looked at, as the program counts it."""
        statement = self.statements[number]
        return min(
            statement.weight * cost + self._use(number) * self._new(used)
            for used, cost in statement.atoms.items()
            if statement.has(used, chosen & statement.usable)
        )

    def _use(self, number: int) -> float:
        return self.terms.use[number] if self.terms.use else 0.0

    def _new(self, used: IndexSet) -> int:
        return (used & ~self.terms.today).bit_count()

    def _with_use(self, number: int, own: Mapping[int, float]) -> Mapping[int, float]:
        """What indexes cost a statement, with what each has to save it."""
        use = self._use(number)
        if not use:
            return own
        today = self.terms.today
        return {i: part if today >> i & 1 else part + use for i, part in own.items()}

    def allowed(self, chosen: IndexSet) -> bool:
        """Whether no statement becomes worse than the bound."""
        return all(
            s.plan(chosen).cost <= max(today * self.terms.worst, today + 1)
            for s, today in zip(self.statements, self._today, strict=True)
        )

    def _known(self) -> int:
        refuted = sum(by.bit_count() for own in self._refuted for by in own.values())
        return sum(len(s.atoms) for s in self.statements) + refuted

    def _refute(self, chosen: IndexSet) -> None:
        """Note which indexes of others do not serve a statement as well as its own would."""
        for number, statement in enumerate(self.statements):
            foreign = chosen & statement.usable & ~statement.relevant
            own = statement.own(chosen)
            best = statement.above(own) if foreign else None
            if best is None or statement.plan(chosen).cost <= best.cost * (1 + EXACT):
                continue
            for index in members(foreign):
                for lacking in members(statement.foreign[index] & best.used & ~chosen):
                    refuted = self._refuted[number]
                    refuted[lacking] = refuted.get(lacking, 0) | 1 << index

    def _aliases(self, number: int, fitting: IndexSet, hopeful: bool) -> dict[int, IndexSet]:
        result: dict[int, IndexSet] = {}
        statement = self.statements[number]
        for index, owns in statement.foreign.items():
            if fitting >> index & 1:
                for own in members(owns):
                    if hopeful or not self._refuted[number].get(own, 0) >> index & 1:
                        result[own] = result.get(own, 0) | 1 << index
        return result

    def _problem(self, fitting: IndexSet, *, hopeful: bool = False) -> Problem:
        """``hopeful``: whatever an index of others was seen to be, it may serve as well as one of

        a statement's own: for bounds."""
        terms = self.terms
        atoms = []
        for number, (statement, today) in enumerate(zip(self.statements, self._today, strict=True)):
            limit = max(today * terms.worst, today + 1)
            use = self._use(number)
            own = {
                used: cost * statement.weight + use * self._new(used)
                for used, cost in statement.atoms.items()
                if not used & ~fitting and cost <= limit
            }
            atoms.append(undominated(own, statement.hidden))
        hidden = [s.hidden for s in self.statements]
        return Problem(
            atoms,
            terms.sizes,
            terms.upkeep,
            terms.shared,
            terms.required,
            terms.keep_one,
            hidden,
            [self._aliases(n, fitting, hopeful) for n in range(len(self.statements))],
        )
