"""An index is the beginning of another index, which serves the same searches.

Why: a b-tree on (a, b) finds rows by a as an index on (a) does. The shorter one is written with
    every row and takes memory from the longer one, for a search that is a little quicker at best.
Fix: DROP INDEX CONCURRENTLY of the shorter one. Where audited statements use it, they were planned
    without it first.
Silent when: it is unique or backs a constraint; the longer one is partial, invalid, in another
    order, or three times as large (it carries wide columns: the short one is worth its place);
    a statement would cost a tenth more without it.
Source: PostgreSQL manual, 11.3 "Multicolumn Indexes".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.advise.existing import definition, drop, named, shown
from sqladvisor.catalog.model import Catalog, Index, Relation
from sqladvisor.finding import Finding, Fix
from sqladvisor.rule import CATALOG, rule
from sqladvisor.schema import SchemaContext

BAD = [
    "CREATE TABLE t (id int PRIMARY KEY, a int, b int); CREATE INDEX ta ON t (a); CREATE INDEX tab ON t (a, b);",
    """CREATE TABLE orders (id int PRIMARY KEY, user_id int, at timestamptz, total int);
  CREATE INDEX orders_user ON orders (user_id) INCLUDE (total);
  CREATE INDEX orders_user_at ON orders (user_id, at DESC) INCLUDE (total);""",
    "CREATE TABLE t (a int, b int, UNIQUE (a, b)); CREATE INDEX ta ON t (a);",
    """CREATE TABLE "Ö" ("é" text, b int, c bool);
CREATE INDEX x ON "Ö" (lower("é")) WHERE c; CREATE INDEX y ON "Ö" (lower("é"), b) WHERE c;""",
    """CREATE TABLE t (a int, b int); CREATE INDEX ta ON t (a); CREATE INDEX tab ON t (a, b);
INSERT INTO t SELECT i, i FROM generate_series(1, 20000) i; VACUUM ANALYZE t;
-- queries:
SELECT * FROM t WHERE a = 5;""",
]
GOOD = [
    """CREATE TABLE t (a int UNIQUE, b int); CREATE INDEX ta ON t (a); CREATE INDEX tab ON t (a, b);""",
    "CREATE TABLE t (id int PRIMARY KEY, a int, b int); CREATE INDEX ON t (b); CREATE INDEX ON t (a, b);",
    "CREATE TABLE t (id int PRIMARY KEY, a int); CREATE INDEX ON t (id, a);",
    "CREATE TABLE t (a int UNIQUE, b int); CREATE INDEX ON t (a, b);",
    "CREATE TABLE t (a int, b int); CREATE INDEX ON t (a); CREATE INDEX ON t (a, b) WHERE b > 0;",
    "CREATE TABLE t (a int, b int); CREATE INDEX ON t (a DESC NULLS LAST); CREATE INDEX ON t (a, b);",
    "CREATE TABLE t (a text, b int); CREATE INDEX ON t (a text_pattern_ops); CREATE INDEX ON t (a, b);",
    "CREATE TABLE t (a int, b int); CREATE INDEX ON t USING hash (a); CREATE INDEX ON t (a, b);",
    "CREATE TABLE t (a int, b int, c int); CREATE INDEX ON t (a) INCLUDE (c); CREATE INDEX ON t (a, b);",
    """CREATE TABLE t (a int, b text); CREATE INDEX ON t (a); CREATE INDEX ON t (a, b);
INSERT INTO t SELECT i % 100, repeat(md5(i::text), 8) FROM generate_series(1, 20000) i; VACUUM ANALYZE t;""",
    """CREATE TABLE p (id int, a int, b int) PARTITION BY RANGE (id);
CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (1) TO (10); CREATE INDEX ON p1 (a); CREATE INDEX ON p1 (a, b);""",
]


@rule(
    CATALOG,
    severity="info",
    # of the shorter one's size: beyond it scans by the first column alone read noticeably more
    thresholds={"max_size_factor": 3},
)
def check(catalog: Catalog, ctx: SchemaContext) -> Iterator[Finding]:
    for relation in ctx.tables():
        for index in relation.indexes:
            if index.unique or not index.removable or not index.valid or _twin(relation, index):
                continue
            longer = next((o for o in relation.indexes if _begins(index, o, ctx)), None)
            if longer is None:
                continue
            figures: dict[str, object] = {"index": index.name, "covered_by": longer.name}
            if index.size_bytes:
                figures["size_bytes"] = index.size_bytes
            yield ctx.finding(
                relation,
                f"{index.name} on {named(relation)} {shown(index)} is the beginning of "
                f"{longer.name} {shown(longer)}, which serves the same searches",
                index=index,
                fixes=(Fix("drop it without blocking anybody", drop(relation, index), "ddl"),),
                figures=figures,
            )


def _twin(relation: Relation, index: Index) -> bool:
    """Whether an index is the same as another one, which is reported as that."""
    own = definition(index)
    return any(
        definition(other) == own
        and (not other.removable or other.unique or other.name < index.name)
        for other in relation.indexes
        if other is not index and other.valid
    )


def _begins(index: Index, longer: Index, ctx: SchemaContext) -> bool:
    if longer is index or not longer.valid or len(longer.keys) <= len(index.keys):
        return False
    one, other = definition(index), definition(longer)
    if one is None or other is None or one.method != "btree" or other.method != "btree":
        return False
    most = ctx.threshold("max_size_factor") * (index.size_bytes or 0)
    if most and (longer.size_bytes or 0) > most:
        return False
    carried = other.include | {k for k in longer.keys if k}
    return (
        one.keys == other.keys[: len(one.keys)]
        and one.predicate == other.predicate
        and one.include <= carried
    )
