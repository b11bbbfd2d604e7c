"""Index candidates for one statement, from what it wants of each table.

Generous on purpose: the planner prices every candidate, and what does not pay is never shown.
Column order follows the rule every b-tree obeys: equality columns first, then one range or the
sort order, then columns only carried along (INCLUDE). See the PostgreSQL manual, 11.3
"Multicolumn Indexes" and 11.9 "Index-Only Scans and Covering Indexes".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations

from sqladvisor.advise.methods import method_candidates
from sqladvisor.advise.wants import Predicate, Wanted
from sqladvisor.catalog.model import Column, Relation
from sqladvisor.server.whatif import HypotheticalIndex
from sqladvisor.sql.quote import identifier, qualified

MAX_KEYS = 4
"""Key columns of a candidate: beyond it write cost and size grow while selectivity hardly does."""
MAX_INCLUDED = 4
"""Columns carried along for an index-only scan."""
MAX_INCLUDED_BYTES = 64
"""Average bytes of the carried columns together: a wider index approaches the table's size."""
MAX_PARTIAL_SHARE = 0.25
"""A partial index over more of the table than this saves too little to bind itself to a value."""
MAX_CANDIDATES = 60
"""Per table and statement: pricing each costs a plan."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Which candidates to make."""

    width: int = MAX_KEYS
    """Most key columns."""
    include: bool = True
    partial: bool = True
    expressions: bool = True
    methods: bool = True
    """Also GIN, GiST and BRIN."""
    count: int = MAX_CANDIDATES
    """Most of them for one table of one statement."""
    pairs: bool = False
    """Also every ordered pair of the columns that the statement reads: one covers what it needs of
    the table, or serves another statement as well."""
    small: bool = False
    """Also on tables of few rows, where an index saves next to nothing as a rule."""


AUDIT = Limits()
"""Advice next to one statement."""
WORKLOAD = Limits(count=400, pairs=True)
"""Advice for a whole workload: all candidates of a statement are priced by few plans."""
MAX_PAIRED = 12
"""Columns of a table that pairs are made of."""
MAX_TRIPLED = 6
"""Columns of a table that triples are made of: there are n (n - 1) (n - 2) of them."""

_UNINDEXABLE = frozenset(("json", "xml", "point", "jsonb", "tsvector", "box", "polygon", "circle"))


def candidates(want: Wanted, limits: Limits = AUDIT) -> list[HypotheticalIndex]:
    """The candidates for one table of one statement, deterministic, without duplicates."""
    relation = want.item.relation
    if relation is None or relation.kind not in ("table", "matview", "partitioned"):
        return []
    found: dict[HypotheticalIndex, None] = {}
    for keys in _key_lists(want, limits.width):
        if limits.expressions or not any(k.startswith("(") for k in keys):
            for index in _variants(keys, want, relation, limits):
                if not _exists(index, relation):
                    found.setdefault(index)
    if limits.pairs:
        for keys in _pairs(want, relation, limits.width):
            index = HypotheticalIndex(table_of(relation), keys)
            if not _exists(index, relation):
                found.setdefault(index)
    others = method_candidates(want) if limits.methods else []
    return [*list(found)[: limits.count], *others]


def naive_candidates(want: Wanted) -> list[HypotheticalIndex]:
    """What people try first: one index on each column the statement merely shows or groups by.

    Priced only to say that they would not help.
    """
    relation = want.item.relation
    if relation is None or want.needed is None:
        return []
    used = {c for p in want.predicates for c in p.columns} | {c for c, _ in want.order}
    return [
        HypotheticalIndex(table_of(relation), (identifier(c),))
        for c in want.needed
        if c not in used and c not in relation.primary_key and _indexable(relation.column(c))
    ]


def table_of(relation: Relation) -> str:
    """The table as written in DDL; ``public`` is left out."""
    return qualified(None if relation.schema == "public" else relation.schema, relation.name)


def _pairs(want: Wanted, relation: Relation, width: int) -> Iterator[tuple[str, ...]]:
    """Each column that the statement reads, and each two of them in either order.

    With a third where the first is one to search, join, sort or group by.
    """
    sought = [c for p in want.predicates if not p.is_expression for c in p.columns]
    sought += [*(c for c, _ in want.order), *want.group]
    names = [*dict.fromkeys([*sought, *(want.needed or ())])]
    columns = [identifier(c) for c in names if _indexable(relation.column(c))][:MAX_PAIRED]
    leading = {identifier(c) for c in sought}
    for size in range(1, min(width, 2) + 1):
        yield from permutations(columns, size)
    if width > 2 and want.needed is not None and len(columns) <= MAX_TRIPLED:
        yield from (keys for keys in permutations(columns, 3) if keys[0] in leading)


def _key_lists(want: Wanted, width: int = MAX_KEYS) -> Iterator[tuple[str, ...]]:
    relation = want.item.relation
    assert relation is not None
    equal = _by_selectivity(
        [*want.of("equality"), *(p for p in want.of("null") if _known(p, relation))], relation
    )
    joined = _unique(_key(p) for p in want.of("join"))
    ranged = _unique(_key(p) for p in want.of("range", "like"))
    order = tuple(f"{identifier(c)} {d}".strip() for c, d in want.order)
    plain_order = tuple(identifier(c) for c, _ in want.order)
    group = tuple(identifier(c) for c in want.group)

    heads: list[tuple[str, ...]] = [()]
    if equal:
        heads.append(tuple(equal))
        heads += [(e,) for e in equal]
        heads += list(permutations(equal, 2)) if len(equal) <= 4 else []
    for join in joined:
        heads += [(join,), *((*head, join) for head in heads[1:4])]
        heads += [(join, *head) for head in heads[1:3] if join not in head]
    if len(joined) > 1:
        heads += list(permutations(joined, 2))
    tails: list[tuple[str, ...]] = [(), *((r,) for r in ranged)]
    if order:
        tails += [order, plain_order] if want.limited or len(order) == 1 else [order]
        tails += [(*order, r) for r in ranged if r not in plain_order]
    if group:
        tails.append(group)
    tails += [(r, j) for r in ranged for j in joined]
    seen = set()
    for head in heads:
        for tail in tails:
            names = set()
            keys = []
            for key in (*head, *tail):
                bare = _column(key)
                if bare not in names:
                    names.add(bare)
                    keys.append(key)
            result = tuple(keys[: min(width, MAX_KEYS)])
            if result and result not in seen and _all_indexable(result, relation):
                seen.add(result)
                yield result


def _variants(
    keys: tuple[str, ...], want: Wanted, relation: Relation, limits: Limits = AUDIT
) -> Iterator[HypotheticalIndex]:
    table = table_of(relation)
    yield HypotheticalIndex(table, keys)
    carried = _carried(keys, want, relation) if limits.include else ()
    if carried:
        yield HypotheticalIndex(table, keys, carried)
    for predicate in _partial(want, relation) if limits.partial else ():
        left = tuple(k for k in keys if _column(k) not in map(identifier, predicate.columns))
        text = predicate.bare
        if text and left:
            yield HypotheticalIndex(table, left, (), text)
            carried = (
                _carried(left, want, relation, but=predicate.columns) if limits.include else ()
            )
            if carried:
                yield HypotheticalIndex(table, left, carried, text)
        elif text and not left:
            yield HypotheticalIndex(table, keys, (), text)


def _carried(
    keys: Sequence[str], want: Wanted, relation: Relation, but: Sequence[str] = ()
) -> tuple[str, ...]:
    """The columns INCLUDE must carry so that the table need not be read; ``()`` if not worth it."""
    if want.needed is None or any(k.startswith("(") for k in keys):
        return ()
    have = {_column(k) for k in keys} | set(map(identifier, but))
    missing = [c for c in want.needed if identifier(c) not in have]
    if not missing or len(missing) > MAX_INCLUDED:
        return ()
    width = 0.0
    for name in missing:
        column = relation.column(name)
        if column is None or column.type in ("json", "jsonb", "xml", "bytea"):
            return ()
        width += column.stats.avg_width if column.stats else _typical_width(column.type)
    return tuple(map(identifier, missing)) if width <= MAX_INCLUDED_BYTES else ()


_WIDTHS = {"boolean": 1, "smallint": 2, "integer": 4, "real": 4, "date": 4, "bigint": 8, "uuid": 16}


def _typical_width(type_name: str) -> int:
    """Bytes taken for a column without statistics (get_typavgwidth(), utils/cache/lsyscache.c)."""
    if type_name.startswith(("timestamp", "double")):
        return 8
    return _WIDTHS.get(type_name, 32)


_LITERAL = re.compile(r"'([^']*)'")


def _partial(want: Wanted, relation: Relation) -> Iterator[Predicate]:
    """Predicates with literals that single out a small, fixed part of the table."""
    for predicate in want.of("equality", "null", "not-null", "boolean"):
        if not predicate.literal or predicate.is_expression:
            continue
        column = relation.column(predicate.columns[0])
        share = _share(predicate, column)
        if share is not None and share <= MAX_PARTIAL_SHARE:
            yield predicate


def _share(predicate: Predicate, column: Column | None) -> float | None:
    """The share of rows a literal predicate keeps, from the column's statistics; None: unknown."""
    stats = column.stats if column else None
    if stats is None:
        return None
    if predicate.use == "null":
        return stats.null_frac
    if predicate.use == "not-null":
        return 1 - stats.null_frac
    share = 0.0
    known = False
    text = _LITERAL.sub(lambda m: f"'{stats.recorded(m[1])}'", predicate.text)
    for value, frequency in zip(stats.most_common_vals, stats.most_common_freqs, strict=False):
        if predicate.use == "boolean":
            positive = not predicate.text.upper().startswith("NOT ") and "FALSE" not in (
                predicate.text.upper()
            )
            known = True
            share += frequency if (value == "t") == positive else 0
        elif f"'{value}'" in text:
            known = True
            share += frequency
    # A value outside the most common ones says little of a *fixed* part: few values or none.
    return share if known and 0 < stats.n_distinct <= 100 else None


def _known(predicate: Predicate, relation: Relation) -> bool:
    """Whether anybody knows how many NULLs a column has: taken for few, IS NULL looks selective."""
    column = relation.column(predicate.columns[0])
    return column is not None and column.stats is not None


def _key(predicate: Predicate) -> str:
    if not predicate.is_expression:
        key = identifier(predicate.key)
        return f"{key} text_pattern_ops" if predicate.use == "like" else key
    return f"({predicate.key})"


def _column(key: str) -> str:
    """The (quoted) column of a key without its operator class and direction."""
    if key.startswith("("):
        return key
    return key[: key.index('"', 1) + 1] if key.startswith('"') else key.split(" ", 1)[0]


def _by_selectivity(predicates: Sequence[Predicate], relation: Relation) -> list[str]:
    """Equality keys, most distinct first: of equal use to the b-tree, but the prefix serves more."""

    def distinct(predicate: Predicate) -> float:
        column = relation.column(predicate.columns[0])
        if column is None or column.stats is None:
            return 0.0
        n = column.stats.n_distinct
        return n if n >= 0 else -n * (relation.rows or 1)

    ordered = sorted(predicates, key=lambda p: (-distinct(p), p.key))
    return _unique(_key(p) for p in ordered)


def _unique(items: Iterator[str]) -> list[str]:
    return list(dict.fromkeys(items))


def _indexable(column: Column | None) -> bool:
    return column is not None and column.type not in _UNINDEXABLE


def _all_indexable(keys: Sequence[str], relation: Relation) -> bool:
    for key in keys:
        if not key.startswith("("):
            column = next((c for c in relation.columns if identifier(c.name) == _column(key)), None)
            if not _indexable(column):
                return False
    return True


def _exists(index: HypotheticalIndex, relation: Relation) -> bool:
    """Whether a valid index of the table already begins with these very keys."""
    if index.predicate:
        return False
    wanted = tuple(index.keys)
    for have in relation.indexes:
        if have.method != "btree" or have.predicate or not have.valid:
            continue
        names = tuple(identifier(k) if k else "" for k in have.keys)
        carried = {identifier(c) for c in have.include} | set(names)
        if names[: len(wanted)] == wanted and set(index.include) <= carried:
            return True
    return False
