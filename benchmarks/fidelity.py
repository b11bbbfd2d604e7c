"""Compares the plans of a server with those of its shadow: what the benchmark and a test share."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

ROOT = Path(__file__).resolve().parents[1]
KINDS = ROOT / "fixtures" / "kinds"
WITHIN = 0.01
"""The share by which a total cost may differ and still counts as nearly the same."""


def explain(connection: psycopg.Connection, sql: str) -> dict[str, Any]:
    row = connection.execute(b"EXPLAIN (FORMAT JSON, COSTS) " + sql.encode()).fetchone()
    assert row is not None
    return row[0][0]["Plan"]  # type: ignore[no-any-return]


_SHAPE = (
    "Node Type", "Join Type", "Schema", "Relation Name", "Alias", "Index Name", "Strategy",
    "Parent Relationship", "Partial Mode", "Workers Planned", "Scan Direction", "Sort Key",
    "Index Cond", "Hash Cond", "Merge Cond", "Recheck Cond",
)  # fmt: skip


def shape(plan: dict[str, Any]) -> tuple[Any, ...]:
    """What a plan does, without its figures."""
    return (
        *(json.dumps(plan.get(k)) for k in _SHAPE),
        tuple(shape(p) for p in plan.get("Plans", ())),
    )


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
        if real.get(key) != other.get(key):
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
    connection: psycopg.Connection, queries: dict[str, str], settings: Iterable[str] = ()
) -> dict[str, dict[str, Any] | str]:
    for setting in settings:
        connection.execute(setting.encode())
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
    """Load fixtures/kinds into an empty database, with so many thousand documents, and churn it."""
    for name in ("schema.sql", "rows.sql"):
        text = (KINDS / name).read_text(encoding="utf-8").replace(":n", str(thousands))
        connection.execute(text.encode())
    connection.execute("VACUUM (ANALYZE)")
    # Sizes and ends are no longer those of the statistics, as in a database at work.
    for table in ("documents", "readings", "jobs"):
        connection.execute(f"DELETE FROM {table} WHERE id % 50 = 7".encode())
        connection.execute(f"UPDATE {table} SET id = id WHERE id % 20 = 3".encode())
