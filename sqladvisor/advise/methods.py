"""Candidates for what a b-tree cannot find: GIN, GiST and BRIN.

Which operator class answers which operator is the manual's: 64.4.1 (GIN), 64.2.1 (GiST), 64.5.1 (BRIN),
F.35 (pg_trgm). As generous as the b-tree candidates: the planner prices each.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from sqladvisor.advise.wants import Predicate, Wanted
from sqladvisor.catalog.model import Relation
from sqladvisor.server.whatif import HypotheticalIndex
from sqladvisor.sql.quote import identifier

MIN_BRIN_PAGES = 6400
"""Heap pages (50 MB) from which on BRIN is offered: below it a b-tree is small, too, and BRIN's ranges
of 128 pages are too few to leave much out."""
MIN_CORRELATION = 0.9
"""Of physical order with a column's: below it each range of pages holds values from everywhere."""
MIN_WORD = 3
"""Characters in a row that a pattern needs for trigrams to be looked up (F.35.1)."""

_GEOMETRIC = frozenset(("point", "box", "polygon", "circle", "geometry", "geography"))
_TEXTS = frozenset(("text", "character varying", "character"))
_KEYS = ("?", "?|", "?&")
_ANSWERS: tuple[tuple[str, tuple[str, ...], str, str], ...] = (
    ("jsonb", ("@>", "@?", "@@"), "gin", "jsonb_path_ops"),
    ("jsonb", ("@>", "@?", "@@", *_KEYS), "gin", ""),
    ("array", ("@>", "<@", "&&"), "gin", ""),
    ("tsvector", ("@@", "@@@"), "gin", ""),
    ("hstore", ("@>", *_KEYS), "gin", ""),
    ("text", ("~~", "~~*", "~", "~*", "%"), "gin", "gin_trgm_ops"),
    ("range", ("&&", "@>", "<@", "<<", ">>", "-|-", "&<", "&>"), "gist", ""),
    ("place", ("&&", "@>", "<@", "<<", ">>", "&<", "&>", "<<|", "|>>", "&<|", "|&>", "~="), "gist", ""),
    ("network", ("&&", "<<", "<<=", ">>", ">>="), "gist", "inet_ops"),
    ("ltree", ("@>", "<@", "~", "?", "@"), "gist", ""),
)  # fmt: skip
"""Kind of type, operators, and the method and operator class that answer them."""


def method_candidates(want: Wanted) -> list[HypotheticalIndex]:
    """The GIN, GiST and BRIN candidates for one table of one statement, without duplicates."""
    relation = want.item.relation
    if relation is None or relation.kind not in ("table", "matview", "partitioned"):
        return []
    found: dict[HypotheticalIndex, None] = {}
    for method, key in [*_looking_inside(want, relation), *_nearest(want), *_by_range(want)]:
        for keys in _with_equal(method, key, want):
            index = HypotheticalIndex(want.table, keys, method=method)
            if not _exists(index, relation):
                found.setdefault(index)
    return list(found)


def _looking_inside(want: Wanted, relation: Relation) -> Iterator[tuple[str, str]]:
    """(method, key) of what answers the operators that a b-tree has no strategy for."""
    for predicate in want.of("operator"):
        kind = _kind(predicate, relation)
        if kind == "text" and ("pg_trgm" not in want.extensions or not _searchable(predicate)):
            continue
        key = f"({predicate.key})" if predicate.is_expression else identifier(predicate.key)
        for type_kind, operators, method, opclass in _ANSWERS:
            if kind == type_kind and predicate.operator in operators:
                yield method, f"{key} {opclass}".rstrip()


def _nearest(want: Wanted) -> Iterator[tuple[str, str]]:
    """What gives rows in the order of their distance (``ORDER BY place <-> point LIMIT n``)."""
    relation = want.item.relation
    column = relation.column(want.nearest) if relation and want.nearest else None
    if column is None or not want.limited:
        return
    key = identifier(column.name)
    if column.type in _GEOMETRIC:
        yield "gist", key
    elif column.type in _TEXTS and "pg_trgm" in want.extensions:
        yield "gist", f"{key} gist_trgm_ops"
    elif "btree_gist" in want.extensions:
        yield "gist", key


def _by_range(want: Wanted) -> Iterator[tuple[str, str]]:
    """BRIN on columns in whose order the rows of a large table lie."""
    relation = want.item.relation
    if relation is None or (relation.pages or 0) < MIN_BRIN_PAGES:
        return
    for predicate in want.of("range", "equality"):
        column = None if predicate.is_expression else relation.column(predicate.key)
        stats = column.stats if column else None
        if stats and abs(stats.correlation or 0) >= MIN_CORRELATION:
            yield "brin", identifier(predicate.key)


def _with_equal(method: str, key: str, want: Wanted) -> Iterator[tuple[str, ...]]:
    """The key alone, and behind an equality where an extension gives GIN or GiST plain types."""
    yield (key,)
    if f"btree_{method}" in want.extensions:
        for predicate in want.of("equality"):
            if not predicate.is_expression:
                yield identifier(predicate.key), key


def _kind(predicate: Predicate, relation: Relation) -> str:
    """The kind of type a predicate is about; "" where it is an expression that nobody can tell."""
    if predicate.is_expression:
        if predicate.key.lower().startswith("to_tsvector("):
            return "tsvector"
        return "text" if re.match(r"(?i)(lower|upper|unaccent)\(", predicate.key) else ""
    column = relation.column(predicate.key)
    name = (column.base_type or column.type) if column else ""
    if name.endswith("[]"):
        return "array"
    if name.endswith("range"):
        return "range"
    if name in _GEOMETRIC:
        return "place"
    if name in ("inet", "cidr"):
        return "network"
    return "text" if name in _TEXTS else name


def _searchable(predicate: Predicate) -> bool:
    """Whether a pattern has a word long enough to be looked up; unknown patterns are taken to."""
    if predicate.pattern is None:
        return True
    words = re.split(
        r"[\W_]+", re.sub(r"\\.|\[[^]]*\]|[^\\]?[*?]|\{[^}]*\}", " ", predicate.pattern)
    )
    return max(map(len, words), default=0) >= MIN_WORD


def _exists(index: HypotheticalIndex, relation: Relation) -> bool:
    """Whether a valid index of this method already has the last of these keys."""
    column, _, opclass = index.keys[-1].partition(" ")
    for have in relation.indexes:
        if have.method != index.method or have.predicate or not have.valid:
            continue
        for position, key in enumerate(have.keys):
            if key is not None and identifier(key) == column:
                own = have.opclasses[position] if position < len(have.opclasses) else None
                if (own or "").rpartition(".")[2] == opclass:
                    return True
    return False
