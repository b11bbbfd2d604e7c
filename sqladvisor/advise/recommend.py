"""Index advice for a whole workload: from its queries to what to create, what to drop, and why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from sqladvisor.advise.candidates import Limits
from sqladvisor.advise.consolidate import MIN_COST, SECOND, begin_alike, worth_a_second
from sqladvisor.advise.ddl import create_sql
from sqladvisor.advise.existing import definition, drop
from sqladvisor.advise.offers import Offered, Offers
from sqladvisor.advise.optimise import Choice, Optimiser, Stop, Terms
from sqladvisor.advise.pricing import IndexSet, Priced, members, set_of, total
from sqladvisor.advise.select import NEARLY
from sqladvisor.advise.workload import Query, Workload
from sqladvisor.advise.writes import TableWrites, Upkeep
from sqladvisor.advise.writes import upkeep as upkeep_of
from sqladvisor.catalog.model import Catalog, Index, Relation
from sqladvisor.context import SMALL_RELATION_ROWS
from sqladvisor.server.whatif import WhatIf

COLUMN = 0.25
"""What a further column of an index has to save, as a share of what the index has to."""
CURVE = (0.1, 0.25, 0.5, 0.75)
"""Budgets of the curve, as shares of the size of the set without a budget."""
SAME = 0.01
"""Relative difference of two planner costs that the planner itself ignores (STD_FUZZ_FACTOR)."""
PAGE = 8192


@dataclass(frozen=True, slots=True)
class Settings:
    """How to advise."""

    budget_bytes: float | None = None
    limits: Limits = field(default_factory=lambda: Limits(count=400, pairs=True))
    worst: float = 1.1
    """How many times its cost of today a query may cost at most."""
    drop_unused: bool = False
    """The workload is everything: an index it does not use may go."""
    free_days: float = 30.0
    """Days of counters without a scan after which an index counts as unused."""
    thrifty: bool = True
    """Whether an index must save something for its storage, and for being one more."""
    curve: Sequence[float] | None = None
    """Further budgets in bytes; None: shares of the set advised."""


@dataclass(frozen=True, slots=True)
class Served:
    """A query that an index serves."""

    query: int
    cost_before: float
    cost_after: float
    cost_without: float
    """With all the other advised indexes but without this one."""


@dataclass(frozen=True, slots=True)
class Create:
    """An index to make."""

    name: str
    sql: str
    size_bytes: int
    upkeep: float
    """Planner cost units that it costs the workload's writes."""
    served: tuple[Served, ...]
    saves: float
    """What the workload would cost more without it, writes left out."""
    offered: Offered | None = None
    """With the handles that the what-if planner knows it by."""


@dataclass(frozen=True, slots=True)
class Drop:
    """An index to drop, and why that is no loss."""

    name: str
    sql: str
    size_bytes: int
    reason: str


@dataclass(frozen=True, slots=True)
class PricedVariant:
    """One text of a query, before and after. Costs are per call."""

    label: str
    sql: str
    cost_before: float
    cost_after: float
    indexes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class QueryChange:
    """A query before and after. Costs are per call, in planner cost units."""

    number: int
    name: str
    sql: str
    calls: float
    texts: int
    cost_before: float
    cost_after: float
    indexes: tuple[str, ...]
    variants: tuple[PricedVariant, ...]
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class Recommendation:
    """The advice. Costs are of the whole workload, in planner cost units."""

    creates: tuple[Create, ...]
    drops: tuple[Drop, ...]
    queries: tuple[QueryChange, ...]
    choice: Choice
    curve: tuple[Choice, ...]
    cost_before: float
    upkeep_before: float
    upkeep_after: float
    least: float
    """With every offered index at once."""
    calls: int
    candidates: int
    refused: dict[str, str]
    unplanned: tuple[tuple[str, str], ...]
    statements: int
    alike: bool
    """Whether each query counts for the same, whatever it costs: costs are then relative."""
    notes: list[str] = field(default_factory=list)
    measured: tuple[Measured, ...] = ()
    relied_on: tuple[str, ...] = ()
    """Names of existing indexes that the plans with the advised set use."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A text of a query timed without and with the advised set."""

    name: str
    label: str
    calls: float
    cost_before: float
    cost_after: float
    time_before_ms: float
    time_after_ms: float


def recommend(
    workload: Workload,
    catalog: Catalog,
    whatif: WhatIf,
    settings: Settings,
    stop: Stop,
    say: Callable[[str], None],
    writes: dict[tuple[str, str], TableWrites] | None = None,
) -> Recommendation:
    """What to create and drop for a workload. The same input gives the same advice."""
    small = _none if settings.limits.small else _small
    offers = Offers(whatif, catalog, settings.limits, small)
    if getattr(whatif, "hides_existing", True):
        offers.add_existing(lambda r, i: True)
    missed = offers.add(
        workload.queries, say, alike=workload.alike, late=lambda: stop.now(whatif.calls)
    )
    upkeep = upkeep_of(offers.indexes, writes or {})
    base = sum(p.weight * p.plan(offers.existing).cost for p in offers.priced)
    terms = _terms(offers, workload, settings, upkeep)
    optimiser = Optimiser(offers.priced, terms, say)
    choice = optimiser.choose(settings.budget_bytes, stop)
    curve = _curve(optimiser, choice, settings, stop)
    if curve and not stop.now(optimiser.calls):
        again = optimiser.choose(settings.budget_bytes, stop)  # with what the curve has taught
        choice = min(again, choice, key=lambda c: c.value)
    chosen = choice.indexes
    left_out: dict[int, str] = {}
    if settings.thrifty and not stop.now(optimiser.calls):
        chosen, left_out = _without_seconds(offers, optimiser, chosen)
    chosen, covered = _consolidate(offers, optimiser, chosen)
    if not stop.now(optimiser.calls):
        for priced in offers.priced:
            priced.confirm(chosen)
    if left_out:
        choice = replace(
            choice,
            size_bytes=sum(offers.sizes[i] for i in members(chosen)),
            cost=total(offers.priced, chosen),
            created=(chosen & ~offers.existing).bit_count(),
        )
    unplanned = tuple((workload.queries[n].name, why) for n, why in offers.unplanned)
    result = Recommendation(
        _creates(offers, chosen, upkeep),
        _drops(offers, chosen, covered, settings),
        _queries(offers, workload.queries, chosen),
        replace(choice, indexes=chosen),
        tuple(sorted({c.budget_bytes: c for c in (*curve, choice)}.values(), key=_budget)),
        base,
        _written(upkeep, offers.existing),
        _written(upkeep, chosen),
        sum(p.weight * p.least for p in offers.priced),
        optimiser.calls,
        sum(o.existing is None for o in offers.indexes),
        offers.refused,
        unplanned,
        workload.statements,
        workload.alike,
    )
    used = 0
    for asked in offers.asked:
        used |= asked.priced.plan(chosen).used
    result.relied_on = tuple(offers.indexes[n].name for n in members(used & offers.existing))
    result.notes += workload.notes
    result.notes += [
        f"left out: {offers.indexes[number].name}; {other} begins with the same column, and no query "
        f"costs more than {SECOND:g} times as much without it"
        for number, other in left_out.items()
    ]
    if missed:
        result.notes.append(f"{missed} queries were not looked at: there was no time left")
    if workload.alike:
        result.notes.append(
            "nothing says how often each query is called, so each counts for the same time: "
            "`-- weight: N` above a query says it"
        )
    return result


def _pages(relation: Relation, catalog: Catalog) -> int:
    """Heap pages of a table, with its partitions; at least 1."""
    leaves = [catalog.relations[key] for key in relation.leaves if key in catalog.relations]
    return max(sum(r.pages or 0 for r in (relation, *leaves)), 1)


def _small(relation: Relation) -> bool:
    return relation.rows is not None and relation.rows < SMALL_RELATION_ROWS


def _none(relation: Relation) -> bool:
    return False


def _budget(choice: Choice) -> float:
    return float("inf") if choice.budget_bytes is None else choice.budget_bytes


def _written(upkeep: Upkeep, chosen: IndexSet) -> float:
    own = sum(upkeep.own.get(i, 0.0) for i in members(chosen))
    return own + sum(s.cost for s in upkeep.shared if s.indexes & chosen)


def _terms(offers: Offers, workload: Workload, settings: Settings, upkeep: Upkeep) -> Terms:
    prices = dict(upkeep.own)
    use: list[float] = []
    if settings.thrifty:
        use = [_use(offers, p) for p in offers.priced]
        least = _least_use(offers, use)
        for offered in offers.indexes:
            if offered.existing is None:
                heap = _pages(offered.relation, offers.catalog) * PAGE
                assert offered.index is not None
                more = len(offered.index.keys) + len(offered.index.include) - 1
                share = 1 + min(offered.size_bytes / heap, 1.0) + COLUMN * more
                own = prices.get(offered.number, 0.0)
                prices[offered.number] = own + share * least.get(offered.number, 0.0)
    required = set_of(
        o.number
        for o in offers.indexes
        if o.existing and not _may_go(o.existing, offers.catalog, workload, settings)
    )
    return Terms(
        offers.sizes,
        prices,
        upkeep.shared,
        required,
        _keep_one(offers),
        offers.existing,
        settings.worst,
        use,
    )


def _use(offers: Offers, statement: Priced) -> float:
    """What an index in a statement's plan has to save it: a share, and more than noise."""
    cost = statement.plan(offers.existing).cost
    return statement.weight * max(NEARLY * cost, NEARLY * MIN_COST)


def _least_use(offers: Offers, use: Sequence[float]) -> dict[int, float]:
    """What an index has to save for being one more: as much as the least of its statements asks.

    Not a share of the workload: a query that is cheap beside a report has a right to its index.
    """
    result: dict[int, float] = {}
    for own, statement in zip(use, offers.priced, strict=True):
        for index in members(statement.relevant):
            result[index] = min(result.get(index, own), own)
    return result


def _may_go(index: Index, catalog: Catalog, workload: Workload, settings: Settings) -> bool:
    """Whether the workload may decide that an index goes: else only another index can replace it."""
    if settings.drop_unused:
        return True
    days = catalog.counted_days
    counted = index.scans == 0 and days is not None and days >= settings.free_days
    return counted and not catalog.standby


def _keep_one(offers: Offers) -> list[IndexSet]:
    """For each foreign key the offered indexes of which one must stay for its look-ups."""
    from sqladvisor.advise.existing import serves_key

    groups: list[IndexSet] = []
    by_table: dict[tuple[str, str], list[Offered]] = {}
    for offered in offers.indexes:
        by_table.setdefault((offered.relation.schema, offered.relation.name), []).append(offered)
    for _, items in sorted(by_table.items()):
        relation = items[0].relation
        offered_names = {o.existing.name for o in items if o.existing}
        for key in relation.foreign_keys:
            serving = [i for i in relation.indexes if serves_key(i, key.columns)]
            if not serving or any(i.name not in offered_names for i in serving):
                continue
            groups.append(set_of(o.number for o in items if o.existing in serving))
    return groups


def _curve(optimiser: Optimiser, choice: Choice, settings: Settings, stop: Stop) -> list[Choice]:
    """The choices for other budgets, from the atoms known and what they still lack."""
    size = choice.size_bytes
    budgets: list[float | None]
    if settings.curve is not None:
        budgets = list(settings.curve)
    else:
        budgets = [share * size for share in CURVE]
        if settings.budget_bytes is not None:
            budgets += [2 * settings.budget_bytes, None]
    result = []
    for budget in budgets:
        if budget == settings.budget_bytes or (budget is not None and budget <= 0):
            continue
        if stop.now(optimiser.calls):
            break
        result.append(optimiser.choose(budget, stop))
    return result


def _without_seconds(
    offers: Offers, optimiser: Optimiser, chosen: IndexSet
) -> tuple[IndexSet, dict[int, str]]:
    """Leave out new indexes that begin as another one and bring no statement enough, least first."""
    left_out: dict[int, str] = {}

    def lost(number: int) -> float:
        without = chosen & ~(1 << number)
        return sum(p.weight * (p.plan(without).cost - p.plan(chosen).cost) for p in offers.priced)

    while True:
        new = [offers.indexes[n] for n in members(chosen & ~offers.existing)]
        twins = {
            o.number: twin
            for o in new
            for twin in new
            if o.index and twin.index and begin_alike(o.index, twin.index)
        }
        for number in sorted(twins, key=lambda n: (lost(n), n)):
            without = chosen & ~(1 << number)
            enough = any(
                worth_a_second(p.plan(chosen).cost, p.plan(without).cost) for p in offers.priced
            )
            if not enough and optimiser.allowed(without):
                chosen = without
                left_out[number] = twins[number].name
                break
        else:
            return chosen, left_out


def _consolidate(
    offers: Offers, optimiser: Optimiser, chosen: IndexSet
) -> tuple[IndexSet, dict[int, str]]:
    """Let go of existing indexes that a chosen one begins with, where no query notices."""
    covered: dict[int, str] = {}
    created = [o for o in map(offers.indexes.__getitem__, members(chosen)) if o.index]
    for old in [o for o in map(offers.indexes.__getitem__, members(chosen)) if o.existing]:
        for new in created:
            if new.relation is not old.relation or not _begins_with(new, old):
                continue
            without = chosen & ~(1 << old.number)
            if not optimiser.allowed(without):
                continue
            worse = any(
                s.plan(without).cost > s.plan(chosen).cost * (1 + SAME) for s in offers.priced
            )
            if not worse:
                chosen = without
                covered[old.number] = new.name
                break
    return chosen, covered


def _begins_with(new: Offered, old: Offered) -> bool:
    assert new.index is not None and old.existing is not None
    ours = definition(Index("", (), definition=new.index.ddl()))
    theirs = definition(old.existing)
    return (
        ours is not None
        and theirs is not None
        and ours.method == theirs.method
        and ours.predicate == theirs.predicate
        and ours.keys[: len(theirs.keys)] == theirs.keys
        and theirs.include <= ours.include | _plain(ours.keys)
    )


def _plain(keys: Sequence[object]) -> frozenset[str]:
    found = set()
    for key in keys:
        if isinstance(key, tuple):
            found |= {str(v) for k, v in key if k == "name"}
    return frozenset(found)


def _creates(offers: Offers, chosen: IndexSet, upkeep: Upkeep) -> tuple[Create, ...]:
    result = []
    for number in members(chosen):
        offered = offers.indexes[number]
        if offered.index is None:
            continue
        served: dict[int, list[float]] = {}
        saves = 0.0
        for asked in offers.asked:
            plan = asked.priced.plan(chosen)
            if not plan.used >> number & 1:
                continue
            before = asked.priced.plan(offers.existing).cost
            without = asked.priced.plan(chosen & ~(1 << number)).cost
            share = asked.variant.share
            costs = served.setdefault(asked.query, [0.0, 0.0, 0.0])
            for place, cost in enumerate((before, plan.cost, without)):
                costs[place] += share * cost
            saves += asked.priced.weight * (without - plan.cost)
        uses = tuple(Served(query, *costs) for query, costs in sorted(served.items()))
        result.append(
            Create(
                offered.name,
                create_sql(offered, offers.catalog),
                offered.size_bytes,
                upkeep.own.get(number, 0.0),
                uses,
                saves,
                offered,
            )
        )
    return tuple(sorted(result, key=lambda c: (-c.saves, c.sql)))


def _drops(
    offers: Offers, chosen: IndexSet, covered: dict[int, str], settings: Settings
) -> tuple[Drop, ...]:
    result = []
    days = offers.catalog.counted_days
    for number in members(offers.existing & ~chosen):
        offered = offers.indexes[number]
        index = offered.existing
        assert index is not None
        if number in covered:
            reason = f"{covered[number]} serves what it serves"
        elif index.scans == 0 and days is not None and days >= settings.free_days:
            reason = f"not scanned in {days:.0f} days, and no query needs it"
        else:
            reason = "no query of the workload needs it, and each write pays for it"
        result.append(Drop(offered.name, drop(offered.relation, index), offered.size_bytes, reason))
    return tuple(sorted(result, key=lambda d: d.name))


def _queries(offers: Offers, queries: Sequence[Query], chosen: IndexSet) -> tuple[QueryChange, ...]:
    by_query: dict[int, list[PricedVariant]] = {}
    shares: dict[int, list[float]] = {}
    for asked in offers.asked:
        before = asked.priced.plan(offers.existing)
        after = asked.priced.plan(chosen)
        names = tuple(offers.indexes[n].name for n in members(after.used))
        by_query.setdefault(asked.query, []).append(
            PricedVariant(asked.variant.label, asked.variant.sql, before.cost, after.cost, names)
        )
        shares.setdefault(asked.query, []).append(asked.variant.share)
    result = []
    for number, variants in sorted(by_query.items()):
        query = queries[number]
        weight = list(zip(variants, shares[number], strict=True))
        indexes = dict.fromkeys(n for v in variants for n in v.indexes)
        result.append(
            QueryChange(
                number,
                query.name,
                query.context.statement.text,
                query.calls,
                query.texts,
                sum(v.cost_before * s for v, s in weight),
                sum(v.cost_after * s for v, s in weight),
                tuple(indexes),
                tuple(variants),
                (*query.notes, *_disagreement(variants)),
            )
        )
    return tuple(result)


def _disagreement(variants: Sequence[PricedVariant]) -> list[str]:
    """What to say where a common and a rare value want different plans."""
    labelled = {v.label: v for v in variants if v.label}
    common, rare = labelled.get("common"), labelled.get("rare")
    if common is None or rare is None or common.indexes == rare.indexes:
        return []

    def plan(variant: PricedVariant) -> str:
        return " and ".join(variant.indexes) if variant.indexes else "no advised index"

    return [
        f"values disagree: a rare one is served by {plan(rare)}, a common one by {plan(common)}"
    ]
