"""A filter takes a value out of a JSON column, and no index holds that value.

Why: data ->> 'key' is computed for every row: the whole document is read (and detoasted where it
    is large) to look at one key. PostgreSQL has no statistics for the expression either and
    guesses that half a percent of the rows pass. An index on data itself does not hold the
    expression; a GIN index on it answers @>, not ->>.
Fix: where the column has a GIN index, data @> '{"key": "value"}', which it serves. ->> compares
    text, so that '5' is the number 5 as well as the string "5": both are then looked for, and the
    original comparison kept. Otherwise an index on the expression.
Silent when: an index has the expression as a key; the table is known to be small; the row is found
    by a unique key anyway; the key or the table is not known. Info where an equality or a range on
    an index narrows the rows already, and without a schema.
Source: PostgreSQL manual, 8.14.4 "jsonb Indexing" and 11.7 "Indexes on Expressions".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from sqladvisor.catalog.model import Index
from sqladvisor.context import Context
from sqladvisor.finding import Edit, Finding, Fix
from sqladvisor.rule import rule
from sqladvisor.sql.comparisons import (
    Comparison,
    comparison,
    conditions,
    is_system,
    narrowing,
    only_column,
    ranged,
)
from sqladvisor.sql.expressions import create_index, expression_index, index_key, is_immutable
from sqladvisor.sql.quote import literal
from sqladvisor.sql.resolve import Binding
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import constant, operator, unwrap

SCHEMA = """
CREATE TABLE events (id bigint PRIMARY KEY, user_id bigint, payload jsonb NOT NULL, raw json,
    "Extra" jsonb, label text, created_at timestamptz);
CREATE INDEX events_extra_idx ON events USING gin ("Extra" jsonb_path_ops);
CREATE INDEX ON events ((payload ->> 'session'));
CREATE INDEX ON events (((payload -> 'user' ->> 'id')::bigint));
CREATE INDEX ON events (user_id);
CREATE INDEX ON events (created_at);
CREATE TABLE tags (id bigint PRIMARY KEY, settings jsonb);
"""
BAD = [
    "SELECT id FROM events WHERE payload ->> 'kind' = 'click'",
    "SELECT e.id FROM public.events AS e WHERE e.payload -> 'a' ->> 'ключ' = $1 AND e.label = 'x'",
    """SELECT id
       FROM events e
       WHERE e."Extra" ->> 'é' = 'ü'""",
    """SELECT id FROM events WHERE "Extra" ->> 'n' = '5'""",
    """SELECT id FROM events WHERE "Extra" #>> '{a,b}' = 'x'""",
    """SELECT id FROM events WHERE "Extra" -> 'a' ->> 'b' IN ('x', 'true')""",
    """SELECT id FROM events WHERE "Extra" ->> 'k' = $2""",
    "SELECT id FROM events WHERE (payload ->> 'total')::numeric > 100",
    "WITH c AS (SELECT * FROM events WHERE raw ->> 'kind' = 'click') SELECT count(*) FROM c",
    "DELETE FROM events WHERE payload ->> 'kind' IN ('a', 'b')",
    "UPDATE events e SET label = 'x' FROM tags t WHERE t.id = e.id AND e.payload ->> 'kind' = 'x'",
    "INSERT INTO tags SELECT id, payload FROM events WHERE payload ->> 'kind' = ANY ($1)",
]
GOOD = [
    "SELECT id FROM events WHERE payload ->> 'session' = 's4711'",
    "SELECT id FROM events e WHERE (e.payload->'user'->>'id')::bigint = 5",
    'SELECT id FROM events WHERE payload @> \'{"kind": "click"}\'',
    "SELECT payload ->> 'kind' FROM events WHERE user_id = 5",
    "SELECT id FROM events WHERE id = 7 AND payload ->> 'kind' = 'click'",
    "SELECT id FROM events WHERE payload ->> $1 = 'click'",
    "SELECT e.id FROM events e JOIN tags t ON t.settings ->> 'kind' = e.label",
    "SELECT v ->> 'a' FROM (VALUES ('{}'::jsonb)) s (v) WHERE v ->> 'a' = 'x'",
    "SELECT j FROM events, jsonb_array_elements(payload) j WHERE j ->> 'a' = 'x'",
    "SELECT id FROM events WHERE payload ->> 'kind' IS NOT NULL OR payload ->> 'kind' <> 'x'",
    "SELECT payload ->> 'kind' AS kind FROM events GROUP BY 1 HAVING count(*) > 5",
]

_OPERATORS = frozenset(("=", "IN", "ANY", "<", "<=", ">", ">=", "BETWEEN"))
_TABLES = ("table", "partitioned", "matview")
_CLASSES = (None, "jsonb_ops", "jsonb_path_ops")
# Text that ->> gives for a number as jsonb stores it: no exponent, no leading zeros.
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?\Z")
_WORD = re.compile(r"(?!null\Z)[A-Za-z_-][\w -]*\Z", re.IGNORECASE)


@rule("SelectStmt", "UpdateStmt", "DeleteStmt", severity="warning")
def check(query: Node, ctx: Context) -> Iterator[Finding]:
    if "whereClause" not in query and "fromClause" not in query:
        return
    scope = ctx.scope(query, "UpdateStmt" if "relation" in query else "SelectStmt")
    found = []
    for part in conditions(query, scope):
        c = comparison(part)
        if c and c.operator in _OPERATORS and _path(_uncast(c.side)):
            binding = only_column(c.side, ctx.resolver)
            if binding and not binding.depth and _unindexed(c, binding, ctx):
                found.append((c, binding))
    if not found:
        return
    narrowed = narrowing(scope, query, ctx.resolver)
    in_range = ranged(scope, query, ctx.resolver)
    for c, binding in found:
        item = binding.item
        how = narrowed.get(id(item), "")
        if how == "unique":
            continue
        fixes = list(_fixes(c, binding, ctx))
        if not fixes:
            continue
        known = item.relation is not None
        weak = bool(how) or id(item) in in_range or not known
        gin = _gin(binding)
        if gin:
            why = f"the GIN index {gin.name} answers @>, not ->>"
        else:
            why = "no index has it as a key" if known else "unless an index has it as a key"
        yield ctx.finding(
            c.wrapped,
            f"{ctx.text(c.side)} is taken out of every row of {item.name or item.alias} read"
            + (": " if known else ", ")
            + why,
            severity="info" if weak else "warning",
            fixes=fixes,
        )


def _uncast(wrapped: Node) -> Node:
    kind, node = unwrap(wrapped)
    return _uncast(node.get("arg", {})) if kind == "TypeCast" else wrapped


def _path(wrapped: Node) -> tuple[str, ...]:
    """The keys that ``column -> 'a' ->> 'b'`` or ``column #>> '{a,b}'`` descends; () otherwise.

    A step into an array (``-> 0``) is shown as an empty key.
    """
    kind, node = unwrap(wrapped)
    if kind != "A_Expr" or node.get("kind", "AEXPR_OP") != "AEXPR_OP":
        return ()
    left, step, name = node.get("lexpr", {}), constant(node.get("rexpr", {})), operator(node)
    before: tuple[str, ...] = ()
    if unwrap(left)[0] != "ColumnRef":
        before = _path(left)
        if not before or operator(unwrap(left)[1]) not in ("->", "#>"):
            return ()
    if name in ("->", "->>") and isinstance(step, str | int) and not isinstance(step, bool):
        return (*before, step if isinstance(step, str) else "")
    if name in ("#>", "#>>") and isinstance(step, str) and step.startswith("{"):
        keys = [k.strip() for k in step[1:-1].split(",")]
        return (*before, *(k if _WORD.match(k) else "" for k in keys))
    return ()


def _unindexed(c: Comparison, binding: Binding, ctx: Context) -> bool:
    item, definition = binding.item, binding.definition
    if item.kind != "table" or is_system(item) or ctx.small(item):
        return False
    if definition and definition.type not in ("json", "jsonb"):
        return False
    if item.relation is None:
        return True
    return item.relation.kind in _TABLES and not expression_index(item.relation, c.side)


def _gin(binding: Binding) -> Index | None:
    """A GIN index that serves @> on the whole column."""
    definition = binding.definition
    for index in binding.item.relation.indexes if binding.item.relation else ():
        if index.valid and index.method == "gin" and not index.predicate:
            for position, key in enumerate(index.keys):
                opclass = index.opclasses[position] if position < len(index.opclasses) else None
                bare = opclass.rpartition(".")[2] if opclass else None
                if key == binding.column and bare in _CLASSES and definition:
                    return index if definition.type == "jsonb" else None
    return None


def _fixes(c: Comparison, binding: Binding, ctx: Context) -> Iterator[Fix]:
    if _gin(binding):
        rewrite = _containment(c, ctx)
        span = ctx.span(c.wrapped)
        if rewrite and span:
            yield Fix(
                f"ask what the index answers: {rewrite[0]}",
                ctx.edit(Edit(*span, rewrite[0])),
                changes_result=rewrite[1],
            )
    definition = binding.definition
    if is_immutable(c.side, definition.type if definition else "jsonb", frozenset()):
        key = index_key(c.side, ctx)
        if key:
            yield Fix("index the expression", create_index(binding.item, key), "ddl")


def _containment(c: Comparison, ctx: Context) -> tuple[str, str] | None:
    """The comparison by ``@>``, and how its result differs ("" where it does not)."""
    keys = _path(c.side)
    column = _column(c.side)
    if not keys or "" in keys or c.operator not in ("=", "IN") or unwrap(c.side)[0] == "TypeCast":
        return None
    name = ctx.text(column)
    if c.operator == "=" and unwrap(c.values[0])[0] == "ParamRef":
        built = f"{ctx.text(c.values[0])}::text"
        for key in reversed(keys):
            built = f"jsonb_build_object({literal(key)}, {built})"
        return f"{name} @> {built}", "the number 5 and true are no longer found as '5' and 'true'"
    documents = []
    exact = True
    for value in map(constant, c.values):
        if not isinstance(value, str) or value[:1] in ("{", "["):
            return None
        documents.append(_document(keys, json.dumps(value, ensure_ascii=False)))
        if value in ("true", "false") or _NUMBER.match(value):
            documents.append(_document(keys, value))
            exact = False
    either = " OR ".join(f"{name} @> {literal(d)}" for d in documents)
    if len(documents) > 1:
        either = f"({either})"
    # 5.0 is contained where 5 is asked for: the text decides.
    return (either if exact else f"{either} AND {ctx.text(c.wrapped)}"), ""


def _document(keys: tuple[str, ...], value: str) -> str:
    """JSON text of a value at the end of a path of keys."""
    for key in reversed(keys):
        value = f"{{{json.dumps(key, ensure_ascii=False)}: {value}}}"
    return value


def _column(wrapped: Node) -> Node:
    kind, node = unwrap(wrapped)
    return wrapped if kind == "ColumnRef" else _column(node.get("lexpr", {}))
