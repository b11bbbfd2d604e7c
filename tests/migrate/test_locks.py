"""The table of locks, held against what PostgreSQL really takes, statement by statement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sqladvisor.migrate.locks import CONFLICTS, MODES, STRENGTH, statement_locks
from sqladvisor.sql.libpg import parse

SCHEMA = """
CREATE TABLE a (id bigint PRIMARY KEY, b_id bigint, x int, t text, e numeric(10,2));
CREATE TABLE b (id bigint PRIMARY KEY);
CREATE TABLE p (id int NOT NULL) PARTITION BY RANGE (id);
CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
CREATE TABLE p2 (id int NOT NULL);
CREATE INDEX a_x ON a (x);
CREATE UNIQUE INDEX a_t ON a (t);
CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER tr BEFORE INSERT ON a FOR EACH ROW EXECUTE FUNCTION f();
CREATE MATERIALIZED VIEW m AS SELECT id FROM b;
CREATE UNIQUE INDEX m_id ON m (id);
ALTER TABLE a ADD CONSTRAINT pos CHECK (x > 0) NOT VALID;
ALTER TABLE a ADD CONSTRAINT fk FOREIGN KEY (b_id) REFERENCES b NOT VALID;
"""
STATEMENTS = [
    "ALTER TABLE a ADD COLUMN n int",
    "ALTER TABLE a DROP COLUMN x",
    "ALTER TABLE a ALTER COLUMN x TYPE bigint",
    "ALTER TABLE a ALTER COLUMN x SET DEFAULT 1",
    "ALTER TABLE a ALTER COLUMN x SET NOT NULL",
    "ALTER TABLE a ALTER COLUMN x SET STATISTICS 500",
    "ALTER TABLE a ALTER COLUMN t SET STORAGE external",
    "ALTER TABLE a ALTER COLUMN x SET (n_distinct = 5)",
    "ALTER TABLE a SET (fillfactor = 70)",
    "ALTER TABLE a SET (autovacuum_enabled = false, fillfactor = 80)",
    "ALTER TABLE a RESET (fillfactor)",
    "ALTER TABLE a ADD CONSTRAINT c CHECK (x > 1) NOT VALID",
    "ALTER TABLE a ADD CONSTRAINT u UNIQUE (x)",
    "ALTER TABLE a ADD CONSTRAINT u UNIQUE USING INDEX a_t",
    "ALTER TABLE a ADD CONSTRAINT f2 FOREIGN KEY (x) REFERENCES b NOT VALID",
    "ALTER TABLE a ADD CONSTRAINT f2 FOREIGN KEY (x) REFERENCES b",
    "ALTER TABLE a ADD COLUMN z bigint REFERENCES b",
    "ALTER TABLE a VALIDATE CONSTRAINT pos",
    "ALTER TABLE a DROP CONSTRAINT pos",
    "ALTER TABLE a DISABLE TRIGGER tr",
    "ALTER TABLE a ENABLE ALWAYS TRIGGER tr",
    "ALTER TABLE a CLUSTER ON a_x",
    "ALTER TABLE a SET UNLOGGED",
    "ALTER TABLE a REPLICA IDENTITY FULL",
    "ALTER TABLE a ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE a RENAME COLUMN x TO y",
    "ALTER TABLE a RENAME TO c",
    "ALTER TABLE a RENAME CONSTRAINT pos TO neg",
    "ALTER TABLE p ATTACH PARTITION p2 FOR VALUES FROM (10) TO (20)",
    "ALTER TABLE p DETACH PARTITION p1",
    "CREATE INDEX ON a (b_id)",
    "CREATE TRIGGER t2 AFTER UPDATE ON a FOR EACH ROW EXECUTE FUNCTION f()",
    "CREATE RULE r AS ON INSERT TO a DO ALSO NOTHING",
    "CREATE POLICY po ON a USING (true)",
    "CREATE TABLE n (id bigint REFERENCES b)",
    "CREATE TABLE p3 PARTITION OF p FOR VALUES FROM (20) TO (30)",
    "DROP TABLE b CASCADE",
    "DROP TRIGGER tr ON a",
    "TRUNCATE a",
    "LOCK TABLE a IN SHARE ROW EXCLUSIVE MODE",
    "LOCK TABLE a, b",
    "CLUSTER a USING a_x",
    "REFRESH MATERIALIZED VIEW m",
    "REFRESH MATERIALIZED VIEW CONCURRENTLY m",
    "REINDEX TABLE a",
]


@pytest.fixture(scope="module")
def database(cluster: Any) -> Any:
    cluster.create_database("locks")
    with cluster.connect("locks") as connection:
        connection.execute(SCHEMA)
    yield lambda: cluster.connect("locks")
    cluster.drop_database("locks")


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_statement_takes_the_lock_that_the_table_says(
    statement: str, database: Callable[[], Any]
) -> None:
    parsed = parse(statement)[0]
    expected = {lock.name: lock.mode for lock in statement_locks(parsed.kind, parsed.node)}
    assert expected, "the statement is not in the table"
    with database() as connection:
        names = {r[0]: r[1] for r in connection.execute("SELECT relname, oid FROM pg_class")}
        connection.execute("BEGIN")
        connection.execute(statement)
        rows = connection.execute(
            "SELECT relation, mode FROM pg_locks WHERE pid = pg_backend_pid() AND granted "
            "AND locktype = 'relation'"
        ).fetchall()
        connection.execute("ROLLBACK")
    held: dict[int, str] = {}
    for oid, mode in rows:
        shown = _shown(mode)
        if oid not in held or STRENGTH[shown] > STRENGTH[held[oid]]:
            held[oid] = shown
    assert {name: held.get(names[name]) for name in expected} == expected


def _shown(mode: str) -> str:
    """``ShareUpdateExclusiveLock`` as the manual writes it."""
    name = mode.removesuffix("Lock")
    return "".join(" " + c if c.isupper() else c for c in name).strip().upper()


def test_conflicts_are_symmetric() -> None:
    for one in MODES:
        for other in MODES:
            assert (other in CONFLICTS[one]) == (one in CONFLICTS[other]), (one, other)
