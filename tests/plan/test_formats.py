"""The four formats of EXPLAIN, and auto_explain's logs: on a real server they are the same tree."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from sqladvisor.plan.node import Plan
from sqladvisor.plan.read_file import plans_in

FORMATS = ("TEXT", "YAML", "XML")
RUN = "ANALYZE, TIMING OFF, SUMMARY OFF, SETTINGS, BUFFERS OFF"
CASES = (Path(__file__).parents[2] / "fixtures" / "plans" / "plans.sql").read_text()
HEAD, *PARTS = re.split(r"^-- name: ", CASES, flags=re.M)

# Every node type and property that can be had without a second server, in the settings it takes.
SETUP = """
CREATE TABLE t (id int PRIMARY KEY, a int, b int, "Größe" text);
CREATE TABLE "My Table" (id int PRIMARY KEY, "t.id" int, note text);
CREATE INDEX "an Index, really" ON t (a) INCLUDE (b);
CREATE TABLE p (id int, day int) PARTITION BY RANGE (day);
CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20);
INSERT INTO t SELECT i, i % 10, i % 7, 'x' || i FROM generate_series(1, 2000) i;
INSERT INTO "My Table" SELECT i, i, 'n' FROM generate_series(1, 500) i;
INSERT INTO p SELECT i, i % 20 FROM generate_series(1, 400) i;
SET max_parallel_workers_per_gather = 0;
SET jit = off;
VACUUM ANALYZE;
"""
QUERIES = {
    "result": "SELECT 1 WHERE false",
    "one_time_filter": "SELECT * FROM t WHERE 1 = (SELECT 2)",
    "project_set": "SELECT generate_series(1, 3), id FROM t WHERE id < 4",
    "values": "SELECT * FROM (VALUES (1, 'a'), (2, 'b')) v(x, y) JOIN t ON t.id = v.x",
    "subquery_scan": "SELECT * FROM (SELECT id, a FROM t ORDER BY a OFFSET 0) s WHERE s.a > 3",
    "function_scan": "SELECT * FROM generate_series(1, 5) g(i) WHERE i > 2",
    "rows_from": "SELECT * FROM ROWS FROM (generate_series(1, 2), generate_series(1, 3)) AS r",
    "table_function": """SELECT * FROM json_table('{"a": 1}', '$' COLUMNS (x int PATH '$.a')) j""",
    "sample_scan": "SELECT count(*) FROM t TABLESAMPLE bernoulli (50) REPEATABLE (7)",
    "tid_scan": "SELECT * FROM t WHERE ctid = '(0,1)'",
    "tid_range_scan": "SELECT * FROM t WHERE ctid < '(1,1)'",
    "index_only_scan": 'SELECT a, b FROM t WHERE a = 3 /* SET enable_seqscan=off */',
    "index_backward": "SELECT id FROM t ORDER BY id DESC LIMIT 3",
    "bitmap": "SELECT * FROM t WHERE a = 3 OR id < 5 /* SET enable_seqscan=off */",
    "group": "SELECT a FROM t GROUP BY a /* SET enable_hashagg=off */",
    "group_aggregate": "SELECT a, count(*) FROM t GROUP BY a, b ORDER BY a /* SET enable_hashagg=off */",
    "grouping_sets": "SELECT a, b, count(*) FROM t GROUP BY GROUPING SETS ((a, b), (a), ()) /* SET enable_hashagg=off */",
    "grouping_sets_resorted": "SELECT a, b, count(*) FROM t GROUP BY GROUPING SETS ((a), (b)) /* SET enable_hashagg=off */",
    "hash_grouping_sets": "SELECT a, b, count(*) FROM t GROUP BY GROUPING SETS ((a), (b))",
    "mixed_aggregate": "SELECT a, b, count(*) FROM t GROUP BY CUBE (a, b)",
    "unique": "SELECT DISTINCT a FROM t /* SET enable_hashagg=off */",
    "setop": "SELECT id FROM t EXCEPT ALL SELECT id FROM p",
    "hash_setop": "SELECT a FROM t INTERSECT SELECT day FROM p",
    "window": "SELECT rank() OVER (PARTITION BY a ORDER BY b), sum(b) OVER () FROM t",
    "run_condition": "SELECT * FROM (SELECT id, row_number() OVER (ORDER BY id) AS n FROM t) s WHERE n < 5",
    "joins_left": 'SELECT * FROM t LEFT JOIN "My Table" m ON m."t.id" = t.a',
    "joins_right": 'SELECT * FROM "My Table" m RIGHT JOIN t ON m.id = t.a AND m.note > \'a\'',
    "joins_full": 'SELECT * FROM t FULL JOIN "My Table" m ON m.id = t.a',
    "joins_semi": 'SELECT * FROM t WHERE EXISTS (SELECT FROM "My Table" m WHERE m.id = t.a AND m.note <> t."Größe")',
    "joins_anti": 'SELECT * FROM "My Table" m WHERE NOT EXISTS (SELECT FROM t WHERE t.id = m.id)',
    "merge_join": 'SELECT * FROM t JOIN "My Table" m ON m.id = t.id /* SET enable_hashjoin=off enable_nestloop=off */',
    "nested_left": 'SELECT * FROM "My Table" m LEFT JOIN t ON t.id = m.id AND m.id > 3 /* SET enable_hashjoin=off enable_mergejoin=off enable_memoize=off */',
    "recursive": "WITH RECURSIVE r AS (SELECT 1 AS n UNION SELECT n + 1 FROM r WHERE n < 9) SELECT * FROM r",
    "hashed_subplan": "SELECT * FROM t WHERE a NOT IN (SELECT day FROM p WHERE day < 4)",
    "insert_select": "INSERT INTO p SELECT i, 3 FROM generate_series(1, 4) i",
    "on_conflict": "INSERT INTO t VALUES (1, 1, 1, 'x'), (9999, 1, 1, 'y') ON CONFLICT (id) DO UPDATE SET a = 5 WHERE t.a > 0",
    "on_conflict_nothing": "INSERT INTO t VALUES (1, 1, 1, 'x') ON CONFLICT DO NOTHING",
    "update_partitions": "UPDATE p SET id = id + 1 WHERE day < 15",
    "delete_using": 'DELETE FROM t USING "My Table" m WHERE m.id = t.id AND m.id < 5',
    "merge": 'MERGE INTO t USING "My Table" m ON m.id = t.id WHEN MATCHED AND m.id < 3 THEN DELETE WHEN MATCHED THEN UPDATE SET a = 1 WHEN NOT MATCHED THEN INSERT VALUES (m.id + 9000, 1, 1, \'m\')',
    "literal_with_lines": "SELECT * FROM t WHERE \"Größe\" <> E'first\n  ->  Seq Scan on x\n\nlast: it''s' AND a = 3",
    "literal_with_quotes": """SELECT * FROM t WHERE "Größe" IN ('a, b', 'c"d', '(', 'x')""",
    "function_in_schema": "SELECT * FROM pg_catalog.pg_get_keywords() k WHERE k.word = 'select'",
    "temp_sort": 'SELECT * FROM t ORDER BY "Größe" DESC NULLS LAST, (a + b)',
    "partitions_pruned": "SELECT * FROM p WHERE day = (SELECT 11)",
    "disabled": "SELECT * FROM p WHERE id = 3 /* SET enable_seqscan=off */",
    "lock_rows": "SELECT * FROM t WHERE id = 5 FOR UPDATE",
    "created_table": "CREATE TABLE made AS SELECT * FROM t WHERE a = 1",
}  # fmt: skip


@pytest.fixture(scope="module")
def connection(cluster: Any) -> Iterator[psycopg.Connection]:
    cluster.create_database("formats")
    with cluster.connect("formats") as session:
        for statement in (HEAD.split("-- setup\n")[1] + SETUP).split(";\n"):
            if statement.strip():
                session.execute(statement.encode())
        yield session
    cluster.drop_database("formats")


def explained(session: psycopg.Connection, query: str, settings: str, options: str) -> str:
    with session.transaction(force_rollback=True):
        for setting in settings.split():
            session.execute("SELECT set_config(%s, %s, true)", setting.split("=", 1))
        rows = session.execute(f"EXPLAIN ({options}) {query}".encode()).fetchall()
    if "ANALYZE" in options and not query.startswith(("SELECT", "WITH RECURSIVE")):
        # What was rolled back has left its pages behind, by which the next run would be planned.
        session.execute("VACUUM")
    parts = (r[0] if isinstance(r[0], str) else json.dumps(r[0], indent=2) for r in rows)
    return "\n".join(parts)


def read_one(text: str) -> Plan:
    (found,) = plans_in("plan", text)
    assert isinstance(found, Plan), found
    return found


def told_by_text(value: Any) -> Any:
    """What of a plan's properties the text format can tell; what is nothing is not printed."""
    if isinstance(value, dict):
        untold = set(UNTOLD)
        if value.get("Node Type") == "Function Scan" and value["Alias"] == value.get(
            "Function Name", value["Alias"]
        ):
            untold.add("Function Name")  # "on x" is a function x, or ROWS FROM (…) AS x
        found = {k: told_by_text(v) for k, v in value.items() if k not in untold}
        return {k: v for k, v in found.items() if v not in (0, False, [], {})}
    return [told_by_text(v) for v in value] if isinstance(value, list) else value


UNTOLD = {
    "Inner Unique",  # with VERBOSE only
    "Trigger Name",  # of a constraint, with VERBOSE only
    "Relation",
    "Planning",
    "Conflict Arbiter Indexes",
}


def differences(one: Any, other: Any, at: str = "") -> list[str]:
    """Where two documents differ, in words."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = sorted({*one, *other})
        return [d for k in keys for d in differences(one.get(k), other.get(k), f"{at}/{k}")]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return [d for i, (a, b) in pairs for d in differences(a, b, f"{at}/{i}")]
    return [] if one == other else [f"{at}: {one!r} is not {other!r}"]


def split_settings(query: str) -> tuple[str, str]:
    match = re.search(r" /\* SET (.*?) \*/", query)
    return (query.replace(match[0], ""), match[1]) if match else (query, "")


@pytest.mark.parametrize("options", [RUN, "VERBOSE", "COSTS OFF"])
@pytest.mark.parametrize("name", QUERIES)
def test_every_format_is_the_same_tree(
    connection: psycopg.Connection, name: str, options: str
) -> None:
    query, settings = split_settings(QUERIES[name])
    expected = read_one(explained(connection, query, settings, f"{options}, FORMAT JSON"))
    for form in FORMATS:
        plan = read_one(explained(connection, query, settings, f"{options}, FORMAT {form}"))
        same = told_by_text if form == "TEXT" else dict
        assert not differences(same(plan.raw), same(expected.raw)), form
        assert [n.label for n in plan.nodes()] == [n.label for n in expected.nodes()]
        assert [n.path for n in plan.nodes()] == [n.path for n in expected.nodes()]
        assert [n.subplan_name for n in plan.nodes()] == [n.subplan_name for n in expected.nodes()]
        lines = [n.line or 0 for n in plan.nodes()]
        assert lines == sorted(set(lines))


RECORDED = {
    name: (settings.removeprefix("-- set: "), query.strip().removesuffix(";"))
    for name, settings, query in (part.split("\n", 2) for part in PARTS)
}


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_statements_are_the_same_tree(connection: psycopg.Connection, name: str) -> None:
    settings, query = RECORDED[name]
    # What each of several processes did, and what they left in memory, differs from run to run.
    alone = "parallel" not in settings or "max_parallel_workers_per_gather=0" in settings
    options = (
        "ANALYZE, TIMING OFF, SUMMARY OFF, SETTINGS, BUFFERS" if alone else "VERBOSE, SETTINGS"
    )
    if "modif" in name:
        options = "ANALYZE, TIMING OFF, SUMMARY OFF, BUFFERS OFF"
    explained(connection, query, settings, options)  # warm
    expected = read_one(explained(connection, query, settings, f"{options}, FORMAT JSON"))
    for form in FORMATS:
        plan = read_one(explained(connection, query, settings, f"{options}, FORMAT {form}"))
        same = told_by_text if form == "TEXT" else dict
        assert not differences(same(plan.raw), same(expected.raw)), form
        assert [n.label for n in plan.nodes()] == [n.label for n in expected.nodes()]
