"""A materialized view is refreshed while all reads of it wait.

Why: REFRESH takes ACCESS EXCLUSIVE on the view for as long as its query runs and its indexes are built.
    CONCURRENTLY takes EXCLUSIVE: reads go on with the old rows. It needs a unique index on plain columns
    over all rows.
Fix: REFRESH MATERIALIZED VIEW CONCURRENTLY, after the unique index it needs.
Silent when: the same set created the view; WITH NO DATA, which empties it at once; CONCURRENTLY on a view
    that is known to have its unique index.
Source: PostgreSQL manual, REFRESH MATERIALIZED VIEW.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext, Table, blocks
from sqladvisor.rule import rule
from sqladvisor.sql.statement import Node

SCHEMA = """CREATE TABLE users (id bigint PRIMARY KEY, email text);
CREATE MATERIALIZED VIEW bare AS SELECT id, email FROM users;
CREATE MATERIALIZED VIEW keyed AS SELECT id, email FROM users;
CREATE UNIQUE INDEX keyed_id ON keyed (id);
"""
BAD = [
    "REFRESH MATERIALIZED VIEW keyed;",
    "REFRESH MATERIALIZED VIEW CONCURRENTLY bare;",
    "REFRESH MATERIALIZED VIEW unknown;",
]
GOOD = [
    "REFRESH MATERIALIZED VIEW CONCURRENTLY keyed;",
    "REFRESH MATERIALIZED VIEW CONCURRENTLY unknown;",
    "CREATE MATERIALIZED VIEW m AS SELECT 1 AS a WITH NO DATA; REFRESH MATERIALIZED VIEW m;",
    "REFRESH MATERIALIZED VIEW bare WITH NO DATA;",
]


@rule("RefreshMatViewStmt", severity="warning")
def check(node: Node, ctx: MigrationContext) -> Iterator[Finding]:
    view = ctx.table()
    if not view.settled or node.get("skipData"):
        return
    ready = _has_key(view)
    if node.get("concurrent"):
        if ready is False:
            yield ctx.finding(
                None,
                f"REFRESH … CONCURRENTLY of {view.shown} fails: it has no unique index on plain columns "
                "over all rows",
                severity="error",
                table=view,
            )
        return
    needs = "" if ready else ", which needs a unique index on plain columns"
    yield ctx.finding(
        None,
        f"REFRESH of {view.shown} {blocks('ACCESS EXCLUSIVE')} until its query has run and its indexes "
        "are built",
        table=view,
        lock="ACCESS EXCLUSIVE",
        work="rewrite",
        fixes=[
            ctx.sequence(
                f"let reads go on{needs}", f"REFRESH MATERIALIZED VIEW CONCURRENTLY {view.sql}"
            )
        ],
    )


def _has_key(view: Table) -> bool | None:
    if view.relation is None:
        return None
    return any(
        i.unique and i.valid and not i.predicate and None not in i.keys
        for i in view.relation.indexes
    )
