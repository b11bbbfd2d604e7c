"""The demo's promise: what it must say of the shop's queries, and of which it must say nothing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from sqladvisor.report.json import schema

ROOT = Path(__file__).parent.parent
QUERIES = ROOT / "fixtures" / "shop" / "queries.sql"
GOOD = (
    "Account page",
    "Login",
    "One order with its lines",
    "Several orders by number",
    "Events of an hour",
    "Does the order have lines?",
    "Next page of events, from where the last page ended",
    "Stock by category",
    "Order by number, from the application",
    "Close an account",
    "Take goods from stock",
    "A new product, or its new price",
    "Two lines of an order",
)
"""Titles (the comment above it) of queries that are as they should be, on this schema."""


def lines_of(title: str) -> range:
    """The lines of the statement under a title."""
    lines = QUERIES.read_text(encoding="utf-8").splitlines()
    start = lines.index(f"-- {title}") + 2
    end = next(i for i in range(start, len(lines) + 1) if lines[i - 1].rstrip().endswith(";"))
    return range(start, end + 1)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("demo") / "report.json"
    done = subprocess.run(
        [sys.executable, "-m", "sqladvisor", "demo", "--scale", "0.2", "--format", "json",
         "-o", str(out)],
        cwd=ROOT, env={**os.environ, "NO_COLOR": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def at(report: dict[str, Any], title: str) -> list[dict[str, Any]]:
    lines = lines_of(title)
    return [f for f in report["findings"] if f["location"]["line"] in lines]


def test_the_report_is_what_its_schema_says(report: dict[str, Any]) -> None:
    jsonschema.validate(report, schema())
    assert report["errors"] == []
    assert report["notes"] == []


@pytest.mark.parametrize("title", GOOD)
def test_good_queries_get_no_warning(report: dict[str, Any], title: str) -> None:
    loud = [f for f in at(report, title) if f["severity"] != "info"]
    assert [(f["rule"], f["message"]) for f in loud] == []


def test_the_first_customer(report: dict[str, Any]) -> None:
    """The LEFT JOIN is nullified, GROUP BY is redundant, and this index helps where another would not."""
    found = {f["rule"]: f for f in at(report, "Best customers since last year")}
    join = found["query/outer-join-nullified"]
    rewrites = [join["fix"], *join["alternatives"]]
    assert "INNER JOIN orders o" in rewrites[0]["sql"]
    assert rewrites[0]["proof"]["same_rows"]
    assert "AND o.created_at >= '2023-01-01'\nWHERE" in rewrites[1]["sql"]
    assert rewrites[1]["changes_result"]
    group = found["query/redundant-group-by"]
    assert "GROUP BY u.id\n" in group["fix"]["sql"]
    assert group["fix"]["proof"]["same_rows"]
    index = found["index/missing"]["evidence"]
    # At this scale the index on (created_at) that another query needs does nearly as well.
    assert index["index"].startswith(
        ("orders (user_id, created_at)", "orders (created_at) INCLUDE")
    )
    assert index["level"] == "measured"
    assert index["time_after_ms"] < index["time_before_ms"]
    assert "users (email)" in index["not_helpful"]


@pytest.mark.parametrize(
    ("title", "rule"),
    [
        ("Revenue of a day", "query/function-on-column"),
        ("A payment by the provider's reference", "query/leading-wildcard-like"),
        ("Customers nobody referred anyone to", "query/not-in-subquery"),
        ("Accounts still open", "query/null-comparison"),
        ("Page 2,501 of the order list", "query/offset-pagination"),
        ("Has the customer ever returned anything?", "query/count-star-existence"),
        ("Payments of a month", "query/between-timestamps"),
        ("Products and categories, side by side", "query/cartesian-join"),
        ("End of the newsletter", "query/missing-where"),
        ("Import of a partner's orders", "batch/single-row-inserts"),
        ("The lines of the orders on the page, one order after the other", "batch/n-plus-one"),
    ],
)
def test_bad_queries_are_found(report: dict[str, Any], title: str, rule: str) -> None:
    assert rule in {f["rule"] for f in at(report, title)}


def test_every_finding_at_warning_carries_more_than_a_pattern(report: dict[str, Any]) -> None:
    """With a server and rows, performance advice is measured or not given."""
    for finding in report["findings"]:
        if finding["rule"].startswith(("index/", "batch/", "plan/")):
            assert finding["evidence"]["level"] == "measured", finding["message"]


def test_the_readme_shows_what_the_demo_says(report: dict[str, Any]) -> None:
    """Rules, places and messages; figures are those of a full run. `python docs/demo.py` renews it."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = re.findall(
        r"^(fixtures/shop/queries\.sql:\d+:\d+)  \w+  (\S+)\n  (.*)$", text, re.MULTILINE
    )
    assert len(shown) >= 4
    said = {
        (f"{f['location']['path']}:{f['location']['line']}:{f['location']['column']}", f["rule"])
        for f in report["findings"]
    }
    assert [s for s in shown if s[:2] not in said] == []
