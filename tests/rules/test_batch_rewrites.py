"""The rewritten writes of the batch rules leave a real table as the statements they replace do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from sqladvisor.catalog.ddl import catalog_from_sql
from sqladvisor.context import Context
from sqladvisor.engine import Engine
from sqladvisor.finding import Finding
from sqladvisor.rule import load_rules
from sqladvisor.sql.source import read_source, statements

RULES = {r.id: r for r in load_rules(("batch", "prepare"))}

ROWS = {
    "batch/single-row-inserts": "",
    "batch/single-row-updates": """
        INSERT INTO products SELECT n, chr(96 + n), n, n % 3, NULL, 'o', 'x'
        FROM generate_series(1, 20) n;
        INSERT INTO lines SELECT 1, n, 'old' FROM generate_series(1, 9) n;""",
    "batch/single-row-deletes": """
        INSERT INTO carts SELECT n, ('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a' || n)::uuid, NULL, 'é'
        FROM generate_series(11, 14) n;
        INSERT INTO carts SELECT n, gen_random_uuid() FROM generate_series(3, 9) n;
        INSERT INTO lines SELECT n, s FROM generate_series(1, 4) n, unnest('{a,b,c}'::text[]) s;""",
}
EXTRA = {
    "batch/single-row-updates": """
        CREATE TABLE kinds (id integer PRIMARY KEY, s smallint, c character(3), u uuid, j jsonb,
            f double precision, b boolean, t timestamptz, a text[], i interval, v varchar(4));
        INSERT INTO kinds SELECT n FROM generate_series(1, 9) n;""",
}
MORE = {
    "batch/single-row-updates": [
        f"UPDATE kinds SET {column} = {value} WHERE id = {number};"
        for column, values in {
            "s": ("1", "-32768", "NULL", "'7'::smallint", "3"),
            "c": ("'abc'", "'a'", "NULL", "''", "'é'"),
            "u": ("NULL", *(f"'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1{n}'" for n in range(4))),
            "j": ("""'{"a": 1}'""", "'[]'", "'1'", "'null'", "'\"x\"'"),
            "f": ("1", "0.1", "-2.5", "1e10", "NULL"),
            "b": ("true", "false", "NULL", "true", "false"),
            "t": ("'2024-01-01'", "'2024-01-01 12:00+02'", "NULL", "'epoch'", "'infinity'"),
            "a": ("'{a,b}'", "'{}'", "NULL", "'{NULL}'", """'{"x y"}'"""),
            "i": ("'1 day'", "'1:00'", "NULL", "'2 mons'", "'0'"),
            "v": ("5", "6", "7", "8", "NULL"),
        }.items()
        for number, value in enumerate(values, 1)
    ],
}


def findings(rule_id: str, sql: str, schema: str) -> list[Finding]:
    found, problems = statements(read_source("example.sql", sql.encode()))
    assert not problems
    catalog = catalog_from_sql(schema)
    return Engine([RULES[rule_id]], strict=True).check_workload(
        [Context(s, catalog) for s in found]
    )


def tables(connection: psycopg.Connection) -> list[Any]:
    names = connection.execute(
        "SELECT quote_ident(relname) FROM pg_class WHERE relkind = 'r' "
        "AND relnamespace = 'public'::regnamespace ORDER BY relname"
    ).fetchall()
    return [
        connection.execute(
            f"SELECT row_::text FROM {n} row_ ORDER BY row_::text".encode()
        ).fetchall()
        for (n,) in names
    ]


def state_after(connection: psycopg.Connection, script: list[str]) -> list[Any]:
    with connection.transaction(force_rollback=True):
        connection.execute("ALTER SEQUENCE IF EXISTS keyed_id_seq RESTART")
        for statement in script:
            connection.execute(statement.encode())
        return tables(connection)


@pytest.mark.parametrize("rule_id", ROWS)
def test_batched_writes_leave_the_same_rows(
    rule_id: str, make_database: Callable[..., Any]
) -> None:
    examples = RULES[rule_id].examples
    schema = examples["schema"] + EXTRA.get(rule_id, "")
    proven = 0
    database = make_database(schema + ROWS[rule_id])
    # In one transaction, so that now() is the same time both ways.
    with database.connect() as connection, connection.transaction():
        before = tables(connection)
        more = MORE.get(rule_id, [])
        for sql in [*examples["bad"], *("".join(more[i : i + 5]) for i in range(0, len(more), 5))]:
            for finding in findings(rule_id, sql, schema):
                if finding.experiment is None or '"Other"' in sql:
                    continue
                (fix,) = finding.fixes
                one_by_one = state_after(connection, list(finding.experiment.before))
                batched = state_after(connection, [fix.sql])
                assert batched == one_by_one, fix.sql
                assert one_by_one != before
                proven += 1
    assert proven >= 3


def test_one_query_for_all_keys_returns_their_rows(make_database: Callable[..., Any]) -> None:
    examples = RULES["batch/n-plus-one"].examples
    rows = """INSERT INTO users SELECT n, 'n' || n, 'Oslo' FROM generate_series(1, 9) n;
        INSERT INTO orders SELECT n, n % 7 + 1, n, 'new', chr(96 + n % 4), 'é' || n % 6,
        DATE '2024-01-01' + n % 6 FROM generate_series(1, 99) n;"""
    with make_database(examples["schema"] + rows).connect() as connection:
        for sql in examples["bad"]:
            for finding in findings("batch/n-plus-one", sql, examples["schema"]):
                assert finding.experiment
                singly = [
                    row
                    for statement in finding.experiment.before
                    for row in connection.execute(statement.encode()).fetchall()
                ]
                (fix,) = finding.fixes
                together = connection.execute(fix.sql.encode()).fetchall()
                width = len(singly[0])
                kept = [row[-width:] for row in together]
                assert sorted(map(str, kept)) == sorted(map(str, singly)), fix.sql


def test_prepared_statements_run(make_database: Callable[..., Any]) -> None:
    schema = """CREATE TABLE users (id int, name text); CREATE TABLE t (id int, a int, b int, c text);
        CREATE TABLE "Ö" (at timestamptz, n int);"""
    rule = RULES["prepare/repeated-literal-statement"]
    with make_database(schema).connect() as connection:
        for sql in rule.examples["bad"]:
            for finding in findings(rule.id, sql, ""):
                assert finding.experiment
                for statement in finding.experiment.after:
                    connection.execute(statement.encode())


def test_commits_are_grouped_as_written() -> None:
    rule = RULES["batch/commit-per-row"]
    (finding,) = findings(rule.id, rule.examples["bad"][0], rule.examples["schema"])
    assert finding.message == (
        "5 transactions in a row hold one INSERT into t each: every one of them waits for its own "
        "flush of the WAL"
    )
    (fix,) = finding.fixes
    assert fix.sql.count(";") == 6
    assert fix.sql.startswith("BEGIN;\nINSERT INTO t VALUES (1, 'é');\n")
