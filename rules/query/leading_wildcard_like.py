"""A pattern search that does not begin with fixed text cannot use a b-tree index.

Why: LIKE '%x', ILIKE and unanchored regular expressions have no fixed beginning to look up in an
    ordered index, so every row is read and matched.
Fix: a trigram index (extension pg_trgm), which serves the query as it is written.
Silent when: a trigram index is on the column; the pattern is a bound parameter, or '%' alone; the
    table is known to be small, or PostgreSQL's own; other conditions find the row by a key; the
    match is negated.
Source: PostgreSQL manual, 11.2 "Index Types" and F.35 "pg_trgm".
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.finding import Finding, Fix, Severity
from sqladvisor.rule import rule
from sqladvisor.sql.comparisons import (
    Comparison,
    comparison,
    is_system,
    narrowing,
    only_column,
)
from sqladvisor.sql.datatypes import STRINGS
from sqladvisor.sql.expressions import create_index, is_immutable, shape, shape_of_text, unqualified
from sqladvisor.sql.resolve import Binding
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import constant, function_name, operator, unwrap

SCHEMA = """
CREATE EXTENSION pg_trgm;
CREATE TABLE users (id bigint PRIMARY KEY, email text NOT NULL UNIQUE, name varchar(80),
    bio text, "Nick" text, tags text[]);
CREATE INDEX users_bio_idx ON users USING gin (bio gin_trgm_ops);
CREATE INDEX ON users USING gist (lower(name) gist_trgm_ops);
CREATE TABLE orders (id bigint PRIMARY KEY, user_id bigint REFERENCES users, note text);
"""
BAD = [
    "SELECT id FROM users WHERE email LIKE '%@example.com'",
    "SELECT u.id FROM users u WHERE u.name ILIKE 'ann%' OR u.\"Nick\" ILIKE '%ann%'",
    "SELECT id FROM users WHERE email LIKE '%' || $1 || '%'",
    "SELECT id FROM users WHERE email LIKE concat('%', $1::text)",
    "SELECT id FROM users WHERE name ~ 'son$'",
    "SELECT id FROM users WHERE name ~* '^ann'",
    "WITH found AS (SELECT id FROM users WHERE lower(email) LIKE '%x%') SELECT id FROM found",
    "DELETE FROM orders WHERE note LIKE '_nvoice%'",
    "SELECT id FROM users WHERE email SIMILAR TO '%(a|b)com'",
]
GOOD = [
    "SELECT id FROM users WHERE email LIKE 'ann%'",
    "SELECT id FROM users WHERE bio LIKE '%x%' OR bio ILIKE '%why%'",
    "SELECT id FROM users WHERE lower(name) LIKE '%ann%'",
    "SELECT id FROM users WHERE email LIKE $1",
    "SELECT id FROM users WHERE email NOT LIKE '%@example.com'",
    "SELECT id FROM users WHERE id = 5 AND email LIKE '%@example.com'",
    "SELECT id FROM orders WHERE user_id = 5 AND id = 9 AND note LIKE '%late%'",
    "SELECT name LIKE '%x' FROM users",
    "SELECT s.e FROM (VALUES ('a'), ('b')) s (e) WHERE s.e LIKE '%a'",
    "SELECT id FROM users WHERE name ~ '^ann'",
    "SELECT id FROM users WHERE name ILIKE '123%' AND email LIKE '%' AND name ~* '^1a' AND bio LIKE '%%'",
    "SELECT relname FROM pg_class WHERE relname LIKE '%_idx'",
    "SELECT id FROM users WHERE email LIKE '\\%x'",
]

_WHAT = {"~~": "LIKE", "~~*": "ILIKE", "~": "~", "~*": "~*"}
_CLASSES = ("gin_trgm_ops", "gist_trgm_ops")


@rule(
    "SelectStmt",
    "UpdateStmt",
    "DeleteStmt",
    severity="warning",
    # characters between wildcards: pg_trgm finds nothing to look up in fewer (F.35.1)
    thresholds={"trigram_characters": 3},
)
def check(query: Node, ctx: Context) -> Iterator[Finding]:
    where = query.get("whereClause")
    if not where:
        return
    found = []
    for part in _matches(where):
        c = comparison(part)
        if c and c.operator in _WHAT and _unanchored(c):
            binding = only_column(c.side, ctx.resolver)
            if binding and not binding.depth and _searchable(c, binding, ctx):
                found.append((c, binding))
    if not found:
        return
    scope = ctx.scope(query, "UpdateStmt" if "relation" in query else "SelectStmt")
    narrowed = narrowing(scope, query, ctx.resolver)
    for c, binding in found:
        how = narrowed.get(id(binding.item), "")
        if how != "unique":
            # Without a schema nobody knows whether there is a trigram index.
            weak = how == "index" or binding.item.relation is None
            yield _finding(c, binding, "info" if weak else "warning", ctx)


def _matches(wrapped: Node) -> Iterator[Node]:
    """The pattern matches of a condition, those under AND and OR included."""
    kind, node = unwrap(wrapped)
    if kind == "BoolExpr" and node.get("boolop") != "NOT_EXPR":
        for arg in node.get("args", ()):
            yield from _matches(arg)
    elif kind == "A_Expr" and operator(node) in _WHAT:
        yield wrapped


def _unanchored(c: Comparison) -> bool:
    """Whether the pattern is known to begin with nothing fixed."""
    kind, node = unwrap(c.values[0])
    how = unwrap(c.wrapped)[1].get("kind")
    if how == "AEXPR_SIMILAR":
        node = unwrap(node.get("args", [{}])[0])[1] if kind == "FuncCall" else {}
        return str(node.get("sval", {}).get("sval", "")).startswith(("%", "_"))
    text = constant(_first(c.values[0]))
    # '%' finds every string: it is no search. What has more to it may follow by ||.
    if not isinstance(text, str) or (kind == "A_Const" and not text.strip("%")):
        return False
    if c.operator in ("~~*", "~*"):
        # What has no case is a fixed beginning (pattern_char_isalpha in like_support.c).
        start = text[1:2] if c.operator == "~*" and text.startswith("^") else text[:1]
        return not start.isdigit() or (c.operator == "~*" and not text.startswith("^"))
    if c.operator == "~":
        return not text.startswith(("^", "(?", "***"))
    return text.startswith(("%", "_"))


def _first(wrapped: Node) -> Node:
    """What a pattern put together with || or concat() begins with."""
    kind, node = unwrap(wrapped)
    if kind == "A_Expr" and operator(node) == "||":
        return _first(node.get("lexpr", {}))
    if kind == "FuncCall" and function_name(node) == "concat" and node.get("args"):
        return _first(node["args"][0])
    return wrapped


def _searchable(c: Comparison, binding: Binding, ctx: Context) -> bool:
    item, definition = binding.item, binding.definition
    if item.kind != "table" or is_system(item) or ctx.small(item):
        return False
    if definition and definition.type not in STRINGS:
        return False
    if unwrap(c.side)[0] not in ("ColumnRef", "FuncCall", "TypeCast"):
        return False
    if item.relation is None:
        return True
    if item.relation.kind not in ("table", "partitioned", "matview"):
        return False
    return not _has_trigrams(c, binding)


def _has_trigrams(c: Comparison, binding: Binding) -> bool:
    assert binding.item.relation
    wanted = shape(c.side)
    for index in binding.item.relation.indexes:
        expressions = iter(index.expressions)
        for position, key in enumerate(index.keys):
            text = next(expressions, "") if key is None else ""
            opclass = index.opclasses[position] if position < len(index.opclasses) else None
            if (opclass or "").rpartition(".")[2] not in _CLASSES:
                continue
            if (key == binding.column and unwrap(c.side)[0] != "FuncCall") or (
                text and shape_of_text(text) == wanted
            ):
                return True
    return False


def _finding(c: Comparison, binding: Binding, severity: Severity, ctx: Context) -> Finding:
    table = binding.item.name or binding.item.alias
    # The place of SIMILAR TO's pattern is not known: what the parser made of it begins earlier.
    similar = unwrap(c.wrapped)[1].get("kind") == "AEXPR_SIMILAR"
    shown = "SIMILAR TO" if similar else f"{_WHAT[c.operator]} {ctx.text(c.values[0])}"
    why = "ignores case" if c.operator in ("~~*", "~*") else "has no fixed beginning"
    return ctx.finding(
        c.wrapped,
        f"{shown} {why}: no b-tree index on {ctx.text(c.side)} can be used "
        f"and every row of {table} is matched",
        severity=severity,
        fixes=_fixes(c, binding, ctx),
    )


def _fixes(c: Comparison, binding: Binding, ctx: Context) -> list[Fix]:
    definition = binding.definition
    longest = max(map(len, re.split(r"\W", _literals(c.values[0]))), default=0)
    if unwrap(c.values[0])[0] == "A_Const" and longest < ctx.threshold("trigram_characters"):
        return []
    if not is_immutable(c.side, definition.type if definition else "", frozenset()):
        return []
    key = unqualified(c.side, ctx)
    if unwrap(c.side)[0] == "TypeCast":
        key = f"({key})"
    extension = (
        "" if "pg_trgm" in ctx.catalog.extensions else "CREATE EXTENSION IF NOT EXISTS pg_trgm;\n"
    )
    return (
        [
            Fix(
                "index the trigrams",
                extension + create_index(binding.item, f"{key} gin_trgm_ops", "gin"),
                "ddl",
            )
        ]
        if key
        else []
    )


def _literals(wrapped: Node) -> str:
    """The text of a pattern with its wildcards as blanks."""
    text = constant(wrapped)
    return re.sub(r"[%_^$.*+?()\[\]|\\]", " ", text) if isinstance(text, str) else ""
