"""What a query asks of each of its relations: equalities, ranges, joins, order, columns needed.

The common ground of index candidates and of rules about predicates. Works on the parse tree and
the resolved names; knows nothing of costs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

from sqladvisor.context import Context
from sqladvisor.sql.quote import qualified
from sqladvisor.sql.resolve import FromItem, Scope
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import (
    column_name,
    conjuncts,
    constant,
    function_name,
    is_literal,
    is_pseudo_constant,
    operator,
    unwrap,
    walk,
)

Use = Literal["equality", "range", "join", "null", "not-null", "like", "boolean", "operator"]
"""How an index could serve a predicate; ``operator``: not a b-tree, see ``advise.methods``."""


@dataclass(frozen=True, slots=True)
class Predicate:
    """One sargable part of a condition on one column (or expression) of one relation.

    ``key`` is the index key it could use: a column name, or the text of an expression over the
    relation's columns alone. ``text`` is the predicate as written.
    """

    key: str
    use: Use
    text: str
    is_expression: bool
    literal: bool
    """Compared with literals only: then a partial index can have it as its predicate."""
    columns: tuple[str, ...]
    bare: str = ""
    """``text`` without table qualifiers, as a partial index's predicate needs it; "" if unknown."""
    operator: str = ""
    """Of an ``operator`` predicate, as if ``key`` stood on the left."""
    pattern: str | None = None
    """What a pattern match looks for, where it is a literal."""


@dataclass(slots=True, eq=False)
class Wanted:
    """What one query level wants of one table in its FROM clause."""

    item: FromItem
    predicates: list[Predicate] = field(default_factory=list)
    order: tuple[tuple[str, str], ...] = ()
    """(column, "" | "DESC" | "DESC NULLS LAST" …) when ORDER BY is over this table alone."""
    group: tuple[str, ...] = ()
    """GROUP BY or DISTINCT columns of this table."""
    needed: tuple[str, ...] | None = ()
    """Every column of the table the statement reads; None when unknown (``*``, whole row)."""
    limited: bool = False
    """Whether the query has a LIMIT: an index that gives the order can stop early."""
    nearest: str = ""
    """The column by whose distance from something fixed (``<->``) the query is ordered first."""
    extensions: frozenset[str] = frozenset()
    """Extensions installed: what operator classes there are."""

    @property
    def sought(self) -> tuple[str, ...]:
        """The columns it searches, joins, sorts or groups by, each once."""
        found = [c for p in self.predicates if not p.is_expression for c in p.columns]
        return tuple(dict.fromkeys([*found, *(c for c, _ in self.order), *self.group]))

    @property
    def table(self) -> str:
        """The table as written in DDL; ``public`` is left out."""
        relation = self.item.relation
        assert relation is not None
        return qualified(None if relation.schema == "public" else relation.schema, relation.name)

    def of(self, *uses: Use) -> list[Predicate]:
        return [p for p in self.predicates if p.use in uses]


_RANGE = frozenset(("<", "<=", ">", ">="))
_INSIDE = {"@>": "<@", "<@": "@>", "&&": "&&", "@@": "@@", "@@@": "@@@", "<<": ">>", ">>": "<<",
    "<<=": ">>=", ">>=": "<<=", "-|-": "-|-", "&<": "", "&>": "", "<<|": "|>>", "|>>": "<<|", "&<|": "",
    "|&>": "", "~=": "~=", "?": "", "?|": "", "?&": "", "@?": "", "%": "%"}  # fmt: skip
"""Operators that GIN and GiST answer, by the one that means the same with its sides exchanged."""
_FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "="}


def wanted(ctx: Context) -> list[Wanted]:
    """What the statement wants of each base table at each query level, subqueries included."""
    result: list[Wanted] = []
    for kind in ("SelectStmt", "UpdateStmt", "DeleteStmt"):
        for query in ctx.tree.of(kind):
            scope = ctx.scope(query, kind)
            extensions = ctx.catalog.extensions
            levels = [
                Wanted(i, extensions=extensions)
                for i in scope.items
                if i.kind == "table" and i.relation
            ]
            if not levels:
                continue
            by_item = {id(w.item): w for w in levels}
            for part in _conditions(query, scope):
                for item, predicate in _sargable(part, ctx):
                    if id(item) in by_item:
                        if predicate.literal:
                            predicate = replace(predicate, bare=_unqualified(part, ctx))
                        by_item[id(item)].predicates.append(predicate)
            _order_and_group(query, by_item, ctx)
            result += levels
    _columns_needed(result, ctx)
    return result


def _conditions(query: Node, scope: Scope) -> Iterator[Node]:
    yield from conjuncts(query.get("whereClause"))
    for join in scope.joins:
        yield from conjuncts(join.get("quals"))
        for wrapped in join.get("usingClause", ()):
            yield {"Using": {"name": wrapped["String"]["sval"], "join": join}}


def _sargable(part: Node, ctx: Context) -> Iterator[tuple[FromItem, Predicate]]:
    kind, node = unwrap(part)
    if kind == "Using":
        query_kind, query = ctx.tree.query_of(node["join"])
        for item in ctx.scope(query, query_kind).items:
            if item.columns and node["name"] in item.columns:
                name = str(node["name"])
                yield item, Predicate(name, "join", name, False, False, (name,))
        return
    text = ctx.text(part)
    if kind == "NullTest":
        use: Use = "null" if node.get("nulltesttype", "IS_NULL") == "IS_NULL" else "not-null"
        yield from _one(node.get("arg", {}), use, text, True, ctx)
    elif kind in ("ColumnRef", "BooleanTest"):
        target = part if kind == "ColumnRef" else node.get("arg", {})
        yield from _one(target, "boolean", text, True, ctx)
    elif kind == "BoolExpr" and node.get("boolop") == "NOT_EXPR":
        yield from _one(node["args"][0], "boolean", text, True, ctx)
    elif kind == "SubLink" and node.get("subLinkType") == "ANY_SUBLINK":
        if not node.get("operName") or operator({"name": node["operName"]}) == "=":
            yield from _one(node.get("testexpr", {}), "join", text, False, ctx)
    elif kind == "A_Expr":
        yield from _comparison(node, text, ctx)


def _comparison(node: Node, text: str, ctx: Context) -> Iterator[tuple[FromItem, Predicate]]:
    how = node.get("kind", "AEXPR_OP")
    left, right = node.get("lexpr", {}), node.get("rexpr", {})
    name = operator(node)
    if how == "AEXPR_OP" and name in _FLIPPED:
        for side, other in ((left, right), (right, left)):
            if is_pseudo_constant(other):
                use: Use = "equality" if name == "=" else "range"
                yield from _one(side, use, text, is_literal(other), ctx)
            elif name == "=" or name in _RANGE:
                yield from _joined(side, other, "join" if name == "=" else "range", text, ctx)
    elif how in ("AEXPR_IN", "AEXPR_OP_ANY") and name == "=" and _constants(right):
        literal = how == "AEXPR_IN" and all(is_literal(i) for i in _items(right))
        yield from _one(left, "equality", text, literal, ctx)
    elif how == "AEXPR_BETWEEN" and _constants(right):
        yield from _one(left, "range", text, all(is_literal(i) for i in _items(right)), ctx)
    elif how in ("AEXPR_LIKE", "AEXPR_ILIKE") or (how == "AEXPR_OP" and name in ("~", "~*")):
        pattern = constant(right)
        fixed = pattern if isinstance(pattern, str) else None
        if fixed and name == "~~" and fixed[:1] not in ("%", "_", "\\"):
            yield from _one(left, "like", text, True, ctx)
        if not name.startswith("!") and not _columns(right):
            for item, found in _one(left, "operator", text, fixed is not None, ctx):
                yield item, replace(found, operator=name, pattern=fixed)
    elif how == "AEXPR_OP" and name in _INSIDE:
        for side, other, as_left in ((left, right, name), (right, left, _INSIDE[name])):
            if as_left:
                for item, found in _one(side, "operator", text, is_literal(other), ctx):
                    if not _mentions(other, item, ctx):
                        yield item, replace(found, operator=as_left)


def _columns(wrapped: Node) -> bool:
    return any(kind in ("ColumnRef", "SubLink") for kind, _ in walk(*unwrap(wrapped)))


def _mentions(wrapped: Node, item: FromItem, ctx: Context) -> bool:
    """Whether an expression depends on a relation's rows (or on a subquery that may)."""
    for kind, node in walk(*unwrap(wrapped)):
        if kind == "SubLink":
            return True
        if kind == "ColumnRef":
            binding = ctx.resolve(node)
            if binding is None or binding.item is item:
                return True
    return False


def _items(wrapped: Node) -> list[Node]:
    kind, node = unwrap(wrapped)
    return list(node.get("items", ())) if kind == "List" else [wrapped]


def _constants(wrapped: Node) -> bool:
    return all(is_pseudo_constant(i) for i in _items(wrapped))


def _one(
    target: Node, use: Use, text: str, literal: bool, ctx: Context
) -> Iterator[tuple[FromItem, Predicate]]:
    """The predicate when ``target`` is a column or an expression over one relation's columns."""
    kind, node = unwrap(target)
    if kind == "ColumnRef":
        binding = ctx.resolve(node)
        if binding and binding.item.relation and binding.definition and binding.depth == 0:
            name = binding.column
            yield binding.item, Predicate(name, use, text, False, literal, (name,))
        return
    if kind == "RowExpr":  # rows compare by their first columns first; equal ones by all of them
        parts = node.get("args", ())
        for part in parts if use == "equality" else parts[:1]:
            yield from _one(part, use, text, False, ctx)
        return
    if use in ("null", "not-null", "boolean") or is_pseudo_constant(target):
        return
    items: dict[int, FromItem] = {}
    columns = []
    for below_kind, below in walk(kind, node):
        if below_kind in ("SubLink", "ParamRef"):
            return
        if below_kind == "FuncCall" and function_name(below) in _NOT_IMMUTABLE:
            return
        if below_kind == "ColumnRef":
            binding = ctx.resolve(below)
            if binding is None or not binding.definition or binding.depth:
                return
            items[id(binding.item)] = binding.item
            columns.append(binding.column)
    if len(items) == 1 and columns:
        item = next(iter(items.values()))
        expression = _unqualified(target, ctx)
        if expression:
            yield item, Predicate(expression, use, text, True, literal, tuple(columns))


# Not immutable for every argument type: an index over them is refused, or depends on settings.
_NOT_IMMUTABLE = frozenset(
    ("now", "random", "clock_timestamp", "to_char", "age", "to_date", "to_timestamp", "date",
     "current_setting", "nextval", "timeofday", "concat", "concat_ws", "format")
)  # fmt: skip


def _joined(
    side: Node, other: Node, use: Use, text: str, ctx: Context
) -> Iterator[tuple[FromItem, Predicate]]:
    """A comparison between relations: a join key of this side, from whichever query level."""
    kind, node = unwrap(side)
    if kind != "ColumnRef":
        return
    binding = ctx.resolve(node)
    if binding is None or not binding.definition or binding.depth:
        return
    for below_kind, below in walk(*unwrap(other)):
        if below_kind == "SubLink":
            return
        if below_kind == "ColumnRef":
            theirs = ctx.resolve(below)
            if theirs is None or theirs.item is binding.item:
                return
    name = binding.column
    yield binding.item, Predicate(name, use, text, False, False, (name,))


def _unqualified(target: Node, ctx: Context) -> str:
    """An expression's text with table qualifiers removed, as an index definition needs it."""
    span = ctx.span(target)
    if span is None:
        return ""
    text = ctx.statement.sql[span[0] : span[1]]
    for kind, node in sorted(
        walk(*unwrap(target)), key=lambda n: n[1].get("location", 0), reverse=True
    ):
        if kind == "ColumnRef" and column_name(node)[0] is not None:
            inner = ctx.spans.of(kind, node)
            if inner is None:
                return ""
            last = ctx.spans.token_at(inner[1] - 1)
            start = ctx.spans.tokens[last][0]
            text = text[: inner[0] - span[0]] + text[start - span[0] :]
    return text


def _order_and_group(query: Node, by_item: dict[int, Wanted], ctx: Context) -> None:
    limited = "limitCount" in query
    outputs = {
        t["ResTarget"]["name"]: t["ResTarget"]["val"]
        for t in query.get("targetList", ())
        if "name" in t.get("ResTarget", {}) and "val" in t["ResTarget"]
    }
    order: list[tuple[FromItem, str, str]] = []
    nearest = _nearest(query, outputs, ctx)
    for wrapped in query.get("sortClause", ()):
        sort = wrapped.get("SortBy", {})
        kind, column = unwrap(sort.get("node", {}))
        if kind == "ColumnRef" and column_name(column)[0] is None:
            aliased = outputs.get(column_name(column)[1])
            if aliased:
                kind, column = unwrap(aliased)
        binding = ctx.resolve(column) if kind == "ColumnRef" else None
        if binding is None or binding.depth or not binding.definition:
            break
        order.append((binding.item, binding.column, _direction(sort)))
    group: list[tuple[FromItem, str]] = []
    for wrapped in query.get("groupClause", ()) or query.get("distinctClause", ()):
        found = ctx.binding(wrapped)
        if found and not found.depth and found.definition:
            group.append((found.item, found.column))
    for w in by_item.values():
        w.limited = limited
        w.nearest = nearest[1] if nearest and nearest[0] is w.item else ""
        w.group = tuple(dict.fromkeys(c for i, c in group if i is w.item))
        if order and order[0][0] is w.item:
            leading = []
            for item, column_, direction in order:
                if item is not w.item:
                    break
                leading.append((column_, direction))
            w.order = tuple(leading)


def _nearest(query: Node, outputs: dict[str, Node], ctx: Context) -> tuple[FromItem, str] | None:
    """The relation and column whose distance from something fixed the query is ordered by first."""
    sorts = query.get("sortClause", ())
    sort: Node = sorts[0].get("SortBy", {}) if sorts else {}
    wrapped: Node = sort.get("node", {})
    kind, node = unwrap(wrapped)
    if kind == "ColumnRef" and column_name(node)[0] is None:
        kind, node = unwrap(outputs.get(column_name(node)[1], wrapped))
    if kind != "A_Expr" or operator(node) != "<->" or sort.get("sortby_dir") == "SORTBY_DESC":
        return None
    for side, other in (("lexpr", "rexpr"), ("rexpr", "lexpr")):
        found = ctx.binding(node.get(side, {}))
        if found and not found.depth and found.definition:
            return (
                None
                if _mentions(node.get(other, {}), found.item, ctx)
                else (found.item, found.column)
            )
    return None


def _direction(sort: Node) -> str:
    down = sort.get("sortby_dir") == "SORTBY_DESC"
    nulls = sort.get("sortby_nulls", "SORTBY_NULLS_DEFAULT")
    if nulls == "SORTBY_NULLS_DEFAULT":
        return "DESC" if down else ""
    first = nulls == "SORTBY_NULLS_FIRST"
    if first == down:
        return "DESC" if down else ""
    return f"{'DESC' if down else 'ASC'} NULLS {'FIRST' if first else 'LAST'}"


def _columns_needed(levels: list[Wanted], ctx: Context) -> None:
    by_item: dict[int, dict[str, None]] = {id(w.item): {} for w in levels}
    unknown: set[int] = set()
    for column in ctx.tree.of("ColumnRef"):
        qualifier, name = column_name(column)
        if name == "*":
            scope = ctx.resolver.scope_of(column)
            for item in scope.items if scope else ():
                if qualifier in (None, item.alias) and not _counts_rows(column, ctx):
                    unknown.add(id(item))
            continue
        binding = ctx.resolve(column)
        if binding is None:
            scope = ctx.resolver.scope_of(column)
            unknown.update(
                id(i) for i in (scope.items if scope else ()) if i.alias == name
            )  # a whole-row reference
        elif id(binding.item) in by_item:
            by_item[id(binding.item)][binding.column] = None
    for w in levels:
        w.needed = None if id(w.item) in unknown else tuple(by_item[id(w.item)])


def _counts_rows(star: Node, ctx: Context) -> bool:
    """Whether a ``*`` is that of count(*) or EXISTS (SELECT *): no column is read for it."""
    for kind, above in ctx.tree.ancestors(star):
        if kind == "FuncCall":
            return True
        if kind == "SubLink":
            return bool(above.get("subLinkType", "EXISTS_SUBLINK") == "EXISTS_SUBLINK")
        if kind in ("FromExpr", "RangeSubselect", "CommonTableExpr"):
            return False
    return False
