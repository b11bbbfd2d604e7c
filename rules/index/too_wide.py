"""An index holds nearly the whole row, or values so long that an INSERT may fail.

Why: an index that carries most of a row's columns doubles what each INSERT writes and pushes the
    table out of memory, for scans that a narrower index serves with one more page read. And a
    b-tree entry must fit a third of a page: a value over 2,704 bytes (after compression) is refused
    with an error.
Fix: for long values that are only compared for equality a hash index, whose entries are four bytes
    each. A covering index is a decision: there is no fix but to leave columns out.
Silent when: it is unique or backs a constraint; an audited statement uses it; it holds under half of
    the row or less than four columns; nobody has counted the widths (no rows, never analyzed); the
    table is small.
Source: PostgreSQL manual, 65.1 "B-Tree Indexes" (entry size) and 11.9 "Covering Indexes".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.advise.existing import named, shown
from sqladvisor.catalog.model import Catalog, Index, Relation
from sqladvisor.finding import Finding, Fix
from sqladvisor.rule import CATALOG, rule
from sqladvisor.schema import SchemaContext
from sqladvisor.sql.quote import identifier, qualified

_TABLE = """CREATE TABLE t (id int PRIMARY KEY, a int, b int, c text, "é" text, e timestamptz);
INSERT INTO t SELECT i, i, i, md5(i::text), md5(i::text), now() FROM generate_series(1, 20000) i;
"""
_LONG = """CREATE TABLE pages (id int PRIMARY KEY, url text, body text);
INSERT INTO pages SELECT i, string_agg(md5((i * n)::text), ''), 'x'
    FROM generate_series(1, 10000) i, generate_series(1, 30) n GROUP BY i;
"""
BAD = [
    _TABLE + 'CREATE INDEX ON t (a, b) INCLUDE (c, "é"); VACUUM ANALYZE;',
    _TABLE + '\n  CREATE INDEX wide ON t (a, b, c, "é", e); VACUUM ANALYZE;',
    _LONG + "CREATE INDEX pages_url ON pages (url); VACUUM ANALYZE;",
    _LONG + "CREATE INDEX pages_url ON pages (id, url) WHERE id > 0; VACUUM ANALYZE;",
]
GOOD = [
    _TABLE + "CREATE INDEX ON t (a, b) INCLUDE (e); VACUUM ANALYZE;",
    _TABLE + 'CREATE UNIQUE INDEX ON t (a, b) INCLUDE (c, "é"); VACUUM ANALYZE;',
    _TABLE + 'CREATE INDEX ON t (a, b) INCLUDE (c, "é");',
    _TABLE + 'CREATE INDEX ON t (c, "é"); VACUUM ANALYZE;',
    _TABLE
    + """CREATE INDEX ON t (a, b) INCLUDE (c, "é"); VACUUM ANALYZE;
-- queries:
SELECT c, "é" FROM t WHERE a = 5;""",
    _LONG
    + "CREATE INDEX ON pages USING hash (url); CREATE INDEX ON pages (md5(url)); VACUUM ANALYZE;",
    "CREATE TABLE t (id int PRIMARY KEY, a int, b int, c int, d int); CREATE INDEX ON t (a, b, c, d);",
]


@rule(
    CATALOG,
    severity="info",
    thresholds={
        "min_columns": 4,
        "max_row_share": 0.5,  # of the row's average bytes
        "max_value_bytes": 600,  # on average: a few times that and b-tree's 2,704 are reached
    },
)
def check(catalog: Catalog, ctx: SchemaContext) -> Iterator[Finding]:
    for relation in ctx.tables():
        row = sum(c.stats.avg_width for c in relation.columns if c.stats)
        if not row or ctx.small(relation):
            continue
        for index in relation.indexes:
            if index.method != "btree" or index.unique or index.constraint or ctx.used_by(index):
                continue
            held = [k for k in (*index.keys, *index.include) if k]
            widths = {k: _width(relation, k) for k in held}
            longest = max(widths, key=lambda k: widths[k], default="")
            figures = {"index": index.name, "entry_bytes": sum(widths.values()), "row_bytes": row}
            if longest and widths[longest] >= ctx.threshold("max_value_bytes"):
                yield ctx.finding(
                    relation,
                    f"{index.name} on {named(relation)} {shown(index)} holds {longest}, "
                    f"{widths[longest]:,} bytes on average: an INSERT of one over 2,704 bytes fails",
                    index=index,
                    fixes=_hash(relation, index, longest),
                    level="estimated",
                    figures=figures,
                )
            elif (
                len(held) >= ctx.threshold("min_columns")
                and sum(widths.values()) > ctx.threshold("max_row_share") * row
            ):
                yield ctx.finding(
                    relation,
                    f"{index.name} on {named(relation)} {shown(index)} holds {len(held)} of "
                    f"{len(relation.columns)} columns, {sum(widths.values()):,} of the row's {row:,} "
                    "bytes: each INSERT writes the row nearly twice",
                    index=index,
                    level="estimated",
                    figures=figures,
                )


def _width(relation: Relation, name: str) -> int:
    column = relation.column(name)
    return column.stats.avg_width if column and column.stats else 0


def _hash(relation: Relation, index: Index, column: str) -> tuple[Fix, ...]:
    """A hash index in its place, where the long value is all it holds."""
    if index.keys != (column,) or index.include or relation.kind == "partitioned":
        return ()
    schema = None if relation.schema == "public" else relation.schema
    table = qualified(schema, relation.name)
    where = f" WHERE {index.predicate}" if index.predicate else ""
    return (
        Fix(
            "where it is only compared for equality, a hash index in its place",
            f"CREATE INDEX CONCURRENTLY ON {table} USING hash ({identifier(column)}){where};",
            "ddl",
        ),
    )
