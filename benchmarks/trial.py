"""The trial that the index advisor grew from, written anew from its prototype: a peer that

``bench-indexes`` runs on the same planner and the same statistics. For each query every ordered list
of the columns its text names is a candidate; the planner sees all of them, then all but one that it
used, and so on (at most ``explains`` times). The plans found go into one integer program for each
budget, whose choice is explained for real.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Mapping, Sequence
from itertools import permutations

from sqladvisor.advise.pricing import IndexSet, members, set_of
from sqladvisor.advise.program import Problem, solve
from sqladvisor.server.whatif import Handle, HypotheticalIndex, WhatIf

ROUNDS = 8
"""Times that the program is solved for a budget, each knowing what the last choice cost."""


class Trial:
    """``queries`` are SQL by name, ``tables`` the columns by table."""

    def __init__(
        self,
        queries: Mapping[str, str],
        tables: Mapping[str, Sequence[str]],
        whatif: WhatIf,
        width: int = 2,
        explains: int = 600,
    ) -> None:
        self.whatif = whatif
        self.queries = queries
        self.calls = 0
        self._handles: list[Handle] = []
        self._numbers: dict[Handle, int] = {}
        self._atoms: dict[str, dict[IndexSet, float]] = {}
        for name, sql in queries.items():
            words = set(re.findall(r"[a-z_][a-z_0-9]*", sql.lower()))
            found = 0
            for table, columns in tables.items():
                named = [c for c in columns if c in words] if table in words else []
                for size in range(1, width + 1):
                    for keys in permutations(named, size):
                        found |= 1 << self._number(HypotheticalIndex(table, keys))
            self._discover(name, found, explains)
        self.sizes = {n: h.size_bytes for n, h in enumerate(self._handles)}

    def run(self, budget: float) -> float:
        """The workload's cost with what is chosen within ``budget`` bytes."""
        best = float("inf")
        for _ in range(ROUNDS):
            atoms = [list(self._atoms[name].items()) for name in self.queries]
            chosen = solve(Problem(atoms, self.sizes), budget).chosen
            cost, new = 0.0, False
            for name, known in self._atoms.items():
                used, own = self._plan(name, chosen)
                cost += own
                if own < known.get(used, float("inf")) - 1e-6:
                    known[used], new = own, True
            best = min(best, cost)
            if not new:
                break
        return best

    def _discover(self, name: str, candidates: IndexSet, explains: int) -> None:
        atoms = self._atoms[name] = {0: self._plan(name, 0)[1]}
        heap: list[tuple[int, float, int, IndexSet]] = [(0, 0.0, 0, 0)]
        seen: set[IndexSet] = set()
        pushed = 0
        while heap and len(seen) < explains:
            depth, _, _, banned = heapq.heappop(heap)
            if banned in seen:
                continue
            seen.add(banned)
            used, cost = self._plan(name, candidates & ~banned)
            atoms[used] = min(cost, atoms.get(used, cost))
            for index in members(used):
                pushed += 1
                heapq.heappush(heap, (depth + 1, cost, pushed, banned | 1 << index))

    def _number(self, index: HypotheticalIndex) -> int:
        (handle,) = self.whatif.add([index])
        if handle not in self._numbers:
            self._numbers[handle] = len(self._handles)
            self._handles.append(handle)
        return self._numbers[handle]

    def _plan(self, name: str, visible: IndexSet) -> tuple[IndexSet, float]:
        self.calls += 1
        shown = [self._handles[n] for n in members(visible)]
        plan = self.whatif.cost(self.queries[name], shown)
        names = plan.indexes_used()
        return set_of(self._numbers[h] for h in shown if h.name in names), plan.total_cost
