"""Which queries give no row twice, and what identifies a row of their FROM clause."""

from __future__ import annotations

import pytest

from sqladvisor.catalog.ddl import catalog_from_sql
from sqladvisor.context import Context
from sqladvisor.sql.keys import Dependencies, is_unique
from sqladvisor.sql.source import read_source, statements

SCHEMA = """
CREATE TABLE users (id bigint PRIMARY KEY, email text NOT NULL UNIQUE, nick text UNIQUE, city text);
CREATE TABLE orders (id bigint PRIMARY KEY, user_id bigint REFERENCES users, total numeric);
CREATE TABLE items (order_id bigint, line int, qty int, PRIMARY KEY (order_id, line));
CREATE TABLE heap (a int);
"""
CATALOG = catalog_from_sql(SCHEMA)
UNIQUE = [
    "SELECT id FROM users",
    "SELECT email FROM users",
    "SELECT nick FROM users WHERE nick = $1",
    "SELECT line FROM items WHERE order_id = 5",
    "SELECT o.id FROM orders o JOIN users u ON u.id = o.user_id",
    "SELECT o.id FROM orders o LEFT JOIN users u ON u.id = o.user_id AND u.city = 'x'",
    "SELECT o.id FROM users u RIGHT JOIN orders o ON u.id = o.user_id",
    "SELECT o.id, u.id FROM users u FULL JOIN orders o ON u.id = o.user_id",
    "SELECT o.id FROM orders o JOIN users u USING (id)",
    "SELECT u.id FROM users u LEFT JOIN items i ON i.order_id = u.id AND i.line = 1",
    "SELECT id, upper(nick), row_number() OVER () FROM users",
    "SELECT lower(city), count(*) FROM users GROUP BY 1",
    "SELECT count(*) FROM users",
    "SELECT x.a FROM (SELECT DISTINCT a FROM heap) x",
    "WITH x AS (SELECT id AS k FROM users) SELECT o.id FROM x JOIN orders o ON o.user_id = x.k",
    "SELECT u.id FROM users u, LATERAL (SELECT max(id) FROM orders o WHERE o.user_id = u.id) m",
    "SELECT a FROM heap UNION SELECT a FROM heap",
]
NOT_UNIQUE = [
    "SELECT nick FROM users",
    "SELECT u.id FROM orders o JOIN users u ON u.id = o.user_id",
    "SELECT o.id FROM users u LEFT JOIN orders o ON u.id = o.user_id",
    "SELECT o.id FROM users u FULL JOIN orders o ON u.id = o.user_id",
    "SELECT id, unnest(ARRAY[1, 2]) FROM users",
    "SELECT id, somebodys_function(id) FROM users",
    "SELECT lower(city), count(*) FROM users GROUP BY city",
    "SELECT city FROM users GROUP BY GROUPING SETS ((city), ())",
    "SELECT x.a FROM (SELECT a FROM heap) x",
    "SELECT u.id FROM users u, heap",
    "SELECT u.id FROM users u, generate_series(1, 3)",
    "SELECT id FROM users UNION ALL SELECT id FROM users",
    "SELECT city FROM users WHERE id = floor(random() * 10)",
    "SELECT u.id FROM users u LEFT JOIN orders o ON o.user_id = u.id AND o.id > 5",
]
KEYS = [
    ("SELECT 1 FROM users", "users.id"),
    ("SELECT 1 FROM users u LEFT JOIN orders o ON u.id = o.user_id", "u.id o.id"),
    ("SELECT 1 FROM users u JOIN orders o ON u.id = o.user_id", "o.id"),
    ("SELECT 1 FROM items i JOIN orders o ON o.id = i.order_id", "i.order_id i.line"),
    ("SELECT 1 FROM users WHERE email = $1", ""),
    ("SELECT 1 FROM users, heap", None),
]


def context(sql: str) -> Context:
    return Context(statements(read_source("x.sql", sql.encode()))[0][0], CATALOG)


@pytest.mark.parametrize("sql", UNIQUE)
def test_unique(sql: str) -> None:
    ctx = context(sql)
    assert is_unique(ctx.tree.root, ctx.resolver)


@pytest.mark.parametrize("sql", NOT_UNIQUE)
def test_not_unique(sql: str) -> None:
    ctx = context(sql)
    assert not is_unique(ctx.tree.root, ctx.resolver)


@pytest.mark.parametrize(("sql", "key"), KEYS)
def test_row_key(sql: str, key: str | None) -> None:
    ctx = context(sql)
    found = Dependencies(ctx.tree.root, ctx.resolver).row_key()
    written = None if found is None else " ".join(f"{i.alias}.{c}" for i, c in found)
    assert written == key
