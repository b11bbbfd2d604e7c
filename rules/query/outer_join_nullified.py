"""An outer join whose WHERE clause rejects the null-extended rows acts as an inner join.

Why: LEFT JOIN keeps rows without a partner by filling the other side with NULLs. A strict predicate
    on that side in WHERE is never true for NULL, so exactly those rows are dropped again. Either
    the query says LEFT and means INNER, or the predicate belongs in ON and the result is wrong.
Fix: INNER JOIN (same result, says what it does), or the predicate moved into ON (keeps the rows
    without a partner: a different result, and often the one that was meant).
Silent when: the predicate can be true for NULL (IS NULL anti-joins, COALESCE, OR … IS NULL,
    IS NOT DISTINCT FROM), or it is in ON already.
Source: PostgreSQL manual, 7.2.1.1 "Joined Tables"; reduce_outer_joins() in
    src/backend/optimizer/prep/prepjointree.c, which does the same reduction while planning.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.finding import Edit, Finding, Fix
from sqladvisor.rule import rule
from sqladvisor.sql.nulls import rejects_null
from sqladvisor.sql.resolve import FromItem, Scope
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import conjuncts, unwrap

SCHEMA = """
CREATE TABLE users (id bigint PRIMARY KEY, name text NOT NULL, created_at timestamptz NOT NULL);
CREATE TABLE orders (id bigint PRIMARY KEY, user_id bigint REFERENCES users, total numeric,
    status text, created_at timestamptz NOT NULL);
"""
BAD = [
    """SELECT u.name, count(o.id) FROM users u LEFT JOIN orders o ON u.id = o.user_id
       WHERE u.created_at >= '2023-01-01' AND o.created_at >= '2023-01-01' GROUP BY u.id""",
    "SELECT * FROM orders o RIGHT OUTER JOIN users u ON u.id = o.user_id WHERE u.id = 1 AND o.total > 5",
    "SELECT u.name FROM users u LEFT JOIN orders o ON o.user_id = u.id WHERE o.status IN ('a', 'b')",
    "SELECT u.name FROM users u LEFT JOIN orders o ON o.user_id = u.id WHERE lower(o.status) LIKE 'x%'",
    "SELECT u.name FROM users u LEFT JOIN orders o ON o.user_id = u.id WHERE o.total = 1 OR o.total = 2",
    "SELECT u.name FROM users u LEFT JOIN orders o ON o.user_id = u.id WHERE o.id IS NOT NULL",
]
GOOD = [
    "SELECT u.name FROM users u LEFT JOIN orders o ON o.user_id = u.id WHERE o.id IS NULL",
    "SELECT u.name FROM users u LEFT JOIN orders o ON o.user_id = u.id AND o.total > 5 WHERE u.id = 1",
    "SELECT u.name FROM users u LEFT JOIN orders o ON o.user_id = u.id WHERE coalesce(o.total, 0) < 5",
    "SELECT u.name FROM users u LEFT JOIN orders o ON o.user_id = u.id WHERE o.total > 5 OR o.id IS NULL",
    "SELECT u.name FROM users u JOIN orders o ON o.user_id = u.id WHERE o.total > 5",
    "SELECT u.name FROM users u LEFT JOIN orders o ON o.user_id = u.id WHERE o.total IS DISTINCT FROM 5",
    "SELECT u.name FROM users u LEFT JOIN orders o ON o.user_id = u.id WHERE (o.total > 5) IS NOT TRUE",
]

_WORDS = {"JOIN_LEFT": "LEFT JOIN", "JOIN_RIGHT": "RIGHT JOIN", "JOIN_FULL": "FULL JOIN"}
_TOKENS = {"JOIN_LEFT": "LEFT", "JOIN_RIGHT": "RIGHT", "JOIN_FULL": "FULL"}


@rule("SelectStmt", severity="warning")
def check(select: Node, ctx: Context) -> Iterator[Finding]:
    where = select.get("whereClause")
    if not where or "fromClause" not in select:
        return
    scope = ctx.scope(select)
    for item in scope.items:
        if not item.nulled_by:
            continue
        join = item.nulled_by[0]
        rejecting = [part for part in conjuncts(where) if _rejects(part, item, ctx)]
        if rejecting:
            predicate = ctx.text(rejecting[0])
            word = _WORDS.get(str(join.get("jointype")), "outer join")
            yield ctx.finding(
                rejecting[0],
                f"the {word} of {item.alias} acts as an inner join: {predicate} in WHERE is never "
                f"true for the rows it null-extends",
                fixes=_fixes(join, item, scope, select, rejecting, ctx),
            )


def _rejects(part: Node, item: FromItem, ctx: Context) -> bool:
    def is_item(column: Node) -> bool:
        binding = ctx.resolve(column)
        return binding is not None and binding.item is item

    return rejects_null(part, is_item)


def _fixes(
    join: Node, item: FromItem, scope: Scope, select: Node, rejecting: list[Node], ctx: Context
) -> list[Fix]:
    keyword = _join_keyword(join, ctx)
    if keyword is None or join.get("jointype") == "JOIN_FULL":
        return []
    start, end = keyword
    fixes = [
        Fix(
            "if only rows with a partner are wanted: say INNER JOIN (same result)",
            ctx.edit(Edit(start, end, "INNER JOIN")),
        )
    ]
    quals = join.get("quals")
    moved = [_enclosed(part, ctx) for part in rejecting]
    if not quals or not all(moved):
        return fixes
    quals_span = ctx.span(quals)
    where_span = ctx.span(select["whereClause"])
    if quals_span is None or where_span is None:
        return fixes
    kept = [_enclosed(p, ctx) for p in conjuncts(select["whereClause"]) if p not in rejecting]
    where_start = _where_start(where_span[0], ctx)
    if where_start is None:
        return fixes
    separator = _separator(where_span, ctx)
    condition = _enclosed(quals, ctx)
    new_where = ("WHERE " + separator.join(kept)) if kept else ""
    start_of_where = where_start
    if not kept:
        before = ctx.statement.sql[:where_start]
        start_of_where = len(before.rstrip())
    fixes.append(
        Fix(
            f"if rows without a partner are wanted too: move the predicate on {item.alias} into ON",
            ctx.edit(
                Edit(quals_span[0], quals_span[1], " AND ".join([condition, *moved])),
                Edit(start_of_where, where_span[1], new_where),
            ),
            changes_result="keeps the rows without a partner",
        )
    )
    return fixes


def _enclosed(part: Node, ctx: Context) -> str:
    """A condition's text, safe to stand beside AND: an OR gets parentheses unless it has them."""
    text = ctx.text(part)
    bare = unwrap(part)[1].get("boolop") == "OR_EXPR" and not (
        text.startswith("(") and text.endswith(")")
    )
    return f"({text})" if bare and text else text


def _join_keyword(join: Node, ctx: Context) -> tuple[int, int] | None:
    """The span of ``LEFT [OUTER] JOIN``: the keywords between the two sides."""
    left, right = ctx.span(join.get("larg", {})), ctx.span(join.get("rarg", {}))
    if left is None or right is None:
        return None
    tokens = ctx.spans.tokens
    for i, (start, _, name) in enumerate(tokens):
        if left[1] <= start < right[0] and name == _TOKENS.get(str(join.get("jointype"))):
            for _, end, later in tokens[i + 1 : i + 3]:
                if later == "JOIN":
                    return start, end
    return None


def _where_start(condition_start: int, ctx: Context) -> int | None:
    before = [t for t in ctx.spans.tokens if t[1] <= condition_start]
    while before and before[-1][2] == "ASCII_40":
        before.pop()
    return before[-1][0] if before and before[-1][2] == "WHERE" else None


def _separator(where: tuple[int, int], ctx: Context) -> str:
    """How this query's author breaks lines between AND-ed predicates."""
    text = ctx.statement.sql[where[0] : where[1]]
    if "\n" not in text:
        return " AND "
    line = text.split("\n")[1]
    return "\n" + line[: len(line) - len(line.lstrip())] + "AND "
