"""What a schema asks for and this server lacks is stood in for, or left out by name: never all of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sqladvisor.auditor import Options, audit
from sqladvisor.migrate.gate import GateOptions, gate
from sqladvisor.report.model import Report

SCHEMA = """
CREATE EXTENSION postgis;
CREATE EXTENSION IF NOT EXISTS "uuid-ossp";
CREATE EXTENSION pgcrypto;
CREATE EXTENSION citext;
CREATE EXTENSION postgres_fdw;
CREATE SCHEMA app AUTHORIZATION app_owner;
CREATE SCHEMA AUTHORIZATION "Other Owner";
CREATE SCHEMA "Sales Dept";
CREATE TYPE app.mood AS ENUM ('sad', 'it''s fine');
CREATE DOMAIN app.email AS citext CHECK (VALUE ~ '@');
CREATE TYPE app.span AS RANGE (subtype = float8);
CREATE COLLATION german (provider = icu, locale = 'de-DE', deterministic = false);
CREATE TABLE "Sales Dept"."Order" (
    "Id" bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "select" text, "user" int,
    "Näme" text COLLATE german, mood app.mood, mail app.email, span app.span, during tstzrange,
    total int GENERATED ALWAYS AS ("user" * 2) STORED, EXCLUDE USING gist (during WITH &&)
) TABLESPACE fast;
CREATE INDEX "Idx, x" ON "Sales Dept"."Order" ("user", "select" DESC NULLS LAST) TABLESPACE "Fast Disk";
CREATE TABLE app.places (id int PRIMARY KEY, geom geometry(Point, 4326), shapes public.geography[], name text)
    USING columnar;
CREATE INDEX ON app.places USING gist (geom);
CREATE TABLE app.refs (id uuid DEFAULT uuid_generate_v4() PRIMARY KEY, salt bytea DEFAULT gen_random_bytes(8),
    place_id int REFERENCES app.places);
CREATE TABLE app.logs (id bigint, at date NOT NULL) PARTITION BY RANGE (at);
CREATE TABLE app.logs_2025 PARTITION OF app.logs FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE app.logs_default PARTITION OF app.logs DEFAULT;
CREATE TABLE app.base (id int PRIMARY KEY, kind text);
CREATE TABLE app.child (extra text) INHERITS (app.base);
CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '192.0.2.1', use_remote_estimate 'true');
CREATE USER MAPPING FOR app_owner SERVER far OPTIONS (user 'u');
CREATE FOREIGN TABLE app.away (id int) SERVER far;
CREATE FUNCTION app.twice(x int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN x * 2; END $$;
CREATE VIEW app.v1 AS SELECT id, app.twice(id) AS d, kind FROM app.base;
CREATE MATERIALIZED VIEW app.m1 AS SELECT kind, count(*) AS n, max(d) AS d FROM app.v1 GROUP BY kind;
CREATE POLICY p ON app.base TO tenant_role USING (kind = current_user);
ALTER TABLE app.base OWNER TO app_owner;
CREATE STATISTICS app.st (mcv) ON kind, id FROM app.base;
"""
QUERIES = """
SELECT "Id" FROM "Sales Dept"."Order" WHERE "user" = 5 ORDER BY "select" DESC NULLS LAST LIMIT 5;
SELECT "Id" FROM "Sales Dept"."Order" WHERE "Näme" = 'Straße' AND mail = 'a@b' AND mood = 'sad';
SELECT id FROM app.places WHERE id = 3;
SELECT r.place_id FROM app.refs r JOIN app.places p ON p.id = r.place_id WHERE r.id = $1;
SELECT id FROM app.logs WHERE at >= '2025-05-01' AND at < '2025-06-01';
SELECT kind FROM app.base WHERE id = 3;
SELECT n FROM app.m1 WHERE kind = 'x';
SELECT d FROM app.v1 WHERE id = 7;
"""


def run(tmp_path: Path, schema: str, queries: str) -> Report:
    for name, text in (("schema.sql", schema), ("q.sql", queries)):
        (tmp_path / name).write_text(text, encoding="utf-8")
    return audit(
        [str(tmp_path / "q.sql")],
        Options(
            schema=(str(tmp_path / "schema.sql"),), assume_table_rows={"app.places": 5_000_000}
        ),
    )


def test_a_schema_of_many_kinds_is_planned_whole(tmp_path: Path) -> None:
    report = run(tmp_path, SCHEMA, QUERIES)
    assert report.problems == ()
    assert [f for f in report.findings if f.severity == "error"] == []
    said = "\n".join(report.notes)
    for note in (
        'extension "postgis" is not available here: what needs its functions is left out',
        'extension "uuid-ossp" is not available here: its functions are stood in for',
        'extension "pgcrypto" is not available here: its functions are stood in for',
        "collation german is ICU's, which this PostgreSQL lacks: planned as if it sorted by bytes",
        "type geometry is unknown here (postgis, uuid-ossp, pgcrypto missing): its columns are planned as text",
        "type public.geography[] is unknown here (postgis, uuid-ossp, pgcrypto missing)",
        "table access method columnar is unknown here: planned as heap",
        f"left out, for want of an extension: {tmp_path}/schema.sql:",
    ):
        assert note in said
    assert "192.0.2.1" not in said


def test_a_foreign_table_is_planned_without_its_server(tmp_path: Path) -> None:
    schema = SCHEMA.replace("FOR app_owner", "FOR public")
    report = run(tmp_path, schema, "SELECT id FROM app.away WHERE id = 3;\n")
    assert report.problems == ()


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ("CREATE TABLE a (id nosuchtype);", 'type "nosuchtype" does not exist'),
        ("CREATE TABLE a (id int DEFAULT nosuch());", "function nosuch() does not exist"),
        ("CREATE INDEX ON nowhere (a);", 'relation "nowhere" does not exist'),
    ],
)
def test_a_mistake_stays_one(tmp_path: Path, schema: str, says: str) -> None:
    (problem,) = run(tmp_path, schema, "SELECT 1;\n").problems
    assert says in problem.message


def test_migrations_are_traced_on_such_a_schema(tmp_path: Path) -> None:
    (tmp_path / "schema.sql").write_text(SCHEMA, encoding="utf-8")
    folder = tmp_path / "migrations"
    folder.mkdir()
    (folder / "001_places.sql").write_text(
        "ALTER TABLE app.places ADD COLUMN area geometry(Polygon, 4326);\n"
        "CREATE INDEX places_name ON app.places (name);\n"
    )
    options = GateOptions(schema=(str(tmp_path / "schema.sql"),), trace=True, cache=False)
    report = gate([str(folder)], options)
    assert report.problems == ()
    said = "\n".join(report.notes)
    assert "not traced" not in said and 'schema "app" does not exist' not in said
    assert 'extension "postgis" is not available here' in said
    (found,) = (f for f in report.findings if f.rule == "migration/create-index")
    assert found.evidence.notes == ("traced: SHARE on app.places, app.places_name built",)
