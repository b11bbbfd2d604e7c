"""Two indexes of a table are the same: one of them is written and stored for nothing.

Why: PostgreSQL keeps as many equal indexes as it is told to. Every INSERT, and every UPDATE that
    is not heap-only, writes both, VACUUM cleans both, and the planner looks at both for each query.
Fix: DROP INDEX CONCURRENTLY of the one that nothing rests on; of two unique constraints the one
    that is not the primary key and that no foreign key refers to.
Silent when: they differ in method, key, order, operator class, collation, INCLUDE or predicate;
    the one to go guarantees uniqueness that the other does not; neither can be dropped (primary
    key, referenced constraint, replica identity, part of a partitioned index); one is invalid.
Source: PostgreSQL manual, 11.12 "Examining Index Usage" and DROP INDEX.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.advise.existing import definition, drop, named, shown
from sqladvisor.catalog.model import Catalog, Index, Relation
from sqladvisor.finding import Finding, Fix
from sqladvisor.rule import CATALOG, rule
from sqladvisor.schema import SchemaContext
from sqladvisor.sql.quote import identifier, qualified

BAD = [
    "CREATE TABLE t (id int PRIMARY KEY, a int); CREATE INDEX ON t (a); CREATE INDEX ON t (a);",
    """CREATE TABLE users (id bigint PRIMARY KEY, email text UNIQUE);
CREATE INDEX users_email_idx ON users (email);""",
    """CREATE TABLE "Größen" (id int, "Ü" text);
-- é
  CREATE INDEX one ON "Größen" (lower("Ü"), id DESC) WHERE id > 5;
  CREATE INDEX two ON "Größen" USING btree (lower("Ü") ASC, id DESC NULLS FIRST) WITH (fillfactor = 70) WHERE id > 5;""",
    "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY); ALTER TABLE s.t ADD UNIQUE (id);",
    """CREATE TABLE p (id int, a int) PARTITION BY RANGE (id);
CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (1) TO (10);
CREATE INDEX p_a ON p (a); CREATE INDEX p_b ON p (a);""",
    """CREATE TABLE t (id int NOT NULL, a int); CREATE UNIQUE INDEX t_u ON t (id);
CREATE INDEX t_i ON t (id); ALTER TABLE t REPLICA IDENTITY USING INDEX t_u;""",
]
GOOD = [
    "CREATE TABLE t (id int PRIMARY KEY, a int, b int); CREATE INDEX ON t (a, b); CREATE INDEX ON t (b, a);",
    "CREATE TABLE t (id int, a text); CREATE INDEX ON t (a); CREATE INDEX ON t (a text_pattern_ops);",
    "CREATE TABLE t (id int, a text); CREATE INDEX ON t (a); CREATE INDEX ON t USING hash (a);",
    'CREATE TABLE t (id int, a text); CREATE INDEX ON t (a); CREATE INDEX ON t (a COLLATE "C");',
    "CREATE TABLE t (id int, a int); CREATE INDEX ON t (id) WHERE a > 1; CREATE INDEX ON t (id) WHERE a > 2;",
    "CREATE TABLE t (id int, a int, b int); CREATE INDEX ON t (id) INCLUDE (a); CREATE INDEX ON t (id) INCLUDE (b);",
    "CREATE TABLE t (id int, a int); CREATE INDEX ON t (a DESC); CREATE INDEX ON t (a DESC NULLS LAST);",
    """CREATE TABLE t (id int PRIMARY KEY, k int NOT NULL, CONSTRAINT a UNIQUE (k) DEFERRABLE);
CREATE TABLE r (k int REFERENCES t);""",
    """CREATE TABLE p (id int, a int) PARTITION BY RANGE (id);
CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (1) TO (10); CREATE INDEX p1_a ON p1 (a); CREATE INDEX p_a ON p (a);""",
]


@rule(CATALOG, severity="warning")
def check(catalog: Catalog, ctx: SchemaContext) -> Iterator[Finding]:
    for relation in ctx.tables():
        gone: set[str] = set()
        for index in sorted(relation.indexes, key=_dispensable, reverse=True):
            twin = next(
                (t for t in relation.indexes if _same(index, t) and t.name not in gone), None
            )
            fix = _fix(relation, index) if twin else None
            if twin is None or fix is None:
                continue
            gone.add(index.name)
            size = index.size_bytes
            yield ctx.finding(
                relation,
                f"{index.name} on {named(relation)} {shown(index)} is the same index as "
                f"{twin.name}: every write keeps both",
                index=index,
                fixes=(fix,),
                figures={"index": index.name, "twin": twin.name, "size_bytes": size}
                if size
                else {"index": index.name, "twin": twin.name},
            )


def _dispensable(index: Index) -> tuple[bool, bool, bool, str]:
    return index.removable, not index.constraint, not index.unique, index.name


def _same(index: Index, twin: Index) -> bool:
    """Whether ``twin`` does all that ``index`` does."""
    if twin is index or not (index.valid and twin.valid) or (index.unique and not twin.unique):
        return False
    one, other = definition(index), definition(twin)
    if one is None or other is None or len(one.keys) != len(other.keys):
        return False
    nulls = index.unique and one.nulls_not_distinct and not other.nulls_not_distinct
    return not nulls and (one.method, one.keys, one.include, one.predicate) == (
        other.method,
        other.keys,
        other.include,
        other.predicate,
    )


def _fix(relation: Relation, index: Index) -> Fix | None:
    if index.removable:
        return Fix("drop it without blocking anybody", drop(relation, index), "ddl")
    if index.primary or index.replica_identity or index.attached or index.referenced:
        return None
    schema = None if relation.schema == "public" else relation.schema
    return Fix(
        "drop the constraint: the other one says the same",
        f"ALTER TABLE {qualified(schema, relation.name)} DROP CONSTRAINT {identifier(index.name)};",
        "ddl",
    )
