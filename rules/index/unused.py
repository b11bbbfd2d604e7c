"""No query has used an index since the server began to count.

Why: an index that nobody reads is still written with every row, keeps updates of its columns from
    being heap-only, and is vacuumed, backed up and replicated.
Fix: DROP INDEX CONCURRENTLY, after a look at standbys and at what runs once a year.
Silent when: only files are known (a file never holds all statements); the counters are younger
    than 30 days, or the server is a standby; the index guarantees uniqueness, backs a constraint or
    the replica identity, is part of a partitioned index, or is the last one that finds the rows of
    a foreign key; an audited statement uses it; it is under 1 MB, or its table is never written.
Source: PostgreSQL manual, 27.2.19 "pg_stat_all_indexes" (idx_scan).
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.advise.existing import drop, last_for_key, named, shown
from sqladvisor.catalog.model import Catalog, Index, Relation
from sqladvisor.finding import Finding, Fix
from sqladvisor.rule import CATALOG, rule
from sqladvisor.schema import SchemaContext

SETTINGS = {"min_days": 0, "min_size_mb": 0.1}
_ROWS = """INSERT INTO t SELECT i, i, i, md5(i::text) FROM generate_series(1, 20000) i;
VACUUM ANALYZE t; SELECT pg_stat_force_next_flush();"""
_TABLE = 'CREATE TABLE t (id int PRIMARY KEY, a int, b int, "Ü" text);'
BAD = [
    _TABLE + "CREATE INDEX t_a ON t (a);" + _ROWS,
    _TABLE + '\n  CREATE INDEX "é" ON public.t (lower("Ü")) WHERE b > 5;' + _ROWS,
    "CREATE TABLE u (id int PRIMARY KEY);"
    + _TABLE
    + "ALTER TABLE t ADD FOREIGN KEY (a) REFERENCES u NOT VALID; CREATE INDEX t_a ON t (a);"
    "CREATE INDEX t_ab ON t (a, b); SET session_replication_role = replica;" + _ROWS,
]
GOOD = [
    _TABLE
    + "CREATE INDEX t_a ON t (a);"
    + _ROWS
    + "SET enable_seqscan = off; SELECT * FROM t WHERE a = 1;",
    _TABLE + "CREATE UNIQUE INDEX t_a ON t (a);" + _ROWS,
    _TABLE + "CREATE INDEX t_a ON t (a);" + _ROWS + "\n-- queries:\nSELECT * FROM t WHERE a = 5;",
    _TABLE
    + _ROWS
    + "SELECT pg_stat_reset_single_table_counters('t'::regclass); CREATE INDEX t_a ON t (a);",
    "CREATE TABLE u (id int PRIMARY KEY);"
    + _TABLE
    + "ALTER TABLE t ADD FOREIGN KEY (a) REFERENCES u NOT VALID; CREATE INDEX t_a ON t (a);"
    "SET session_replication_role = replica;" + _ROWS,
    _TABLE + "CREATE INDEX t_a ON t (a) WHERE a < 50;" + _ROWS,
    """CREATE TABLE t (id int, a int, b int, x text) PARTITION BY RANGE (id);
CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (1) TO (100000); CREATE INDEX t_a ON t (a);"""
    + _ROWS,
]


@rule(
    CATALOG,
    severity="info",
    thresholds={
        "min_days": 30,  # what runs each month has then run
        "min_size_mb": 1,  # below it there is nothing to win
    },
)
def check(catalog: Catalog, ctx: SchemaContext) -> Iterator[Finding]:
    days = catalog.counted_days
    if days is None or days < ctx.threshold("min_days") or catalog.standby:
        return
    for relation in ctx.tables():
        writes = relation.writes
        if writes is None or not writes.inserted + writes.updated + writes.deleted:
            continue
        for index in relation.indexes:
            if not _unused(relation, index, ctx):
                continue
            yield ctx.finding(
                relation,
                f"{index.name} on {named(relation)} {shown(index)} was never scanned in "
                f"{days:,.0f} days, and {writes.inserted + writes.updated:,} rows were written to "
                "the table",
                index=index,
                fixes=(Fix("drop it without blocking anybody", drop(relation, index), "ddl"),),
                level="measured",
                figures={
                    "index": index.name,
                    "size_bytes": index.size_bytes,
                    "counted_days": round(days, 1),
                },
                notes=("standbys count their own scans: look there too before dropping it",),
            )


def _unused(relation: Relation, index: Index, ctx: SchemaContext) -> bool:
    return (
        index.scans == 0
        and index.removable
        and index.valid
        and not index.unique
        and (index.size_bytes or 0) >= ctx.threshold("min_size_mb") * 1024 * 1024
        and last_for_key(relation, index) is None
        and not ctx.used_by(index)
    )
