"""Finds the plan atoms that matter for a budget, with few calls of the planner.

The relaxed program says what each index costs each statement (its share of the storage's worth and
of the upkeep). For a statement those prices are a question: which plan is cheapest when its indexes
must be paid? It is answered exactly by branching from above: the planner's choice among all that is
affordable bounds every plan with fewer indexes, so one used index after another is banned, those
that no plan could repay are left out at once, and a branch ends when its bound has reached the best
found. The same bounds, added up, say how far any choice of indexes can be below what was found.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqladvisor.advise.pricing import IndexSet, Priced, members
from sqladvisor.advise.program import MB, Prices, Problem


@dataclass(frozen=True, slots=True)
class Found:
    """What a search for one statement proved: no plan is cheaper, its indexes paid, than ``bound``."""

    bound: float
    floor: float
    """No plan that is not known now is cheaper than this, its indexes paid."""
    complete: bool


def search(
    priced: Priced,
    price: Mapping[int, float],
    slack: float,
    calls: int,
    fitting: IndexSet,
    free: bool = False,
) -> Found:
    """Learn the statement's plans that are, indexes paid, within ``slack`` of its cheapest.

    ``price`` in weighted planner cost units by index; asks the planner at most ``calls`` times.
    ``free``: also look for plans that do without an index whose price is zero. To the relaxed
    program they are worth the same, but only one of them may go into the budget with the others.
    """
    weight = priced.weight

    def pay(indexes: IndexSet) -> float:
        return sum(price.get(i, 0.0) for i in members(indexes))

    best = lowest(priced, price, fitting)
    start = priced.calls
    heap: list[tuple[float, int, IndexSet, IndexSet]] = [(0.0, 0, priced.relevant & fitting, 0)]
    tie = 0
    skipped = float("inf")
    while heap:
        bound, _, visible, paid = heap[0]
        if bound >= best + slack:
            break
        answer = priced.known(visible)
        if answer is None:
            if priced.calls - start >= calls:
                return Found(min(best, bound), min(best + slack, bound, skipped), False)
            answer = priced.plan(visible)
        heapq.heappop(heap)
        best = min(best, weight * answer.cost + pay(answer.used))
        lower = weight * answer.cost + pay(paid)
        room = best + slack - lower
        if room <= 0:
            continue
        affordable = visible
        for index in members(visible & ~paid):
            if price.get(index, 0.0) >= room:
                affordable &= ~(1 << index)
        if affordable != visible:
            tie += 1
            heapq.heappush(heap, (lower, tie, affordable, paid))
            continue
        unpaid = [i for i in members(answer.used & ~paid) if free or price.get(i, 0.0) > 0]
        if not free and answer.used & ~paid:
            skipped = min(skipped, lower)
        for index in sorted(unpaid, key=lambda i: (-price.get(i, 0.0), i)):
            tie += 1
            bound = weight * answer.cost + pay(paid)
            heapq.heappush(heap, (bound, tie, visible & ~(1 << index), paid))
            paid |= 1 << index
    return Found(best, min(best + slack, skipped), True)


def lowest(priced: Priced, price: Mapping[int, float], fitting: IndexSet) -> float:
    """The cheapest known plan, its indexes paid."""
    return min(
        (
            priced.weight * c + sum(price.get(i, 0.0) for i in members(used))
            for used, c in priced.atoms.items()
            if not used & ~fitting
        ),
        default=float("inf"),
    )


def shares(
    problem: Problem, prices: Prices, statements: Sequence[Priced]
) -> list[dict[int, float]]:
    """For each statement what each of its indexes costs it, so that all together pay no more than

    the whole: an index in the program as its duals say, the rest by who has most to gain."""
    users: dict[int, list[int]] = {}
    for number, statement in enumerate(statements):
        for index in members(statement.relevant):
            users.setdefault(index, []).append(number)
    gains = [max(s.weight * (s.bare - s.least), 0.0) for s in statements]
    result: list[dict[int, float]] = [{} for _ in statements]
    # By size: what an index of others stands in for is smaller, and has its price already.
    for index in sorted(users, key=lambda i: (problem.sizes.get(i, 0), i)):
        numbers = users[index]
        whole = prices.megabyte * problem.sizes.get(index, 0) / MB + problem.upkeep.get(index, 0.0)
        linked = {n: prices.parts[n, index] for n in numbers if (n, index) in prices.parts}
        for number, part in linked.items():
            result[number][index] = part
        rest = max(whole - sum(linked.values()) - _lent(index, statements, result), 0.0)
        others = [n for n in numbers if n not in linked]
        gain = sum(gains[n] for n in others)
        for number in others:
            result[number][index] = rest * (gains[number] / gain if gain else 1 / len(others))
    return result


def _lent(index: int, statements: Sequence[Priced], parts: Sequence[Mapping[int, float]]) -> float:
    """What an index is paid by the statements that it serves in place of their own."""
    return sum(
        part[own]
        for statement, part in zip(statements, parts, strict=True)
        if index in statement.foreign
        for own in members(statement.foreign[index])
        if own in part
    )


def bound(
    problem: Problem,
    prices: Prices,
    statements: Sequence[Priced],
    parts: Sequence[Mapping[int, float]],
    found: Sequence[Found],
    budget: float | None,
) -> float:
    """The Lagrangian bound: no set of offered indexes within the budget has a lower cost."""
    paid: dict[int, float] = dict.fromkeys(members(problem.required), 0.0)
    for own in parts:
        for index, part in own.items():
            paid[index] = paid.get(index, 0.0) + part
    for index in paid:
        paid[index] += _lent(index, statements, parts)
    result = sum(f.bound for f in found)
    if budget is not None:
        result -= prices.megabyte * budget / MB
    for index, sum_ in paid.items():
        whole = prices.megabyte * problem.sizes.get(index, 0) / MB + problem.upkeep.get(index, 0.0)
        left = whole - sum_
        result += left if problem.required >> index & 1 else min(0.0, left)
    return result
