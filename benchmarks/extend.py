"""Extend (Schlosser, Kossmann and Boissier, ICDE 2019), written anew from the paper: the peer that

``bench-indexes`` runs on the same planner and the same statistics. Step by step it adds a
single-column index or appends a column to a chosen one, whichever saves most cost for each byte.
A plan is asked for once for each query and set of its own indexes, as its authors count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

MIN_SAVING = 1.003
"""A step must save this factor, the paper's improvement threshold."""

Index = tuple[str, ...]
"""(table, column, …)."""


@dataclass
class Extend:
    """``cost(query, indexes)`` plans a query; ``size(index)`` is in bytes."""

    columns: Mapping[str, Sequence[tuple[str, str]]]
    """The (table, column) pairs that each query reads."""
    cost: Callable[[str, frozenset[Index]], float]
    size: Callable[[Index], int]
    width: int = 2
    calls: int = 0
    _known: dict[tuple[str, frozenset[Index]], float] = field(default_factory=dict)

    def run(self, budget: float) -> tuple[float, list[Index]]:
        """The workload's cost with what is chosen within ``budget`` bytes, and the choice."""
        single = sorted({pair for pairs in self.columns.values() for pair in pairs})
        chosen: list[Index] = []
        now = self._total(chosen)
        while True:
            best: tuple[float, float, list[Index]] | None = None
            steps = [[*chosen, s] for s in single if s not in chosen]
            for place, old in enumerate(chosen):
                if len(old) - 1 < self.width:
                    for table, column in single:
                        if table == old[0] and column not in old[1:]:
                            wider = (*old, column)
                            if wider not in chosen:
                                steps.append([*chosen[:place], wider, *chosen[place + 1 :]])
            used = sum(map(self.size, chosen))
            for step in steps:
                size = sum(map(self.size, step))
                if size > budget:
                    continue
                cost = self._total(step)
                if cost * MIN_SAVING >= now:
                    continue
                ratio = (now - cost) / max(size - used, 1)
                if best is None or ratio > best[0]:
                    best = (ratio, cost, step)
            if best is None:
                return now, chosen
            _, now, chosen = best

    def _total(self, chosen: Sequence[Index]) -> float:
        return sum(self._cost(query, chosen) for query in self.columns)

    def _cost(self, query: str, chosen: Sequence[Index]) -> float:
        pairs = set(self.columns[query])
        own = frozenset(i for i in chosen if (i[0], i[1]) in pairs)
        key = query, own
        if key not in self._known:
            self.calls += 1
            self._known[key] = self.cost(query, own)
        return self._known[key]
