"""A prefix search cannot use the index on its column, because the index sorts by a language's rules.

Why: in any collation but C an ordinary index is sorted by linguistic rules, where the strings that
    begin with 'abc' need not lie together. LIKE 'abc%' then reads the whole table although an
    index on the column exists.
Fix: an index with the operator class text_pattern_ops, which compares character by character.
Silent when: the column's or the database's collation is C; an index with a pattern or trigram
    operator class is there; the pattern has no wildcard (then it is an equality); the table is
    known to be small. Without a server the collation of the database is unknown: then it is info.
Source: PostgreSQL manual, 11.10 "Operator Classes and Operator Families".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.catalog.model import Index, Relation
from sqladvisor.context import Context
from sqladvisor.finding import Finding, Fix
from sqladvisor.rule import rule
from sqladvisor.sql.comparisons import comparison, narrowing
from sqladvisor.sql.expressions import create_index
from sqladvisor.sql.quote import identifier
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import conjuncts, constant

SCHEMA = """
CREATE TABLE users (id bigint PRIMARY KEY, email text NOT NULL UNIQUE, name varchar(80),
    "Nick" text, code text COLLATE "C" UNIQUE, slug text UNIQUE, city text);
CREATE INDEX users_name_idx ON users (name);
CREATE INDEX users_nick_idx ON users ("Nick");
CREATE INDEX users_slug_pattern_idx ON users (slug text_pattern_ops);
"""
BAD = [
    "SELECT id FROM users WHERE email LIKE 'ann%'",
    "SELECT u.id FROM users AS u WHERE u.name LIKE 'Jo_n%' AND u.city = 'Rome'",
    """SELECT id FROM users WHERE "Nick" LIKE 'ab%'""",
    "WITH a AS (SELECT id FROM users x WHERE x.email LIKE 'a\\_b%') SELECT * FROM a",
]
GOOD = [
    "SELECT id FROM users WHERE code LIKE 'ann%'",
    "SELECT id FROM users WHERE slug LIKE 'ann%'",
    "SELECT id FROM users WHERE email LIKE 'ann@example.com'",
    "SELECT id FROM users WHERE email LIKE '%ann'",
    "SELECT id FROM users WHERE email LIKE $1",
    "SELECT id FROM users WHERE email NOT LIKE 'ann%'",
    "SELECT id FROM users WHERE city LIKE 'Ro%'",
    "SELECT id FROM users WHERE id = 7 AND email LIKE 'ann%'",
    "WITH users AS (SELECT 'x' AS email) SELECT * FROM users WHERE email LIKE 'x%'",
]

_CLASSES = {
    "text": "text_pattern_ops",
    "character varying": "varchar_pattern_ops",
    "character": "bpchar_pattern_ops",
}
_BYTEWISE = frozenset(("C", "POSIX", "ucs_basic", "pg_c_utf8"))


@rule("SelectStmt", "UpdateStmt", "DeleteStmt", severity="warning", needs=("schema",))
def check(query: Node, ctx: Context) -> Iterator[Finding]:
    if ctx.catalog.collation_is_c:
        return
    for part in conjuncts(query.get("whereClause")):
        c = comparison(part)
        if c is None or c.operator != "~~" or not _is_prefix(constant(c.values[0])):
            continue
        binding = ctx.binding(c.side)
        if binding is None or binding.depth or not binding.item.relation or not binding.definition:
            continue
        item, column = binding.item, binding.definition
        if column.type not in _CLASSES or column.collation in _BYTEWISE or ctx.small(item):
            continue
        index = _ordinary_index(binding.item.relation, column.name)
        if index is None:
            continue
        scope = ctx.scope(query, "UpdateStmt" if "relation" in query else "SelectStmt")
        if narrowing(scope, query, ctx.resolver).get(id(item)):
            continue
        key = f"{identifier(column.name)} {_CLASSES[column.type]}"
        unsure = ctx.catalog.source == "ddl"
        yield ctx.finding(
            part,
            f"the index {index.name} cannot serve LIKE {ctx.text(c.values[0])}: it is sorted by "
            f"the collation's rules, so every row of {item.name} is matched"
            + (", unless the database's collation is C" if unsure else ""),
            severity="info" if unsure else "warning",
            fixes=(Fix("index the characters", create_index(item, key), "ddl"),),
        )


def _is_prefix(pattern: object) -> bool:
    """A literal pattern of fixed text followed by a wildcard."""
    if not isinstance(pattern, str) or pattern[:1] in ("", "%", "_"):
        return False
    rest = pattern.replace("\\%", "").replace("\\_", "")
    return "%" in rest or "_" in rest


def _ordinary_index(relation: Relation, column: str) -> Index | None:
    """The default b-tree that leads with the column, unless another index serves patterns."""
    ordinary: Index | None = None
    for index in relation.indexes:
        if column not in index.keys or not index.valid:
            continue
        position = index.keys.index(column)
        opclass = (index.opclasses[position] if position < len(index.opclasses) else None) or ""
        if opclass.endswith(("_pattern_ops", "_trgm_ops")):
            return None
        if index.method == "btree" and position == 0 and not index.predicate:
            ordinary = ordinary or index
    return ordinary
