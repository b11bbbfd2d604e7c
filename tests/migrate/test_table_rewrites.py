"""What the rules say about rewrites, held against the server: a rewritten table has a new file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sqladvisor.engine import Engine
from sqladvisor.migrate.check import check_set
from sqladvisor.migrate.context import Settings
from sqladvisor.migrate.files import Files
from sqladvisor.migrate.runner import read_files
from sqladvisor.migrate.start import start_state
from sqladvisor.rule import load_rules

SCHEMA = """
CREATE DOMAIN label AS text;
CREATE DOMAIN short AS text CHECK (length(VALUE) < 10);
CREATE FUNCTION roll() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 4; END';
CREATE FUNCTION four() RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 4';
CREATE TABLE t (id int PRIMARY KEY, v varchar(10), s text, n numeric(10,2), n0 numeric, b varbit(8),
    at timestamptz, ts timestamp(3), ti time(3), iv interval, net cidr, tag label, code char(4),
    arr varchar(10)[], j json, x xml, o oid, big bigint, i inet);
INSERT INTO t (id, n) VALUES (1, 1);
"""
CHANGES = [
    "v TYPE varchar(20)", "v TYPE varchar(5)", "v TYPE varchar", "v TYPE text", "s TYPE varchar",
    "s TYPE varchar(20)", "v TYPE varchar(10)", "n TYPE numeric(12,2)", "n TYPE numeric(12,3)",
    "n TYPE numeric(9,2)", "n TYPE numeric", "n0 TYPE numeric(10,2)", "b TYPE varbit(16)",
    "b TYPE varbit", "b TYPE varbit(4)", "at TYPE timestamp", "ts TYPE timestamp(6)",
    "ts TYPE timestamp", "ts TYPE timestamp(0)", "ts TYPE timestamptz", "ti TYPE time",
    "ti TYPE time(1)", "net TYPE inet", "i TYPE cidr", "tag TYPE text", "s TYPE label",
    "s TYPE short", "code TYPE text", "code TYPE char(8)", "arr TYPE text[]",
    "arr TYPE varchar(20)[]", "j TYPE jsonb USING j::jsonb", "id TYPE bigint", "id TYPE integer",
    "x TYPE text", "s TYPE text USING upper(s)", "s TYPE text USING s::text", "s TYPE text USING s",
    "o TYPE integer USING o::integer", 's TYPE text COLLATE "C"', "big TYPE int",
]  # fmt: skip
COLUMNS = [
    "a int", "a int DEFAULT 1", "a timestamptz DEFAULT now()", "a uuid DEFAULT gen_random_uuid()",
    "a timestamptz DEFAULT clock_timestamp()", "a float DEFAULT random()", "a bigserial",
    "a int GENERATED ALWAYS AS IDENTITY", "a int GENERATED ALWAYS AS (id * 2) STORED",
    "a int GENERATED ALWAYS AS (id * 2) VIRTUAL", "a label", "a short", "a int DEFAULT roll()",
    "a int DEFAULT four()", "a text DEFAULT 'x' NOT NULL", "a short DEFAULT 'x'",
]  # fmt: skip
STATEMENTS = [
    *(f"ALTER TABLE t ALTER COLUMN {c}" for c in CHANGES),
    *(f"ALTER TABLE t ADD COLUMN {c}" for c in COLUMNS),
    "ALTER TABLE t SET UNLOGGED",
    "ALTER TABLE t ADD CONSTRAINT c CHECK (id > 0)",
    "ALTER TABLE t ALTER COLUMN s SET DEFAULT 'x'",
]


@pytest.fixture(scope="module")
def database(cluster: Any) -> Any:
    cluster.create_database("rewrites")
    with cluster.connect("rewrites") as connection:
        connection.execute(SCHEMA)
    yield lambda: cluster.connect("rewrites")
    cluster.drop_database("rewrites")


def said(statement: str, before: str = "") -> bool:
    """Whether a rule says that the statement rewrites the table."""
    text = f"{before}{statement};"
    found = read_files(Files({"a.sql": text.encode()}))
    checked = check_set(found, ENGINE, Settings(), start_state(SCHEMA))
    return any(f.evidence.figures.get("work") == "rewrite" for f in checked.findings)


ENGINE = Engine(load_rules(("migration",)), strict=True)


ZONED = [s for s in STATEMENTS if "timestamp" in s or "at TYPE" in s]
"""Those that mean something else in another time zone."""


@pytest.mark.parametrize(
    ("zone", "statement"),
    [*(("Europe/Berlin", s) for s in STATEMENTS), *(("UTC", s) for s in ZONED)],
)
def test_rules_say_rewrite_where_the_server_does(
    zone: str, statement: str, database: Callable[[], Any]
) -> None:
    with database() as connection:
        connection.execute("BEGIN")
        connection.execute(f"SET timezone = '{zone}'")
        before = connection.execute("SELECT pg_relation_filenode('t')").fetchone()
        connection.execute(statement)
        after = connection.execute("SELECT pg_relation_filenode('t')").fetchone()
        connection.execute("ROLLBACK")
    assert said(statement, f"SET timezone = '{zone}'; ") == (before != after)
