"""Which candidates to advise for a workload of statements, priced by what-if.

Per statement: the planner chooses among all candidates at once, then each index it chose must earn
its place and yields to a smaller one that does nearly as well. Across statements: an index gives
way to another that already serves its statements. The optimiser for whole workloads under a
storage budget is a command of its own; this is advice next to a query.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from sqladvisor.advise.candidates import MAX_INCLUDED, MAX_KEYS, candidates, naive_candidates
from sqladvisor.advise.consolidate import MIN_COST, begin_alike, merged, worth_a_second
from sqladvisor.advise.existing import has_keys
from sqladvisor.advise.views import wanted_behind_views
from sqladvisor.advise.wants import wanted
from sqladvisor.context import Context
from sqladvisor.plan.node import Plan
from sqladvisor.server.whatif import Handle, HypotheticalIndex, WhatIf, WhatIfError

MIN_GAIN = 0.10
"""Share of a statement's planner cost an index must save: below it, estimates are noise."""
NEARLY = 0.05
"""Share of the gain given up for a smaller or shared index."""
SAME = 0.001
"""Share of a planner cost below which two plans cost the same."""
NEARLY_FREE = 0.15
"""Share of the gain given up for an index of a small part of the size (BRIN, partial): hardly any
work for each write, and hardly any memory."""
SMALL_PART = 0.1
"""Such a part."""
NEARLY_COVERED = 0.25
"""Share of the gain given up to do without an index whose keys begin another advised one: a second
index on the same columns costs every write, and reviewers rightly refuse it."""
MAX_NAIVE = 3
"""How many indexes that would not help are named."""


@dataclass(slots=True)
class Use:
    """One statement that an advised index serves, with what the planner promises."""

    context: Context
    sql: str
    cost_before: float
    cost_after: float
    companions: tuple[HypotheticalIndex, ...] = ()
    """Other advised indexes its plan uses beside this one."""
    plan_before: Plan | None = None
    plan_after: Plan | None = None
    useless: tuple[str, ...] = ()
    """Indexes people would try for this statement that leave its cost unchanged."""
    original_fingerprint: str | None = None
    """Of the statement in the file, where this one is a proven rewrite of it."""
    time_before_ms: float | None = None
    time_after_ms: float | None = None
    buffers_before: int | None = None
    buffers_after: int | None = None

    @property
    def rewritten(self) -> bool:
        return self.original_fingerprint is not None


@dataclass(slots=True)
class IndexAdvice:
    """One index worth adding: what it costs and what it serves."""

    index: HypotheticalIndex
    size_bytes: int
    uses: list[Use] = field(default_factory=list)
    build_ms: float | None = None
    built_bytes: int | None = None
    measured: bool = False
    assumed: bool = False
    """Priced with row counts that were assumed: there are no rows, and no statistics of any."""
    notes: list[str] = field(default_factory=list)
    sql: str = ""
    """The DDL that makes it, where that is more than one statement (partitions)."""

    @property
    def best(self) -> Use:
        """The statement that gains most by planner cost, one that was timed before any other."""
        return max(
            self.uses,
            key=lambda u: (
                u.time_after_ms is not None,
                u.cost_before - u.cost_after,
                -u.context.statement.start,
            ),
        )


@dataclass(frozen=True, slots=True)
class Question:
    """A statement to find indexes for. ``sql`` is plannable text; ``generic`` if it has ``$n``."""

    context: Context
    sql: str
    generic: bool
    original_fingerprint: str | None = None
    """Of the statement in the file, where this one is a proven rewrite of it."""


@dataclass(slots=True)
class _Choice:
    question: Question
    before: Plan
    chosen: list[Handle]
    after: Plan

    def plan(self, visible: Collection[Handle], whatif: WhatIf) -> Plan:
        return whatif.cost(self.question.sql, visible, generic=self.question.generic)

    def allowed(self, share: float) -> float:
        """The planner cost at which the statement has given up this share of its gain."""
        return _nearly(self.before, self.after, share)


def _nearly(before: Plan, after: Plan, share: float) -> float:
    """The planner cost at which this share of a gain is given up.

    Never more than twice what is left of the cost, unless that is next to nothing: of a gain of a
    thousand times a twentieth is nearly all of it.
    """
    given_up = after.total_cost + share * (before.total_cost - after.total_cost)
    return min(given_up, max(2 * after.total_cost, MIN_COST))


def advise(
    questions: Sequence[Question], whatif: WhatIf, say: Callable[[str], None]
) -> list[IndexAdvice]:
    """The indexes worth adding for these statements, most gain first. Deterministic."""
    choices: list[_Choice] = []
    for number, question in enumerate(questions, 1):
        say(f"pricing indexes: statement {number} of {len(questions)}")
        try:
            choice = _choose(question, whatif)
        except WhatIfError:
            continue  # the statement does not plan on the shadow: its own EXPLAIN reported why
        if choice is not None:
            choices.append(choice)
    choices = _first_hand(choices)
    _share(choices, whatif)
    _merge(choices, whatif)
    _eliminate(choices, whatif)
    _without_idle(choices, whatif)
    advice: dict[HypotheticalIndex, IndexAdvice] = {}
    for choice in choices:
        question = choice.question
        found = (
            ()
            if question.original_fingerprint
            else useless(
                question.context,
                question.sql,
                question.generic,
                choice.before,
                choice.chosen,
                whatif,
            )
        )
        for handle in choice.chosen:
            entry = advice.setdefault(handle.index, IndexAdvice(handle.index, handle.size_bytes))
            entry.uses.append(
                Use(
                    choice.question.context,
                    choice.question.sql,
                    choice.before.total_cost,
                    choice.after.total_cost,
                    tuple(h.index for h in choice.chosen if h is not handle),
                    choice.before,
                    choice.after,
                    found,
                    choice.question.original_fingerprint,
                )
            )
    return sorted(
        advice.values(),
        key=lambda a: (-sum(u.cost_before - u.cost_after for u in a.uses), a.index.ddl()),
    )


def _choose(question: Question, whatif: WhatIf) -> _Choice | None:
    def plan(visible: Collection[Handle]) -> Plan:
        return whatif.cost(question.sql, visible, generic=question.generic)

    before = plan(())
    if before.total_cost < MIN_COST:
        return None
    offered: list[Handle] = []
    wants = wanted_behind_views(question.context)
    for want in wants:
        if not question.context.small(want.item):
            offered += _add(candidates(want), whatif)
    offered = list({id(h): h for h in offered}.values())  # one table twice wants the same ones
    if not offered:
        return None
    after = plan(offered)
    if not _pays(before, after):
        return None
    chosen = _used(after, offered)
    after = plan(chosen)
    tables = {w.table: w.item.relation for w in wants if w.item.relation}
    covered = {
        id(h)
        for h in chosen
        if h.index.table in tables and has_keys(tables[h.index.table], h.index.keys)
    }
    chosen, after = _earn(chosen, before, after, plan, covered)
    for position, handle in enumerate(list(chosen)):
        gain = before.total_cost - after.total_cost
        smaller = sorted(
            (h for h in offered if _table(h) == _table(handle) and _simpler(h, handle)),
            key=_price,
        )
        for other in smaller:
            trial_set = [*chosen[:position], other, *chosen[position + 1 :]]
            trial = plan(trial_set)
            tiny = other.size_bytes <= SMALL_PART * handle.size_bytes
            allowed = (
                after.total_cost + gain * NEARLY_FREE if tiny else _nearly(before, after, NEARLY)
            )
            if trial.total_cost <= allowed and other.name in trial.indexes_used():
                chosen, after = trial_set, trial
                break
    chosen = [h for h in chosen if h.name in after.indexes_used()]
    if not chosen or not _pays(before, after):
        return None
    if covered.issuperset(map(id, chosen)) and not _pays(before, after, NEARLY_COVERED):
        return None
    return _Choice(question, before, chosen, after)


def _first_hand(choices: list[_Choice]) -> list[_Choice]:
    """Without the rewrites of statements that an index helps as they are.

    But an index on an expression serves that expression alone. Where a rewrite does nearly as well
    on plain columns, it is the rewrite that is wanted, and the original goes.
    """
    plain = [c for c in choices if c.question.original_fingerprint and not _on_expressions(c)]

    def beaten(choice: _Choice) -> bool:
        limit, place = choice.allowed(NEARLY), _place(choice)
        return _on_expressions(choice) and any(
            _place(other) == place and other.after.total_cost <= limit for other in plain
        )

    left = [c for c in choices if not beaten(c)]
    helped = {_place(c) for c in left if not c.question.original_fingerprint}
    return [c for c in left if not c.question.original_fingerprint or _place(c) not in helped]


def _on_expressions(choice: _Choice) -> bool:
    return any(key.startswith("(") for handle in choice.chosen for key in handle.index.keys)


def _place(choice: _Choice) -> tuple[str, int]:
    statement = choice.question.context.statement
    return statement.path, statement.start


def _earn(
    chosen: list[Handle],
    before: Plan,
    after: Plan,
    plan: Callable[[Collection[Handle]], Plan],
    covered: Collection[int],
) -> tuple[list[Handle], Plan]:
    """Drop each index whose absence costs little of the gain, the largest first.

    ``covered``: those (by ``id``) whose keys an index of the table has already."""
    for handle in sorted(chosen, key=_price, reverse=True):
        if len(chosen) < 2:
            break
        without = [h for h in chosen if h is not handle]
        trial = plan(without)
        share = NEARLY_COVERED if id(handle) in covered else MIN_GAIN
        if trial.total_cost <= after.total_cost + share * (before.total_cost - after.total_cost):
            chosen, after = without, trial
    return chosen, after


def _share(choices: list[_Choice], whatif: WhatIf) -> None:
    """Let statements use one another's indexes: each index dropped is one less to write to."""
    pool = sorted({id(h): h for c in choices for h in c.chosen}.values(), key=_price, reverse=True)
    users = {id(h): sum(h in c.chosen for c in choices) for h in pool}
    for choice in choices:
        for handle in list(choice.chosen):
            allowed = choice.allowed(NEARLY)
            for other in pool:
                if other is handle or other in choice.chosen or _table(other) != _table(handle):
                    continue
                if users[id(other)] < users[id(handle)]:
                    continue
                trial_set = [other if h is handle else h for h in choice.chosen]
                trial = choice.plan(trial_set, whatif)
                if trial.total_cost <= allowed and other.name in trial.indexes_used():
                    users[id(handle)] -= 1
                    users[id(other)] += 1
                    choice.chosen, choice.after = trial_set, trial
                    break


def _merge(choices: list[_Choice], whatif: WhatIf) -> None:
    """Make one of two indexes that begin alike, where all their statements do nearly as well on it."""
    while True:
        pool = sorted({id(h): h for c in choices for h in c.chosen}.values(), key=_price)
        pairs = ((a, b) for n, a in enumerate(pool) for b in pool[n + 1 :])
        if not any(_merge_pair(a, b, choices, whatif) for a, b in pairs):
            return


def _merge_pair(one: Handle, other: Handle, choices: list[_Choice], whatif: WhatIf) -> bool:
    index = merged(one.index, other.index, MAX_KEYS, MAX_INCLUDED)
    made = _add([index], whatif) if index else []
    if not made or made[0].size_bytes >= one.size_bytes + other.size_bytes:
        return False
    moves: list[tuple[_Choice, list[Handle], Plan]] = []
    for choice in choices:
        if one in choice.chosen or other in choice.chosen:
            kept = [h for h in choice.chosen if h is not one and h is not other]
            trial = choice.plan([*kept, *made], whatif)
            if trial.total_cost > choice.allowed(NEARLY_COVERED):
                return False
            moves.append((choice, _used(trial, [*kept, *made]), trial))
    for choice, chosen, trial in moves:
        choice.chosen, choice.after = chosen, trial
    return True


def _eliminate(choices: list[_Choice], whatif: WhatIf) -> None:
    """Drop each index without which all its statements do nearly as well on the other ones."""
    pool = list({id(h): h for c in choices for h in c.chosen}.values())

    def order(handle: Handle) -> tuple[bool, float, str]:
        gain = sum(c.before.total_cost - c.after.total_cost for c in choices if handle in c.chosen)
        return not _begins_another(handle, pool), gain, handle.index.ddl()

    for handle in sorted(pool, key=order):
        others = [h for h in pool if h is not handle]
        share = NEARLY_COVERED if _begins_another(handle, others) else NEARLY
        second = any(begin_alike(handle.index, o.index) for o in others)
        moves: list[tuple[_Choice, list[Handle], Plan]] = []
        users = [c for c in choices if handle in c.chosen]
        for choice in users:
            kept = [h for h in choice.chosen if h is not handle]
            kept += [h for h in others if _table(h) == _table(handle) and h not in kept]
            trial = choice.plan(kept, whatif)
            chosen = _used(trial, kept)
            cost = trial.total_cost
            kept_enough = bool(chosen) and cost <= choice.allowed(share)
            # What a second index of the same beginning does not halve may do without, and without any.
            if not kept_enough and not (
                second and not worth_a_second(choice.after.total_cost, cost)
            ):
                break
            moves.append((choice, chosen, trial))
        if len(moves) == len(users):
            pool = others
            for choice, chosen, trial in moves:
                choice.chosen, choice.after = chosen, trial


def _without_idle(choices: list[_Choice], whatif: WhatIf) -> None:
    """Credit a statement to those of its indexes only without which it would cost more.

    Of two indexes that cost the same the planner takes either: another statement's, in place of one
    that exists.
    """
    for choice in choices:
        for handle in sorted(choice.chosen, key=_price, reverse=True):
            without = [h for h in choice.chosen if h is not handle]
            if not without:
                break
            trial = choice.plan(without, whatif)
            if trial.total_cost <= choice.after.total_cost * (1 + SAME):
                choice.chosen, choice.after = without, trial


def _begins_another(handle: Handle, pool: Sequence[Handle]) -> bool:
    keys, index = handle.index.keys, handle.index
    return any(
        h is not handle
        and _table(h) == _table(handle)
        and h.index.keys[: len(keys)] == keys
        and h.index.predicate == index.predicate
        for h in pool
    )


def useless(
    context: Context,
    sql: str,
    generic: bool,
    before: Plan,
    chosen: Sequence[Handle],
    whatif: WhatIf,
) -> tuple[str, ...]:
    """Single-column indexes people would try for this statement that leave its cost unchanged."""
    names = []
    tables = {_table(h) for h in chosen}
    wants = sorted(wanted(context), key=lambda w: (0 if w.group else 1, w.item.alias))
    for want in wants:
        for handle in _add(naive_candidates(want), whatif):
            trial = whatif.cost(sql, (handle,), generic=generic)
            unused = handle.name not in trial.indexes_used()
            if unused and trial.total_cost >= before.total_cost * 0.999:
                names.append(f"{handle.index.table} ({', '.join(handle.index.keys)})")
            if len(names) == MAX_NAIVE:
                return tuple(names)
        if names and want.item.relation and want.item.relation.name in tables:
            break
    return tuple(names)


def _add(indexes: Sequence[HypotheticalIndex], whatif: WhatIf) -> list[Handle]:
    handles = []
    for index in indexes:
        try:
            handles += whatif.add((index,))
        except WhatIfError:
            continue  # not indexable (an expression that is not immutable, a type without b-tree)
    return handles


def _used(plan: Plan, offered: Sequence[Handle]) -> list[Handle]:
    names = plan.indexes_used()
    return [h for h in offered if h.name in names]


def _pays(before: Plan, after: Plan, share: float = MIN_GAIN) -> bool:
    return after.total_cost <= before.total_cost * (1 - share)


def _table(handle: Handle) -> str:
    return handle.index.table


def _price(handle: Handle) -> tuple[float, int, str]:
    """Order of preference among indexes of nearly equal use: small, general, short."""
    index = handle.index
    general = 1.0 if index.predicate else 0.0
    return (
        handle.size_bytes * (1 + 0.1 * general),
        len(index.keys) + len(index.include),
        index.ddl(),
    )


def _simpler(handle: Handle, than: Handle) -> bool:
    return handle is not than and _price(handle) < _price(than)
