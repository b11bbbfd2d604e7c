"""A filter computes something from a column instead of comparing the column itself.

Why: a b-tree holds the column's values, not date(), lower() or + 1 of them. PostgreSQL reads every
    row, computes the expression and throws most rows away; it also has no statistics for the
    expression and guesses that half a percent of the rows pass.
Fix: the same condition on the bare column where there is one (half-open ranges for days, months
    and years: the same rows, in the session's time zone, as the function has them); otherwise an
    index on the expression, where the expression is immutable.
Silent when: an index has the expression as a key; the table is known to be small, or PostgreSQL's
    own; the row is found by a unique key anyway; the cast changes nothing; the expression joins
    two tables.
Source: PostgreSQL manual, 11.7 "Indexes on Expressions"; DEFAULT_EQ_SEL and DEFAULT_INEQ_SEL in
    src/include/utils/selfuncs.h.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.finding import Edit, Finding, Fix, Severity
from sqladvisor.rule import rule
from sqladvisor.sql.comparisons import (
    Comparison,
    comparison,
    conditions,
    is_system,
    narrowing,
    only_column,
)
from sqladvisor.sql.datatypes import STRINGS, type_name
from sqladvisor.sql.expressions import create_index, expression_index, index_key, is_immutable
from sqladvisor.sql.resolve import Binding
from sqladvisor.sql.sargable import Rewrite, on_bare_column, year_and_month
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import constant, function_name, operator, unwrap

SCHEMA = """
CREATE TABLE users (id bigint PRIMARY KEY, email text NOT NULL UNIQUE, name varchar(80),
    born date, active boolean, external uuid UNIQUE, "Nick" text, code integer UNIQUE,
    created_at timestamptz NOT NULL, seen timestamp);
CREATE INDEX users_created_at_idx ON users (created_at);
CREATE INDEX users_seen_idx ON users (seen);
CREATE INDEX users_name_idx ON users (upper(name));
CREATE INDEX ON users ((created_at AT TIME ZONE 'UTC'));
CREATE TABLE orders (id bigint PRIMARY KEY, user_id bigint REFERENCES users, total numeric,
    created_at timestamptz NOT NULL);
"""
BAD = [
    "SELECT id FROM users WHERE date(created_at) = '2023-01-01'",
    "SELECT u.id FROM users u WHERE u.created_at::date >= CURRENT_DATE - 7 AND u.active",
    "SELECT id FROM users u WHERE CAST(u.seen AS date) BETWEEN '2023-01-01' AND '2023-01-31'",
    "SELECT id FROM users WHERE date_trunc('month', created_at) = date_trunc('month', now())",
    """SELECT id FROM users
       WHERE EXTRACT(YEAR FROM created_at) = 2024 AND EXTRACT(MONTH FROM created_at) = 2""",
    "SELECT id FROM users WHERE to_char(created_at, 'YYYY-MM') = '2024-12'",
    "SELECT id FROM users WHERE lower(email) = 'x@example.com'",
    """SELECT id FROM users WHERE lower("Nick") LIKE 'ab%'""",
    "SELECT id FROM users WHERE code + 1 > 100",
    "SELECT id FROM users WHERE now() - created_at < interval '7 days'",
    "SELECT id FROM users WHERE created_at + interval '1 hour' > now()",
    "SELECT id FROM users WHERE id::text = '42'",
    "DELETE FROM users WHERE coalesce(code, 0) = 7",
    "UPDATE users SET active = false WHERE date(seen) < $1",
    "WITH recent AS (SELECT * FROM users WHERE date(created_at) = $1) SELECT id FROM recent",
    "SELECT id FROM users u JOIN orders o ON o.user_id = u.id AND date(o.created_at) = DATE '2024-02-29'",
    "SELECT id FROM users WHERE left(email, 3) = 'a_b'",
]
GOOD = [
    "SELECT id FROM users WHERE created_at >= '2023-01-01' AND created_at < '2023-01-02'",
    "SELECT id FROM users u WHERE upper(u.name) = 'ANN'",
    "SELECT id FROM users WHERE id = 5 AND date(created_at) = '2023-01-01'",
    "SELECT date(created_at), lower(email) FROM users WHERE id > 5",
    "SELECT u.id FROM users u JOIN orders o ON lower(u.email) = lower(o.id::text)",
    "SELECT id FROM (SELECT id, lower(email) AS e FROM users) s WHERE upper(s.e) = 'X'",
    "SELECT day FROM generate_series('2024-01-01'::date, '2024-02-01', '1 day') day WHERE date(day) > '2024-01-05'",
    "SELECT id FROM users WHERE born::date = '2000-01-01' AND email::text = 'x' AND name::text = 'y'",
    "SELECT id FROM users WHERE created_at > now() - interval '1 day'",
    "SELECT id FROM users GROUP BY id HAVING max(created_at)::date > '2024-01-01'",
    "SELECT id FROM users WHERE random() < 0.01 AND id > abs(-5)",
    "SELECT u.email FROM orders o JOIN users u ON u.id = o.user_id WHERE o.id = $1 AND lower(u.email) <> 'x'",
    "SELECT id FROM users WHERE created_at AT TIME ZONE 'UTC' >= '2024-01-01'",
    "SELECT pid FROM pg_stat_activity WHERE now() - xact_start > interval '5 minutes'",
    "SELECT * FROM information_schema.columns WHERE lower(column_name) = 'x'",
]

_OPERATORS = frozenset(("=", "<", "<=", ">", ">=", "BETWEEN", "IN", "ANY", "~~"))
_TABLES = ("table", "partitioned", "matview")
_COMPUTES = {"TypeCast", "FuncCall", "A_Expr", "CoalesceExpr"}
# Types whose lower() or cast people write out of habit although the type does it already.
_CASELESS = frozenset(("citext", "boolean"))


@rule("SelectStmt", "UpdateStmt", "DeleteStmt", severity="warning")
def check(query: Node, ctx: Context) -> Iterator[Finding]:
    if "whereClause" not in query and "fromClause" not in query:
        return
    scope = ctx.scope(query, "UpdateStmt" if "relation" in query else "SelectStmt")
    found = []
    for part in conditions(query, scope):
        c = comparison(part)
        if c and c.operator in _OPERATORS and unwrap(c.side)[0] in _COMPUTES:
            binding = only_column(c.side, ctx.resolver)
            if binding and not binding.depth and _hides(c, binding, ctx):
                found.append((c, binding))
    if not found:
        return
    narrowed = narrowing(scope, query, ctx.resolver)
    years = [(c, b) for c, b in found if _field(c) == "year"]
    for c, binding in found:
        how = narrowed.get(id(binding.item), "")
        if how == "unique":
            continue
        if _field(c) == "month" and any(_same(b, binding) for _, b in years):
            continue
        yield from _finding(c, binding, how == "index", found, ctx)


def _hides(c: Comparison, binding: Binding, ctx: Context) -> bool:
    """Whether the comparison keeps an index on the column of a real table from being used."""
    item = binding.item
    if item.kind != "table" or is_system(item):
        return False
    if item.relation and item.relation.kind not in _TABLES:
        return False
    if ctx.small(item) or (binding.definition and binding.definition.type in _CASELESS):
        return False
    if c.operator == "~~":
        pattern = constant(c.values[0])
        if not isinstance(pattern, str) or pattern[:1] in ("", "%", "_", "\\"):
            return False
    if not _computed(c.side, binding.definition.type if binding.definition else ""):
        return False
    return not (item.relation and expression_index(item.relation, c.side))


def _computed(wrapped: Node, column_type: str) -> bool:
    """Whether an expression is a chain of functions, casts and sums that changes the column."""
    kind, node = unwrap(wrapped)
    if kind == "ColumnRef":
        return False
    if kind == "TypeCast":
        target = type_name(node.get("typeName", {}))
        if unwrap(node.get("arg", {}))[0] != "ColumnRef":
            return _computed(node.get("arg", {}), "")
        if target == column_type or (target in STRINGS and column_type in STRINGS):
            return False
        # Of a column of unknown type only a cast to date says something: it is seldom one already.
        return bool(column_type) or target == "date"
    if kind == "A_Expr":
        return (
            node.get("kind", "AEXPR_OP") == "AEXPR_OP" and operator(node) in ("+", "-", "*")
        ) and _parts([node.get("lexpr", {}), node.get("rexpr", {})])
    if kind == "FuncCall":
        plain = not any(k in node for k in ("over", "agg_distinct", "agg_star", "agg_filter"))
        return plain and _parts(node.get("args", ()))
    return kind == "CoalesceExpr" and _parts(node.get("args", ()))


def _parts(args: list[Node]) -> bool:
    """Whether arguments are columns, constants and computations of the kinds looked at here."""
    for arg in args:
        kind = unwrap(arg)[0]
        if kind in ("ColumnRef", "A_Const", "ParamRef", "SQLValueFunction", ""):
            continue
        if kind == "TypeCast" or kind in _COMPUTES:
            inner = unwrap(arg)[1]
            nested = [inner.get("arg", {})] if kind == "TypeCast" else inner.get("args", ())
            if kind == "A_Expr":
                nested = [inner.get("lexpr", {}), inner.get("rexpr", {})]
                if operator(inner) not in ("+", "-", "*"):
                    return False
            if _parts(list(nested)):
                continue
        return False
    return True


def _field(c: Comparison) -> str:
    """The field of ``EXTRACT(field FROM column)``, else ""."""
    kind, node = unwrap(c.side)
    if kind == "FuncCall" and function_name(node) in ("extract", "date_part"):
        field = constant(node["args"][0])
        return field.lower() if isinstance(field, str) else ""
    return ""


def _same(one: Binding, other: Binding) -> bool:
    return one.item is other.item and one.column == other.column


def _finding(
    c: Comparison,
    binding: Binding,
    narrowed: bool,
    found: list[tuple[Comparison, Binding]],
    ctx: Context,
) -> Iterator[Finding]:
    item, definition = binding.item, binding.definition
    column_type = definition.type if definition else ""
    rewrite, span = _rewrite(c, binding, found, column_type, ctx)
    fixes = []
    if rewrite and span:
        fixes.append(
            Fix(
                f"compare {binding.column} itself: {rewrite.text}",
                ctx.edit(Edit(*span, rewrite.text)),
                changes_result=rewrite.changes_result,
            )
        )
    elif key := _key(c, column_type, ctx):
        fixes.append(Fix("index the expression", create_index(item, key), "ddl"))
    index = next(
        (
            i
            for i in (item.relation.indexes if item.relation else ())
            if i.valid and i.method == "btree" and i.keys[:1] == (binding.column,)
        ),
        None,
    )
    if not fixes and index is None:
        return
    table = item.name or item.alias
    cost = f"the index {index.name} cannot be used" if index else "no index on the column can serve"
    serious = (
        bool(rewrite) and (index is not None or item.relation is None)
        if rewrite or item.relation is None
        else True
    )
    severity: Severity = "warning" if serious and not narrowed else "info"
    yield ctx.finding(
        c.wrapped,
        f"{ctx.text(c.side)} is computed for every row of {table} read: {cost}",
        severity=severity,
        fixes=fixes,
    )


def _rewrite(
    c: Comparison,
    binding: Binding,
    found: list[tuple[Comparison, Binding]],
    column_type: str,
    ctx: Context,
) -> tuple[Rewrite | None, tuple[int, int] | None]:
    """The predicate on the bare column, and the span of text it replaces."""
    span = ctx.span(c.wrapped)
    if _field(c) == "year" and span:
        for other, theirs in found:
            month = constant(other.values[0])
            place = ctx.span(other.wrapped)
            if _field(other) != "month" or other.operator != "=" or not _same(theirs, binding):
                continue
            between = (
                ctx.statement.sql[min(span[1], place[1]) : max(span[0], place[0])] if place else ""
            )
            if place and isinstance(month, int) and between.strip().upper() == "AND":
                both = year_and_month(c, month, column_type, ctx)
                if both:
                    return both, (min(span[0], place[0]), max(span[1], place[1]))
    return on_bare_column(c, column_type, ctx), span


def _key(c: Comparison, column_type: str, ctx: Context) -> str:
    """The expression as the key of an index that serves the comparison; "" if there is none."""
    functions = frozenset(
        f.name for f in ctx.catalog.functions.values() if f.volatility == "immutable"
    )
    if not is_immutable(c.side, column_type, functions):
        return ""
    key = index_key(c.side, ctx)
    return f"{key} text_pattern_ops" if c.operator == "~~" and key else key
