"""Compares the plans of a server with those of its shadow: what the benchmark and a test share."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from sqladvisor.server.masked import restored, translated
from sqladvisor.server.whatif import HypotheticalIndex, ShadowWhatIf, WhatIfError

ROOT = Path(__file__).resolve().parents[1]
KINDS = ROOT / "fixtures" / "kinds"
WITHIN = 0.01
"""The share by which a total cost may differ and still counts as nearly the same."""


def explain(connection: psycopg.Connection, sql: str) -> dict[str, Any]:
    """The plan; on a shadow of masked values with its stand-ins put in and taken out again."""
    text, back = translated(connection, sql)
    row = connection.execute(b"EXPLAIN (FORMAT JSON) " + text.encode()).fetchone()
    assert row is not None
    return restored(row[0][0]["Plan"], back)  # type: ignore[no-any-return]


_SHAPE = (
    "Node Type", "Join Type", "Schema", "Relation Name", "Alias", "Index Name", "Strategy",
    "Parent Relationship", "Partial Mode", "Workers Planned", "Scan Direction", "Sort Key",
    "Index Cond", "Hash Cond", "Merge Cond", "Recheck Cond",
)  # fmt: skip


def shape(plan: dict[str, Any]) -> tuple[Any, ...]:
    """What a plan does, without its figures."""
    return (
        *(json.dumps(_said(plan.get(k))) for k in _SHAPE),
        tuple(shape(p) for p in plan.get("Plans", ())),
    )


def _said(value: Any) -> Any:
    """A property; the direction of a scan without order, which 18 says differently, as none."""
    return "Forward" if value == "NoMovement" else value


def paths(plan: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    """How each relation is read: scan type and index."""
    if "Relation Name" in plan or "Index Name" in plan:
        yield plan.get("Alias"), plan["Node Type"], plan.get("Index Name")
    for below in plan.get("Plans", ()):
        yield from paths(below)


@dataclass(slots=True)
class Compared:
    """Of how many queries plans were the same; ``differing`` says which were not, and how."""

    name: str
    total: int = 0
    shapes: int = 0
    access: int = 0
    costs: int = 0
    near: int = 0
    ratios: list[float] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)

    def share(self, count: int) -> float:
        return count / self.total if self.total else 0.0

    def line(self) -> str:
        low, high = (min(self.ratios), max(self.ratios)) if self.ratios else (1.0, 1.0)
        return (
            f"{self.name:<34} {self.total:>4} {self.share(self.shapes):>8.1%} "
            f"{self.share(self.access):>8.1%} {self.share(self.costs):>8.1%} "
            f"{self.share(self.near):>8.1%}  {low:.4g} .. {high:.4g}"
        )


HEAD = f"{'variant':<34} {'n':>4} {'shape':>8} {'access':>8} {'cost =':>8} {'cost 1%':>8}  ratio"


def compare(
    name: str, expected: dict[str, dict[str, Any]], found: dict[str, dict[str, Any] | str]
) -> Compared:
    """Compare plans by query name; a text in ``found`` is why there is none."""
    result = Compared(name)
    for query, real in expected.items():
        result.total += 1
        other = found[query]
        if isinstance(other, str):
            result.differing.append(f"{query}: not planned: {other}")
            continue
        same = shape(real) == shape(other)
        before, after = real["Total Cost"], other["Total Cost"]
        ratio = after / before if before else 1.0
        result.ratios.append(ratio)
        result.shapes += same
        result.access += sorted(map(str, paths(real))) == sorted(map(str, paths(other)))
        result.costs += before == after
        result.near += abs(ratio - 1) <= WITHIN
        if not same:
            result.differing.append(f"{query}: {_first_difference(real, other)}")
        elif abs(ratio - 1) > WITHIN:
            result.differing.append(f"{query}: cost {before} -> {after}: {_costlier(real, other)}")
    return result


def _first_difference(real: dict[str, Any], other: dict[str, Any]) -> str:
    for key in _SHAPE:
        if _said(real.get(key)) != _said(other.get(key)):
            return f"{key} {real.get(key)} -> {other.get(key)} at {_label(real)}"
    for a, b in zip(real.get("Plans", ()), other.get("Plans", ()), strict=False):
        if shape(a) != shape(b):
            return _first_difference(a, b)
    return f"other inputs of {_label(real)}"


def _costlier(real: dict[str, Any], other: dict[str, Any]) -> str:
    """The deepest node whose cost differs."""
    for a, b in zip(real.get("Plans", ()), other.get("Plans", ()), strict=False):
        if abs(b["Total Cost"] - a["Total Cost"]) > WITHIN * max(a["Total Cost"], 0.01):
            return _costlier(a, b)
    return f"{_label(real)} rows {real['Plan Rows']} -> {other['Plan Rows']}"


def _label(plan: dict[str, Any]) -> str:
    on = plan.get("Index Name") or plan.get("Relation Name")
    return plan["Node Type"] + (f" on {on}" if on else "")


def plan_all(
    connection: psycopg.Connection, queries: dict[str, str]
) -> dict[str, dict[str, Any] | str]:
    """The plan of each query by its name, or why there is none."""
    found: dict[str, dict[str, Any] | str] = {}
    for name, sql in queries.items():
        try:
            found[name] = explain(connection, sql)
        except psycopg.Error as error:
            found[name] = str(error).splitlines()[0]
    return found


def kinds_queries() -> dict[str, str]:
    """The queries over fixtures/kinds, by their number and first words."""
    text = (KINDS / "queries.sql").read_text(encoding="utf-8")
    found = [s.strip() for s in re.sub(r"(?m)^--.*\n", "", text).split(";\n") if s.strip()]
    return {f"k{n} {s[:50]}": s for n, s in enumerate(found, 1)}


def load_kinds(connection: psycopg.Connection, thousands: int) -> None:
    """Load fixtures/kinds into an empty database, with so many thousand documents, and churn it.

    PostgreSQL 13 knows no statistics of expressions: it does without.
    """
    for name in ("schema.sql", "rows.sql"):
        text = (KINDS / name).read_text(encoding="utf-8").replace(":n", str(thousands))
        if connection.info.server_version < 140000:
            text = re.sub(r"CREATE STATISTICS \w+ (\(\w+, \w+\) )?ON [^;]*\([^;]*;", "", text)
        connection.execute(text.encode())
    connection.execute("VACUUM (ANALYZE)")
    # Sizes and ends are no longer those of the statistics, as in a database at work.
    for table in ("documents", "readings", "jobs"):
        connection.execute(f"DELETE FROM {table} WHERE id % 50 = 7".encode())
        connection.execute(f"UPDATE {table} SET id = id WHERE id % 20 = 3".encode())


# -- what-if indexes against really built ones ---------------------------------------------------

Candidate = tuple[HypotheticalIndex, tuple[str, ...]]
"""An index and the queries that it might serve."""


def _index(method: str, table: str, *keys: str, **more: Any) -> HypotheticalIndex:
    return HypotheticalIndex(table, keys, method=method, **more)


_WORDS = tuple(
    f"SELECT id FROM documents WHERE {c}"
    for c in (
        "body LIKE '%word77 %'", "body LIKE '%w7 word%'", "body ILIKE '%word2999%'",
        "title LIKE '%Offer 12%'", "title ILIKE '%minutes%'", "body ~ 'word30[0-9]1'",
    )
)  # fmt: skip
_JSON = tuple(
    f"SELECT id FROM documents WHERE {c}"
    for c in (
        """attributes @> '{"author": "a5"}'""", """attributes @> '{"kind": "mail"}'""",
        """attributes @> '{"open": true, "size": 7}'""", "attributes ? 'size'",
        "attributes ?| ARRAY['x', 'y']",
    )
)  # fmt: skip
_TAGS = tuple(
    f"SELECT id FROM documents WHERE tags {c}"
    for c in ("@> ARRAY['t9']", "&& ARRAY['t1', 't2']", "@> ARRAY['new', 'red']", "= '{}'")
)
_TIMES = tuple(
    f"SELECT * FROM {t} WHERE {c} BETWEEN '2024-0{m}-02 00:00+00' AND '2024-0{m}-03 00:00+00'"
    for t, c in (
        ("readings_q1", "taken_at"),
        ("documents", "created_at"),
        ("jobs_closed", "created_at"),
    )
    for m in (1, 3)
)
_PLACES = (
    "SELECT id FROM documents WHERE place <@ box '((1,1),(2,2))'",
    "SELECT id FROM documents ORDER BY place <-> point '(7,7)' LIMIT 5",
    "SELECT id FROM documents WHERE valid @> timestamptz '2023-05-01 00:00+00'",
    "SELECT id FROM documents WHERE valid << tstzrange('2023-01-10 00:00+00', '2023-01-12 00:00+00')",
)
_EQUAL = (
    "SELECT id FROM documents WHERE title = 'Offer 77'",
    "SELECT id FROM customers WHERE name = 'Ada 55'",
    "SELECT id FROM customers WHERE external_id = md5('9')::uuid",
    "SELECT id FROM documents WHERE customer_id = 9",
    "SELECT id FROM readings_q2 WHERE sensor = 9",
)
OTHER_KINDS: tuple[Candidate, ...] = (
    (_index("gin", "documents", "attributes"), _JSON),
    (_index("gin", "documents", "attributes jsonb_path_ops"), _JSON),
    (_index("gin", "documents", "tags"), _TAGS),
    (_index("gin", "documents", "title gin_trgm_ops"), _WORDS),
    (_index("gin", "documents", "body gin_trgm_ops"), _WORDS),
    (_index("gin", "documents", "words"),
     tuple(f"SELECT id FROM documents WHERE words @@ to_tsquery('simple', '{q}')"
           for q in ("w3", "word12", "w3 & w77", "w1 | w2"))),
    (_index("gin", "documents", "to_tsvector('simple', title)"),
     ("SELECT id FROM documents WHERE to_tsvector('simple', title) @@ to_tsquery('simple', 'offer')",)),
    (_index("gist", "documents", "valid"), _PLACES),
    (_index("gist", "documents", "place"), _PLACES),
    (_index("gist", "documents", "title gist_trgm_ops"), _WORDS),
    (_index("spgist", "documents", "place"), _PLACES),
    (_index("brin", "readings_q1", "taken_at"), _TIMES),
    (_index("brin", "documents", "created_at"), _TIMES),
    (_index("brin", "jobs_closed", "created_at", predicate="state = 'done'"), _TIMES),
    (_index("hash", "documents", "title"), _EQUAL),
    (_index("hash", "customers", "name"), _EQUAL),
    (_index("hash", "customers", "external_id"), _EQUAL),
    (_index("hash", "documents", "customer_id"), _EQUAL),
    (_index("hash", "readings_q2", "sensor"), _EQUAL),
)  # fmt: skip
BTREES: tuple[Candidate, ...] = tuple(
    (index, ())
    for index in (
        _index("btree", "documents", "title"),
        _index("btree", "documents", "customer_id"),
        _index("btree", "documents", "pages", "customer_id"),
        _index("btree", "documents", "created_at"),
        _index("btree", "documents", "price"),
        _index("btree", "documents", "customer_id", include=("title", "price")),
        _index("btree", "documents", "title", predicate="created_at >= '2024-01-01 00:00+00'"),
        _index("btree", "documents", "lower(title)"),
        _index("btree", "documents", "(attributes ->> 'author')"),
        _index("btree", "documents", "(place[0])"),
        _index("btree", "customers", "name"),
        _index("btree", "customers", "city"),
        _index("btree", "customers", "country", "city", "name"),
        _index("btree", "customers", "born"),
        _index("btree", "customers", "address"),
        _index("btree", "customers", "external_id"),
        _index("btree", "customers", "mood", "score"),
        _index("btree", "customers", "id", "email"),
        _index("btree", "readings_q1", "sensor"),
        _index("btree", "readings_q1", "value"),
        _index("btree", "readings_q2", "quality", "taken_at"),
        _index("btree", "readings_q2", "taken_at", "id", unique=True),
        _index("btree", "jobs_closed", "worker"),
        _index("btree", "jobs_closed", "worker", "priority"),
        _index("btree", "dogs", "name"),
        _index("btree", "animals", "weight"),
        _index("btree", "spending", "country"),
    )
)


@dataclass(slots=True)
class Priced:
    """A hypothetical index beside the real one."""

    index: HypotheticalIndex
    estimated: int
    real: int
    pairs: int = 0
    agreed: int = 0
    used: int = 0
    disagreeing: list[str] = field(default_factory=list)

    @property
    def error(self) -> float:
        return self.estimated / self.real - 1


def price(
    source: psycopg.Connection, whatif: ShadowWhatIf, candidates: Iterable[Candidate]
) -> list[Priced]:
    """Build each index on the source, and hypothetically; compare sizes and whether plans use it.

    Other indexes of the table that might hide it are dropped on both for the moment.
    """
    found = []
    for index, queries in candidates:
        try:
            (handle,) = whatif.add([index])
        except WhatIfError as error:
            print(f"  not priced: {index.ddl()}: {error}")
            continue
        row = source.execute(
            "SELECT array_agg(i.indexrelid::regclass::text) FROM pg_index i JOIN pg_class c "
            "ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam WHERE i.indrelid = %s::regclass "
            "AND (m.amname <> 'btree' OR NOT i.indisunique)",
            [index.table],
        ).fetchone()
        others = list((row[0] if row else None) or ())
        with source.transaction(force_rollback=True):
            source.execute("SET LOCAL max_parallel_maintenance_workers = 0")
            source.execute(
                "UPDATE pg_index SET indisvalid = false WHERE indexrelid = ANY (%s::regclass[])",
                [others],
            )
            source.execute(index.ddl("sqladvisor_real").encode())
            size = source.execute("SELECT pg_relation_size('sqladvisor_real')").fetchone()
            assert size is not None
            priced = Priced(index, handle.size_bytes, int(size[0]))
            for query in queries:
                real = explain(source, query)
                plan = whatif.cost(query, [handle], hidden_existing=others)
                really = "sqladvisor_real" in json.dumps(real)
                supposed = handle.name in plan.indexes_used()
                priced.pairs += 1
                priced.used += really
                priced.agreed += really == supposed
                if really != supposed:
                    priced.disagreeing.append(f"{query}: really {really}, supposed {supposed}")
        found.append(priced)
    return found
