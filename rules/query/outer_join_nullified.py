"""An outer join whose WHERE clause rejects the null-extended rows acts as an inner join.

Why: LEFT JOIN keeps rows without a partner by filling the other side with NULLs. A strict predicate
    on that side in WHERE is never true for NULL, so exactly those rows are dropped again. Either
    the query says LEFT and means INNER, or the predicate belongs in ON and the result is wrong.
Fix: INNER JOIN (same result, says what it does; LEFT or RIGHT JOIN for a FULL one of which one
    side is rejected), or the predicate moved into ON (keeps the rows without a partner: a
    different result, and often the one that was meant). Info where the predicate is IS NOT NULL:
    that asks for a partner on purpose; and of PostgreSQL's own catalogs, whose rows all have one.
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
from sqladvisor.sql.comparisons import is_system
from sqladvisor.sql.nulls import rejects_null
from sqladvisor.sql.resolve import FromItem, Scope, columns_in
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import conjuncts, unwrap, walk

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
    "SELECT * FROM users u FULL JOIN orders o ON o.user_id = u.id WHERE o.total > 5",
    "SELECT * FROM users u FULL JOIN orders o ON o.user_id = u.id WHERE o.total > 5 AND u.name = 'é'",
    "SELECT u.name FROM users u LEFT JOIN orders o ON o.user_id = u.id WHERE (o.total = 1) OR (o.total = 2)",
    "SELECT u.id FROM users u LEFT JOIN orders o ON (o.user_id = u.id) WHERE ((o.total > 5) AND (u.id = 7))",
    """SELECT u.name FROM users u LEFT JOIN orders o ON o.user_id = u.id
       LEFT JOIN orders p ON p.id = u.id WHERE o.total > p.total""",
]
GOOD = [
    "SELECT u.name FROM users u LEFT JOIN orders o ON o.user_id = u.id WHERE o.id IS NULL",
    "SELECT u.name FROM users u LEFT JOIN orders o ON o.user_id = u.id AND o.total > 5 WHERE u.id = 1",
    "SELECT u.name FROM users u LEFT JOIN orders o ON o.user_id = u.id WHERE coalesce(o.total, 0) < 5",
    "SELECT u.name FROM users u LEFT JOIN orders o ON o.user_id = u.id WHERE o.total > 5 OR o.id IS NULL",
    "SELECT u.name FROM users u JOIN orders o ON o.user_id = u.id WHERE o.total > 5",
    "SELECT u.name FROM users u LEFT JOIN orders o ON o.user_id = u.id WHERE o.total IS DISTINCT FROM 5",
    "SELECT u.name FROM users u LEFT JOIN orders o ON o.user_id = u.id WHERE (o.total > 5) IS NOT TRUE",
    "SELECT * FROM users u RIGHT JOIN orders o USING (id) WHERE id = 5",
    "SELECT * FROM users u FULL JOIN orders o USING (id) WHERE id = 5",
    "SELECT u.name FROM users u LEFT JOIN orders o ON o.user_id = u.id WHERE o.total = ALL (ARRAY[]::numeric[])",
]

_WORDS = {"JOIN_LEFT": "LEFT JOIN", "JOIN_RIGHT": "RIGHT JOIN", "JOIN_FULL": "FULL JOIN"}
_LIKE = {"INNER": "an inner join", "LEFT": "a LEFT JOIN", "RIGHT": "a RIGHT JOIN"}
_TOKENS = {"JOIN_LEFT": "LEFT", "JOIN_RIGHT": "RIGHT", "JOIN_FULL": "FULL"}


@rule("SelectStmt", severity="warning")
def check(select: Node, ctx: Context) -> Iterator[Finding]:
    where = select.get("whereClause")
    if not where or "fromClause" not in select:
        return
    scope = ctx.scope(select)
    parts = conjuncts(where)
    for item in scope.items:
        if not item.nulled_by:
            continue
        join = item.nulled_by[0]
        rejecting = [part for part in parts if _rejects(part, item, ctx)]
        if not rejecting:
            continue
        jointype = str(join.get("jointype"))
        left = jointype == "JOIN_FULL" and _side(join, item) == "larg"
        if left or jointype != "JOIN_FULL":
            others = []
        else:
            others = [i for i in scope.items if join in i.nulled_by and _side(join, i) == "larg"]
        if any(_rejects(part, other, ctx) for other in others for part in parts):
            continue  # said of the other side already
        acts = _acts_as(join, item, scope, parts, ctx)
        # Asking for a partner that way is to know what one does.
        asked = all(unwrap(part)[0] == "NullTest" for part in rejecting)
        predicate = " ".join(ctx.text(rejecting[0]).split())
        yield ctx.finding(
            rejecting[0],
            f"the {_WORDS.get(jointype, 'outer join')} of {item.alias} acts as {_LIKE[acts]}: "
            f"{predicate} in WHERE is never true for the rows it null-extends",
            severity="info" if asked or is_system(item) else None,
            fixes=_fixes(join, item, select, rejecting, acts, asked, ctx),
        )


def _side(join: Node, item: FromItem) -> str:
    """The side of a join that an item stands on, ``larg`` or ``rarg``."""
    left = {id(node) for _, node in walk(*unwrap(join.get("larg", {})))}
    return "larg" if id(item.node) in left else "rarg"


def _acts_as(join: Node, item: FromItem, scope: Scope, parts: list[Node], ctx: Context) -> str:
    """What the join is after its null-extended rows are rejected: of a FULL JOIN, one side's."""
    if join.get("jointype") != "JOIN_FULL":
        return "INNER"
    rejected = {
        _side(join, other)
        for other in scope.items
        if join in other.nulled_by and any(_rejects(part, other, ctx) for part in parts)
    }
    if len(rejected) == 2:
        return "INNER"
    return "LEFT" if _side(join, item) == "larg" else "RIGHT"


def _rejects(part: Node, item: FromItem, ctx: Context) -> bool:
    def is_item(column: Node) -> bool:
        binding = ctx.resolve(column)
        return binding is not None and binding.item is item

    return rejects_null(part, is_item)


def _fixes(
    join: Node,
    item: FromItem,
    select: Node,
    rejecting: list[Node],
    acts: str,
    asked: bool,
    ctx: Context,
) -> list[Fix]:
    keyword = _join_keyword(join, ctx)
    if keyword is None:
        return []
    start, end = keyword
    kept_rows = "a partner" if acts == "INNER" else f"a row of {item.alias}"
    fixes = [
        Fix(
            f"if only rows with {kept_rows} are wanted: say {acts} JOIN (same result)",
            ctx.edit(Edit(start, end, f"{acts} JOIN")),
        )
    ]
    quals = join.get("quals")
    moved = [_enclosed(part, ctx) for part in rejecting]
    if not quals or not all(moved) or asked or join.get("jointype") == "JOIN_FULL":
        return fixes
    if not all(_belongs(part, join, ctx) for part in rejecting):
        return fixes
    quals_span = ctx.span(quals)
    where_span = ctx.span(select["whereClause"])
    if quals_span is None or where_span is None:
        return fixes
    kept = [_enclosed(p, ctx) for p in conjuncts(select["whereClause"]) if p not in rejecting]
    where_start = _where_start(where_span[0], ctx)
    where_end = _where_end(where_start, where_span[1], ctx)
    if where_start is None or where_end is None:
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
                Edit(start_of_where, where_end, new_where),
            ),
            changes_result="keeps the rows without a partner",
        )
    )
    return fixes


def _enclosed(part: Node, ctx: Context) -> str:
    """A condition's text, safe to stand beside AND: an OR gets parentheses unless it has them."""
    text = ctx.text(part)
    bare = unwrap(part)[1].get("boolop") == "OR_EXPR" and not _in_parentheses(text)
    return f"({text})" if bare and text else text


def _in_parentheses(text: str) -> bool:
    """Whether the first parenthesis of a text closes at its very end."""
    depth = 0
    for place, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return place == len(text) - 1 and place > 0
    return False


def _belongs(part: Node, join: Node, ctx: Context) -> bool:
    """Whether a predicate can stand in the join's ON: it names nothing joined later, and holds

    no placeholder that its place numbers.
    """
    inside = {id(node) for _, node in walk("JoinExpr", join)}
    for column in columns_in(*unwrap(part)):
        binding = ctx.resolve(column)
        if binding is None or (binding.depth == 0 and id(binding.item.node) not in inside):
            return False
    return not ctx.positional(part)


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


def _where_end(start: int | None, end: int, ctx: Context) -> int | None:
    """The end of WHERE, with the parentheses that close around the whole condition."""
    tokens = [t for t in ctx.spans.tokens if start is not None and t[0] >= start]
    depth = 0
    for token_start, token_end, name in tokens:
        if token_start >= end:
            if depth == 0 or name != "ASCII_41":
                break
            end = token_end
        depth += (name == "ASCII_40") - (name == "ASCII_41")
    return end if depth == 0 else None


def _separator(where: tuple[int, int], ctx: Context) -> str:
    """How this query's author breaks lines between AND-ed predicates."""
    text = ctx.statement.sql[where[0] : where[1]]
    if "\n" not in text:
        return " AND "
    line = text.split("\n")[1]
    return "\n" + line[: len(line) - len(line.lstrip())] + "AND "
