"""Which relation a column reference means.

Scopes follow PostgreSQL's rules (parse_clause.c, parse_relation.c): FROM items of the query, then
the enclosing queries outwards; a subquery in FROM sees its siblings only when LATERAL, and then
only those before it; ON sees what its join joins; a common table expression sees none of them.
Without a catalog a name is resolved when its qualifier says so or only one FROM item could own it,
and the binding is then marked as not ``sure``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from sqladvisor.sql.column_names import function_columns, output_name
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import Tree, function_name, names, unwrap, walk

if TYPE_CHECKING:
    from sqladvisor.catalog.model import Catalog, Column, Relation

QUERIES = frozenset(("SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"))
_FUNCTIONS = frozenset(("RangeFunction", "RangeTableFunc", "JsonTable"))
_SYSTEM_COLUMNS = frozenset(("ctid", "tableoid", "xmin", "xmax", "cmin", "cmax"))


@dataclass(slots=True, eq=False)
class FromItem:
    """One entry of a query's range table."""

    alias: str
    kind: str
    """``table``, ``cte``, ``subquery``, ``function`` or ``values``; ``excluded``, ``old`` or

    ``new`` for those versions of a modified table's row."""
    node: Node
    name: str = ""
    schema: str | None = None
    relation: Relation | None = None
    query: Node | None = None
    """The query of a subquery or CTE."""
    columns: tuple[str, ...] | None = None
    """Output column names; None when unknown."""
    nulled_by: tuple[Node, ...] = ()
    """The outer joins (JoinExpr) that null-extend this item, innermost first."""
    lateral: bool = False
    hidden: bool = False
    """Whether the alias of a join around it hides its own: it cannot be named."""

    @property
    def nullable(self) -> bool:
        return bool(self.nulled_by)

    @property
    def rows(self) -> float | None:
        return self.relation.rows if self.relation else None

    @property
    def has_system_columns(self) -> bool:
        return self.kind == "table" and not (self.relation and self.relation.kind == "view")


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


class Named(NamedTuple):
    """A column name in a FROM clause. ``item`` is None where none owns it: FULL JOIN's USING."""

    name: str
    item: FromItem | None
    column: str


@dataclass(slots=True)
class Names:
    """What the column names below one entry of FROM mean, in the order of ``*``."""

    columns: list[Named] = field(default_factory=list)
    unknown: list[FromItem] = field(default_factory=list)
    """The items whose columns are not known."""
    items: list[FromItem] = field(default_factory=list)

    def owner(self, name: str) -> FromItem | None:
        """The item a join's USING column comes from on this side of the join."""
        owners = [n.item for n in self.columns if n.name == name] or self.unknown
        return owners[0] if len(owners) == 1 else None


class Output(NamedTuple):
    """An output column of a query: an expression (wrapped), or a column that ``*`` stands for."""

    name: str
    value: Node | None
    item: FromItem | None
    column: str


@dataclass(slots=True, eq=False)
class Scope:
    """The FROM items one query sees directly, and the scope around it."""

    query: Node
    items: list[FromItem] = field(default_factory=list)
    parent: Scope | None = None
    joins: list[Node] = field(default_factory=list)
    """All JoinExpr of the FROM clause, outermost first."""
    parts: list[Names] = field(default_factory=list)
    """The names of each entry of FROM; the target of a modifying statement comes first."""
    limited: dict[int, list[Names]] = field(default_factory=dict)
    """What can be named within a node of FROM: a join's ON, a lateral item."""
    aliases: dict[str, Names] = field(default_factory=dict)
    """The columns of joins that have an alias."""
    versions: list[FromItem] = field(default_factory=list)
    """``excluded``, ``old`` and ``new``: named with a qualifier only."""

    def item(self, alias: str) -> FromItem | None:
        return next((i for i in self.items if i.alias == alias and not i.hidden), None)


_Level = tuple[Scope, list[Names]]
"""A query around a node, and the names of it that the node can use."""


class Resolver:
    """Scopes and bindings of one statement, computed on demand."""

    def __init__(self, tree: Tree, catalog: Catalog) -> None:
        self.tree = tree
        self.catalog = catalog
        self._scopes: dict[int, Scope] = {}
        self._cte_columns: dict[int, tuple[str, ...] | None] = {}

    # Scopes

    def scope(self, query: Node, kind: str = "SelectStmt") -> Scope:
        """The scope of a SELECT, INSERT, UPDATE, DELETE or MERGE node."""
        known = self._scopes.get(id(query))
        if known is not None:
            return known
        scope = self._scopes[id(query)] = Scope(query)
        target = query.get("relation")
        if kind != "SelectStmt" and target:
            scope.parts.append(self._add_table(scope, target, (), target=True))
            self._add_versions(scope, query, kind)
        if kind == "MergeStmt" and query.get("sourceRelation"):
            scope.parts.append(self._add(scope, query["sourceRelation"], (), []))
            for wrapped in query.get("mergeWhenClauses", ()):
                clause = wrapped.get("MergeWhenClause", {})
                if clause.get("matchKind") == "MERGE_WHEN_NOT_MATCHED_BY_TARGET":
                    scope.limited[id(clause)] = scope.parts[1:]
                elif clause.get("matchKind") == "MERGE_WHEN_NOT_MATCHED_BY_SOURCE":
                    scope.limited[id(clause)] = scope.parts[:1]
        for entry in query.get("fromClause") or query.get("usingClause") or ():
            scope.parts.append(self._add(scope, entry, (), list(scope.parts)))
        # Last: to see its own part of the outer scope, the outer query looks into this one.
        scope.parent = next((outer for outer, _ in self._levels(query)), None)
        return scope

    def scope_of(self, node: Node) -> Scope | None:
        """The scope that a node's column references are looked up in first."""
        kind, query = self.tree.query_of(node)
        return self.scope(query, kind) if kind else None

    def _levels(self, node: Node) -> Iterator[_Level]:
        """The queries around a node whose names it can use, from the nearest outwards."""
        child, limit, seen = node, 0, True
        for kind, above in self.tree.ancestors(node):
            if kind == "JoinExpr":
                if not limit and unwrap(above.get("quals", {}))[1] is child:
                    limit = id(above)
            elif kind == "MergeWhenClause" or kind in _FUNCTIONS:
                limit = limit or id(above)
            elif kind == "RangeSubselect":
                seen = above.get("lateral", False)
                limit = limit or id(above)
            elif kind == "CommonTableExpr":
                seen = False
            elif kind in QUERIES:
                if above.get("larg") is child or above.get("rarg") is child:
                    child = above
                    continue
                if kind == "InsertStmt" and unwrap(above.get("selectStmt", {}))[1] is child:
                    seen = False
                if seen:
                    scope = self.scope(above, kind)
                    yield scope, scope.limited.get(limit, scope.parts)
                limit, seen = 0, True
            child = above

    # References

    def resolve(self, column: Node) -> Binding | None:
        """What a ColumnRef means, or None when it cannot be told.

        None, too, for ``*``, a whole row, a column merged by FULL JOIN … USING, and where ORDER BY
        or GROUP BY name an output column that is an expression.
        """
        fields = names(column.get("fields"))
        if not fields or fields[-1] == "*":
            return None
        if len(fields) == 1:
            sorted_, target = self._output_meant(column, fields[0])
            if sorted_:
                return self._binding(target)
        return self._find(column, fields)

    def origin(self, binding: Binding) -> Binding | None:
        """The table's column that a column of a subquery or CTE passes on, however deep it comes

        from; the binding itself where it is a table's. Whether joins on the way null-extend it is
        not told."""
        depth = binding.depth
        seen: set[int] = set()
        while binding.item.kind in ("subquery", "cte"):
            if id(binding.item) in seen:
                return None  # a WITH RECURSIVE of nothing but itself
            seen.add(id(binding.item))
            query, columns = binding.item.query, binding.item.columns or ()
            outputs = None if query is None or query.get("larg") else self.outputs(query)
            if outputs is None or binding.column not in columns:
                return None
            place = columns.index(binding.column)
            if place >= len(outputs):
                return None
            found = outputs[place]
            inner = Binding(found.item, found.column, 0, True) if found.item else None
            if inner is None:
                inner = self._binding(found.value)
            if inner is None:
                return None
            binding = inner
        return Binding(binding.item, binding.column, depth, binding.sure)

    def _binding(self, wrapped: Node | None) -> Binding | None:
        kind, node = unwrap(wrapped or {})
        return self.resolve(node) if kind == "ColumnRef" else None

    def _find(self, node: Node, fields: tuple[str, ...], local: bool = False) -> Binding | None:
        for depth, (scope, visible) in enumerate(self._levels(node)):
            if scope.query.get("larg") or (local and depth):
                return None  # ORDER BY of a set operation: its output columns only
            if len(fields) > 1:
                settled, found = self._qualified(scope, visible, fields, depth)
            else:
                settled, found = self._unqualified(scope, visible, fields[0], depth)
            if settled:
                return found
        return None

    @staticmethod
    def _qualified(
        scope: Scope, visible: list[Names], fields: tuple[str, ...], depth: int
    ) -> tuple[bool, Binding | None]:
        qualifier, name = fields[-2:]
        if len(fields) == 2 and qualifier in scope.aliases:
            owners = [n for n in scope.aliases[qualifier].columns if n.name == name]
            item = owners[0].item if len(owners) == 1 else None
            if item is not None:
                return True, Binding(item, owners[0].column, depth, True)
            unknown = scope.aliases[qualifier].unknown
            if owners or len(unknown) != 1:
                return True, None
            return True, Binding(unknown[0], name, depth, True)
        items = [i for part in visible for i in part.items if not i.hidden] + scope.versions
        items = [i for i in items if i.alias == qualifier]
        if len(fields) > 2:
            items = [i for i in items if _schema_is(i, fields[-3])]
        if len(items) != 1:
            return bool(items), None
        item = items[0]
        known = item.columns is None or name in item.columns
        if not known and name in _SYSTEM_COLUMNS:
            known = item.has_system_columns
        return True, Binding(item, name, depth, known)

    @staticmethod
    def _unqualified(
        scope: Scope, visible: list[Names], name: str, depth: int
    ) -> tuple[bool, Binding | None]:
        owners = [n for part in visible for n in part.columns if n.name == name]
        if owners:
            item = owners[0].item
            if len(owners) > 1 or item is None:
                return True, None
            return True, Binding(item, owners[0].column, depth, True)
        items = [i for part in visible for i in part.items]
        if name in _SYSTEM_COLUMNS:
            tables = [i for i in items if i.has_system_columns]
            if tables:
                sure = len(tables) == 1
                return True, Binding(tables[0], name, depth, True) if sure else None
        unknown = [i for part in visible for i in part.unknown]
        if not unknown:
            return False, None
        if len(unknown) > 1 or any(i.alias == name for i in items):
            return True, None  # a whole row, perhaps
        alone = len(items) == 1 and scope.parent is None
        return True, Binding(unknown[0], name, depth, alone)

    def _output_meant(self, column: Node, name: str) -> tuple[bool, Node | None]:
        """Whether ORDER BY, DISTINCT ON or GROUP BY mean an output column, and its expression.

        findTargetlistEntrySQL92 (parse_clause.c): a bare name is first an output column's in
        ORDER BY and DISTINCT ON, last in GROUP BY.
        """
        kind, above = self.tree.parent(column)
        grouped = kind == "GroupingSet"
        if kind == "SortBy":
            kind, above = self.tree.parent(above)
        while kind == "GroupingSet":
            kind, above = self.tree.parent(above)
        if kind != "SelectStmt" or "larg" in above:
            return False, None
        if self.tree.parent(column)[1] is above:
            grouped = _among(column, above.get("groupClause"))
            if not grouped and not _among(column, above.get("distinctClause")):
                return False, None
        for wrapped in above.get("targetList", ()):
            target = wrapped.get("ResTarget", {})
            value = target.get("val", {})
            if target.get("name", output_name(*unwrap(value))) != name:
                continue
            if _is_column(value, name):
                return False, None
            if grouped:
                found = self._find(column, (name,), local=True)
                if found is not None and found.sure:
                    return False, None
            return True, value
        return False, None

    # Outputs

    def output_columns(self, query: Node, kind: str = "SelectStmt") -> tuple[str, ...] | None:
        """Names of a query's output columns; None when a ``*`` cannot be expanded."""
        found = self.outputs(query, kind)
        return None if found is None else tuple(o.name for o in found)

    def outputs(self, query: Node, kind: str = "SelectStmt") -> list[Output] | None:
        """A query's output columns: of a set operation those of its first part, of a modifying

        statement what it returns. None when a ``*`` cannot be expanded."""
        while query.get("larg"):
            query = query["larg"]
        if "valuesLists" in query:
            first = unwrap(query["valuesLists"][0])[1].get("items", ())
            alone = len(query["valuesLists"]) == 1
            return [
                Output(f"column{i + 1}", v if alone else None, None, "")
                for i, v in enumerate(first)
            ]
        targets = query.get("targetList", []) if kind == "SelectStmt" else _returning(query)
        result: list[Output] = []
        for wrapped in targets:
            target = wrapped.get("ResTarget", {})
            value = target.get("val", {})
            value_kind, node = unwrap(value)
            fields = names(node.get("fields")) if value_kind == "ColumnRef" else ()
            if fields[-1:] == ("*",):
                expanded = self._expand(query, kind, fields[:-1])
                if expanded is None:
                    return None
                result += (Output(n.name, None, n.item, n.column) for n in expanded)
            elif value_kind == "A_Indirection" and "A_Star" in node.get("indirection", [{}])[-1]:
                return None
            else:
                name = target.get("name") or output_name(value_kind, node)
                result.append(Output(str(name), value, None, ""))
        return result

    def _expand(self, query: Node, kind: str, qualifier: tuple[str, ...]) -> list[Named] | None:
        scope = self.scope(query, kind)
        if not qualifier:
            # MERGE … RETURNING *: the source before the target.
            parts = scope.parts[::-1] if kind == "MergeStmt" else scope.parts
        elif len(qualifier) == 1 and qualifier[0] in scope.aliases:
            parts = [scope.aliases[qualifier[0]]]
        else:
            items = [i for i in (*scope.items, *scope.versions) if not i.hidden]
            items = [i for i in items if i.alias == qualifier[-1]]
            if len(qualifier) > 1:
                items = [i for i in items if _schema_is(i, qualifier[-2])]
            parts = [_names_of(i) for i in items[:1]]
        if not parts or any(part.unknown for part in parts):
            return None
        return [named for part in parts for named in part.columns]

    # FROM

    def _add(
        self, scope: Scope, wrapped: Node, nulled_by: tuple[Node, ...], before: list[Names]
    ) -> Names:
        """Add an entry of FROM; ``before`` is what stands left of it, for lateral items."""
        kind, node = unwrap(wrapped)
        if kind == "RangeVar":
            return self._add_table(scope, node, nulled_by)
        if kind == "JoinExpr":
            return self._add_join(scope, node, nulled_by, before)
        if kind == "RangeTableSample":
            return self._add(scope, node.get("relation", {}), nulled_by, before)
        alias = node.get("alias", {})
        name = str(alias.get("aliasname", ""))
        item = FromItem(name, "function", node, nulled_by=nulled_by)
        item.lateral = bool(node.get("lateral", False))
        columns = None
        scope.limited[id(node)] = before
        if kind == "RangeSubselect":
            query = unwrap(node.get("subquery", {}))[1]
            item.kind = "values" if "valuesLists" in query else "subquery"
            item.query = query
            columns = self.output_columns(query)
        elif kind in _FUNCTIONS:
            columns = function_columns(node, name)
            item.alias = name or _function_alias(node)
        item.columns = _renamed(columns, names(alias.get("colnames")))
        scope.items.append(item)
        return _names_of(item)

    def _add_join(
        self, scope: Scope, node: Node, nulled_by: tuple[Node, ...], before: list[Names]
    ) -> Names:
        scope.joins.append(node)
        jointype = node.get("jointype")
        left_nulled = (node, *nulled_by) if jointype in ("JOIN_RIGHT", "JOIN_FULL") else nulled_by
        right_nulled = (node, *nulled_by) if jointype in ("JOIN_LEFT", "JOIN_FULL") else nulled_by
        left = self._add(scope, node.get("larg", {}), left_nulled, before)
        right = self._add(scope, node.get("rarg", {}), right_nulled, [*before, left])
        using = names(node.get("usingClause"))
        if node.get("isNatural"):
            shared = {n.name for n in right.columns}
            using = tuple(n.name for n in left.columns if n.name in shared)
        merged = [_merged(name, left, right, jointype) for name in using]
        rest = [n for side in (left, right) for n in side.columns if n.name not in using]
        joined = Names(merged + rest, left.unknown + right.unknown, left.items + right.items)
        scope.limited[id(node)] = [joined]
        for item in joined.items:
            if "alias" in node:
                item.hidden = True
        if "join_using_alias" in node:
            scope.aliases[str(node["join_using_alias"].get("aliasname"))] = Names(merged)
        if "alias" in node:
            given = names(node["alias"].get("colnames"))
            if given and joined.unknown:
                # Which column is which cannot be counted: none of them has a known owner.
                joined.columns = [Named(name, None, name) for name in given]
            for place, name in enumerate(given[: len(joined.columns)]):
                joined.columns[place] = joined.columns[place]._replace(name=name)
            scope.aliases[str(node["alias"].get("aliasname"))] = joined
        return joined

    def _add_table(
        self, scope: Scope, node: Node, nulled_by: tuple[Node, ...], *, target: bool = False
    ) -> Names:
        name = str(node.get("relname", ""))
        schema = node.get("schemaname")
        alias = node.get("alias", {})
        given = names(alias.get("colnames"))
        item = FromItem(
            str(alias.get("aliasname", name)), "table", node, name, schema, nulled_by=nulled_by
        )
        # The target of a modifying statement is a table even where a CTE has its name.
        cte = None if schema or target else self._cte(node, name)
        if cte is not None:
            item.kind = "cte"
            item.query = unwrap(cte.get("ctequery", {}))[1]
            columns = self._columns_of_cte(cte)
        else:
            item.relation = self.catalog.find(name, schema)
            columns = tuple(c.name for c in item.relation.columns) if item.relation else None
        scope.items.append(item)
        if cte is None and columns is None:
            # An alias may rename only the first columns of a table.
            return Names([Named(c, item, c) for c in given], [item], [item])
        item.columns = _renamed(columns, given)
        if given and item.relation:
            item.relation = None  # renamed columns: the catalog's names no longer apply
        return _names_of(item)

    def _add_versions(self, scope: Scope, query: Node, kind: str) -> None:
        table = scope.items[0]
        versions: dict[str, str] = {}
        if _returning(query):
            given = [
                w.get("ReturningOption", {})
                for w in query.get("returningClause", {}).get("options", ())
            ]
            for version in ("old", "new"):
                option = f"RETURNING_OPTION_{version.upper()}"
                alias = next((o["value"] for o in given if o.get("option") == option), version)
                versions[str(alias)] = version
        if kind == "InsertStmt" and "onConflictClause" in query:
            versions["excluded"] = "excluded"
        for alias, version in versions.items():
            if alias != table.alias:
                item = FromItem(alias, version, table.node, table.name, table.schema)
                item.relation, item.columns = table.relation, table.columns
                scope.versions.append(item)

    # Common table expressions

    def _cte(self, node: Node, name: str) -> Node | None:
        """The CTE that a RangeVar means, or None for a table.

        A query of a WITH list sees those before it, with RECURSIVE all of them.
        """
        inside: int | None = None
        for kind, above in self.tree.ancestors(node):
            if kind == "CommonTableExpr":
                inside = id(above)
                continue
            clause = above.get("withClause")
            if not clause or kind == "WithClause":
                continue
            earlier: list[Node] = []
            found: Node | None = None
            for wrapped in clause.get("ctes", ()):
                cte: Node = wrapped.get("CommonTableExpr", {})
                if id(cte) == inside and not clause.get("recursive"):
                    break
                if cte.get("ctename") == name:
                    found = cte
                    break
                earlier.append(cte)
            if found is not None:
                # In their order, so that a long chain of them does not recurse.
                for cte in earlier:
                    self._columns_of_cte(cte)
                return found
            inside = None
        return None

    def _columns_of_cte(self, cte: Node) -> tuple[str, ...] | None:
        given = names(cte.get("aliascolnames"))
        if id(cte) not in self._cte_columns:
            self._cte_columns[id(cte)] = _renamed(None, given)  # as seen from within itself
            kind, query = unwrap(cte.get("ctequery", {}))
            columns = _renamed(self.output_columns(query, kind), given)
            if columns is not None:
                search, cycle = cte.get("search_clause", {}), cte.get("cycle_clause", {})
                added = (
                    search.get("search_seq_column"),
                    cycle.get("cycle_mark_column"),
                    cycle.get("cycle_path_column"),
                )
                columns += tuple(str(a) for a in added if a)
            self._cte_columns[id(cte)] = columns
        return self._cte_columns[id(cte)]


def _names_of(item: FromItem) -> Names:
    if item.columns is None:
        return Names([], [item], [item])
    return Names([Named(c, item, c) for c in item.columns], [], [item])


def _merged(name: str, left: Names, right: Names, jointype: object) -> Named:
    """A join's USING column: it is the side's that the join does not null-extend."""
    if jointype == "JOIN_FULL":
        return Named(name, None, name)
    side = right if jointype == "JOIN_RIGHT" else left
    named = next((n for n in side.columns if n.name == name), None)
    return named or Named(name, side.owner(name), name)


def _renamed(columns: tuple[str, ...] | None, given: tuple[str, ...]) -> tuple[str, ...] | None:
    if not given:
        return columns
    return given + (columns[len(given) :] if columns else ())


def _returning(query: Node) -> list[Node]:
    """The RETURNING list of a data-modifying statement (a plain list before libpg_query 18)."""
    clause = query.get("returningClause")
    if clause:
        return list(clause.get("exprs", ()))
    return list(query.get("returningList", ()))


def _function_alias(node: Node) -> str:
    """What a function in FROM without an alias is called: like the first function of it."""
    for wrapped in node.get("functions", ())[:1]:
        call = wrapped.get("List", {}).get("items", ())
        kind, function = unwrap(call[0]) if call else ("", {})
        return function_name(function) if kind == "FuncCall" else output_name(kind, function)
    return "json_table" if "context_item" in node else "xmltable"


def _schema_is(item: FromItem, schema: str) -> bool:
    if item.schema is None and item.relation is None:
        return item.kind == "table"
    return schema == (item.schema or (item.relation and item.relation.schema))


def _among(node: Node, wrapped: Iterable[Node] | None) -> bool:
    return any(unwrap(w)[1] is node for w in wrapped or ())


def _is_column(wrapped: Node, name: str) -> bool:
    kind, node = unwrap(wrapped)
    return kind == "ColumnRef" and names(node.get("fields")) == (name,)


def columns_in(tree_kind: str, node: Node) -> Iterator[Node]:
    """All ColumnRef nodes of an expression, those of its subqueries included."""
    for kind, below in walk(tree_kind, node):
        if kind == "ColumnRef":
            yield below
