"""Damaged and hostile snapshot files: one clear line, or a shadow that is only as wrong as the file."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from sqladvisor.catalog.snapshot import decode, encode
from sqladvisor.catalog.snapshot_diff import compare
from sqladvisor.errors import InputError
from sqladvisor.server.binaries import find_binaries
from sqladvisor.server.embedded import Cluster
from sqladvisor.server.shadow import build_shadow
from sqladvisor.server.snapshot import take_snapshot
from sqladvisor.server.whatif import HypotheticalIndex, ShadowWhatIf, WhatIfError

SETUP = """
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE TABLE parents (id int PRIMARY KEY, name text, mood mood);
CREATE TABLE children (id bigint PRIMARY KEY, parent_id int REFERENCES parents, at timestamptz NOT NULL,
    note varchar(40) CHECK (note <> ''), tags text[], doc jsonb, during int4range);
CREATE INDEX ON children USING brin (at);
CREATE INDEX ON children USING gin (doc);
CREATE INDEX ON children USING gist (during);
CREATE INDEX ON children (lower(note)) WHERE id > 5;
CREATE STATISTICS pairs (ndistinct, dependencies, mcv) ON parent_id, note FROM children;
INSERT INTO parents SELECT i, 'name ' || i % 40, 'ok' FROM generate_series(1, 500) i;
INSERT INTO children SELECT i, 1 + i % 500, timestamptz '2026-01-01' + i * interval '1 min',
    'note ' || i % 30, ARRAY['a' || i % 9], jsonb_build_object('k', i % 20), int4range(i, i + 9)
    FROM generate_series(1, 3000) i;
ANALYZE;
"""
QUERIES = (
    "SELECT * FROM parents p JOIN children c ON c.parent_id = p.id WHERE p.name = 'name 3'",
    "SELECT * FROM children WHERE parent_id = 5 AND note = 'note 5'",
    "SELECT parent_id, note, count(*) FROM children GROUP BY 1, 2",
    "SELECT * FROM children WHERE at > '2026-01-02' AND tags @> '{a1}' AND doc @> '{\"k\": 3}'",
    "SELECT max(id), min(at) FROM children WHERE during && int4range(1, 5)",
    "SELECT * FROM children WHERE lower(note) = 'note 7' AND id > 9",
)
ODD: tuple[Any, ...] = (
    None, True, -1, 0, 1, 3, 20, 1 << 31, 10**30, 1e308, 0.5, "", "NaN", "1e30", "-5", "{}", "{NULL}",
    "{1,0}", "{2,2,2}", '{"a', "{{1},{2}}", "'; DROP TABLE parents; --", "\\", "é" * 70, "a" * 64,
    "pg_catalog", "pg_class", [], {}, [[]], [None], "brin", "btree", "gin", "heap", "i", "r", "m",
    "text", "_text", "tsvector", "range:",
)  # fmt: skip
IN_FIELDS = ("0", "1", "-1", "1e30", "-1e30", "0.999", "2147483647")


@pytest.fixture(scope="module")
def document(cluster: Cluster) -> dict[str, Any]:
    cluster.create_database("hostile_source")
    try:
        with cluster.connect("hostile_source") as connection:
            connection.execute(SETUP.encode())
        taken = take_snapshot(cluster.dsn("hostile_source"), find_binaries(None), values="full")
    finally:
        cluster.drop_database("hostile_source")
    found: dict[str, Any] = json.loads(encode(taken))
    return found


@pytest.fixture
def built(cluster: Cluster) -> Callable[[dict[str, Any]], list[str]]:
    """Builds the shadow of a document and plans on it; what PostgreSQL refused to plan."""

    def build(document: dict[str, Any]) -> list[str]:
        snapshot = decode(json.dumps(document).encode(), "s.json")
        refused = []
        try:
            shadow = build_shadow(cluster, "hostile", snapshot.schema, snapshot.statistics)
            whatif = ShadowWhatIf(shadow)
            try:
                index = HypotheticalIndex("children", ("note", "at"))
                for query in QUERIES:
                    try:
                        whatif.cost(query, whatif.add([index]))
                    except WhatIfError as error:
                        refused.append(str(error))
            finally:
                whatif.close()
        finally:
            cluster.drop_database("hostile")
        return refused

    return build


def places(node: Any, so_far: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = node.items() if isinstance(node, dict) else enumerate(node)
    found = []
    for key, value in items:
        found.append((*so_far, key))
        if isinstance(value, (dict, list)):
            found += places(value, (*so_far, key))
    return found


def mutated(document: dict[str, Any], seed: int) -> dict[str, Any]:
    chosen = random.Random(seed)
    result = copy.deepcopy(document)
    all_places = [p for p in places(document) if p[0] != "schema" or chosen.random() < 0.2]
    for _ in range(chosen.choice((1, 1, 2, 4, 30))):
        place = chosen.choice(all_places)
        node: Any = result
        try:
            for key in place[:-1]:
                node = node[key]
            if chosen.random() < 0.15:
                del node[place[-1]]
            elif place[0] == "columns" and isinstance(node[place[-1]], str):
                node[place[-1]] = chosen.choice(IN_FIELDS)
            else:
                node[place[-1]] = chosen.choice(ODD)
        except (KeyError, IndexError, TypeError):
            continue  # taken away by an earlier one
    return result


def refused(data: bytes) -> str | None:
    """The one line of the error; None where the file is read."""
    try:
        decode(data, "s.json")
    except InputError as error:
        message = str(error)
        assert message.startswith("s.json") and "\n" not in message and len(message) < 300
        return message
    return None


def test_a_mutated_file_is_read_or_refused_in_a_line(document: dict[str, Any]) -> None:
    outcomes = [refused(json.dumps(mutated(document, seed)).encode()) for seed in range(400)]
    assert outcomes.count(None) > 20 and len(outcomes) - outcomes.count(None) > 100


@settings(max_examples=60)
@given(seed=st.integers(0, 1 << 30), packed=st.booleans())
def test_flipped_bytes_are_read_or_refused_in_a_line(
    document: dict[str, Any], seed: int, packed: bool
) -> None:
    chosen = random.Random(seed)
    data = bytearray(json.dumps(document).encode())
    if packed:
        data = bytearray(zstandard.ZstdCompressor().compress(bytes(data)))
    for _ in range(chosen.choice((1, 3, 50))):
        data[chosen.randrange(len(data))] = chosen.randrange(256)
    refused(bytes(data))


def test_what_can_be_read_of_a_mutated_file_can_be_planned_on_and_compared(
    document: dict[str, Any], built: Callable[[dict[str, Any]], list[str]]
) -> None:
    old = decode(json.dumps(document).encode(), "old")
    tried = 0
    for seed in range(10_000, 10_400):
        found = mutated(document, seed)
        data = json.dumps(found).encode()
        if refused(data) is None:
            compare(old, decode(data, "new"))
            built(found)
            tried += 1
        if tried == 8:
            break
    assert tried == 8


@pytest.mark.parametrize("method", ["btree", "gin", "brin", "hash", "heap", ""])
def test_an_access_method_is_not_believed(
    document: dict[str, Any], built: Callable[[dict[str, Any]], list[str]], method: str
) -> None:
    found = copy.deepcopy(document)
    for relation in found["relations"]:
        relation |= {"method": method, "pages": 50, "relpages": 50, "height": 3}
        relation["kind"] = "i" if method != "heap" else "r"
    assert built(found) == []


def test_sizes_have_bounds(
    document: dict[str, Any], built: Callable[[dict[str, Any]], list[str]]
) -> None:
    found = copy.deepcopy(document)
    found["relations"][0]["reltuples"] = 1e16
    message = refused(json.dumps(found).encode())
    assert message is not None and "reltuples is not a number in range" in message
    for relation in found["relations"]:
        if relation["name"] == "children":
            relation["reltuples"] = 1e15
    for column in found["columns"]:
        column["avg_width"] = "2147483647"
    built(found)  # a hypothetical index on it ends at what a file may be


def test_a_key_may_be_there_once(document: dict[str, Any]) -> None:
    data = json.dumps(document).encode()
    assert refused(data) is None
    twice = refused(b'{"format": "other", "schema": ["SELECT 1"], ' + data[1:])
    assert twice == "s.json: not a snapshot: the key 'format' is there twice"
    inner = data.replace(b'"number": ', b'"number": 1, "number": ', 1)
    assert refused(inner) == "s.json: not a snapshot: the key 'number' is there twice"


def test_names_longer_than_postgresql_has_are_no_others(
    document: dict[str, Any], built: Callable[[dict[str, Any]], list[str]]
) -> None:
    found = copy.deepcopy(document)
    long = "n" * 63
    found["schema"].append(f"CREATE TABLE {long}tail (a int);")
    found["relations"] += [
        dict(found["relations"][0], name=name, kind="r", method="heap", pages=7)
        for name in (long, f"{long}tail", f"{long}other")
    ]
    assert built(found) == []
