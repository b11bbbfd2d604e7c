"""An index carries columns for index-only scans, but the table's pages are not marked all-visible.

Why: an index-only scan looks up in the visibility map whether it may skip the table. Only VACUUM
    marks pages, and each write unmarks one. Where few pages are marked, the columns in INCLUDE are
    written with every row, and the table is read all the same.
Fix: VACUUM now, and autovacuum earlier for this table: by default it waits until a fifth of the rows
    have changed.
Silent when: nobody has counted (never vacuumed nor analyzed, files without rows); most pages are
    marked; the table is small; the index has no INCLUDE columns.
Source: PostgreSQL manual, 11.9 "Index-Only Scans and Covering Indexes" and 24.1.4.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.advise.existing import named, shown
from sqladvisor.catalog.model import Catalog
from sqladvisor.finding import Finding, Fix
from sqladvisor.rule import CATALOG, rule
from sqladvisor.schema import BIG_RELATION_PAGES, SchemaContext
from sqladvisor.sql.quote import qualified

_TABLE = """CREATE TABLE {0} (id int PRIMARY KEY, a int, b int, pad text);
INSERT INTO {0} SELECT i, i, i, repeat('x', 800) FROM generate_series(1, 20000) i;
"""
BAD = [
    _TABLE.format("t") + "CREATE INDEX ON t (a) INCLUDE (b); ANALYZE;",
    "CREATE SCHEMA s;" + _TABLE.format('s."Ö"')
    + '\n  CREATE INDEX "é" ON s."Ö" (a) INCLUDE (b); VACUUM ANALYZE; UPDATE s."Ö" SET b = 1; ANALYZE;',
]  # fmt: skip
GOOD = [
    _TABLE.format("t") + "CREATE INDEX ON t (a) INCLUDE (b); VACUUM ANALYZE;",
    _TABLE.format("t") + "CREATE INDEX ON t (a, b); ANALYZE;",
    _TABLE.format("t")
    + "DELETE FROM t WHERE id > 2000; VACUUM FULL t; CREATE INDEX ON t (a) INCLUDE (b); ANALYZE;",
    "CREATE TABLE t (id int PRIMARY KEY, a int); CREATE INDEX ON t (id) INCLUDE (a);",
]


@rule(
    CATALOG,
    severity="info",
    thresholds={"min_visible_share": 0.5},  # half of the table read is no index-only scan
)
def check(catalog: Catalog, ctx: SchemaContext) -> Iterator[Finding]:
    for relation in ctx.tables():
        pages, visible = relation.pages, relation.all_visible
        if pages is None or visible is None or pages < BIG_RELATION_PAGES:
            continue
        share = visible / pages
        if share >= ctx.threshold("min_visible_share"):
            continue
        schema = None if relation.schema == "public" else relation.schema
        table = qualified(schema, relation.name)
        for index in relation.indexes:
            if not index.include or not index.valid:
                continue
            yield ctx.finding(
                relation,
                f"{index.name} {shown(index)} carries columns for index-only scans, but {share:.0%} "
                f"of the pages of {named(relation)} are marked all-visible: such a scan reads the "
                "table too",
                index=index,
                fixes=(
                    Fix(
                        "mark them, and let autovacuum do so earlier",
                        f"VACUUM {table};\nALTER TABLE {table} SET (autovacuum_vacuum_scale_factor = "
                        "0.05, autovacuum_vacuum_insert_scale_factor = 0.05);",
                        "ddl",
                    ),
                ),
                level="measured",
                figures={"index": index.name, "pages": pages, "all_visible_pages": visible},
            )
