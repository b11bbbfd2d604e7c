"""A char(n) column is compared in a way to which its padding blanks matter.

Why: char(n) fills values with blanks to n characters. The operators = and < of char(n) ignore them,
    but LIKE and regular expressions see them: code LIKE 'AB' does not find 'AB' in a char(5). Compared
    with a value of type text, the column is cast to text instead: its index cannot be used, and
    blanks at the end of the value count.
Fix: = for a pattern without wildcards, rtrim() otherwise; the value as bpchar instead of text.
Silent when: the pattern ends in %, or fills the column's width as far as statistics tell; the value
    is a quoted literal or a bare parameter; the type of the column is not known.
Source: PostgreSQL manual, 8.3 "Character Types".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.finding import Edit, Finding, Fix
from sqladvisor.rule import rule
from sqladvisor.sql.casts import column_type, value_type
from sqladvisor.sql.resolve import Binding
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import constant, operator, unwrap, walk

SCHEMA = """
CREATE TABLE countries (id integer PRIMARY KEY, code char(5) UNIQUE, "Zone" char(8), name text);
CREATE TABLE cities (id integer PRIMARY KEY, country char(5), name varchar(40));
"""
BAD = [
    "SELECT id FROM countries WHERE code LIKE 'AB'",
    "SELECT c.id FROM countries AS c WHERE c.name = 'Österreich' AND c.\"Zone\" LIKE '%st'",
    "SELECT id FROM countries WHERE code ILIKE '_b' OR code ~ 'B$'",
    "SELECT id FROM countries WHERE code = $1::text",
    """UPDATE countries
       SET name = ''
       WHERE 'AB'::text = code""",
    "WITH c AS (SELECT code AS k FROM countries) DELETE FROM cities USING c WHERE c.k LIKE 'AB'",
]
GOOD = [
    "SELECT id FROM countries WHERE code = 'AB' AND \"Zone\" = $1",
    "SELECT id FROM countries WHERE code LIKE 'AB%' AND code ~ '^AB'",
    "SELECT id FROM countries WHERE rtrim(code) LIKE '%B'",
    "SELECT id FROM countries WHERE name LIKE 'AB' AND name = $1::text",
    "SELECT id FROM cities WHERE country = $1::bpchar AND name = $2::text",
    "SELECT id FROM elsewhere WHERE code LIKE 'AB'",
    "SELECT k.id FROM countries k JOIN cities c ON c.country = k.code",
    "SELECT id FROM countries WHERE code = 'AB'::varchar",
]

_OPERATORS = frozenset(("=", "<>", "<", "<=", ">", ">="))
_PATTERNS = {
    "~~": "LIKE",
    "~~*": "ILIKE",
    "!~~": "NOT LIKE",
    "!~~*": "NOT ILIKE",
    "~": "~",
    "~*": "~*",
}


@rule("A_Expr", severity="info", needs=("schema",))
def check(node: Node, ctx: Context) -> Iterator[Finding]:
    how, name = node.get("kind", "AEXPR_OP"), operator(node)
    left, right = node.get("lexpr", {}), node.get("rexpr", {})
    if how == "AEXPR_OP" and name in _OPERATORS:
        for column, value in ((left, right), (right, left)):
            binding = _padded(column, ctx)
            if binding and value_type(value, ctx.resolver) == "text" and not _columns(value):
                yield _as_text(node, column, value, binding, ctx)
    elif name in _PATTERNS and how in ("AEXPR_OP", "AEXPR_LIKE", "AEXPR_ILIKE"):
        binding = _padded(left, ctx)
        if binding:
            yield from _pattern(node, left, right, name, binding, ctx)


def _padded(wrapped: Node, ctx: Context) -> Binding | None:
    binding = ctx.binding(wrapped)
    if binding and binding.sure and column_type(binding, ctx.resolver) == "character":
        return binding
    return None


def _columns(wrapped: Node) -> bool:
    return any(kind in ("ColumnRef", "SubLink") for kind, _ in walk(*unwrap(wrapped)))


def _as_text(node: Node, column: Node, value: Node, binding: Binding, ctx: Context) -> Finding:
    relation = binding.item.relation
    index = next(
        (
            i.name
            for i in (relation.indexes if relation else ())
            if i.valid and i.keys[:1] == (binding.column,)
        ),
        "",
    )
    lost = f", and the index {index} cannot be used" if index else ""
    place, (kind, inner) = ctx.span(value), unwrap(value)
    text = ctx.text(inner.get("arg", {})) if kind == "TypeCast" else f"({ctx.text(value)})"
    fixes = []
    if place and text:
        fixes.append(
            Fix(
                "give the value as bpchar",
                ctx.edit(Edit(*place, f"{text}::bpchar")),
                changes_result="blanks at the end of the value do not count",
            )
        )
    return ctx.finding(
        {"A_Expr": node},
        f"{_named(binding)} is char(n) and cast to text to be compared with {ctx.text(value)}: "
        f"blanks at the end of the value count{lost}",
        severity="warning" if index and not ctx.small(binding.item) else "info",
        fixes=fixes,
    )


def _named(binding: Binding) -> str:
    return f"{binding.item.name or binding.item.alias}.{binding.column}"


def _pattern(
    node: Node, column: Node, value: Node, name: str, binding: Binding, ctx: Context
) -> Iterator[Finding]:
    pattern = constant(value)
    if not isinstance(pattern, str) or not _minds_the_end(pattern, name):
        return
    plain = not set(pattern) & set("%_\\") and not name.startswith("~*") and name in ("~~", "!~~")
    definition = binding.definition
    stats = definition.stats if definition else None
    # Of one-byte characters the width is n and one byte for the length.
    width = stats.avg_width - 1 if stats else None
    if width is not None and width <= len(pattern):
        return
    padded = plain and width is not None
    text, place = ctx.text(column), ctx.span(column)
    whole = ctx.span({"A_Expr": node})
    fixes = []
    if plain and whole and text and place and place[0] == whole[0]:
        sign = "=" if name == "~~" else "<>"
        edit = Edit(*whole, f"{text} {sign} {ctx.text(value)}")
        fixes.append(Fix(f"compare by {sign}", ctx.edit(edit), changes_result="ignores the blanks"))
    elif place and text:
        edit = Edit(*place, f"rtrim({text})")
        fixes.append(
            Fix("match without blanks", ctx.edit(edit), changes_result="ignores the blanks")
        )
    yield ctx.finding(
        {"A_Expr": node},
        f"{_named(binding)} is char(n), filled with blanks that {_PATTERNS[name]} "
        f"{ctx.text(value)} does not expect: shorter values do not match",
        severity="warning" if padded else "info",
        fixes=fixes,
    )


def _minds_the_end(pattern: str, name: str) -> bool:
    """Whether blanks at the end of a value can keep a pattern from matching."""
    if name in ("~", "~*"):
        return pattern.endswith("$") and not pattern.endswith((" *$", "\\s*$", "\\$", ".*$"))
    return bool(pattern) and not pattern.endswith(("%", " "))
