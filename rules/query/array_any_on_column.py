"""A value is looked for in an array column with = ANY, which no index on the column can serve.

Why: value = ANY (column) compares the value with each element of each row's array: PostgreSQL has
    no index operator of that form, and a GIN index on the column is left aside. column @>
    ARRAY[value] asks the same and is what GIN answers.
Fix: column @> ARRAY[value], with the column's own type, and a GIN index where there is none. As a
    filter it is the same: where = ANY is NULL (a NULL among the elements, or as the value), @> is
    false, and neither keeps the row.
Silent when: the array is not a plain column of a table; the value is a column (a membership of
    rows in each other); the table is known to be small; the row is found by a unique key anyway;
    it is negated or under OR. Info where an index narrows the rows already, and without a schema.
Source: PostgreSQL manual, 9.19 "Array Functions and Operators" and 64.4.1 "GIN: Built-in Operator
    Classes" (array_ops).
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.catalog.model import Index
from sqladvisor.context import Context
from sqladvisor.finding import Edit, Finding, Fix
from sqladvisor.rule import rule
from sqladvisor.sql.comparisons import conditions, is_system, narrowing, ranged
from sqladvisor.sql.datatypes import type_name
from sqladvisor.sql.expressions import create_index
from sqladvisor.sql.quote import identifier, literal
from sqladvisor.sql.resolve import Binding
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import constant, is_pseudo_constant, operator, unwrap

SCHEMA = """
CREATE TABLE products (id bigint PRIMARY KEY, tags text[] NOT NULL, labels varchar(20)[],
    related bigint[], "Größen" integer[], weights float8[], name text, category text);
CREATE INDEX products_labels_idx ON products USING gin (labels);
CREATE INDEX ON products (category);
CREATE TABLE users (id bigint PRIMARY KEY, favourite text);
"""
BAD = [
    "SELECT id FROM products WHERE 'sale' = ANY (tags)",
    "SELECT p.id FROM public.products p WHERE 'new' = ANY (p.labels) AND p.name LIKE 'a%'",
    """SELECT id FROM products
       WHERE 5 = ANY("Größen") AND name <> 'é'""",
    "SELECT id FROM products p WHERE $1 = ANY (p.related)",
    "WITH x AS (SELECT id FROM products WHERE 'it''s' = SOME (tags)) SELECT count(*) FROM x",
    "DELETE FROM products WHERE 'old' = ANY (tags)",
    "UPDATE products p SET name = 'x' FROM users u WHERE u.id = p.id AND 'x'::text = ANY (p.tags)",
    "SELECT count(*) FROM users u JOIN products p ON p.name = u.favourite AND 'sale' = ANY (p.tags)",
]
GOOD = [
    "SELECT id FROM products WHERE tags @> ARRAY['sale']",
    "SELECT id FROM products WHERE id = ANY ($1)",
    "SELECT id FROM products WHERE id = ANY (ARRAY[1, 2]) AND name = ANY ('{a,b}')",
    "SELECT id FROM products WHERE id = 5 AND 'sale' = ANY (tags)",
    "SELECT id FROM products WHERE NOT 'sale' = ANY (tags)",
    "SELECT id FROM products WHERE 'sale' <> ALL (tags) AND 5 < ANY (related)",
    "SELECT p.id FROM products p JOIN users u ON u.favourite = ANY (p.tags)",
    "SELECT 'sale' = ANY (tags) FROM products",
    "SELECT id FROM products WHERE 0.1 = ANY (weights)",
    "SELECT s.a FROM (SELECT ARRAY[1, 2] AS a) s WHERE 1 = ANY (s.a)",
    "SELECT id FROM users u WHERE 'x' = ANY (string_to_array(u.favourite, ','))",
    "SELECT id FROM products WHERE 1.5 = ANY (related)",
    "SELECT * FROM pg_catalog.pg_constraint WHERE 5 = ANY (conkey)",
]

_LARGEST = {"smallint": 2**15 - 1, "integer": 2**31 - 1, "bigint": 2**63 - 1, "numeric": 10**99}
_ELEMENTS = frozenset((*_LARGEST, "text", "character varying", "uuid", "date", "boolean"))


@rule("SelectStmt", "UpdateStmt", "DeleteStmt", severity="warning")
def check(query: Node, ctx: Context) -> Iterator[Finding]:
    if "whereClause" not in query and "fromClause" not in query:
        return
    scope = ctx.scope(query, "UpdateStmt" if "relation" in query else "SelectStmt")
    found = []
    for part in conditions(query, scope):
        kind, node = unwrap(part)
        if kind != "A_Expr" or node.get("kind") != "AEXPR_OP_ANY" or operator(node) != "=":
            continue
        value, array = node.get("lexpr", {}), node.get("rexpr", {})
        binding = ctx.binding(array)
        if binding and not binding.depth and is_pseudo_constant(value) and _searched(binding, ctx):
            found.append((part, value, array, binding))
    if not found:
        return
    narrowed = narrowing(scope, query, ctx.resolver)
    in_range = ranged(scope, query, ctx.resolver)
    for part, value, array, binding in found:
        item = binding.item
        how = narrowed.get(id(item), "")
        wanted, span = _array(value, binding, ctx), ctx.span(part)
        if how == "unique" or wanted is None or span is None:
            continue
        gin = _gin(binding)
        contains = f"{ctx.text(array)} @> {wanted}"
        fixes = [Fix(f"ask for {contains}", ctx.edit(Edit(*span, contains)))]
        if gin is None:
            index = create_index(item, identifier(binding.column), "gin")
            fixes.append(Fix("and give it an index", index, "ddl"))
        weak = bool(how) or id(item) in in_range or item.relation is None
        yield ctx.finding(
            part,
            f"{ctx.text(part)} is tried on every row of {item.name} read: "
            + (f"the GIN index {gin.name} answers only @>" if gin else "no index can serve it"),
            severity="info" if weak else "warning",
            fixes=fixes,
        )


def _searched(binding: Binding, ctx: Context) -> bool:
    """Whether the array is a column of a table worth an index."""
    item, definition = binding.item, binding.definition
    if item.kind != "table" or is_system(item) or ctx.small(item):
        return False
    if item.relation is None:
        return binding.sure
    return (
        item.relation.kind in ("table", "partitioned", "matview")
        and definition is not None
        and definition.type.endswith("[]")
        and definition.type[:-2] in _ELEMENTS
    )


def _array(value: Node, binding: Binding, ctx: Context) -> str | None:
    """An array of the value alone, of the column's type; None where that could mean another."""
    text, fixed = ctx.text(value), constant(value)
    kind, node = unwrap(value)
    column_type = binding.definition.type if binding.definition else ""
    if not column_type:
        # A quoted literal takes the type of the column, whatever it is.
        if kind != "A_Const" or not isinstance(fixed, str | int) or isinstance(fixed, bool):
            return None
        escaped = str(fixed).replace("\\", "\\\\").replace('"', '\\"')
        return literal(f'{{"{escaped}"}}' if isinstance(fixed, str) else f"{{{fixed}}}")
    element = column_type[:-2]
    if kind == "TypeCast":
        if type_name(node.get("typeName", {})) != element:
            return None
    elif type(fixed) is int:
        if abs(fixed) > _LARGEST.get(element, -1):
            return None
    elif kind != "ParamRef" and not isinstance(fixed, str):
        return None
    plain = (element == "text" and type(fixed) is str) or (
        element == "integer" and type(fixed) is int
    )
    return f"ARRAY[{text}]" + ("" if plain else f"::{column_type}")


def _gin(binding: Binding) -> Index | None:
    relation = binding.item.relation
    for index in relation.indexes if relation else ():
        whole = index.valid and index.method == "gin" and not index.predicate
        if whole and binding.column in index.keys:
            return index
    return None
