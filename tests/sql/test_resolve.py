"""Name resolution: what a column reference means, checked against the server where it can tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from psycopg.pq import ExecStatus

from sqladvisor.catalog.ddl import catalog_from_sql
from sqladvisor.catalog.empty import EMPTY
from sqladvisor.catalog.model import Catalog
from sqladvisor.sql import libpg
from sqladvisor.sql.resolve import Binding, Resolver, columns_in
from sqladvisor.sql.tree import Tree, names

SCHEMA = """
CREATE SCHEMA app;
CREATE TABLE users (id int PRIMARY KEY, name text, city text, boss int, tags text[], doc jsonb);
CREATE TABLE orders (id int PRIMARY KEY, user_id int, total numeric, placed date);
CREATE TABLE items (order_id int, sku text, price numeric, id int);
CREATE TABLE app.orders (id int PRIMARY KEY, secret text, user_id int);
CREATE TABLE "Größe" ("Id" int, "order" text);
CREATE TABLE extra (user_id int, note text);
CREATE VIEW rich AS SELECT id AS rich_id, total FROM orders WHERE total > 5;
CREATE FUNCTION pairs() RETURNS TABLE (a int, b int) LANGUAGE sql AS $$ VALUES (1, 2) $$;
"""


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return catalog_from_sql(SCHEMA)


class Resolved:
    """The references of one statement by their text (``u.id``; the n-th of the same as ``u.id#n``)."""

    def __init__(self, sql: str, catalog: Catalog) -> None:
        (parsed,) = libpg.parse(sql)
        self.kind, self.node = parsed.kind, parsed.node
        self.resolver = Resolver(Tree(parsed.kind, parsed.node), catalog)
        self.columns: dict[str, dict[str, Any]] = {}
        found = sorted(columns_in(parsed.kind, parsed.node), key=lambda c: c["location"])
        for column in found:
            text = base = ".".join(names(column["fields"]))
            n = 1
            while text in self.columns:
                n += 1
                text = f"{base}#{n}"
            self.columns[text] = column

    def __getitem__(self, text: str) -> str | None:
        """``table.column`` (``alias:kind.column`` for other items), with ``^`` per query outwards

        and ``?`` where not sure."""
        binding = self.binding(text)
        if binding is None:
            return None
        item = binding.item
        owner = item.name if item.kind == "table" else f"{item.alias}:{item.kind}"
        if item.relation is not None and item.relation.schema != "public":
            owner = f"{item.relation.schema}.{owner}"
        return f"{'^' * binding.depth}{owner}.{binding.column}{'' if binding.sure else '?'}"

    def binding(self, text: str) -> Binding | None:
        return self.resolver.resolve(self.columns[text])


CASES: list[tuple[str, dict[str, str | None]]] = [
    # aliases, quoting, schemas
    (
        'SELECT u.id, users.id, "Id", "G"."order", city FROM users u, "Größe" "G"',
        {"u.id": "users.id", "users.id": None, "Id": "Größe.Id", "G.order": "Größe.order",
         "city": "users.city"},
    ),
    (
        "SELECT orders.id, app.orders.secret, public.orders.total, secret FROM orders, app.orders",
        {"orders.id": None, "app.orders.secret": "app.orders.secret",
         "public.orders.total": "orders.total", "secret": "app.orders.secret"},
    ),
    ("SELECT id FROM users, orders", {"id": None}),  # ambiguous
    ("SELECT u FROM users u", {"u": None}),  # a whole row
    ("SELECT u.* FROM users u", {"u.*": None}),
    ("SELECT nope, u.nope FROM users u", {"nope": None, "u.nope": "users.nope?"}),
    ("SELECT ctid, u.xmin, tableoid FROM users u",
     {"ctid": "users.ctid", "u.xmin": "users.xmin", "tableoid": "users.tableoid"}),
    ("SELECT ctid FROM users, orders", {"ctid": None}),
    ("SELECT total, ctid FROM rich", {"total": "rich.total", "ctid": None}),
    # renamed columns
    ("SELECT a, city, name FROM users AS u (a, b)",
     {"a": "users.a", "city": "users.city", "name": None}),
    # common table expressions
    (
        "WITH users AS (SELECT id AS n FROM users) SELECT n, users.n, city FROM users",
        {"id": "users.id", "n": "users:cte.n", "users.n": "users:cte.n", "city": None},
    ),
    (
        "WITH a AS (SELECT id FROM users), b AS (SELECT id, id + 1 AS more FROM a) "
        "SELECT more, public.users.id FROM b, public.users",
        {"id": "users.id", "id#2": "a:cte.id", "id#3": "a:cte.id", "more": "b:cte.more",
         "public.users.id": "users.id"},
    ),
    (
        "WITH RECURSIVE t (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 5) "
        "SELECT n FROM t",
        {"n": "t:cte.n", "n#2": "t:cte.n", "n#3": "t:cte.n"},
    ),
    (
        "WITH RECURSIVE a AS (SELECT * FROM b), b AS (SELECT 1 AS x) SELECT x FROM a",
        {"x": "a:cte.x"},
    ),
    # without RECURSIVE the second WITH query is not yet there for the first
    (
        "WITH a AS (SELECT name FROM users), users AS (SELECT 1 AS x) SELECT x, name FROM users, a",
        {"name": "users.name", "x": "users:cte.x", "name#2": "a:cte.name"},
    ),
    (
        "WITH RECURSIVE t AS (SELECT id, boss FROM users UNION ALL SELECT u.id, u.boss FROM users u "
        "JOIN t ON t.boss = u.id) SEARCH DEPTH FIRST BY id SET ord CYCLE id SET seen USING path "
        "SELECT ord, seen, path FROM t",
        {"t.boss": "t:cte.boss", "ord": "t:cte.ord", "seen": "t:cte.seen", "path": "t:cte.path"},
    ),
    (
        "WITH t AS (WITH t AS (SELECT sku FROM items) SELECT sku AS s FROM t) SELECT s FROM t",
        {"sku": "items.sku", "sku#2": "t:cte.sku", "s": "t:cte.s"},
    ),
    (
        "WITH gone AS (DELETE FROM orders USING users u WHERE u.id = user_id RETURNING total, u.*) "
        "SELECT total, city, placed FROM gone",
        {"u.id": "users.id", "user_id": "orders.user_id", "total": "orders.total",
         "total#2": "gone:cte.total", "city": "gone:cte.city", "placed": None},
    ),
    (
        "WITH up AS (UPDATE orders SET total = 1 RETURNING *) SELECT placed FROM up",
        {"placed": "up:cte.placed"},
    ),
    (
        "WITH orders AS (SELECT 1 AS id) INSERT INTO orders (id) SELECT id FROM orders "
        "RETURNING total",
        {"id": "orders:cte.id", "total": "orders.total"},
    ),
    # a WITH query sees the queries around it, not its siblings
    (
        "SELECT * FROM users u WHERE EXISTS (WITH o AS (SELECT * FROM orders WHERE user_id = u.id) "
        "SELECT 1 FROM o WHERE o.total > boss)",
        {"user_id": "orders.user_id", "u.id": "^users.id", "o.total": "o:cte.total",
         "boss": "^users.boss"},
    ),
    # subqueries and LATERAL
    (
        "SELECT s.n, s.city FROM (SELECT name AS n, city FROM users) s",
        {"s.n": "s:subquery.n", "s.city": "s:subquery.city", "name": "users.name"},
    ),
    ("SELECT n FROM (SELECT name AS n FROM users)", {"n": ":subquery.n"}),
    (
        "SELECT * FROM users u, LATERAL (SELECT * FROM orders WHERE user_id = u.id AND city = '') o",
        {"u.id": "^users.id", "city": "^users.city"},
    ),
    ("SELECT * FROM users u, (SELECT * FROM orders WHERE user_id = u.id) o", {"u.id": None}),
    # a lateral item does not see what follows it
    (
        "SELECT * FROM users u, LATERAL (SELECT sku = name, u.id FROM items) x, extra sku",
        {"sku": "items.sku", "name": "^users.name", "u.id": "^users.id"},
    ),
    (
        "SELECT * FROM users u CROSS JOIN LATERAL (SELECT max(price) FROM items WHERE items.id = u.id"
        " AND total > 1) x JOIN orders o ON true",
        {"u.id": "^users.id", "total": None},
    ),
    ("SELECT t FROM users u, unnest(u.tags) t", {"t": "t:function.t", "u.tags": "users.tags"}),
    ("SELECT t FROM users, unnest(tags) AS x (t)", {"t": "x:function.t", "tags": "users.tags"}),
    # correlation two queries deep
    (
        "SELECT (SELECT count(*) FROM orders o WHERE o.user_id = u.id AND EXISTS (SELECT 1 FROM items"
        " WHERE order_id = o.id AND sku = u.name AND price > total AND city = '')) FROM users u",
        {"o.user_id": "orders.user_id", "u.id": "^users.id", "order_id": "items.order_id",
         "o.id": "^orders.id", "u.name": "^^users.name", "total": "^orders.total",
         "city": "^^users.city"},
    ),
    # the nearest query wins
    (
        "SELECT 1 FROM users WHERE id IN (SELECT id FROM orders WHERE id = 1)",
        {"id": "users.id", "id#2": "orders.id", "id#3": "orders.id"},
    ),
    # joins
    (
        "SELECT user_id, note FROM orders JOIN extra USING (user_id) WHERE user_id = 1",
        {"user_id": "orders.user_id", "note": "extra.note", "user_id#2": "orders.user_id"},
    ),
    ("SELECT user_id FROM orders LEFT JOIN extra USING (user_id)", {"user_id": "orders.user_id"}),
    ("SELECT user_id FROM orders RIGHT JOIN extra USING (user_id)", {"user_id": "extra.user_id"}),
    ("SELECT user_id, extra.user_id FROM orders FULL JOIN extra USING (user_id)",
     {"user_id": None, "extra.user_id": "extra.user_id"}),
    ("SELECT user_id, secret FROM app.orders NATURAL JOIN extra",
     {"user_id": "app.orders.user_id", "secret": "app.orders.secret"}),
    (
        "SELECT id, user_id FROM orders NATURAL LEFT JOIN app.orders o NATURAL RIGHT JOIN extra",
        {"id": "orders.id", "user_id": "extra.user_id"},
    ),
    (
        "SELECT j.total, j.note, total, o.total, u.city FROM (orders o JOIN extra e USING (user_id)) "
        "AS j, users u",
        {"j.total": "orders.total", "j.note": "extra.note", "total": "orders.total", "o.total": None,
         "u.city": "users.city"},
    ),
    (
        "SELECT j.a, j.b, j.c, b FROM (extra JOIN items ON sku = note) AS j (a, b, c)",
        {"j.a": "extra.user_id", "j.b": "extra.note", "j.c": "items.order_id", "b": "extra.note"},
    ),
    (
        "SELECT m.user_id, o.total FROM orders o JOIN extra e USING (user_id) AS m",
        {"m.user_id": "orders.user_id", "o.total": "orders.total"},
    ),
    # ON sees what its join joins and nothing else
    (
        "SELECT 1 FROM users u JOIN extra e ON user_id = u.id JOIN orders o ON o.user_id = u.id",
        {"user_id": "extra.user_id", "o.user_id": "orders.user_id"},
    ),
    (
        "SELECT 1 FROM extra JOIN orders ON placed IS NULL AND "
        "EXISTS (SELECT 1 FROM items WHERE note = sku AND city = '') , users",
        {"placed": "orders.placed", "note": "^extra.note", "city": None},
    ),
    # set operations
    (
        "SELECT 1 FROM users u WHERE id IN (SELECT id FROM orders UNION SELECT order_id FROM items "
        "ORDER BY id LIMIT 1)",
        {"id": "users.id", "id#2": "orders.id", "order_id": "items.order_id", "id#3": None},
    ),
    (
        "SELECT (SELECT city UNION ALL SELECT u.name) FROM users u",
        {"city": "^users.city", "u.name": "^users.name"},
    ),
    # output names
    (
        "SELECT lower(name) AS city, id AS n FROM users ORDER BY city, n, name, lower(city)",
        {"city": None, "n": "users.id", "name#2": "users.name", "city#2": "users.city"},
    ),
    (
        "SELECT lower(name) AS city, count(*) AS n FROM users GROUP BY city, n HAVING count(*) > 1",
        {"city": "users.city", "n": None},
    ),
    (
        "SELECT lower(city) AS low FROM users GROUP BY GROUPING SETS ((low), (name))",
        {"low": None, "name": "users.name"},
    ),
    (
        "SELECT DISTINCT ON (name) city AS name, rank() OVER (ORDER BY name) FROM users",
        {"name": "users.city", "name#2": "users.name"},
    ),
    ("SELECT total AS sum FROM orders WHERE sum > 1", {"sum": None}),
    # DML
    (
        "UPDATE orders o SET total = u.id, placed = s.placed FROM users u, "
        "(SELECT placed FROM orders WHERE total > 1) s WHERE o.user_id = u.id AND note IS NULL",
        {"u.id": "users.id", "s.placed": "s:subquery.placed", "placed": "orders.placed",
         "total": "orders.total", "o.user_id": "orders.user_id", "note": None},
    ),
    (
        "UPDATE users SET (name, city) = (SELECT sku, city FROM items WHERE items.id = users.id)",
        {"sku": "items.sku", "city": "^users.city", "items.id": "items.id", "users.id": "^users.id"},
    ),
    (
        "DELETE FROM orders o USING users u JOIN extra ON user_id = u.id WHERE o.user_id = u.id",
        {"user_id": "extra.user_id", "o.user_id": "orders.user_id"},
    ),
    ("DELETE FROM orders o WHERE orders.id = 1", {"orders.id": None}),
    (
        "INSERT INTO users AS t (id, name) VALUES (1, 'x') ON CONFLICT (id) WHERE boss > 1 DO UPDATE "
        "SET name = excluded.name || t.name || city WHERE excluded.boss > t.boss RETURNING t.city",
        {"boss": "users.boss", "excluded.name": "excluded:excluded.name", "t.name": "users.name",
         "city": "users.city", "t.boss": "users.boss", "t.city": "users.city"},
    ),
    ("INSERT INTO users (id) VALUES (id)", {"id": None}),
    (
        "UPDATE users SET name = '' RETURNING WITH (OLD AS was) was.name, new.city, old.city",
        {"was.name": "was:old.name", "new.city": "new:new.city", "old.city": None},
    ),
    (
        "MERGE INTO users u USING (SELECT id AS n, user_id, total FROM orders) o ON u.id = o.n "
        "WHEN MATCHED AND total > 1 THEN UPDATE SET name = city, boss = user_id "
        "WHEN NOT MATCHED THEN INSERT (id, name) VALUES (n, city) "
        "WHEN NOT MATCHED BY SOURCE AND boss = 1 AND total = 1 THEN DELETE RETURNING u.id, merge_action()",
        {"o.n": "o:subquery.n", "total": "orders.total", "total#2": "o:subquery.total",
         "city": "users.city", "user_id#2": "o:subquery.user_id", "n": "o:subquery.n",
         "city#2": None, "boss": "users.boss", "total#3": None, "u.id": "users.id"},
    ),
    # functions
    (
        "SELECT p.a, b, f.x, g.n, value, ordinality FROM pairs() p, json_to_record('{}') AS f (x int),"
        " generate_series(1, 2) AS g (n), jsonb_array_elements('[]') WITH ORDINALITY",
        {"p.a": "p:function.a", "b": "p:function.b?", "f.x": "f:function.x", "g.n": "g:function.n",
         "value": "jsonb_array_elements:function.value",
         "ordinality": "jsonb_array_elements:function.ordinality"},
    ),
    (
        "SELECT x.q, x.p, x.ordinality, k FROM ROWS FROM (json_to_record('{}') AS (a int, k text), "
        "generate_series(1, 2)) WITH ORDINALITY AS x (p, k, q)",
        {"x.q": "x:function.q", "x.p": "x:function.p", "x.ordinality": "x:function.ordinality",
         "k": "x:function.k"},
    ),
    (
        "SELECT j.n, deep, z FROM users, JSON_TABLE(doc, '$' COLUMNS (n int, NESTED '$.k' COLUMNS "
        "(deep int))) j, XMLTABLE('/a' PASSING (name::xml) COLUMNS z int)",
        {"j.n": "j:function.n", "deep": "j:function.deep", "z": "xmltable:function.z",
         "doc": "users.doc", "name": "users.name"},
    ),
    ("SELECT v.x, v.column2 FROM (VALUES (1, 2)) AS v (x)",
     {"v.x": "v:values.x", "v.column2": "v:values.column2"}),
    ("SELECT id FROM users TABLESAMPLE system (1)", {"id": "users.id"}),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "expected"), CASES, ids=[c[0][:60] for c in CASES])
def test_references(sql: str, expected: dict[str, str | None], catalog: Catalog) -> None:
    resolved = Resolved(sql, catalog)
    assert {text: resolved[text] for text in expected} == expected


@pytest.mark.parametrize(("sql", "expected"), [c for c in CASES if c[0].startswith(("SELECT", "WITH"))],
                         ids=lambda v: str(v)[:50])  # fmt: skip
def test_the_order_of_questions_does_not_matter(
    sql: str, expected: dict[str, str | None], catalog: Catalog
) -> None:
    """Asking for the innermost references first must not hide columns from the outer ones."""
    resolved = Resolved(sql, catalog)
    assert {t: resolved[t] for t in reversed(expected)} == expected


UNKNOWN: list[tuple[str, dict[str, str | None]]] = [
    ("SELECT id, u.x FROM users u", {"id": "users.id", "u.x": "users.x"}),
    ("SELECT u FROM users u", {"u": None}),
    ("SELECT id, a.x FROM a, b", {"id": None, "a.x": "a.x"}),
    ("SELECT 1 FROM a WHERE EXISTS (SELECT 1 FROM b WHERE x = 1)", {"x": "b.x?"}),
    # with two candidates inside, the one outside is no answer
    ("SELECT 1 FROM a WHERE EXISTS (SELECT 1 FROM b, c WHERE x = 1)", {"x": None}),
    ("SELECT 1 FROM a JOIN b ON a.i = x JOIN c ON true", {"x": None}),
    ("SELECT i FROM a JOIN b USING (i)", {"i": "a.i"}),
    ("SELECT i, k FROM a JOIN b USING (i) RIGHT JOIN c USING (k)", {"i": "a.i", "k": "c.k"}),
    ("SELECT p, q FROM t AS x (p)", {"p": "t.p", "q": "t.q"}),
    ("SELECT j.x, y FROM (a JOIN b USING (i)) AS j (x, y)", {"j.x": None, "y": None}),
    ("SELECT j.i, j.k FROM (a JOIN b USING (i)) AS j", {"j.i": "a.i", "j.k": None}),
    ("SELECT n FROM (SELECT 1 AS n) s, t", {"n": "s:subquery.n"}),
    ("WITH c AS (SELECT * FROM t) SELECT x FROM c", {"x": "c:cte.x"}),
    ("SELECT count(*) AS n FROM t GROUP BY k ORDER BY n, k", {"n": None, "k": "t.k"}),
    ("SELECT s.t.x FROM s.t", {"s.t.x": "t.x"}),
    ("INSERT INTO t VALUES (1) ON CONFLICT (i) DO UPDATE SET x = y + excluded.x",
     {"y": "t.y", "excluded.x": "excluded:excluded.x"}),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "expected"), UNKNOWN, ids=[c[0][:60] for c in UNKNOWN])
def test_without_a_schema(sql: str, expected: dict[str, str | None]) -> None:
    resolved = Resolved(sql, EMPTY)
    assert {text: resolved[text] for text in expected} == expected


def test_search_path(catalog: Catalog) -> None:
    first = catalog_from_sql(SCHEMA + "SET search_path = app, public;")
    assert Resolved("SELECT secret FROM orders", first)["secret"] == "app.orders.secret"
    assert Resolved("SELECT total FROM public.orders", first)["total"] == "orders.total"
    assert Resolved("SELECT secret FROM orders", catalog)["secret"] is None


def test_outer_joins_null_extend(catalog: Catalog) -> None:
    resolved = Resolved(
        "SELECT u.id, o.id, e.note, i.id FROM users u LEFT JOIN (orders o JOIN extra e USING (user_id))"
        " ON o.user_id = u.id FULL JOIN items i ON i.id = o.id",
        catalog,
    )
    nulled = {
        text: [join["jointype"] for join in binding.item.nulled_by]
        for text in ("u.id", "o.id", "e.note", "i.id")
        if (binding := resolved.binding(text))
    }
    assert nulled == {
        "u.id": ["JOIN_FULL"],
        "o.id": ["JOIN_LEFT", "JOIN_FULL"],
        "e.note": ["JOIN_LEFT", "JOIN_FULL"],
        "i.id": ["JOIN_FULL"],
    }


@pytest.mark.parametrize(
    ("sql", "text", "expected"),
    [
        ("WITH a AS (SELECT id AS n FROM users), b (m) AS (SELECT * FROM a) SELECT b.m FROM b",
         "b.m", "users.id"),
        ("SELECT s.x FROM (SELECT t.* FROM (SELECT total AS x FROM orders) t) s", "s.x",
         "orders.total"),
        ("SELECT s.x FROM (SELECT total + 1 AS x FROM orders) s", "s.x", None),
        ("SELECT s.id FROM (SELECT id FROM orders UNION SELECT id FROM users) s", "s.id", None),
        ("WITH RECURSIVE t AS (SELECT id FROM t) SELECT id FROM t", "id", None),
        ("SELECT id FROM users", "id", "users.id"),
    ],
)  # fmt: skip
def test_origin(sql: str, text: str, expected: str | None, catalog: Catalog) -> None:
    resolved = Resolved(sql, catalog)
    binding = resolved.binding(text)
    origin = resolved.resolver.origin(binding) if binding else None
    assert (f"{origin.item.name}.{origin.column}" if origin else None) == expected


# -- against the server -------------------------------------------------------------------------

EXPRESSIONS = """
u.id | id + 1 | count(*) OVER () | lower(name) | pg_catalog.upper(name) | id::text | 1::int8 | 'x'::text
name COLLATE "C" | (lower(name))::varchar | CASE WHEN true THEN 1 END | CASE WHEN true THEN 1 ELSE id END
CASE WHEN true THEN 1 ELSE lower(name)::int END | (CASE WHEN true THEN 1 END)::int | coalesce(id, 1)
nullif(id, 1) | greatest(1, 2) | least(1, 2) | ARRAY[1] | ROW(1, 2) | (1, 2) | tags[1] | tags[1:2]
(doc -> 'a') | doc ->> 'a' | (u).name | EXISTS (SELECT 1) | ARRAY(SELECT 1) | (SELECT 1) | (SELECT max(id) FROM orders)
(SELECT 1 AS one) | (SELECT id FROM orders UNION SELECT 1 LIMIT 1) | (SELECT 1)::int | (VALUES (1)) | id IN (1, 2)
id = ANY (SELECT 1) | current_date | current_timestamp(3) | current_user | localtime | session_user
current_schema | now() | extract(year FROM now()) | date_part('year', now()) | trim(name) | position('a' IN name)
substring(name FROM 1) | overlay(name PLACING 'a' FROM 1) | now() AT TIME ZONE 'utc' | INTERVAL '1 day'
DATE '2020-01-01' | TRUE | NULL | 1.5 | -1 | 'x' | name LIKE 'a' | name IS NULL | NOT true | id IS DISTINCT FROM 1
id BETWEEN 1 AND 2 | name || 'x' | xmlelement(name a) | xmlforest(1 AS b) | json_object('a': 1) | json_array(1)
json_array(SELECT 1) | json('{}') | json_scalar(1) | json_serialize('1') | json_value('1', '$') | json_exists('1', '$')
json_query('1', '$') | u | u.* | * | (SELECT u.name) | cast(id AS numeric(5, 2)) | collation for (name) | (ROW(1, 2)).f1
"""


def test_output_names_are_the_servers(make_database: Callable[..., Any], catalog: Catalog) -> None:
    queries = [
        f"SELECT {e.strip()} FROM users u" for e in EXPRESSIONS.replace("\n", "|").split("|") if e.strip()
    ] + [
        "SELECT * FROM orders JOIN extra USING (user_id)",
        "SELECT * FROM app.orders o NATURAL RIGHT JOIN extra, users",
        "SELECT e.*, 1 FROM orders JOIN extra e USING (user_id)",
        "SELECT j.* FROM (orders o JOIN extra e USING (user_id)) AS j (a, b)",
        "SELECT m.* FROM orders o JOIN extra e USING (user_id) AS m",
        "SELECT * FROM users AS u (a, b), LATERAL (SELECT u.a AS c, boss) AS s",
        "SELECT * FROM generate_series(1, 2)",
        "SELECT * FROM generate_series(1, 2) AS g",
        "SELECT * FROM generate_series(1, 2) WITH ORDINALITY AS g (n)",
        "SELECT * FROM unnest(ARRAY[1], ARRAY[2]) AS u",
        "SELECT * FROM unnest(ARRAY[1], ARRAY[2]) AS u (a, b)",
        "SELECT * FROM jsonb_array_elements('[]') AS e",
        "SELECT * FROM jsonb_each_text('{}') AS e",
        "SELECT * FROM current_date AS today",
        "SELECT * FROM current_date",
        "SELECT * FROM ROWS FROM (generate_series(1, 2), jsonb_each('{}')) WITH ORDINALITY AS r",
        "SELECT * FROM ROWS FROM (json_to_record('{}') AS (a int, b int), generate_series(1, 2))",
        "SELECT * FROM json_to_recordset('[]') AS x (a int, b text)",
        "SELECT * FROM JSON_TABLE('1'::jsonb, '$' COLUMNS (o FOR ORDINALITY, NESTED '$.a' COLUMNS (b int), c int))",
        "SELECT * FROM XMLTABLE('/a' PASSING ('<a/>'::xml) COLUMNS b int, n FOR ORDINALITY) AS x",
        "VALUES (1, 2), (3, 4)",
        "SELECT * FROM (VALUES (1, 2)) AS v (x)",
        "SELECT id AS a, name FROM users UNION SELECT 1, 'x' ORDER BY a",
        "WITH RECURSIVE t (n) AS (SELECT id, boss FROM users UNION ALL SELECT u.id, 1 FROM users u JOIN t "
        "ON u.id = t.n) SEARCH BREADTH FIRST BY n SET ord CYCLE n SET c USING p SELECT * FROM t",
        "WITH d AS (DELETE FROM orders USING extra e RETURNING *) SELECT * FROM d",
        "WITH d AS (UPDATE orders SET id = 1 FROM extra e RETURNING e.*, orders.id) SELECT * FROM d",
        "WITH d AS (INSERT INTO orders VALUES (1) RETURNING *, total + 1) SELECT * FROM d",
        "WITH d AS (UPDATE orders SET id = 1 RETURNING old.*, new.id) SELECT * FROM d",
        "WITH m AS (MERGE INTO orders o USING extra e ON e.user_id = o.id WHEN MATCHED THEN DELETE "
        "RETURNING *, merge_action()) SELECT * FROM m",
        "SELECT * FROM rich",
    ]  # fmt: skip
    wrong = []
    with make_database(SCHEMA).connect() as connection:
        connection.autocommit = True
        for sql in queries:
            # Described, not run.
            prepared = connection.pgconn.prepare(b"", sql.encode())
            if "xml" in sql.lower() and b"libxml" in prepared.error_message:
                continue
            assert prepared.status == ExecStatus.COMMAND_OK, (sql, prepared.error_message)
            described = connection.pgconn.describe_prepared(b"")
            there = [(described.fname(i) or b"").decode() for i in range(described.nfields)]
            resolved = Resolved(sql, catalog)
            here = resolved.resolver.output_columns(resolved.node)
            if here is None or list(here) != there:
                wrong.append((sql, there, here))
    assert not wrong, "\n".join(map(str, wrong))


def test_bindings_are_the_servers(make_database: Callable[..., Any], catalog: Catalog) -> None:
    """A view depends on the columns its query reads: those our bindings end at must be among them."""
    queries = [c[0] for c in CASES if c[0].startswith(("SELECT", "WITH"))]
    database = make_database(SCHEMA)
    wrong, checked = [], 0
    with database.connect() as connection:
        connection.autocommit = True
        for sql in queries:
            try:
                connection.execute(f"CREATE OR REPLACE TEMP VIEW probe AS {sql}".encode())
            except Exception:
                continue  # a query that must not resolve, or one a view cannot hold
            rows = connection.execute(
                b"SELECT c.relname::text, a.attname::text FROM pg_depend d "
                b"JOIN pg_rewrite r ON r.oid = d.objid JOIN pg_class v ON v.oid = r.ev_class "
                b"JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid "
                b"JOIN pg_class c ON c.oid = d.refobjid WHERE v.relname = 'probe'"
            ).fetchall()
            connection.execute(b"DROP VIEW probe")
            resolved = Resolved(sql, catalog)
            for text in resolved.columns:
                binding = resolved.binding(text)
                origin = resolved.resolver.origin(binding) if binding else None
                if origin is None or origin.item.kind != "table" or not origin.item.relation:
                    continue
                checked += 1
                if origin.column not in ("ctid", "xmin", "tableoid") and (
                    (origin.item.name, origin.column) not in rows
                ):
                    wrong.append((sql, text, origin.item.name, origin.column, rows))
    assert not wrong, "\n".join(map(str, wrong))
    assert checked > 60


def test_long_chains_do_not_recurse(catalog: Catalog) -> None:
    """Three hundred WITH queries, each reading the one before: as model builders write them."""
    ctes = ", ".join(
        f"c{i} AS (SELECT * FROM {'users' if not i else f'c{i - 1}'})" for i in range(300)
    )
    resolved = Resolved(f"WITH {ctes} SELECT city FROM c299", catalog)
    assert resolved["city"] == "c299:cte.city"
    nested = "users"
    for i in range(60):
        nested = f"(SELECT * FROM {nested} {f's{i}' if i else ''})"
    assert Resolved(f"SELECT city FROM {nested} x", catalog)["city"] == "x:subquery.city"
