"""An index on a column of few values, each in a large part of the table: no search is worth it.

Why: to find a tenth of the rows or more, PostgreSQL reads the whole table: that is cheaper than
    following an index to nearly every page. The index is written with every row all the same.
Fix: DROP INDEX CONCURRENTLY. Where one rare value is looked for, a partial index on it.
Silent when: one value is rare, or the values are not all known (no rows, never analyzed); rows of
    one value lie together (correlation); the index has a second column, is partial, unique, or the
    last one that finds the rows of a foreign key; an audited statement or the counters show that it
    is used; the table is small.
Source: PostgreSQL manual, 14.2.1 "Single-Column Statistics" and cost_index() in costsize.c.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.advise.existing import drop, last_for_key, named, shown
from sqladvisor.catalog.model import Catalog, Column, Index, Relation
from sqladvisor.finding import Finding, Fix
from sqladvisor.rule import CATALOG, rule
from sqladvisor.schema import SchemaContext

_TABLE = """CREATE TABLE t (id int PRIMARY KEY, on_off bool, "Stück" int, status text, at date);
INSERT INTO t SELECT i, i % 2 = 0, i % 5, CASE WHEN i % 100 = 0 THEN 'open' ELSE 'done' END,
    date '2020-01-01' + i / 5000 FROM generate_series(1, 20000) i;
"""
BAD = [
    _TABLE + "CREATE INDEX ON t (on_off); VACUUM ANALYZE;",
    _TABLE + '\n  CREATE INDEX "é" ON public.t USING btree ("Stück" DESC); VACUUM ANALYZE;',
]
GOOD = [
    _TABLE + "CREATE INDEX ON t (status); VACUUM ANALYZE;",
    _TABLE + "CREATE INDEX ON t (at); VACUUM ANALYZE;",
    _TABLE + "CREATE INDEX ON t (on_off, id); CREATE INDEX ON t (id) WHERE on_off; VACUUM ANALYZE;",
    _TABLE + "CREATE INDEX ON t (on_off);",
    _TABLE
    + """CREATE TABLE k (id int PRIMARY KEY); INSERT INTO k SELECT generate_series(0, 5);
ALTER TABLE t ADD FOREIGN KEY ("Stück") REFERENCES k; CREATE INDEX ON t ("Stück"); VACUUM ANALYZE;""",
    _TABLE
    + """CREATE INDEX ON t (on_off); VACUUM ANALYZE;
-- queries:
SELECT max(on_off::int) FROM t WHERE on_off; SELECT on_off FROM t ORDER BY on_off LIMIT 1;""",
    "CREATE TABLE t (id int, b bool); INSERT INTO t SELECT i, i % 2 = 0 FROM generate_series(1, 500) i;"
    "CREATE INDEX ON t (b); VACUUM ANALYZE;",
]

MAX_CORRELATION = 0.9
"""Above it rows of one value lie together, and an index range reads few pages."""


@rule(
    CATALOG,
    severity="info",
    # share of rows of the rarest value: an index scan of so many scattered rows loses to reading all
    thresholds={"min_share": 0.1},
)
def check(catalog: Catalog, ctx: SchemaContext) -> Iterator[Finding]:
    for relation in ctx.tables():
        if ctx.small(relation):
            continue
        for index in relation.indexes:
            column = relation.column(index.keys[0]) if index.keys[0] else None
            share = _rarest(column) if column and _plain(relation, index, ctx) else None
            if column is None or share is None or share < ctx.threshold("min_share"):
                continue
            assert column.stats is not None
            values = len(column.stats.most_common_vals)
            yield ctx.finding(
                relation,
                f"{index.name} on {named(relation)} {shown(index)}: {column.name} has {values} "
                f"values, the rarest in {share:.0%} of the rows: no search by it is worth the index",
                index=index,
                fixes=(Fix("drop it without blocking anybody", drop(relation, index), "ddl"),),
                level="estimated",
                figures={
                    "index": index.name,
                    "values": values,
                    "rarest_share": round(share, 3),
                    "size_bytes": index.size_bytes,
                },
            )


def _plain(relation: Relation, index: Index, ctx: SchemaContext) -> bool:
    return (
        len(index.keys) == 1
        and index.method in ("btree", "hash")
        and index.valid
        and index.removable
        and not (index.unique or index.predicate or index.include or index.scans)
        and last_for_key(relation, index) is None
        and not ctx.used_by(index)
    )


def _rarest(column: Column) -> float | None:
    """The share of the rarest value, where all values are known and scattered."""
    stats = column.stats
    if stats is None or not 0 < stats.n_distinct == len(stats.most_common_freqs):
        return None
    if stats.correlation is None or abs(stats.correlation) > MAX_CORRELATION:
        return None
    shares = [*stats.most_common_freqs, *([stats.null_frac] if stats.null_frac else [])]
    return min(shares)
