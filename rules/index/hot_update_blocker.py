"""An UPDATE sets an indexed column of a busy table, so that none of its updates can be heap-only.

Why: an UPDATE that changes no indexed column writes one new row version and no index at all
    (heap-only tuple, HOT). One that does gets a new entry in every index of the table, and leaves
    old ones behind for VACUUM.
Fix: where the index was never scanned, drop it. Otherwise it is a choice: a partial index whose
    predicate leaves the busy rows out, or the column in a table of its own.
Silent when: the counters are not there (files alone), the table was updated less than 10,000 times,
    or half of its updates are heap-only as it is; only BRIN indexes hold the column (from PostgreSQL
    16 on they do not stand in the way).
Source: PostgreSQL manual, 66.7 "Heap-Only Tuples (HOT)".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.advise.existing import drop, last_for_key, named, shown
from sqladvisor.catalog.model import Catalog, Index, Relation
from sqladvisor.context import Context
from sqladvisor.finding import Finding, Fix
from sqladvisor.rule import CATALOG, rule
from sqladvisor.schema import SchemaContext
from sqladvisor.sql import libpg
from sqladvisor.sql.tree import column_name, unwrap, walk

_TABLE = """CREATE TABLE t (id int PRIMARY KEY, a int, "Ü" int, state text) WITH (fillfactor = 50);
INSERT INTO t SELECT i, i, i, 'new' FROM generate_series(1, 12000) i; VACUUM ANALYZE t;
"""
_UPDATE = 'UPDATE t SET "Ü" = "Ü" + 1; SELECT pg_stat_force_next_flush();\n-- queries:\n'
BAD = [
    _TABLE + 'CREATE INDEX ON t ("Ü");' + _UPDATE + 'UPDATE t SET "Ü" = 5 WHERE id = 3;',
    _TABLE
    + 'CREATE INDEX ON t (a) WHERE "Ü" > 5;'
    + _UPDATE
    + 'SELECT 1;\n  WITH u AS (UPDATE public.t AS x\n SET "Ü" = $1 WHERE id = $2 RETURNING *) SELECT * FROM u;',
    _TABLE
    + 'CREATE INDEX ON t (a, ("Ü" % 7));'
    + _UPDATE
    + 'INSERT INTO t VALUES (1, 2, 3) ON CONFLICT (id) DO UPDATE SET "Ü" = excluded."Ü";',
]
GOOD = [
    _TABLE + "CREATE INDEX ON t (a);" + _UPDATE + 'UPDATE t SET "Ü" = 5 WHERE id = 3;',
    _TABLE + 'CREATE INDEX ON t ("Ü");' + _UPDATE + "UPDATE t SET state = 'x' WHERE id = 3;",
    _TABLE + 'CREATE INDEX ON t ("Ü");\n-- queries:\nUPDATE t SET "Ü" = 5 WHERE id = 3;',
    _TABLE + 'CREATE INDEX ON t USING brin ("Ü");' + _UPDATE + 'UPDATE t SET "Ü" = 5 WHERE id = 3;',
    _TABLE + 'CREATE INDEX ON t ("Ü");' + _UPDATE + 'SELECT "Ü" FROM t WHERE id = 3;',
]
SUMMARIZING_VERSION = 160000
"""server_version_num of the first PostgreSQL whose BRIN indexes let updates be heap-only."""


@rule(
    CATALOG,
    severity="info",
    thresholds={
        "min_updates": 10_000,
        "min_hot_share": 0.5,
    },
)
def check(catalog: Catalog, ctx: SchemaContext) -> Iterator[Finding]:
    for context in ctx.contexts:
        for relation, columns, place in _updates(context):
            writes = relation.writes
            if writes is None or writes.updated < ctx.threshold("min_updates"):
                continue
            share = writes.hot_updated / writes.updated
            if share >= ctx.threshold("min_hot_share"):
                continue
            for index in relation.indexes:
                blocking = sorted(columns & _held(index))
                brin = (
                    index.method == "brin" and (catalog.server_version or 0) >= SUMMARIZING_VERSION
                )
                if not blocking or brin:
                    continue
                context.rule = ctx.rule
                yield context.finding(
                    place,
                    f"this sets {', '.join(blocking)}, which {index.name} {shown(index)} holds: no "
                    f"such update can be heap-only, and {share:.0%} of {writes.updated:,} updates of "
                    f"{named(relation)} were",
                    fixes=_fixes(relation, index),
                    level="measured",
                    figures={
                        "index": index.name,
                        "updated": writes.updated,
                        "hot_updated": writes.hot_updated,
                        "index_scans": index.scans,
                    },
                )


def _updates(context: Context) -> Iterator[tuple[Relation, set[str], dict[str, object] | None]]:
    """(table, columns set, where) of each UPDATE in a statement."""
    for kind in ("UpdateStmt", "InsertStmt"):
        for node in context.tree.of(kind):
            clause = node if kind == "UpdateStmt" else node.get("onConflictClause", {})
            target = node.get("relation", {})
            relation = context.catalog.find(target.get("relname", ""), target.get("schemaname"))
            columns = {str(unwrap(t)[1].get("name", "")) for t in clause.get("targetList", ())}
            if relation is not None and columns:
                yield relation, columns, {"RangeVar": target}


def _held(index: Index) -> set[str]:
    """The columns whose change needs a new entry in an index: keys, INCLUDE, expressions, WHERE."""
    held = {k for k in (*index.keys, *index.include) if k}
    for text in (*index.expressions, *filter(None, (index.predicate,))):
        try:
            tree = libpg.parse(f"SELECT {text}")[0]
        except libpg.ParseProblem:
            continue
        held |= {column_name(n)[1] for k, n in walk(tree.kind, tree.node) if k == "ColumnRef"}
    return held


def _fixes(relation: Relation, index: Index) -> tuple[Fix, ...]:
    unused = index.scans == 0 and index.removable and not index.unique
    if not unused or last_for_key(relation, index) is not None:
        return ()
    return (
        Fix(
            "it was never scanned here: if not on a standby either, drop it",
            drop(relation, index),
            "ddl",
        ),
    )
