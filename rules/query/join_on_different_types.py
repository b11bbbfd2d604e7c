"""Two columns are joined whose types differ, so that one of them is cast in every row.

Why: an index holds the column's own values. A bigint key joined to a numeric column is compared as
    numeric, an id written as id::text as text: neither finds its rows through the index on the id,
    the planner has no statistics for the cast value, and a nested loop into that table reads all
    of it. Numbers and text have no common operator at all: the query is refused.
Fix: cast the other side, so that the index can be used; better, one type for both columns.
Silent when: an operator takes both types (integer and bigint, text and varchar, date and
    timestamp); the tables are known to be small; a type is not known; the expression computes
    something, as date(created_at) does.
Source: PostgreSQL manual, 10.2 "Operators" (type resolution) and 11.10 "Operator Classes and
    Operator Families".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sqladvisor.catalog.model import Index
from sqladvisor.context import Context
from sqladvisor.finding import Edit, Finding, Fix
from sqladvisor.rule import rule
from sqladvisor.sql.casts import Cast, cast_between, column_type
from sqladvisor.sql.comparisons import conditions
from sqladvisor.sql.datatypes import INTEGERS, type_name
from sqladvisor.sql.quote import identifier, qualified
from sqladvisor.sql.resolve import Binding, Scope
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import conjuncts, operator, unwrap

SCHEMA = """
CREATE TABLE users (id bigint PRIMARY KEY, name varchar(80) UNIQUE, uid uuid UNIQUE, code char(6) UNIQUE);
CREATE TABLE orders (id integer PRIMARY KEY, user_id numeric(20), user_ref text, "userUid" text,
    user_code text, user_name text, buyer_id bigint REFERENCES users, created_at timestamptz, day date);
CREATE INDEX ON orders (buyer_id);
CREATE TABLE legacy (id numeric PRIMARY KEY, buyer_id text, score real, score2 double precision);
CREATE INDEX legacy_score_idx ON legacy (score);
CREATE SCHEMA crm;
CREATE TABLE crm.calls (id bigint PRIMARY KEY, id_user double precision, day timestamp);
"""
BAD = [
    "SELECT o.id FROM orders o JOIN users u ON u.id = o.user_id",
    "SELECT o.id FROM orders o, users u WHERE o.user_id = u.id AND u.name = 'Zoë'",
    "SELECT o.id FROM orders o JOIN users u ON u.id = o.user_ref",
    "SELECT o.id FROM orders o JOIN users u ON u.id::text = o.user_ref",
    """SELECT o.id
       FROM orders o
       LEFT JOIN users AS u
              ON CAST(u.uid AS text) = o."userUid" """,
    "SELECT o.id FROM orders o JOIN users u ON u.code = o.user_code",
    "SELECT l.id FROM orders o JOIN legacy l USING (id)",
    "SELECT l.id FROM orders o JOIN legacy l USING (buyer_id)",
    "UPDATE orders SET day = now() FROM users u WHERE u.id = orders.user_id",
    "DELETE FROM users USING crm.calls c WHERE c.id_user = users.id",
    "SELECT id FROM users u WHERE EXISTS (SELECT 1 FROM orders o WHERE o.user_id = u.id)",
    "WITH o AS (SELECT user_id AS who FROM orders) SELECT u.id FROM users u JOIN o ON o.who = u.id",
    "SELECT id FROM users WHERE id IN (SELECT user_id FROM orders)",
]
GOOD = [
    "SELECT o.id FROM orders o JOIN users u ON u.id = o.buyer_id",
    "SELECT o.id FROM orders o JOIN crm.calls c ON c.id = o.id",
    "SELECT o.id FROM orders o JOIN users u ON u.name = o.user_name",
    "SELECT o.id FROM orders o JOIN crm.calls c ON o.day = c.day AND o.created_at > c.day",
    "SELECT o.id FROM orders o JOIN crm.calls c ON o.created_at::date = c.day::date",
    "SELECT a.id FROM legacy a JOIN legacy b ON a.score = b.score2",
    "SELECT o.id FROM orders o JOIN users u ON u.id = o.user_id::bigint",
    "SELECT o.id FROM orders o JOIN elsewhere e ON e.id = o.user_id AND e.ref = o.user_ref",
    "SELECT id FROM orders WHERE id = user_id",
    "SELECT o.id FROM orders o JOIN users u ON u.id <> o.user_id AND u.id = o.buyer_id",
    "SELECT o.id FROM orders o JOIN users u ON u.id = o.user_ref::bigint",
]

_OPERATORS = frozenset(("=", "<", "<=", ">", ">="))
_SHORT = {"character varying": "varchar", "character": "bpchar"}


class _Side(NamedTuple):
    """One side of a join condition: a column, perhaps with a cast written around it."""

    wrapped: Node
    column: Node
    binding: Binding
    type: str
    """The column's own type."""
    cast_to: str = ""

    @property
    def name(self) -> str:
        return f"{self.binding.item.name or self.binding.item.alias}.{self.binding.column}"

    @property
    def serving(self) -> Index | None:
        """An index that a look-up by the column could use."""
        relation = self.binding.item.relation
        return next(
            (
                i
                for i in (relation.indexes if relation else ())
                if i.valid and i.keys[:1] == (self.binding.column,)
            ),
            None,
        )


@rule("SelectStmt", "UpdateStmt", "DeleteStmt", "MergeStmt", severity="warning", needs=("schema",))
def check(query: Node, ctx: Context) -> Iterator[Finding]:
    if not any(k in query for k in ("whereClause", "fromClause", "joinCondition")):
        return
    kind = (
        "MergeStmt"
        if "joinCondition" in query
        else "UpdateStmt"
        if "relation" in query
        else "SelectStmt"
    )
    scope = ctx.scope(query, kind)
    parts = list(conditions(query, scope))
    if "joinCondition" in query:
        parts += conjuncts(query["joinCondition"])
    for part in parts:
        kind, node = unwrap(part)
        if (
            kind == "SubLink"
            and node.get("subLinkType") == "ANY_SUBLINK"
            and "operName" not in node
        ):
            targets = unwrap(node.get("subselect", {}))[1].get("targetList", ())
            value = targets[0]["ResTarget"].get("val", {}) if len(targets) == 1 else {}
            yield from _judge(part, node.get("testexpr", {}), value, False, ctx)
        elif (
            kind == "A_Expr"
            and node.get("kind", "AEXPR_OP") == "AEXPR_OP"
            and operator(node) in _OPERATORS
        ):
            yield from _judge(part, node.get("lexpr", {}), node.get("rexpr", {}), True, ctx)
    for join in scope.joins:
        yield from _using(join, scope, ctx)


def _side(wrapped: Node, ctx: Context) -> _Side | None:
    kind, node = unwrap(wrapped)
    target, column = "", wrapped
    if kind == "TypeCast":
        target, column = type_name(node.get("typeName", {})), node.get("arg", {})
    binding = ctx.binding(column)
    own = column_type(binding, ctx.resolver)
    if binding is None or not binding.sure or own is None:
        return None
    return _Side(wrapped, column, binding, own, "" if target == own else target)


def _judge(at: Node, left: Node, right: Node, rewritable: bool, ctx: Context) -> Iterator[Finding]:
    one, other = _side(left, ctx), _side(right, ctx)
    if one is None or other is None or one.binding.item is other.binding.item:
        return
    if one.cast_to and other.cast_to:
        return
    if one.cast_to or other.cast_to:
        cast, kept = (one, other) if one.cast_to else (other, one)
        # A cast that types do not ask for computes something: that is another rule's matter.
        if cast_between(cast.type, kept.type) is None or cast_between(cast.cast_to, kept.type):
            return
        # Where the other side has an index, the author chose the side to look up.
        if cast.serving is None or kept.serving is not None:
            return
        yield from _finding(at, cast, kept, cast.cast_to, rewritable, ctx)
        return
    verdict = cast_between(one.type, other.type)
    if verdict is None:
        return
    if verdict.side == "none":
        yield _refused(at, one, other, rewritable, ctx)
        return
    cast, kept = (one, other) if verdict.side == "left" else (other, one)
    yield from _finding(at, cast, kept, verdict.type, rewritable, ctx)


def _refused(at: Node, one: _Side, other: _Side, rewritable: bool, ctx: Context) -> Finding:
    fixes = []
    texts = [s for s in (one, other) if s.type in ("text", "character varying")]
    if rewritable and len(texts) == 1:
        text, typed = texts[0], other if texts[0] is one else one
        if typed.serving is not None and text.serving is None:
            changes = f"as written it fails; so does this where {text.name} is no {typed.type}"
            fixes = _written(text, typed.type, f"compare as {typed.type}", changes, ctx)
        else:
            fixes = _written(typed, "text", "compare as text", "as written it fails", ctx)
    return ctx.finding(
        at,
        f"PostgreSQL refuses this: {one.name} is {one.type}, {other.name} is {other.type}, and no "
        "operator compares the two",
        severity="error",
        fixes=fixes,
    )


def _finding(
    at: Node, cast: _Side, kept: _Side, target: str, rewritable: bool, ctx: Context
) -> Iterator[Finding]:
    if ctx.small(cast.binding.item):
        return
    index = cast.serving
    effect = f"the index {index.name} cannot be used" if index else "no index on it could be used"
    yield ctx.finding(
        at,
        f"{cast.name} ({cast.type}) is cast to {target} in every row to be compared with "
        f"{kept.name} ({kept.type}): {effect}",
        severity="warning" if index else "info",
        fixes=_fixes(cast, kept, rewritable and index is not None, ctx),
    )


def _fixes(cast: _Side, kept: _Side, rewritable: bool, ctx: Context) -> list[Fix]:
    if not rewritable:
        return []
    short = _SHORT.get(cast.type, cast.type)
    if cast.type in INTEGERS and kept.type in ("text", "character varying"):
        changes = f"fails where {kept.name} holds no number"
    elif cast.type in INTEGERS:
        changes = f"fractions in {kept.name} are rounded"
    elif cast.type == "uuid":
        changes = f"fails where {kept.name} holds no uuid"
    elif cast.type == "character":
        changes = f"blanks at the end of {kept.name} do not count"
    elif cast.type == "citext":
        changes = "ignores case, as citext does"
    else:
        changes = f"compares as {cast.type}"
    what = f"cast {kept.name} instead, so that the index {cast.serving.name if cast.serving else ''} serves"
    edits = []
    if cast.cast_to:
        place = ctx.span(cast.wrapped)
        if place is None:
            return []
        edits.append(Edit(*place, ctx.text(cast.column)))
    place = ctx.span(kept.wrapped)
    if place is None:
        return []
    edits.append(Edit(*place, f"{ctx.text(kept.column)}::{short}"))
    return [Fix(what, ctx.edit(*edits), changes_result=changes), *_one_type(cast, kept)]


def _written(side: _Side, target: str, what: str, changes: str, ctx: Context) -> list[Fix]:
    place, text = ctx.span(side.wrapped), ctx.text(side.wrapped)
    if place is None or side.cast_to:
        return []
    return [Fix(what, ctx.edit(Edit(*place, f"{text}::{target}")), changes_result=changes)]


def _one_type(cast: _Side, kept: _Side) -> list[Fix]:
    """DDL that gives both columns one type: the indexed one's, or text in place of char(n)."""
    changed, target = (cast, "text") if cast.type == "character" else (kept, cast.type)
    item = changed.binding.item
    if item.relation is None or item.relation.kind != "table" or item.relation.partition_key:
        return []
    column = identifier(changed.binding.column)
    sql = (
        f"ALTER TABLE {qualified(item.schema, item.name)} ALTER COLUMN {column} "
        f"TYPE {target} USING {column}::{target};"
    )
    fits = "" if target == "text" else f"if every {changed.name} fits: "
    what = f"{fits}give both columns one type (rewrites the table under an exclusive lock)"
    return [Fix(what, sql, "ddl")]


# -- USING ----------------------------------------------------------------------------------------


def _using(join: Node, scope: Scope, ctx: Context) -> Iterator[Finding]:
    for wrapped in join.get("usingClause", ()):
        name = str(wrapped["String"]["sval"])
        owners = [i for i in scope.items if i.relation and i.relation.column(name)]
        if len(owners) != 2 or any(i.columns is None for i in scope.items):
            continue
        sides = []
        for item in owners:
            binding = Binding(item, name, 0, True)
            own = column_type(binding, ctx.resolver)
            if own:
                sides.append(_Side({}, {}, binding, own))
        verdict: Cast | None = None
        if len(sides) == 2:
            verdict = cast_between(sides[0].type, sides[1].type)
        at = join.get("rarg", {})
        if verdict is None:
            continue
        if verdict.side == "none":
            yield _refused(at, sides[0], sides[1], False, ctx)
        else:
            cast, kept = sides if verdict.side == "left" else sides[::-1]
            yield from _finding(at, cast, kept, verdict.type, False, ctx)
