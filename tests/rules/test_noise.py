"""Nothing crashes and nothing is called wrong in PostgreSQL's own views and its extensions' functions.

`make noise` runs over more (TPC-DS, psql's queries) and shows the findings to be read.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqladvisor.auditor import audit

VIEWS = """SELECT format('CREATE VIEW %I.%I AS', n.nspname, c.relname) || pg_get_viewdef(c.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'v' ORDER BY 1"""
FUNCTIONS = """SELECT pg_get_functiondef(p.oid) || ';' FROM pg_proc p
JOIN pg_language l ON l.oid = p.prolang
WHERE l.lanname IN ('sql', 'plpgsql') AND p.prokind IN ('f', 'p') ORDER BY 1"""
EXTENSIONS = (
    "pg_trgm",
    "hstore",
    "earthdistance",
    "pg_stat_statements",
    "pg_buffercache",
    "citext",
)
TPCH = Path(__file__).parents[2] / "benchmarks" / "tpch" / "queries.sql"


def test_known_good_sql_is_left_in_peace(make_database: Callable[..., Any], tmp_path: Path) -> None:
    with make_database().connect() as connection:
        for name in EXTENSIONS:
            connection.execute(f"CREATE EXTENSION {name} CASCADE".encode())
        texts = [r[0] for query in (VIEWS, FUNCTIONS) for r in connection.execute(query).fetchall()]
    (tmp_path / "system.sql").write_text("\n".join(texts))
    report = audit([str(tmp_path / "system.sql"), str(TPCH)])
    assert report.statements > 200
    assert report.problems == ()
    assert [(f.rule, f.message) for f in report.findings if f.severity != "info"] == []
