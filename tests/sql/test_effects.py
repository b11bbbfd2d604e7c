"""What running a statement would leave behind, as its text says."""

from __future__ import annotations

import json

import pytest
from pglast.parser import parse_sql_json

from sqladvisor.sql.effects import writes


def effect(sql: str) -> bool:
    ((kind, tree),) = json.loads(parse_sql_json(sql))["stmts"][0]["stmt"].items()
    return writes(kind, tree)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM t WHERE a IN (SELECT b FROM u) UNION SELECT 1",
        "VALUES (1), (2)",
        "TABLE t",
        "WITH c AS (SELECT 1) SELECT * FROM c",
        "SELECT count(*), lower(x), currval('s'), lo_get(5) FROM t",
        "SELECT nextval FROM t",
        "DECLARE c CURSOR FOR SELECT 1",
        "EXPLAIN DELETE FROM t",
        "EXPLAIN (ANALYZE off) DELETE FROM t",
        "EXPLAIN (ANALYZE, ANALYZE 0) DELETE FROM t",
        "EXPLAIN ANALYZE SELECT 1",
        "COPY t TO STDOUT",
        "COPY (SELECT 1) TO STDOUT",
        "SHOW work_mem",
    ],
)
def test_reads(sql: str) -> None:
    assert not effect(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO t VALUES (1)",
        "UPDATE t SET a = 1",
        "DELETE FROM t",
        "MERGE INTO t USING u ON t.a = u.a WHEN MATCHED THEN DELETE",
        "WITH gone AS (DELETE FROM t RETURNING *) SELECT * FROM gone",
        "SELECT * FROM (WITH x AS (INSERT INTO t VALUES (1) RETURNING a) SELECT * FROM x) y",
        "SELECT 1 INTO t",
        "SELECT * FROM t FOR UPDATE",
        "SELECT * FROM t FOR KEY SHARE SKIP LOCKED",
        "SELECT * FROM (SELECT * FROM t FOR SHARE) x",
        "SELECT nextval('s')",
        "SELECT pg_catalog.setval('s', 1)",
        "SELECT a FROM t WHERE pg_try_advisory_xact_lock(a)",
        "SELECT * FROM pg_terminate_backend(1)",
        "SELECT * FROM ROWS FROM (nextval('s'), generate_series(1, 2)) x",
        "SELECT CASE WHEN a > 1 THEN set_config('a.b', 'c', false) END FROM t ORDER BY 1",
        "SELECT 1 FROM t GROUP BY a HAVING count(lo_unlink(a)) > 1",
        "SELECT * FROM t WINDOW w AS (PARTITION BY nextval('s'))",
        "SELECT * FROM dblink('', 'DELETE FROM t') AS x(a int)",
        "SELECT dblink_exec('DELETE FROM t')",
        "VALUES (nextval('s'))",
        "EXPLAIN ANALYZE DELETE FROM t",
        "EXPLAIN (ANALYZE off, ANALYZE) DELETE FROM t",
        "EXPLAIN (ANALYZE 1) DELETE FROM t",
        "DECLARE c CURSOR FOR SELECT * FROM t FOR UPDATE",
        "CREATE TABLE t AS SELECT 1",
        "COPY t FROM STDIN",
        "COPY t TO '/tmp/x'",
        "COPY t TO PROGRAM 'cat'",
        "COPY (DELETE FROM t RETURNING *) TO STDOUT",
        "CALL p()",
        "DO 'BEGIN END'",
        "EXECUTE q",
        "TRUNCATE t",
        "NOTIFY a",
        "LOCK TABLE t",
        "REFRESH MATERIALIZED VIEW v",
        "VACUUM t",
    ],
)
def test_acts(sql: str) -> None:
    assert effect(sql)
