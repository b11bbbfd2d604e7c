"""What an index costs the writes of its table."""

from __future__ import annotations

from dataclasses import replace

from sqladvisor.advise.offers import Offered
from sqladvisor.advise.writes import (
    TableWrites,
    combined,
    entry_cost,
    from_counters,
    from_statements,
    indexed_columns,
    upkeep,
)
from sqladvisor.catalog.ddl import catalog_from_sql
from sqladvisor.catalog.model import Catalog, ColumnStats, Relation, Writes
from sqladvisor.context import Context
from sqladvisor.server.whatif import HypotheticalIndex
from sqladvisor.sql.source import read_source, statements

DDL = """CREATE TABLE t (id int PRIMARY KEY, a int, "B c" text, d int, at timestamptz);
CREATE INDEX t_a ON t (a);"""


def catalog() -> Catalog:
    return catalog_from_sql(DDL)


def table() -> Relation:
    found = catalog().find("t")
    assert found is not None
    return replace(found, rows=1e6, pages=10_000)


def offered(number: int, relation: Relation, *keys: str, **more: object) -> Offered:
    index = HypotheticalIndex("t", keys, **more)  # type: ignore[arg-type]
    return Offered(number, relation, 1000, index)


def test_every_insert_pays_for_each_index() -> None:
    relation = table()
    items = [offered(0, relation, "d"), offered(1, relation, '"B c"')]
    found = upkeep(items, {("public", "t"): TableWrites(inserted=100)})
    assert found.own[0] == 100 * entry_cost(relation, "d")
    assert found.own[0] > 0
    assert not found.shared


def test_appending_is_cheaper_than_writing_anywhere() -> None:
    relation = table()
    rising = ColumnStats(0, -1, 8, correlation=0.999)
    columns = tuple(replace(c, stats=rising) if c.name == "at" else c for c in relation.columns)
    relation = replace(relation, columns=columns)
    assert entry_cost(relation, "at") < entry_cost(relation, "d") / 5


def test_an_index_on_an_updated_column_ends_heap_only_updates_for_all() -> None:
    relation = table()
    items = [offered(0, relation, "d"), offered(1, relation, "at"), offered(2, relation, "id", "d")]
    writes = {("public", "t"): TableWrites(touched={frozenset({"d"}): 50.0})}
    found = upkeep(items, writes)
    # Those that hold d end it, and then each index of the table gets an entry: that is paid once.
    (shared,) = found.shared
    assert shared.indexes == 0b101
    standing = sum(entry_cost(relation, i.keys[0]) for i in relation.indexes)
    assert shared.cost == 50 * standing
    assert found.own[0] > 0
    assert found.own[1] == 0


def test_updates_that_no_longer_are_heap_only_cost_every_index() -> None:
    relation = table()
    items = [offered(0, relation, "d")]
    # a is indexed already: its updates write to each index whatever is added.
    found = upkeep(items, {("public", "t"): TableWrites(touched={frozenset({"a"}): 50.0})})
    assert found.own[0] == 50 * entry_cost(relation, "d")
    assert not found.shared


def test_columns_in_expressions_predicates_and_include_count() -> None:
    relation = table()
    item = offered(
        0,
        relation,
        '(lower("B c"))',
        '"B c" text_pattern_ops DESC',
        include=("d",),
        predicate="a > 5",
    )
    assert indexed_columns(item) == {"B c", "d", "a"}


def test_counters_know_how_much_and_statements_know_what() -> None:
    relation = replace(table(), writes=Writes(1000, 400, 300, 5))
    counted = from_counters(relation, 0.1)
    assert (counted.inserted, counted.updated, counted.hot) == (100, 10, 30)
    told = TableWrites(touched={frozenset({"a"}): 1.0, frozenset({"d"}): 3.0})
    both = combined(counted, told)
    assert both.inserted == 100
    assert both.touched == {frozenset({"a"}): 10.0, frozenset({"d"}): 30.0}


def test_statements_that_write_are_counted_by_their_calls() -> None:
    found, _ = statements(
        read_source(
            "w.sql",
            b"""INSERT INTO t (id) VALUES (1); UPDATE t SET d = 1, "B c" = 'x' WHERE id = 1;
            WITH moved AS (UPDATE t SET a = 2 RETURNING id) SELECT * FROM moved; DELETE FROM t;""",
        )
    )
    writes = from_statements((Context(s, catalog()), 10.0, 1.0) for s in found)
    assert writes["public", "t"].inserted == 10
    assert writes["public", "t"].touched == {frozenset({"d", "B c"}): 10, frozenset({"a"}): 10}
