"""Snapshot files: what is in them, what is not, and that a bad one is one clear line."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
import zstandard

from sqladvisor.catalog import snapshot as module
from sqladvisor.catalog.snapshot import Snapshot, WorkloadQuery, decode, encode, load, save
from sqladvisor.catalog.stand_ins import StandIns, array_items, array_text, make_stand_ins
from sqladvisor.errors import InputError, ServerError
from sqladvisor.server.binaries import find_binaries
from sqladvisor.server.embedded import Cluster
from sqladvisor.server.masked import translate
from sqladvisor.server.shadow import build_shadow
from sqladvisor.server.snapshot import plain_query, take_snapshot, without_secrets

SHOP = """
CREATE TYPE size AS ENUM ('small', 'large');
CREATE TABLE clients (
    id int PRIMARY KEY, name text NOT NULL, code char(12) NOT NULL, country text, size size,
    state text CHECK (state IN ('active', 'blocked')), born date, tags text[], profile jsonb,
    token uuid, address inet);
CREATE INDEX ON clients (name);
CREATE STATISTICS pairs (mcv) ON name, country FROM clients;
INSERT INTO clients SELECT i, (ARRAY['Rosalind Franklin', 'Grace Hopper', 'Emmy Noether'])[1 + i % 3],
    'customer-' || i % 4, (ARRAY['NO', 'DE'])[1 + i % 2], 'small', 'active', date '1990-01-01' + i % 50,
    ARRAY['secret-tag', 'vip'], jsonb_build_object('insurer', 'Helvetia-' || i % 5, 'age', i % 7),
    ('00000000-0000-4000-8000-00000000000' || i % 9)::uuid, ('192.168.77.' || i % 8)::inet
    FROM generate_series(1, 2000) i;
ANALYZE;
"""
SECRETS = ("Rosalind", "Hopper", "Noether", "customer-", "secret-tag", "insurer", "Helvetia",
           "192.168.77", "00000000-0000-4000-8000-000000000003")  # fmt: skip


@pytest.fixture
def shop(make_database: Callable[..., Any]) -> Any:
    return make_database(SHOP)


def take(database: Any, values: str = "masked", user: str = "postgres", **more: Any) -> Snapshot:
    return take_snapshot(
        database.cluster.dsn(database.name, user), find_binaries(None), values=values, **more
    )


def explain(connection: psycopg.Connection, sql: str) -> Any:
    row = connection.execute(b"EXPLAIN (FORMAT JSON) " + sql.encode()).fetchone()
    assert row
    return row[0][0]["Plan"]


# -- what is in it ------------------------------------------------------------------------------


def test_a_file_says_what_was_taken_and_the_same_again(shop: Any, tmp_path: Path) -> None:
    taken = take(shop, "full")
    assert decode(encode(taken).encode(), "s") == taken
    assert encode(decode(encode(taken).encode(), "s")) == encode(taken)
    for name in ("s.json", "s.json.zst"):
        path = str(tmp_path / name)
        save(taken, path)
        assert load(path) == taken
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert os.path.getsize(tmp_path / "s.json.zst") < os.path.getsize(tmp_path / "s.json") / 3


def test_two_snapshots_of_the_same_differ_in_counters_only(shop: Any) -> None:
    first, second = take(shop), take(shop)
    none: Any = {"tables": (), "indexes": (), "counted_days": 0.0, "taken": None}
    assert encode(replace(first, **none)) == encode(replace(second, **none))


def test_each_relation_and_line_of_the_schema_has_a_line_of_its_own(shop: Any) -> None:
    lines = encode(take(shop)).split("\n")
    assert '  "CREATE TABLE public.clients (",' in lines
    assert sum('"name": "clients"' in line for line in lines) == 1


@pytest.mark.parametrize("values", ["masked", "none"])
def test_texts_are_not_in_it(shop: Any, values: str) -> None:
    text = encode(take(shop, values))
    assert not [s for s in SECRETS if s in text]


def test_in_full_they_are(shop: Any) -> None:
    text = encode(take(shop, "full"))
    assert not [s for s in SECRETS if s not in text]


def test_numbers_dates_codes_and_what_the_schema_shows_are_kept(shop: Any) -> None:
    columns = {c.column: c.values for c in take(shop).statistics.columns}
    assert "1990-01-05" in str(columns["born"]["most_common_vals"])
    assert array_items(str(columns["country"]["most_common_vals"])) == ["DE", "NO"] or set(
        array_items(str(columns["country"]["most_common_vals"]))
    ) == {"DE", "NO"}
    assert array_items(str(columns["state"]["most_common_vals"])) == ["active"]
    assert array_items(str(columns["size"]["most_common_vals"])) == ["small"]


# -- planning on it -----------------------------------------------------------------------------

QUERIES = (
    "SELECT * FROM clients WHERE name = 'Emmy Noether'",
    "SELECT * FROM clients WHERE name IN ('Emmy Noether', 'Nobody')",
    "SELECT * FROM clients WHERE name = 'Grace Hopper' AND country = 'DE'",
    "SELECT * FROM clients WHERE code = 'customer-3'",
    "SELECT * FROM clients WHERE tags @> ARRAY['secret-tag']",
    "SELECT * FROM clients WHERE tags && '{vip,none}'",
    """SELECT * FROM clients WHERE profile @> '{"insurer": "Helvetia-3"}'""",
    "SELECT * FROM clients WHERE profile ? 'insurer'",
    "SELECT * FROM clients WHERE token = '00000000-0000-4000-8000-000000000003'",
    "SELECT * FROM clients WHERE address = '192.168.77.3'",
    "SELECT * FROM clients WHERE state = 'blocked'",
    "SELECT * FROM clients a JOIN clients b USING (name, code)",
    "SELECT * FROM clients WHERE born < '1990-01-10'",
)


def test_queries_find_the_frequencies_of_masked_values(shop: Any) -> None:
    snapshot = take(shop)
    shadow = build_shadow(shop.cluster, "masked_shop", snapshot.schema, snapshot.statistics)
    try:
        shadow.stand_ins = snapshot.stand_ins
        with shop.connect() as real, shadow.connect() as connection:
            for query in QUERIES:
                assert snapshot.stand_ins
                text, _ = translate(query, snapshot.stand_ins)
                assert (query, explain(connection, text)["Plan Rows"]) == (
                    query,
                    explain(real, query)["Plan Rows"],
                )
    finally:
        shop.cluster.drop_database("masked_shop")


def test_the_file_has_no_map_from_stand_ins_back(shop: Any) -> None:
    snapshot = take(shop)
    assert snapshot.stand_ins
    assert all(len(d) == 6 for d in snapshot.stand_ins.by_digest)
    made = snapshot.stand_ins.find("Grace Hopper")
    assert made and made != "Grace Hopper" and len(made) == len("Grace Hopper")
    assert snapshot.stand_ins.find("Ada Lovelace") is None


def test_only_what_is_compared_is_translated() -> None:
    stand_ins = StandIns(b"salt", {})
    known = {stand_ins.digest(v): f"<{v}>" for v in ("paid", "it's")}
    stand_ins = StandIns(b"salt", known)
    text, back = translate(
        "SELECT 'paid', lower('paid') FROM t WHERE a = 'paid' AND b LIKE 'paid' AND c IN ('it''s', 'é')",
        stand_ins,
    )
    assert text == (
        "SELECT 'paid', lower('paid') FROM t WHERE a = '<paid>' AND b LIKE 'paid' "
        "AND c IN ('<it''s>', 'é')"
    )
    assert back == {"<paid>": "paid", "<it's>": "it's"}


def test_stand_ins_keep_order_length_and_identity() -> None:
    words = ["Ångström", "abc", "Zürich", "apple pie", "Banana", "zebra", "李娜李娜李娜", "active"]
    made = make_stand_ins(words, sorted, frozenset(("active",)))
    assert "abc" not in made and "active" not in made
    hidden = [w for w in sorted(words) if w in made]
    assert [made[w] for w in hidden] == sorted(made[w] for w in hidden)
    assert all(len(made[w]) == len(w) for w in hidden)
    assert len(set(made.values())) == len(made)


@pytest.mark.parametrize(
    "items",
    [
        [],
        ["a"],
        ["a b", None, ""],
        ['say "hi"', "back\\slash", "{x,y}", "NULL", "null"],
        ["ü", "\n"],
    ],
)
def test_arrays_are_read_as_they_are_written(items: list[str | None]) -> None:
    assert array_items(array_text(items)) == items


# -- secrets ------------------------------------------------------------------------------------


def test_no_password_is_in_it(make_database: Callable[..., Any]) -> None:
    database = make_database(
        """CREATE EXTENSION postgres_fdw;
        CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'db', dbname 'x');
        CREATE USER MAPPING FOR postgres SERVER far OPTIONS (user 'u', password 'hunter2');
        CREATE FUNCTION f() RETURNS text LANGUAGE sql AS
            $$ SELECT 'host=db dbname=x password=hunter2' || 'postgresql://u:hunter2@db/x' $$;
        CREATE FOREIGN TABLE away (id int) SERVER far OPTIONS (table_name 't');"""
    )
    text = encode(take(database, "full"))
    assert "hunter2" not in text
    assert "CREATE FOREIGN TABLE public.away" in text
    assert "\\restrict" not in text
    assert "'***'" in without_secrets(
        "CREATE SERVER s FOREIGN DATA WRAPPER w OPTIONS (password 'it''s', host 'h');"
    )


def test_recorded_statements_have_neither_constants_nor_comments() -> None:
    assert plain_query("SELECT a FROM t WHERE b = 'x' AND c = $1 /* user=ann */ LIMIT 5 -- hi") == (
        "SELECT a FROM t WHERE b = $2 AND c = $1  LIMIT $3"
    )
    assert plain_query("CREATE USER u PASSWORD 'p'") is None
    assert plain_query("SET x = 'y'") is None
    assert plain_query("SELECT broken (") is None


# -- roles and locks ----------------------------------------------------------------------------


def test_a_role_gets_what_it_may_read_and_hears_of_the_rest(shop: Any) -> None:
    with shop.connect() as admin:
        admin.execute("CREATE TABLE hidden AS SELECT 1 AS a")
        admin.execute("ANALYZE hidden")
        admin.execute("CREATE ROLE snapshot_reader LOGIN")
        admin.execute("GRANT SELECT ON clients TO snapshot_reader")
    try:
        taken = take(shop, user="snapshot_reader")
    finally:
        with shop.connect() as admin:
            admin.execute("DROP OWNED BY snapshot_reader; DROP ROLE snapshot_reader")
    assert "clients" in taken.schema and "hidden" not in taken.schema
    assert taken.statistics.missing == (
        "tables and schemas left out, as the role may not read them or they are locked: 1",
        "no column statistics visible for hidden",
        "the data of 1 extended statistics cannot be seen (never analyzed, or not the role's "
        "own): their distinct values are taken from plans",
    )
    heights = {r.name: r.height for r in taken.statistics.relations if r.kind == "i"}
    assert heights["clients_pkey"] == 1


SESSIONS = """SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
    AND application_name IN ('sqladvisor', 'pg_dump')"""


def test_only_access_share_is_taken(shop: Any) -> None:
    with shop.connect() as other, shop.connect() as watcher:
        other.execute("BEGIN; LOCK TABLE clients IN EXCLUSIVE MODE")
        taken = take(shop)  # waits for nothing
        assert "CREATE TABLE public.clients" in taken.schema
        other.execute("ROLLBACK")
        ended = time.monotonic() + 10
        while watcher.execute(SESSIONS).fetchone() != (0,):
            assert time.monotonic() < ended
            time.sleep(0.05)


def test_a_table_locked_against_everybody_is_left_out(shop: Any) -> None:
    with shop.connect() as other:
        other.execute("CREATE TABLE free (a int)")
        other.execute("BEGIN; LOCK TABLE clients IN ACCESS EXCLUSIVE MODE")
        taken = take(shop)
        other.execute("ROLLBACK")
    assert "clients" not in taken.schema and "CREATE TABLE public.free" in taken.schema


# -- damaged and hostile files ------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain() -> dict[str, Any]:
    """A small snapshot as JSON."""
    return {
        "format": "sqladvisor snapshot", "version": 1, "values": "full", "server_version": 180000,
        "sorts_by_bytes": False, "search_path": ["public"], "settings": {}, "missing": [],
        "counted_days": 1.0, "standby": False, "schema": ["CREATE TABLE t (a int, b text);"],
        "relations": [{"schema": "public", "name": "t", "kind": "r", "method": "heap", "relpages": 10,
                       "reltuples": 1000.0, "relallvisible": 0, "pages": 10, "width": 8}],
        "columns": [{"schema": "public", "table": "t", "column": "a", "kind": "r", "number": 1,
                     "inherited": False, "base": "int4", "null_frac": "0", "avg_width": "4",
                     "n_distinct": "-1", "histogram_bounds": "{1,500,1000}"}],
        "extended_statistics": [], "ends": [], "tables": [], "indexes": [], "workload": [],
        "workload_missing": [],
    }  # fmt: skip


def refuse(data: bytes) -> str:
    with pytest.raises(InputError) as caught:
        decode(data, "shop.json")
    message = str(caught.value)
    assert message.startswith("shop.json") and "\n" not in message and len(message) < 300
    return message


def test_the_plain_one_is_read(plain: dict[str, Any]) -> None:
    assert decode(json.dumps(plain).encode(), "s").statistics.relations[0].pages == 10


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "damaged"),
        (b"\x00\xff\xfe", "neither JSON in UTF-8 nor zstd"),
        (b"{}", "not a snapshot of sqladvisor"),
        (b"[1]", "not a snapshot of sqladvisor"),
        (b"SELECT 1", "damaged"),
        (b'{"format": NaN}', "NaN is no number"),
        (b"[" * 100_000, "not a snapshot"),
        (b"[" * 5_000_000, "too many lists"),
        (b"[" + b"{}," * 5_000_000 + b"1]", "too many lists"),
        (b"\x28\xb5\x2f\xfdnonsense", "cannot be decompressed"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "not a snapshot"),
    ],
)  # fmt: skip
def test_what_is_none_is_refused(data: bytes, says: str) -> None:
    assert says in refuse(data)


def test_every_truncation_is_refused(plain: dict[str, Any]) -> None:
    data = json.dumps(plain).encode()
    for end in range(0, len(data) - 1, 7):
        refuse(data[:end])
    packed = zstandard.ZstdCompressor().compress(data)
    for end in range(4, len(packed) - 1, 5):
        refuse(packed[:end])


def test_a_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 1 << 20)
    assert "larger than 1 MB" in refuse(zstandard.ZstdCompressor().compress(b" " * (64 << 20)))


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("version",), 2, "a snapshot of format 2; this sqladvisor reads up to 1"),
        (("version",), "1", "version is not a whole number"),
        (("values",), "some", "values is not one of masked, none, full"),
        (("schema",), "x", "schema is not a list"),
        (("schema",), [1], "schema[0] is not text"),
        (("schema",), ["\x00"], "schema[0] is not text without NUL"),
        (("schema",), ["\ud800"], "schema[0] is not text in Unicode"),
        (("relations",), {}, "relations is not a list"),
        (("relations", 0), 7, "relations[0] is not an object"),
        (("relations", 0, "kind"), "x", "relations[0].kind is not a kind of relation"),
        (("relations", 0, "pages"), 1 << 40, "relations[0].pages is not a whole number from 0"),
        (("relations", 0, "pages"), True, "relations[0].pages is not a whole number"),
        (("relations", 0, "reltuples"), 1e308, "relations[0].reltuples is not a number in range"),
        (("relations", 0, "height"), 99, "relations[0].height is not a whole number from 0 to 20"),
        (("columns", 0, "null_frac"), "1; DROP TABLE t", "columns[0].null_frac is not a number as text"),
        (("columns", 0, "number"), 1 << 20, "columns[0].number is not a whole number"),
        (("columns", 0, "inherited"), 0, "columns[0].inherited is not true or false"),
        (("ends",), [["a", "b"]], "ends[0] is not a list of 5"),
        (("settings",), {"work_mem": 4}, "settings.work_mem is not text"),
        (("workload",), [{"query": "x", "calls": -1, "total_ms": 0, "rows": 0}], "workload[0].calls"),
        (("stand_ins",), {"salt": "xyz", "values": {}}, "stand_ins.salt is not hexadecimal digits"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named(
    plain: dict[str, Any], path: tuple[Any, ...], value: Any, says: str
) -> None:
    document = json.loads(json.dumps(plain))
    node = document
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    assert says in refuse(json.dumps(document).encode())


def test_more_than_a_disk_is_refused(plain: dict[str, Any]) -> None:
    document = json.loads(json.dumps(plain))
    document["relations"] = [dict(document["relations"][0], pages=(1 << 32) - 2)] * 3
    assert "of at most 64 TiB together" in refuse(json.dumps(document).encode())


def test_nothing_of_a_hostile_file_is_run_but_its_schema_as_a_plain_role(
    cluster: Any, plain: dict[str, Any], tmp_path: Path
) -> None:
    tmp_path.chmod(0o777)
    proof = tmp_path / "proof"
    document = json.loads(json.dumps(plain))
    document["schema"] = [
        f"COPY (SELECT 1) TO PROGRAM 'touch {proof}';",
        f"COPY (SELECT 1) TO '{proof}';",
        "CREATE TABLE t (a int, b text);",
        "SELECT pg_read_file('PG_VERSION');",
        "ALTER SYSTEM SET shared_preload_libraries = 'evil';",
        "CREATE FUNCTION boom() RETURNS int LANGUAGE c AS 'libc', 'system';",
        "CREATE FUNCTION wait() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1 FROM pg_sleep(0)';",
        "ALTER ROLE sqladvisor SUPERUSER;",
        "CREATE STATISTICS x ON a, b FROM t;",
    ]
    document["settings"] = {"local_preload_libraries": "evil", "session_preload_libraries": "evil",
                            "work_mem": "64MB", "random_page_cost": "'; DROP TABLE t; --"}  # fmt: skip
    document["columns"] += [
        dict(document["columns"][0], column="b", base="text",
             histogram_bounds="{\"'; DROP TABLE t; --\",x}"),
        dict(document["columns"][0], column="nothing"),
        dict(document["columns"][0], table="pg_class", schema="pg_catalog", column="relname"),
        dict(document["columns"][0], histogram_bounds="{not,numbers}"),
    ]  # fmt: skip
    document["extended_statistics"] = [
        {"schema": "public", "name": "x", "inherited": False, "members": ["a", "b"], "bases": ["int4", "text"],
         "ndistinct": [[["a", "b"], 7.0]], "dependencies": [[["a", "c"], 0.5]],
         "common": [[["1", "x'); DROP TABLE t; --"], 0.5, 0.25]], "expressions": []}]  # fmt: skip
    document["ends"] = [
        ["public", "t", "a", "1", "'; DROP TABLE t"],
        ["public", "t;x", "a", "1", "2"],
    ]
    snapshot = decode(json.dumps(document).encode(), "evil.json")
    shadow = build_shadow(cluster, "hostile", snapshot.schema, snapshot.statistics)
    try:
        with shadow.connect() as connection:
            assert explain(connection, "SELECT * FROM t WHERE a < 500")["Plan Rows"] in range(
                400, 600
            )
            (superuser,) = connection.execute(
                "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"
            ).fetchone() or (None,)
            assert superuser is False
            (memory,) = connection.execute("SELECT current_setting('work_mem')").fetchone() or ("",)
            assert memory == "64MB"
    finally:
        cluster.drop_database("hostile")
    assert not proof.exists()
    assert any("x" in note for note in shadow.left_out)


# -- what this server lacks ---------------------------------------------------------------------


def test_what_the_shadow_lacks_is_said_and_the_rest_plans(
    cluster: Any, plain: dict[str, Any]
) -> None:
    document = json.loads(json.dumps(plain))
    document["schema"] = [
        "CREATE EXTENSION IF NOT EXISTS postgis WITH SCHEMA public;",
        "CREATE COLLATION public.german (provider = icu, locale = 'de-DE');",
        "CREATE TABLE t (a int, b text COLLATE public.german);",
        'CREATE TABLE u (a int, b text COLLATE pg_catalog."de-DE-x-icu");',
        "CREATE TABLE places (a int, b public.geometry(Point,4326));",
        "CREATE TABLE v (a int, b int GENERATED ALWAYS AS (a * 2) VIRTUAL);",
        "CREATE EXTENSION postgres_fdw;",
        "CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw "
        "OPTIONS (host '192.0.2.1', use_remote_estimate 'true');",
        "CREATE FOREIGN TABLE w (a int) SERVER far;",
        "CREATE POLICY p ON t TO nobody_here USING (a > 0);",
    ]
    snapshot = decode(json.dumps(document).encode(), "s.json")
    shadow = build_shadow(cluster, "lacking_much", snapshot.schema, snapshot.statistics)
    try:
        with shadow.connect() as connection:
            for table in "tuvw":
                explain(connection, f"SELECT * FROM {table} WHERE a = 1")
    finally:
        cluster.drop_database("lacking_much")
    said = "\n".join(shadow.left_out)
    assert "collation german is ICU's" in said or "collation public.german is ICU's" in said
    assert "collation de-DE-x-icu is ICU's" in said
    assert 'extension "postgis" is not available' in said
    assert (
        "type public.geometry is unknown here (postgis missing): its columns are planned as text"
        in said
    )
    assert "CREATE TABLE" not in said


def test_a_database_that_sorts_by_bytes_has_a_shadow_that_does(cluster: Any) -> None:
    cluster.create_database("bytes", sorts_by_bytes=True)
    try:
        with cluster.connect("bytes") as connection:
            connection.execute(
                "CREATE TABLE t AS SELECT 'x' || i AS a FROM generate_series(1, 9999) i"
            )
            connection.execute("CREATE INDEX ON t (a)")
            connection.execute("ANALYZE")
        taken = take_snapshot(cluster.dsn("bytes"), find_binaries(None), values="full")
        assert taken.statistics.sorts_by_bytes
        shadow = build_shadow(cluster, "bytes_too", taken.schema, taken.statistics)
        with shadow.connect() as connection:
            plan = explain(connection, "SELECT * FROM t WHERE a LIKE 'x12%'")
        assert "Index" in plan["Node Type"] or "Bitmap" in plan["Node Type"]
    finally:
        cluster.drop_database("bytes_too")
        cluster.drop_database("bytes")


def test_a_workload_goes_through_the_file(plain: dict[str, Any]) -> None:
    snapshot = decode(json.dumps(plain).encode(), "s")
    query = WorkloadQuery("SELECT $1 FROM t", 5, 12.5, 5)
    assert decode(encode(replace(snapshot, workload=(query,))).encode(), "s").workload == (query,)


def test_a_snapshot_of_an_older_server_plans_here(cluster: Any) -> None:
    try:
        binaries = find_binaries("system")
    except ServerError:
        pytest.skip("no other PostgreSQL on this machine")
    if binaries.version_num >= 180000:
        pytest.skip("the local PostgreSQL is no older one")
    with Cluster(binaries) as older:
        older.create_database("shop")
        with older.connect("shop") as connection:
            connection.execute(SHOP.encode())
            connection.execute(
                "CREATE TABLE spans AS SELECT int4range(i, i + 9) r FROM generate_series(1, 999) i"
            )
            connection.execute("ANALYZE spans")
            real = explain(connection, "SELECT * FROM spans WHERE r @> 500")["Plan Rows"]
        taken = take_snapshot(older.dsn("shop"), find_binaries(None), values="full")
    assert taken.statistics.version == binaries.version_num
    assert taken.statistics.extended[0].common
    shadow = build_shadow(cluster, "older", taken.schema, taken.statistics)
    try:
        with shadow.connect() as connection:
            assert explain(connection, "SELECT * FROM spans WHERE r @> 500")["Plan Rows"] == real
            both = explain(
                connection, "SELECT * FROM clients WHERE name = 'Grace Hopper' AND country = 'DE'"
            )
            assert both["Plan Rows"] in range(320, 345)
    finally:
        cluster.drop_database("older")
    assert shadow.left_out == []
