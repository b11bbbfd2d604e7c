"""The catalog read from a server, and that DDL alone gives the same one."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sqladvisor.catalog.ddl import catalog_from_sql
from sqladvisor.catalog.live import read_catalog
from sqladvisor.catalog.model import Catalog, Relation

sys.path.insert(0, str(Path(__file__).parent))
from schema import RICH


def plain(expression: str | None) -> str | None:
    """An expression without what pg_get_expr adds: casts of constants, parentheses, line breaks,

    the ELSE NULL of a CASE."""
    if expression is None:
        return None
    text = re.sub(
        r"::(text|character varying|integer|jsonb|timestamp with time zone|\"char\")(\[\])?",
        "",
        expression,
    )
    text = re.sub(r"\s+", " ", text).replace("::bigint", "").replace(" ELSE NULL", "")
    return re.sub(r"[()\s]", "", text).replace("~~", "LIKE").lower()


def compared(relation: Relation) -> dict[str, Any]:
    """What DDL alone must know of a relation, in a form that shows what differs."""
    known: dict[str, Any] = {
        "kind": relation.kind,
        "partition_key": relation.partition_key,
        "checks": len(relation.checks),
        "columns": [c.name for c in relation.columns],
    }
    for c in relation.columns:
        known[f"column {c.name}"] = (c.not_null, c.generated, c.identity, c.collation)
        known[f"type of {c.name}"] = (c.type, c.base_type)
        known[f"default of {c.name}"] = plain(c.default)
    for i in relation.indexes:
        known[f"index {i.name}"] = (
            i.keys, i.include, i.unique, i.primary, i.constraint, i.method, i.opclasses, i.valid,
            plain(i.predicate), tuple(map(plain, i.expressions)),
        )  # fmt: skip
    for f in relation.foreign_keys:
        known[f"foreign key {f.name}"] = f
    return known


@pytest.fixture(scope="module")
def described() -> Catalog:
    return catalog_from_sql(RICH)


def test_ddl_alone_knows_what_the_server_knows(
    make_database: Callable[..., Any], described: Catalog
) -> None:
    with make_database(RICH).connect() as connection:
        served = read_catalog(connection)
    differences = []
    for key in sorted(served.relations | described.relations):
        if key not in served.relations or key not in described.relations:
            differences.append((key, key in served.relations, key in described.relations))
            continue
        there, here = compared(served.relations[key]), compared(described.relations[key])
        for what in {**there, **here}:
            if what.startswith("type of") and here.get(what) == ("", None):
                continue  # the type of an expression in a view: only a server knows
            if there.get(what) != here.get(what):
                differences.append((key, what, there.get(what), here.get(what)))
    assert not differences, "\n".join(map(str, differences))
