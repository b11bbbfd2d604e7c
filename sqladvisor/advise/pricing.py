"""What statements cost under sets of indexes, asked of the planner as seldom as possible.

A set of indexes is a bit mask here (``IndexSet``): bit *n* stands for the offered index number *n*.
Every answer of the planner is kept as (what it could see, what it used, what that costs), and says
more than it was asked: a plan made with the indexes V that uses U ⊆ V

- can be had in every configuration that contains U, so it bounds the cost there from above;
- is the cheapest of all configurations within V, so it bounds the cost there from below.

Where the two bounds meet, the cost is known without a call. Both rest on the planner choosing the
cheapest plan it can make, which is how PostgreSQL chooses (add_path(), optimizer/util/pathnode.c),
but for fuzzy ties: of two paths within 1 % it keeps the one that starts earlier or is better sorted,
so an index that is merely there can make the whole plan a little dearer. What is advised in the end
is explained for real (``confirm``), and which index hides which plan is remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

IndexSet = int
"""A set of offered indexes, as a bit mask."""
EXACT = 1e-9
"""Relative difference of two planner costs below which they are the same cost."""


def members(indexes: IndexSet) -> Iterator[int]:
    """The numbers of the indexes in a set, in order."""
    while indexes:
        low = indexes & -indexes
        yield low.bit_length() - 1
        indexes ^= low


def set_of(numbers: Iterable[int]) -> IndexSet:
    """The set that holds these numbers."""
    result = 0
    for number in numbers:
        result |= 1 << number
    return result


@dataclass(frozen=True, slots=True)
class Answer:
    """What the planner said once: of the indexes ``seen`` it ``used`` some, at ``cost``."""

    seen: IndexSet
    used: IndexSet
    cost: float


@dataclass(slots=True)
class Priced:
    """One statement and all that is known of its costs, in planner cost units."""

    relevant: IndexSet
    """The indexes offered for it: its plans are searched with these."""
    ask: Callable[[IndexSet], tuple[IndexSet, float]]
    """Plans the statement with these indexes: what the plan uses, and its cost."""
    weight: float = 1.0
    answers: list[Answer] = field(default_factory=list)
    atoms: dict[IndexSet, float] = field(default_factory=dict)
    """The least known cost of a plan that uses exactly these indexes."""
    calls: int = 0
    hidden: dict[IndexSet, IndexSet] = field(default_factory=dict)
    """For a plan that uses exactly these indexes those which hide it: with one of them in view the

    planner was seen to take a dearer plan."""
    foreign: Mapping[int, IndexSet] = field(default_factory=dict)
    """Of indexes offered for other statements those that it can use as well, each with its own that

    the index begins with and has the columns of: what is larger serves it no better than they do."""
    _asked: dict[IndexSet, Answer] = field(default_factory=dict)
    usable: IndexSet = 0
    """All that its plans could use."""

    def __post_init__(self) -> None:
        self.share(self.foreign)

    def share(self, foreign: Mapping[int, IndexSet]) -> None:
        """Say which indexes of others it can use."""
        self.foreign = foreign
        self.usable = self.relevant | set_of(foreign)

    def own(self, visible: IndexSet) -> IndexSet:
        """The statement's own indexes that serve it no worse than these."""
        result = visible & self.relevant
        for index in members(visible & self.usable & ~self.relevant):
            result |= self.foreign[index]
        return result

    def plan(self, visible: IndexSet) -> Answer:
        """The cheapest plan with these indexes, from what is known or from the planner."""
        visible &= self.usable
        return self.known(visible) or self._call(visible)

    def confirm(self, visible: IndexSet) -> Answer:
        """The planner's own plan with exactly these indexes. Where it is dearer than one it could

        have taken, the index that hides that one is looked for."""
        visible &= self.usable
        while True:
            answer = self._asked.get(visible) or self._call(visible)
            better = self.above(visible)
            if better is None or better.cost >= answer.cost * (1 - EXACT):
                return answer
            if not self._hide(visible, better):
                return answer

    def _hide(self, visible: IndexSet, better: Answer) -> bool:
        """Find an index without which the planner takes the plan that it overlooks."""
        for index in members(visible & ~better.used & ~self.hidden.get(better.used, 0)):
            without = visible & ~(1 << index)
            answer = self._asked.get(without) or self._call(without)
            if answer.cost <= better.cost * (1 + EXACT):
                self.hidden[better.used] = self.hidden.get(better.used, 0) | 1 << index
                return True
        return False

    def has(self, used: IndexSet, visible: IndexSet) -> bool:
        """Whether a plan that uses these indexes can be had with those in view."""
        return not used & ~visible and not self.hidden.get(used, 0) & visible

    def known(self, visible: IndexSet) -> Answer | None:
        """The cheapest plan with these indexes where earlier answers settle it."""
        visible &= self.usable
        if visible in self._asked:
            return self._asked[visible]
        above = self.above(visible)
        if above is None or above.cost > self.below(visible) * (1 + EXACT):
            return None
        return Answer(visible, above.used, above.cost)

    def above(self, visible: IndexSet) -> Answer | None:
        """The cheapest known plan that these indexes allow."""
        best = None
        for answer in self.answers:
            if (best is None or answer.cost < best.cost) and self.has(answer.used, visible):
                best = answer
        return best

    def below(self, visible: IndexSet) -> float:
        """A cost that no plan with these indexes can undercut."""
        own = self.own(visible)
        return max(
            (a.cost for a in self.answers if not (visible & ~a.seen and own & ~a.seen)), default=0.0
        )

    def _call(self, visible: IndexSet) -> Answer:
        self.calls += 1
        used, cost = self.ask(visible)
        answer = Answer(visible, used, cost)
        self.answers.append(answer)
        self._asked[visible] = answer
        if cost < self.atoms.get(used, float("inf")):
            self.atoms[used] = cost
        return answer

    @property
    def bare(self) -> float:
        """The cost without any offered index."""
        return self.plan(0).cost

    @property
    def least(self) -> float:
        """The cost with all of them: no configuration does better."""
        return self.plan(self.relevant).cost


def undominated(
    atoms: Mapping[IndexSet, float], hidden: Mapping[IndexSet, IndexSet] = MappingProxyType({})
) -> list[tuple[IndexSet, float]]:
    """The atoms that no other undercuts with fewer indexes wherever they can be had; cheapest first."""
    kept: list[tuple[IndexSet, float]] = []
    for used, cost in sorted(atoms.items(), key=lambda a: (a[1], a[0].bit_count(), a[0])):
        by = hidden.get(used, 0)
        if not any(not other & ~used and not hidden.get(other, 0) & ~by for other, _ in kept):
            kept.append((used, cost))
    return kept


def total(statements: Sequence[Priced], visible: IndexSet) -> float:
    """The workload's cost with exactly these indexes, explained where it is not known."""
    return sum(s.weight * s.plan(visible).cost for s in statements)
