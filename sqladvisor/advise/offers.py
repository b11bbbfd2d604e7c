"""What can be chosen from: index candidates of the workload's statements, and existing indexes.

Every offered index has a number; sets of them are bit masks (``pricing.IndexSet``). An index of a
partitioned table stands for one on each partition. Existing indexes are offered where they may be
dropped: never a constraint's or a unique one, never a replica identity, never the last one that a
foreign key's look-ups need.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sqladvisor.advise.candidates import MAX_INCLUDED, Limits, candidates, table_of
from sqladvisor.advise.consolidate import MIN_COST, merged
from sqladvisor.advise.existing import last_for_key
from sqladvisor.advise.pricing import IndexSet, Priced, members, set_of
from sqladvisor.advise.wants import Wanted, wanted
from sqladvisor.advise.workload import Query, Variant
from sqladvisor.catalog.model import Catalog, Index, Relation
from sqladvisor.context import Context
from sqladvisor.server.whatif import Handle, HypotheticalIndex, WhatIf, WhatIfError
from sqladvisor.sql.quote import qualified

MAX_VIEWS = 8
"""Views within views that are looked through."""


@dataclass(frozen=True, slots=True)
class Offered:
    """An index that may be chosen. ``existing`` None: it would have to be made."""

    number: int
    relation: Relation
    size_bytes: int
    index: HypotheticalIndex | None = None
    handles: tuple[Handle, ...] = ()
    existing: Index | None = None

    @property
    def name(self) -> str:
        """What it is called in reports: the columns, or the existing index's name."""
        if self.existing is not None:
            return qualified(_schema(self.relation), self.existing.name)
        assert self.index is not None
        return self.index.ddl().removeprefix("CREATE INDEX ON ")


@dataclass(frozen=True, slots=True)
class Asked:
    """A text of a query as it is priced."""

    query: int
    variant: Variant
    priced: Priced


@dataclass(slots=True)
class Offers:
    """All that is offered, and the statements that are priced with it."""

    whatif: WhatIf
    catalog: Catalog
    limits: Limits
    small: Callable[[Relation], bool]
    indexes: list[Offered] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    """Candidates that cannot be priced, with the reason."""
    unplanned: list[tuple[int, str]] = field(default_factory=list)
    """Queries that the planner refuses, with the reason."""
    _numbers: dict[HypotheticalIndex, int] = field(default_factory=dict)

    @property
    def sizes(self) -> dict[int, int]:
        """Bytes that count against a storage budget: those of indexes to be made."""
        return {o.number: 0 if o.existing else o.size_bytes for o in self.indexes}

    @property
    def existing(self) -> IndexSet:
        """The offered indexes that exist today."""
        return set_of(o.number for o in self.indexes if o.existing)

    @property
    def priced(self) -> list[Priced]:
        return [a.priced for a in self.asked]

    def add_existing(self, may_drop: Callable[[Relation, Index], bool]) -> None:
        """Offer the indexes that may be dropped; the others are there in every plan."""
        for relation in _tables(self.catalog):
            for index in relation.indexes:
                if (
                    relation.kind != "partitioned"  # its partitions' indexes stand in the plans
                    and index.removable
                    and index.valid
                    and not index.unique
                    and last_for_key(relation, index) is None
                    and may_drop(relation, index)
                ):
                    self.indexes.append(
                        Offered(len(self.indexes), relation, index.size_bytes or 0, existing=index)
                    )

    def add(
        self,
        queries: Sequence[Query],
        say: Callable[[str], None],
        *,
        alike: bool = False,
        late: Callable[[], bool] = lambda: False,
    ) -> int:
        """Offer what could serve these queries, and ready their texts for pricing.

        ``alike``: a call of each counts for the same, whatever it costs today. Once it is ``late``
        nothing more is offered; returns for how many queries.
        """
        missed = 0
        for place, query in enumerate(queries):
            say(f"reading the workload: query {place + 1} of {len(queries)}")
            missed += late()
            relevant = self._existing_of(query) if late() else self._relevant(query.context)
            for variant in query.variants:
                statement = Priced(
                    relevant, self._asker(variant, relevant), query.calls * variant.share
                )
                try:
                    cost = statement.plan(self.existing).cost
                    if alike:
                        statement.weight /= max(cost, MIN_COST)
                        if cost < MIN_COST:  # it needs no index, and must only not become slow
                            statement.relevant &= self.existing
                except WhatIfError as error:
                    self.unplanned.append((place, str(error)))
                    break
                self.asked.append(Asked(place, variant, statement))
        if not late():
            self._merge()
        self._share()
        return missed

    def _merge(self) -> None:
        """Offer what serves as two indexes do that single statements would like best."""
        liked = 0
        for statement in self.priced:
            liked |= statement.plan(statement.relevant).used & ~self.existing
        for table in by_table([self._at(n) for n in members(liked)]).values():
            for place, one in enumerate(table):
                for other in table[place + 1 :]:
                    assert one.index is not None and other.index is not None
                    included = MAX_INCLUDED if self.limits.include else 0
                    index = merged(one.index, other.index, self.limits.width, included)
                    number = self._offer(index, one.relation) if index else None
                    if number is not None:
                        parents = 1 << one.number | 1 << other.number
                        for statement in self.priced:
                            if statement.relevant & parents:
                                statement.relevant |= 1 << number

    def _share(self) -> None:
        """Let each statement use what was offered for others and begins as one of its own does."""
        new = [o for o in self.indexes if o.index is not None and o.index.method == "btree"]
        begins: dict[int, IndexSet] = {}
        for table in by_table(new).values():
            for longer in table:
                shorter = [o.number for o in table if o is not longer and _begins_as(longer, o)]
                if shorter:
                    begins[longer.number] = set_of(shorter)
        for statement in self.priced:
            foreign = {
                number: own
                for number, shorter in begins.items()
                if not statement.relevant >> number & 1 and (own := shorter & statement.relevant)
            }
            statement.share(foreign)

    def _existing_of(self, query: Query) -> IndexSet:
        tables = {
            (r.schema, r.name)
            for w in every_want(query.context, self.catalog)
            if (r := w.item.relation) is not None
        }
        return set_of(
            o.number
            for o in self.indexes
            if o.existing and (o.relation.schema, o.relation.name) in tables
        )

    def _relevant(self, context: Context) -> IndexSet:
        result = 0
        tables = set()
        for want in every_want(context, self.catalog):
            relation = want.item.relation
            assert relation is not None
            tables.add((relation.schema, relation.name))
            if self.small(relation):
                continue
            for index in candidates(want, self.limits):
                number = self._offer(index, relation)
                if number is not None:
                    result |= 1 << number
        for offered in self.indexes:
            relation = offered.relation
            if offered.existing and (relation.schema, relation.name) in tables:
                result |= 1 << offered.number
        return result

    def _offer(self, index: HypotheticalIndex, relation: Relation) -> int | None:
        if index in self._numbers:
            return self._numbers[index]
        text = index.ddl()
        if text in self.refused:
            return None
        try:
            handles = tuple(self.whatif.add(self._parts(index, relation)))
        except WhatIfError as error:
            self.refused[text] = str(error)
            return None
        number = len(self.indexes)
        size = sum(h.size_bytes for h in handles)
        self.indexes.append(Offered(number, relation, size, index, handles))
        self._numbers[index] = number
        return number

    def _parts(self, index: HypotheticalIndex, relation: Relation) -> list[HypotheticalIndex]:
        """What an index consists of: for a partitioned table, one on each partition."""
        if relation.kind != "partitioned":
            return [index]
        leaves = [r for k in relation.leaves if (r := self.catalog.relations.get(k)) is not None]
        if not leaves:
            raise WhatIfError(f"{index.table} has no partitions to price an index on")
        return [replace(index, table=table_of(leaf)) for leaf in leaves]

    def _asker(
        self, variant: Variant, relevant: IndexSet
    ) -> Callable[[IndexSet], tuple[IndexSet, float]]:
        old = relevant & self.existing
        # By the name in the plan: EXPLAIN leaves the schema out, so twins in two schemas both count.
        names = {o.existing.name: o.number for o in map(self._at, members(old)) if o.existing}

        def ask(visible: IndexSet) -> tuple[IndexSet, float]:
            shown = [self._at(n) for n in members(visible & ~old)]
            hidden = [self._at(n).name for n in members(old & ~visible)]
            plan = self.whatif.cost(
                variant.sql,
                [h for o in shown for h in o.handles],
                hidden_existing=hidden,
                generic=variant.generic,
            )
            used = plan.indexes_used()
            own = {h.name: o.number for o in shown for h in o.handles}
            numbers = {**names, **own}
            return set_of(numbers[n] for n in used if n in numbers) & visible, plan.total_cost

        return ask

    def _at(self, number: int) -> Offered:
        return self.indexes[number]


def _begins_as(longer: Offered, shorter: Offered) -> bool:
    """Whether an index has the other's keys first, and all its columns."""
    one, other = longer.index, shorter.index
    assert one is not None and other is not None
    return (
        one.keys[: len(other.keys)] == other.keys
        and one.predicate == other.predicate
        and set(other.include) <= {*one.keys, *one.include}
    )


def every_want(context: Context, catalog: Catalog) -> Iterator[Wanted]:
    """What a statement wants of tables, those behind views included."""
    yield from wanted(context)
    seen: set[tuple[str, str]] = set()
    waiting = list(_views(context))
    while waiting and len(seen) < MAX_VIEWS:
        view = waiting.pop(0)
        if (view.schema, view.name) in seen or not view.definition:
            continue
        seen.add((view.schema, view.name))
        inner = _defined(view.definition, catalog)
        if inner is not None:
            yield from wanted(inner)
            waiting += _views(inner)


def _views(context: Context) -> Iterable[Relation]:
    for table in context.tree.of("RangeVar"):
        found = context.catalog.find(str(table.get("relname")), table.get("schemaname"))
        if found is not None and found.kind == "view":
            yield found


def _defined(definition: str, catalog: Catalog) -> Context | None:
    from sqladvisor.sql.source import read_source, statements

    found, _ = statements(read_source("view", definition.encode()))
    return Context(found[0], catalog) if len(found) == 1 else None


def _tables(catalog: Catalog) -> Iterator[Relation]:
    for _, relation in sorted(catalog.relations.items()):
        if relation.kind in ("table", "partitioned", "matview") and not (
            relation.partition or relation.temporary
        ):
            yield relation


def _schema(relation: Relation) -> str | None:
    return None if relation.schema == "public" else relation.schema


def by_table(offers: Sequence[Offered]) -> Mapping[str, list[Offered]]:
    """Offered indexes by their table as DDL names it."""
    result: dict[str, list[Offered]] = {}
    for offered in offers:
        result.setdefault(table_of(offered.relation), []).append(offered)
    return result
