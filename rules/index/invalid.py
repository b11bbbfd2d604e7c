"""An index is invalid: it is written with every row, and no query can use it.

Why: CREATE INDEX CONCURRENTLY and REINDEX CONCURRENTLY leave an invalid index behind when they fail
    (a duplicate, a deadlock, a cancelled session). It costs writes as any other and helps nobody,
    and a unique one may already refuse rows.
Fix: build it anew with REINDEX INDEX CONCURRENTLY, or drop the leftover of a failed REINDEX.
Silent when: it is being built right now; it belongs to a partitioned table that still waits for
    its partitions' indexes (CREATE INDEX … ON ONLY).
Source: PostgreSQL manual, CREATE INDEX ("Building Indexes Concurrently").
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from sqladvisor.advise.existing import drop, named, shown
from sqladvisor.catalog.model import Catalog
from sqladvisor.finding import Finding, Fix
from sqladvisor.rule import CATALOG, rule
from sqladvisor.schema import SchemaContext
from sqladvisor.sql.quote import qualified

_BREAK = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{}'::regclass;"
BAD = [
    "CREATE TABLE t (id int PRIMARY KEY, a int); CREATE INDEX t_a ON t (a);" + _BREAK.format("t_a"),
    """CREATE SCHEMA s; CREATE TABLE s."Ö" (a int);
  CREATE UNIQUE INDEX "é_ccnew" ON s."Ö" (a);"""
    + _BREAK.format('s."é_ccnew"'),
]
GOOD = [
    "CREATE TABLE t (id int PRIMARY KEY, a int); CREATE INDEX t_a ON t (a);",
    """CREATE TABLE p (id int, a int) PARTITION BY RANGE (id);
CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (1) TO (10); CREATE INDEX p_a ON ONLY p (a);""",
]

# What REINDEX CONCURRENTLY calls the new and the old index while it works (ChooseRelationName).
_LEFTOVER = re.compile(r"_cc(new|old)\d*$")


@rule(CATALOG, severity="warning")
def check(catalog: Catalog, ctx: SchemaContext) -> Iterator[Finding]:
    for relation in sorted(catalog.relations.values(), key=lambda r: (r.schema, r.name)):
        if relation.kind == "partitioned":
            continue
        for index in relation.indexes:
            if index.valid or index.building:
                continue
            schema = None if relation.schema == "public" else relation.schema
            reindex = f"REINDEX INDEX CONCURRENTLY {qualified(schema, index.name)};"
            leftover = _LEFTOVER.search(index.name)
            yield ctx.finding(
                relation,
                f"{index.name} on {named(relation)} {shown(index)} is invalid: writes keep it up, "
                "no query can use it",
                index=index,
                fixes=(
                    Fix("drop what a failed REINDEX left", drop(relation, index), "ddl")
                    if leftover
                    else Fix("build it anew without blocking writes", reindex, "ddl"),
                ),
                figures={"index": index.name},
            )
