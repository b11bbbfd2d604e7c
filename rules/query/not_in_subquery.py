"""NOT IN takes its list from a subquery that may yield NULL, or that keeps it from an anti-join.

Why: one NULL among the subquery's rows makes NOT IN never true, and the query silently returns
    nothing. Where no NULL can come, PostgreSQL up to 18 still cannot plan NOT IN as an anti-join:
    it hashes the subquery's rows, or, once they outgrow work_mem * hash_mem_multiplier, searches
    all of them anew for each row.
Fix: NOT EXISTS, which ignores NULL and is planned as an anti-join. The same rows where neither side
    can be NULL; otherwise it is said which rows come in addition.
Silent when: the subquery's column is proven not NULL (by the schema, or by the subquery's WHERE)
    and its table is known to be small enough to be hashed; the list is VALUES or a function's
    result; without a schema, where the column is called id.
Source: PostgreSQL manual, 9.24.4 "NOT IN"; subplan_is_hashable() in
    src/backend/optimizer/plan/subselect.c.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.finding import Edit, Finding, Fix
from sqladvisor.rule import rule
from sqladvisor.sql.clauses import and_where, clauses
from sqladvisor.sql.never_null import FAITHFUL, Nullness, nullness, output_nullness
from sqladvisor.sql.nulls import rejects_null
from sqladvisor.sql.quote import identifier
from sqladvisor.sql.resolve import FromItem, Scope
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import column_name, conjuncts, function_name, operator, unwrap, walk

SCHEMA = """
CREATE TABLE users (id bigint PRIMARY KEY, email text NOT NULL UNIQUE, name text,
    referrer_id bigint REFERENCES users, "Nick" text NOT NULL);
CREATE TABLE orders (id bigint PRIMARY KEY, user_id bigint REFERENCES users,
    buyer_id bigint NOT NULL REFERENCES users, coupon text, total numeric NOT NULL);
CREATE SCHEMA crm;
CREATE TABLE crm.vips (user_id bigint NOT NULL, "Nick" text, since date);
"""
BAD = [
    "SELECT count(*) FROM users WHERE id NOT IN (SELECT referrer_id FROM users)",
    "SELECT u.name FROM users u WHERE u.id NOT IN (SELECT o.user_id FROM orders o WHERE o.total > 5)",
    "SELECT u.name FROM users u WHERE NOT (u.id = ANY (SELECT user_id FROM orders)) AND u.name = 'é'",
    "SELECT u.name FROM users u WHERE u.id <> ALL (SELECT user_id FROM orders WHERE total > 1 OR id = 2)",
    """SELECT name
       FROM users
       WHERE name = 'Jörg'
         AND id NOT IN (
             SELECT buyer_id
             FROM orders
         )""",
    """SELECT u.email FROM users u WHERE u."Nick" NOT IN (SELECT v."Nick" FROM crm.vips AS v)""",
    "SELECT email FROM users WHERE (id, name) NOT IN (SELECT user_id, coupon FROM orders)",
    "DELETE FROM users WHERE id NOT IN (SELECT user_id FROM orders) AND referrer_id = $1",
    "UPDATE users u SET name = 'x' WHERE u.id NOT IN (SELECT DISTINCT u.referrer_id FROM users u)",
    "WITH r AS (SELECT referrer_id AS who FROM users) SELECT id FROM users WHERE id NOT IN (SELECT who FROM r)",
    "SELECT id FROM users WHERE id NOT IN (SELECT user_id FROM orders UNION SELECT user_id FROM crm.vips)",
    "SELECT id FROM users WHERE id NOT IN (SELECT o.id FROM users u LEFT JOIN orders o ON o.user_id = u.id)",
    "INSERT INTO crm.vips (user_id) SELECT id FROM users WHERE id NOT IN (SELECT v.user_id FROM crm.vips v)",
    "SELECT id, id NOT IN (SELECT referrer_id FROM users) AS fresh FROM users u",
    "SELECT referrer_id FROM users WHERE referrer_id NOT IN (SELECT user_id FROM crm.vips)",
]
GOOD = [
    "SELECT id FROM users u WHERE NOT EXISTS (SELECT 1 FROM orders o WHERE o.user_id = u.id)",
    "SELECT id FROM users WHERE id IN (SELECT user_id FROM orders)",
    "SELECT id FROM users WHERE id NOT IN (1, 2, 3)",
    "SELECT id FROM users WHERE id NOT IN (VALUES (1), (2))",
    "SELECT id FROM users WHERE id NOT IN (SELECT unnest($1::bigint[]))",
    "SELECT id FROM users WHERE id NOT IN (SELECT x FROM unnest($1::bigint[]) AS x)",
    "SELECT id FROM users WHERE NOT (id NOT IN (SELECT user_id FROM orders))",
    "SELECT id FROM users WHERE id NOT IN (SELECT g FROM generate_series(1, 10) g)",
    "SELECT u.id FROM users u LEFT JOIN orders o ON o.user_id = u.id WHERE o.id IS NULL",
    "SELECT id FROM users WHERE id <> ANY (SELECT user_id FROM orders)",
    "SELECT id FROM users WHERE coalesce(id NOT IN (SELECT user_id FROM orders), true)",
]

_BLOCKING = (
    "larg", "groupClause", "havingClause", "windowClause", "limitCount", "limitOffset",
    "lockingClause", "withClause", "intoClause", "valuesLists", "sortClause",
)  # fmt: skip
# What may stand in an expression that moves into a subquery, or from its targets into its WHERE.
_MOVABLE = frozenset(("ColumnRef", "A_Const", "ParamRef", "TypeCast", "TypeName", "A_Expr",
                      "CoalesceExpr", "CollateClause", "RowExpr", "String", "Integer", "FuncCall"))  # fmt: skip

_VOLATILE = frozenset(("random", "nextval", "clock_timestamp", "timeofday", "gen_random_uuid",
                       "uuid_generate_v4", "uuidv4", "uuidv7"))  # fmt: skip
# The first server_version_num that turns NOT IN into an anti-join where no side can be NULL.
_ANTI_JOINS_NOT_IN = 190000


@rule(
    "SubLink",
    severity="warning",
    # subplan_is_hashable(): rows * (24 bytes of tuple header + 8 of a bigint) within the default
    # work_mem of 4 MB times hash_mem_multiplier 2. Up to there NOT IN is a quick look-up.
    thresholds={"hashable_rows": 262_144},
)
def check(link: Node, ctx: Context) -> Iterator[Finding]:
    negation = _negation(link, ctx)
    select = unwrap(link.get("subselect", {}))[1]
    if negation is None or "valuesLists" in select or not _reads_a_table(select, ctx):
        return
    tested = _parts(link.get("testexpr", {}))
    states = [output_nullness(select, i, ctx.resolver) for i in range(len(tested))]
    place, source = ctx.span(negation), _source(select, ctx)
    if place is None:
        return
    what = _what(select, states, source, ctx)
    if "possible" in states or ("unknown" in states and not _key_by_name(select, ctx)):
        known = "possible" in states
        share = _share_of_nulls(select, states, ctx)
        effect = _effect(select, states, unwrap(negation)[1], ctx)
        if share:
            message = f"{share * 100:.3g} % of {what} is NULL: {_written(link)} {effect}"
        elif known:
            message = f"{what} can be NULL: a single one, and {_written(link)} {effect}"
        else:
            message = f"if {what} is NULL in a single row, {_written(link)} {effect}"
        yield ctx.finding(
            place,
            message,
            severity="error" if share else "warning" if known else "info",
            fixes=_fixes(link, negation, select, states, ctx),
            notes=() if known else ("nothing here proves that it cannot be NULL",),
        )
    elif ctx.catalog and "unknown" not in states and _costs(select, ctx):
        rows = source.rows if source and source.rows else None
        size = f"{rows:,.0f} rows" if rows else "rows"
        yield ctx.finding(
            place,
            f"{_written(link)} cannot be planned as an anti-join: {what} has no NULL, but its "
            f"{size} are hashed, or searched for each row once they outgrow work_mem",
            severity="info",
            fixes=_fixes(link, negation, select, states, ctx),
        )


def _negation(link: Node, ctx: Context) -> Node | None:
    """The wrapped node that says NOT IN; None for another subquery, or where NULL is catered for."""
    node, wrapped = link, {"SubLink": link}
    kind, name = link.get("subLinkType"), operator({"name": link.get("operName")})
    if kind == "ANY_SUBLINK" and name in ("", "="):
        above, node = ctx.tree.parent(link)
        if above != "BoolExpr" or node.get("boolop") != "NOT_EXPR":
            return None
        wrapped = {"BoolExpr": node}
    elif kind != "ALL_SUBLINK" or name != "<>":
        return None
    for above, other in ctx.tree.ancestors(node):
        if above in ("NullTest", "BooleanTest", "CoalesceExpr"):
            return None
        if above == "BoolExpr" and other.get("boolop") == "NOT_EXPR":
            return None
        if above in ("SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"):
            break
    return wrapped


def _parts(testexpr: Node) -> list[Node]:
    kind, node = unwrap(testexpr)
    return list(node.get("args", ())) if kind == "RowExpr" else [testexpr]


def _written(link: Node) -> str:
    if link.get("subLinkType") == "ALL_SUBLINK":
        return "<> ALL"
    return "NOT … = ANY" if link.get("operName") else "NOT IN"


def _reads_a_table(select: Node, ctx: Context) -> bool:
    while select.get("larg"):
        select = select["larg"]
    items = ctx.scope(select).items if select.get("fromClause") else []
    return any(item.kind in ("table", "cte", "subquery") for item in items)


def _source(select: Node, ctx: Context) -> FromItem | None:
    """The one table that a subquery reads."""
    if select.get("larg"):
        return None
    items = ctx.scope(select).items
    return items[0] if len(items) == 1 else None


def _what(select: Node, states: list[Nullness], source: FromItem | None, ctx: Context) -> str:
    """The column that decides, by its table's name."""
    wanted: Nullness = (
        "possible" if "possible" in states else "unknown" if "unknown" in states else "never"
    )
    first = select
    while first.get("larg"):
        first = first["larg"]
    targets = [t.get("ResTarget", {}).get("val", {}) for t in first.get("targetList", ())]
    position = states.index(wanted) if len(states) == len(targets) else 0
    if position >= len(targets):
        return "the subquery's column"
    binding = ctx.binding(targets[position])
    if binding and (binding.item.name or binding.item.alias):
        return f"{binding.item.name or binding.item.alias}.{binding.column}"
    text = " ".join(ctx.text(targets[position]).split())
    return "the subquery's column" if text.endswith("*") else text or "the subquery's column"


def _key_by_name(select: Node, ctx: Context) -> bool:
    """A column called id, of a table nobody knows: surely its key."""
    targets = select.get("targetList", ())
    if len(targets) != 1:
        return False
    kind, node = unwrap(targets[0].get("ResTarget", {}).get("val", {}))
    binding = ctx.resolve(node) if kind == "ColumnRef" else None
    return (
        kind == "ColumnRef"
        and column_name(node)[1].lower() == "id"
        and (binding is None or binding.item.relation is None)
    )


def _share_of_nulls(select: Node, states: list[Nullness], ctx: Context) -> float:
    """The share of NULLs in the column where nothing filters them: then the result is empty now."""
    plain = not any(k in select for k in ("larg", "whereClause", "havingClause", "limitCount"))
    if not plain or len(states) != 1 or _source(select, ctx) is None:
        return 0.0
    binding = ctx.binding(select["targetList"][0]["ResTarget"]["val"])
    stats = binding.definition.stats if binding and binding.definition else None
    return stats.null_frac if stats and not (binding and binding.depth) else 0.0


def _effect(select: Node, states: list[Nullness], negation: Node, ctx: Context) -> str:
    """What a NULL does to this query."""
    if len(states) > 1:
        return "is never true for what agrees with that row in the other columns"
    if _correlated(select, ctx):
        return "is never true for the rows it belongs to"
    child = negation
    kind, above = ctx.tree.parent(child)
    while kind == "BoolExpr" and above.get("boolop") == "AND_EXPR":
        child = above
        kind, above = ctx.tree.parent(child)
    top = unwrap(above.get("whereClause", {}))[1] is child
    return "lets no row through" if top else "is never true"


def _correlated(select: Node, ctx: Context) -> bool:
    inside = [item for scope in _all_scopes(select, ctx) for item in scope.items]
    return any(
        (binding := ctx.resolve(node)) is not None and binding.item not in inside
        for kind, node in _below(select)
        if kind == "ColumnRef"
    )


def _costs(select: Node, ctx: Context) -> bool:
    """Whether the lack of an anti-join may be felt: more rows than are hashed, or nobody knows."""
    if (ctx.catalog.server_version or 0) >= _ANTI_JOINS_NOT_IN:
        return False
    items = [item for scope in _all_scopes(select, ctx) for item in scope.items]
    if items and all(ctx.small(i) for i in items):
        return False
    source = _source(select, ctx)
    if source is None or source.rows is None or source.rows > ctx.threshold("hashable_rows"):
        return True
    return _correlated(select, ctx)


def _all_scopes(select: Node, ctx: Context) -> list[Scope]:
    return [ctx.scope(n) for k, n in walk("SelectStmt", select) if k == "SelectStmt"]


# -- NOT EXISTS -----------------------------------------------------------------------------------


def _fixes(
    link: Node, negation: Node, select: Node, states: list[Nullness], ctx: Context
) -> list[Fix]:
    text = _not_exists(link, negation, select, ctx)
    if text is None:
        return []
    tested = _parts(link["testexpr"])
    outer = [_outer_never(t, unwrap(negation)[1], ctx) for t in tested]
    more = []
    if not all(outer):
        more += [ctx.text(t) for t, never in zip(tested, outer, strict=True) if not never]
    changes = f"also returns the rows whose {' or '.join(more)} is NULL" if more else ""
    if any(s != "never" for s in states):
        inner = [
            ctx.text(t["ResTarget"]["val"])
            for t, s in zip(select["targetList"], states, strict=True)
            if s != "never"
        ]
        changes = f"returns the rows without a match although {inner[0]} is NULL somewhere" + (
            f", and those whose {' or '.join(more)} is NULL" if more else ""
        )
    return [Fix("say NOT EXISTS, which is planned as an anti-join", text, changes_result=changes)]


def _outer_never(tested: Node, negation: Node, ctx: Context) -> bool:
    """Whether the tested expression is not NULL in any row that counts."""
    if nullness(tested, ctx.resolver) == "never":
        return True
    binding = ctx.binding(tested)
    query = ctx.tree.query_of(negation)[1]
    top = [unwrap(p)[1] for p in conjuncts(query.get("whereClause"))]
    if binding is None or not any(part is negation for part in top):
        return False

    def is_column(other: Node) -> bool:
        found = ctx.resolve(other)
        return found is not None and found.item is binding.item and found.column == binding.column

    # A row that another condition drops does not show what NOT IN makes of it.
    return any(
        rejects_null(part, is_column)
        for part in conjuncts(query.get("whereClause"))
        if unwrap(part)[1] is not negation
    )


def _not_exists(link: Node, negation: Node, select: Node, ctx: Context) -> str | None:
    """The statement with NOT EXISTS, None where it cannot be written with certainty."""
    tested, targets = _parts(link["testexpr"]), select.get("targetList", ())
    if any(k in select for k in _BLOCKING) or len(targets) != len(tested):
        return None
    # DISTINCT is one empty item in the list; DISTINCT ON has expressions.
    if any(select.get("distinctClause", ())) or "fromClause" not in select:
        return None
    values = [t["ResTarget"]["val"] for t in targets]
    if not all(map(_movable, (*tested, *values))) or any(map(ctx.positional, tested)):
        return None
    if not all(_columns(v) for v in values) or any(_volatile(k, n) for k, n in _below(select)):
        return None
    inner = ctx.scope(select)
    _, outer = ctx.tree.query_of(link)
    if "groupClause" in outer and any(unwrap(t)[0] != "ColumnRef" for t in tested):
        return None  # an expression is recognised as grouped at its own level only
    renamed = _renamed(tested, inner, ctx)
    if renamed is None:
        return None
    pairs = []
    for value, test in zip(values, tested, strict=True):
        left, right = _with_qualifiers(value, renamed, ctx), _from_outside(test, ctx)
        if not left or not right:
            return None
        pairs.append(f"{left} = {right}")
    frame, places = _frame(negation, select, ctx), clauses(select, ctx.spans)
    added = and_where(select, places, " AND ".join(pairs))
    if frame is None or not added:
        return None
    start, end = frame[1].start, frame[1].end
    qualifiers = [e for e in _requalified(select, renamed, ctx) if not start <= e.start < end]
    # Where two insertions meet (an alias and the WHERE), the later one in the list stands first.
    return ctx.edit(*frame, *added, *qualifiers, *_aliases(renamed, ctx))


def _below(select: Node) -> Iterator[tuple[str, Node]]:
    return walk("SelectStmt", select)


def _columns(wrapped: Node) -> list[Node]:
    return [node for kind, node in walk(*unwrap(wrapped)) if kind == "ColumnRef"]


def _movable(wrapped: Node) -> bool:
    """Whether an expression means the same one query further in: no aggregate, no subquery."""
    return all(
        kind in _MOVABLE and (kind != "FuncCall" or function_name(node) in FAITHFUL)
        for kind, node in walk(*unwrap(wrapped))
    )


def _volatile(kind: str, node: Node) -> bool:
    return kind == "FuncCall" and function_name(node) in _VOLATILE


def _frame(negation: Node, select: Node, ctx: Context) -> tuple[Edit, Edit, Edit] | None:
    """Edits for what stands before SELECT, for the target list, and for what follows the query."""
    place, places, tokens = ctx.span(negation), clauses(select, ctx.spans), ctx.spans.tokens
    if place is None or "FROM" not in places:
        return None
    word = first = ctx.spans.token_at(places["SELECT"][0])
    while word == first or (word and tokens[word][2] in ("DISTINCT", "ALL")):
        word -= 1
    if tokens[word][2] != "SELECT" or tokens[word - 1][2] != "ASCII_40":
        return None
    stop = max(end for _, end in places.values())
    after = ctx.spans.token_at(stop - 1) + 1
    if after >= len(tokens) or tokens[after][2] != "ASCII_41":
        return None
    closing = tokens[after][0]
    if ctx.spans.sql[closing : place[1]].strip(" \t\r\n)"):
        return None
    return (
        Edit(place[0], tokens[word - 1][1], "NOT EXISTS ("),
        Edit(tokens[word + 1][0], places["SELECT"][1], "1"),
        Edit(closing, place[1], ")"),
    )


def _renamed(
    tested: list[Node], inner: Scope, ctx: Context
) -> dict[int, tuple[FromItem, str]] | None:
    """The subquery's tables that hide one which the tested expression needs, with a new alias."""
    taken = {str(n.get("relname", "")) for n in ctx.tree.of("RangeVar")}
    taken |= {str(n.get("aliasname", "")) for n in ctx.tree.of("Alias")}
    needed = set()
    for column in (c for t in tested for c in _columns(t)):
        binding = ctx.resolve(column)
        if binding is None or not binding.item.alias:
            return None
        needed.add(binding.item.alias)
    result: dict[int, tuple[FromItem, str]] = {}
    for item in inner.items:
        if item.alias in needed:
            if "relname" not in item.node or "colnames" in item.node.get("alias", {}):
                return None
            name, number = f"{item.alias}_1", 1
            while name in taken:
                number += 1
                name = f"{item.alias}_{number}"
            taken.add(name)
            result[id(item)] = item, name
    return result


def _aliases(renamed: dict[int, tuple[FromItem, str]], ctx: Context) -> list[Edit]:
    edits = []
    tokens = ctx.spans.tokens
    for item, name in renamed.values():
        i = ctx.spans.token_at(item.node.get("location", 0))
        while i + 2 < len(tokens) and tokens[i + 1][2] == "ASCII_46":
            i += 2
        if "alias" in item.node:
            i += 2 if tokens[i + 1][2] == "AS" else 1
            edits.append(Edit(tokens[i][0], tokens[i][1], identifier(name)))
        else:
            edits.append(Edit(tokens[i][1], tokens[i][1], f" AS {identifier(name)}"))
    return edits


def _requalified(
    wrapped: Node, renamed: dict[int, tuple[FromItem, str]], ctx: Context
) -> list[Edit]:
    """Edits that write the new alias where a column is qualified by the old one."""
    edits = []
    for kind, column in walk(*(("SelectStmt", wrapped) if "op" in wrapped else unwrap(wrapped))):
        if kind != "ColumnRef" or len(column.get("fields", ())) != 2:
            continue
        binding, place = ctx.resolve(column), ctx.spans.of(kind, column)
        if binding and place and id(binding.item) in renamed:
            start, end, _ = ctx.spans.tokens[ctx.spans.token_at(place[0])]
            edits.append(Edit(start, end, identifier(renamed[id(binding.item)][1])))
    return edits


def _with_qualifiers(value: Node, renamed: dict[int, tuple[FromItem, str]], ctx: Context) -> str:
    return _edited(value, _requalified(value, renamed, ctx), ctx)


def _from_outside(tested: Node, ctx: Context) -> str:
    """The tested expression as it must be written inside the subquery; "" where that is unsure."""
    edits = []
    for column in _columns(tested):
        binding, place = ctx.resolve(column), ctx.spans.of("ColumnRef", column)
        scope = ctx.resolver.scope_of(column)
        for _ in range(binding.depth if binding else 0):
            scope = scope.parent if scope else None
        if binding is None or place is None or scope is None:
            return ""
        if scope.item(binding.item.alias) is not binding.item:
            return ""  # named through a join's alias, or by no name of its own
        if column_name(column)[0] is None:
            edits.append(Edit(place[0], place[0], f"{identifier(binding.item.alias)}."))
    return _edited(tested, edits, ctx)


def _edited(wrapped: Node, edits: list[Edit], ctx: Context) -> str:
    """A node's text with edits applied, in parentheses unless it is a plain operand."""
    place, text = ctx.span(wrapped), ctx.text(wrapped)
    if place is None or not text:
        return ""
    for edit in sorted(edits, key=lambda e: e.start, reverse=True):
        start, end = (
            ctx.statement.to_text(o) - ctx.statement.to_text(place[0])
            for o in (edit.start, edit.end)
        )
        text = text[:start] + edit.text + text[end:]
    return f"({text})" if unwrap(wrapped)[0] in ("A_Expr", "BoolExpr") else text
