"""Which relation a column reference means.

Scopes follow PostgreSQL's rules: FROM items of the query, then the enclosing queries outwards; a
subquery in FROM sees its siblings only when LATERAL; a common table expression sees none of them.
Without a catalog a name is resolved when its qualifier says so or only one FROM item could own it,
and the binding is then marked as not ``sure``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import Tree, column_name, names, unwrap

if TYPE_CHECKING:
    from sqladvisor.catalog.model import Catalog, Column, Relation


@dataclass(slots=True, eq=False)
class FromItem:
    """One entry of a query's range table."""

    alias: str
    kind: str
    """``table``, ``cte``, ``subquery``, ``function`` or ``values``."""
    node: Node
    name: str = ""
    schema: str | None = None
    relation: Relation | None = None
    query: Node | None = None
    """The SelectStmt of a subquery or CTE."""
    columns: tuple[str, ...] | None = None
    """Output column names; None when unknown."""
    nulled_by: tuple[Node, ...] = ()
    """The outer joins (JoinExpr) that null-extend this item, innermost first."""
    lateral: bool = False

    @property
    def nullable(self) -> bool:
        return bool(self.nulled_by)

    @property
    def rows(self) -> float | None:
        return self.relation.rows if self.relation else None


@dataclass(frozen=True, slots=True)
class Binding:
    """What a column reference means: a column of a FROM item, ``depth`` queries outwards."""

    item: FromItem
    column: str
    depth: int
    sure: bool

    @property
    def definition(self) -> Column | None:
        """The catalog's column, where the item is a known table."""
        return self.item.relation.column(self.column) if self.item.relation else None


@dataclass(slots=True, eq=False)
class Scope:
    """The FROM items one query sees directly, and the scope around it."""

    query: Node
    items: list[FromItem] = field(default_factory=list)
    parent: Scope | None = None
    joins: list[Node] = field(default_factory=list)
    """All JoinExpr of the FROM clause, outermost first."""
    merged: set[str] = field(default_factory=set)
    """Columns merged by USING or NATURAL."""

    def item(self, alias: str) -> FromItem | None:
        return next((i for i in self.items if i.alias == alias), None)


class Resolver:
    """Scopes and bindings of one statement, computed on demand."""

    def __init__(self, tree: Tree, catalog: Catalog) -> None:
        self.tree = tree
        self.catalog = catalog
        self._scopes: dict[int, Scope] = {}

    def scope(self, query: Node, kind: str = "SelectStmt") -> Scope:
        """The scope of a SELECT, INSERT, UPDATE, DELETE or MERGE node."""
        known = self._scopes.get(id(query))
        if known is not None:
            return known
        scope = self._scopes[id(query)] = Scope(query)
        scope.parent = self._outer(query)
        target = query.get("relation")
        if kind != "SelectStmt" and target:
            self._add_table(scope, target, ())
        if kind == "MergeStmt" and query.get("sourceRelation"):
            self._add(scope, query["sourceRelation"], ())
        for entry in query.get("fromClause") or query.get("usingClause") or ():
            self._add(scope, entry, ())
        return scope

    def scope_of(self, node: Node) -> Scope | None:
        """The scope that a node's column references are looked up in first."""
        kind, query = self.tree.query_of(node)
        return self.scope(query, kind) if kind else None

    def resolve(self, column: Node) -> Binding | None:
        """What a ColumnRef means, or None when it cannot be told (or is ``*``, or an output name)."""
        qualifier, name = column_name(column)
        if name == "*" or not name:
            return None
        scope = self.scope_of(column)
        depth = 0
        while scope is not None:
            found = self._lookup(scope, qualifier, name, depth)
            if found is not None:
                return found
            scope, depth = scope.parent, depth + 1
        return None

    def _lookup(self, scope: Scope, qualifier: str | None, name: str, depth: int) -> Binding | None:
        if qualifier is not None:
            item = scope.item(qualifier)
            if item is None:
                return None
            return Binding(item, name, depth, item.columns is None or name in item.columns)
        owners = [i for i in scope.items if i.columns is not None and name in i.columns]
        if len(owners) == 1 or (owners and name in scope.merged):
            return Binding(owners[0], name, depth, True)
        if owners:
            return None
        unknown = [i for i in scope.items if i.columns is None]
        if len(unknown) == 1:
            return Binding(unknown[0], name, depth, len(scope.items) == 1 and scope.parent is None)
        return None

    def _outer(self, query: Node) -> Scope | None:
        skip_siblings = False
        child = query
        for kind, above in self.tree.ancestors(query):
            if kind == "CommonTableExpr":
                skip_siblings = True
            elif kind == "RangeSubselect":
                skip_siblings = not above.get("lateral", False)
            elif kind in ("SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"):
                if above.get("larg") is child or above.get("rarg") is child:
                    child = above
                    continue
                if kind == "InsertStmt" and unwrap(above.get("selectStmt", {}))[1] is child:
                    skip_siblings = True
                scope = self.scope(above, kind)
                return scope.parent if skip_siblings else scope
            child = above
        return None

    def _add(self, scope: Scope, wrapped: Node, nulled_by: tuple[Node, ...]) -> list[FromItem]:
        kind, node = unwrap(wrapped)
        if kind == "RangeVar":
            return [self._add_table(scope, node, nulled_by)]
        if kind == "JoinExpr":
            return self._add_join(scope, node, nulled_by)
        if kind == "RangeTableSample":
            return self._add(scope, node.get("relation", {}), nulled_by)
        alias = node.get("alias", {})
        name = str(alias.get("aliasname", ""))
        given = names(alias.get("colnames"))
        item = FromItem(name, "function", node, nulled_by=nulled_by)
        item.lateral = bool(node.get("lateral", False))
        if kind == "RangeSubselect":
            query = unwrap(node.get("subquery", {}))[1]
            item.kind = "values" if "valuesLists" in query else "subquery"
            item.query = query
            item.columns = self._renamed(self.output_columns(query), given)
        elif given:
            item.columns = given
        elif kind == "RangeFunction" and name:
            # A function of a scalar type gives one column named like its alias.
            item.columns = None
        scope.items.append(item)
        return [item]

    def _add_join(self, scope: Scope, node: Node, nulled_by: tuple[Node, ...]) -> list[FromItem]:
        scope.joins.append(node)
        jointype = node.get("jointype")
        left_nulled = (node, *nulled_by) if jointype in ("JOIN_RIGHT", "JOIN_FULL") else nulled_by
        right_nulled = (node, *nulled_by) if jointype in ("JOIN_LEFT", "JOIN_FULL") else nulled_by
        left = self._add(scope, node.get("larg", {}), left_nulled)
        right = self._add(scope, node.get("rarg", {}), right_nulled)
        scope.merged.update(names(node.get("usingClause")))
        if node.get("isNatural"):
            seen = {c for i in left for c in i.columns or ()}
            scope.merged.update(c for i in right for c in i.columns or () if c in seen)
        return left + right

    def _add_table(self, scope: Scope, node: Node, nulled_by: tuple[Node, ...]) -> FromItem:
        name = str(node.get("relname", ""))
        schema = node.get("schemaname")
        alias = node.get("alias", {})
        given = names(alias.get("colnames"))
        item = FromItem(
            str(alias.get("aliasname", name)), "table", node, name, schema, nulled_by=nulled_by
        )
        cte = None if schema else self._cte(node, name)
        if cte is not None:
            item.kind = "cte"
            item.query = unwrap(cte.get("ctequery", {}))[1]
            columns = self._renamed(
                self.output_columns(item.query), names(cte.get("aliascolnames"))
            )
        else:
            item.relation = self.catalog.find(name, schema)
            columns = tuple(c.name for c in item.relation.columns) if item.relation else None
        item.columns = self._renamed(columns, given)
        if given and item.relation:
            item.relation = None  # renamed columns: the catalog's names no longer apply
        scope.items.append(item)
        return item

    def _cte(self, node: Node, name: str) -> Node | None:
        for _, above in self.tree.ancestors(node):
            clause = above.get("withClause")
            if clause:
                for wrapped in clause.get("ctes", ()):
                    cte: Node = wrapped.get("CommonTableExpr", {})
                    if cte.get("ctename") == name:
                        return cte
        return None

    @staticmethod
    def _renamed(columns: tuple[str, ...] | None, given: tuple[str, ...]) -> tuple[str, ...] | None:
        if not given:
            return columns
        return given + (columns[len(given) :] if columns else ())

    def output_columns(self, query: Node) -> tuple[str, ...] | None:
        """Names of a query's output columns; None when a ``*`` cannot be expanded."""
        while query.get("larg"):
            query = query["larg"]
        if "valuesLists" in query:
            first = unwrap(query["valuesLists"][0])[1].get("items", ())
            return tuple(f"column{i + 1}" for i in range(len(first)))
        result: list[str] = []
        for wrapped in query.get("targetList", unwrap_returning(query)):
            target = wrapped.get("ResTarget", {})
            if target.get("name"):
                result.append(str(target["name"]))
                continue
            kind, value = unwrap(target.get("val", {}))
            if kind == "ColumnRef":
                qualifier, name = column_name(value)
                if name == "*":
                    expanded = self._expand(query, qualifier)
                    if expanded is None:
                        return None
                    result.extend(expanded)
                    continue
                result.append(name)
            else:
                result.append(output_name(kind, value))
        return tuple(result)

    def _expand(self, query: Node, qualifier: str | None) -> tuple[str, ...] | None:
        scope = self.scope(query)
        items = [i for i in scope.items if qualifier is None or i.alias == qualifier]
        if not items or any(i.columns is None for i in items):
            return None
        seen: list[str] = []
        for item in items:
            for column in item.columns or ():
                if qualifier is None and column in scope.merged and column in seen:
                    continue
                seen.append(column)
        return tuple(seen)


def unwrap_returning(query: Node) -> list[Node]:
    """The RETURNING list of a data-modifying statement (a plain list before libpg_query 18)."""
    clause = query.get("returningClause")
    if clause:
        return list(clause.get("exprs", ()))
    return list(query.get("returningList", ()))


def output_name(kind: str, node: Node) -> str:
    """The name PostgreSQL gives an unnamed output column (FigureColname, parse_target.c)."""
    if kind == "FuncCall":
        return names(node.get("funcname"))[-1]
    if kind == "TypeCast":
        inner = output_name(*unwrap(node.get("arg", {})))
        return inner if inner != "?column?" else names(node["typeName"].get("names"))[-1]
    if kind == "ColumnRef":
        return column_name(node)[1]
    fixed = {
        "CaseExpr": "case",
        "CoalesceExpr": "coalesce",
        "A_ArrayExpr": "array",
        "RowExpr": "row",
        "MinMaxExpr": "greatest" if node.get("op") == "IS_GREATEST" else "least",
    }
    if kind == "SubLink":
        if node.get("subLinkType") == "EXISTS_SUBLINK":
            return "exists"
        query = unwrap(node.get("subselect", {}))[1]
        targets = query.get("targetList", ())
        if targets:
            target = targets[0].get("ResTarget", {})
            return str(target.get("name") or output_name(*unwrap(target.get("val", {}))))
    return fixed.get(kind, "?column?")


def columns_in(tree_kind: str, node: Node) -> Iterator[Node]:
    """All ColumnRef nodes of an expression, those of its subqueries included."""
    from sqladvisor.sql.tree import walk

    for kind, below in walk(tree_kind, node):
        if kind == "ColumnRef":
            yield below
