"""The catalog that a schema's DDL describes, with no server: statements applied in their order.

Odd or unknown DDL is passed over, never refused: a statement that PostgreSQL itself would reject
changes nothing here, and a relation whose columns cannot be known (a view over tables nobody
declared) is left out, so that rules treat it as unknown instead of trusting half of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace

from sqladvisor.catalog.ddl_inline import inlined_not_volatile
from sqladvisor.catalog.ddl_names import key_name, key_names, object_name
from sqladvisor.catalog.ddl_state import Key, SchemaState
from sqladvisor.catalog.ddl_text import DdlText
from sqladvisor.catalog.model import (
    Catalog,
    Column,
    ForeignKey,
    FunctionInfo,
    Index,
    Relation,
    RelationKind,
)
from sqladvisor.sql.datatypes import type_name
from sqladvisor.sql.quote import identifier, qualified
from sqladvisor.sql.statement import Node, Statement
from sqladvisor.sql.tree import column_name, constant, function_name, names, unwrap, walk

_NOTHING = Column("", "")
"""What a column has before its definition is read."""
_SERIALS = {
    "serial": "integer",
    "serial4": "integer",
    "bigserial": "bigint",
    "serial8": "bigint",
    "smallserial": "smallint",
    "serial2": "smallint",
}
# TableLikeOption bits of CREATE TABLE … (LIKE …) (src/include/nodes/parsenodes.h).
_LIKE_CONSTRAINTS, _LIKE_DEFAULTS, _LIKE_GENERATED, _LIKE_IDENTITY, _LIKE_INDEXES = 4, 8, 16, 32, 64
# Operator classes that are their type's default in some access method, among those that people
# write out (pg_opclass.opcdefault); pg_get_indexdef leaves them out too.
_DEFAULT_OPCLASS = re.compile(
    "(array|bit|bool|bpchar|bytea|char|cidr|circle|date|datetime|enum|float4|float8|inet|int2|int4|"
    "int8|interval|jsonb|macaddr|money|multirange|name|numeric|oid|point|poly|range|record|text|"
    "tid|time|timestamp|timestamptz|timetz|tsquery|tsvector|uuid|varbit|xid8)_ops"
)
_TABLE_OBJECTS = frozenset(
    ("OBJECT_TABLE", "OBJECT_VIEW", "OBJECT_MATVIEW", "OBJECT_FOREIGN_TABLE", "OBJECT_INDEX")
)


def catalog_from_statements(statements: Iterable[Statement]) -> Catalog:
    """Apply the DDL among ``statements`` in order. Other statements are ignored.

    Row counts, pages and statistics stay unknown. The search path is the last one that is set
    (``SET search_path``, ``ALTER DATABASE … SET``); the empty one that pg_dump sets to protect
    itself does not count.
    """
    builder = CatalogBuilder()
    for statement in statements:
        builder.apply(statement.kind, statement.tree, statement.sql)
    return builder.catalog()


def catalog_from_sql(sql: str) -> Catalog:
    """The catalog of a schema script's text; statements that do not parse are passed over."""
    from sqladvisor.sql.source import read_source, statements

    return catalog_from_statements(statements(read_source("<schema>", sql.encode()))[0])


class CatalogBuilder:
    """The catalog so far, and what only later DDL needs to know about it.

    ``start``: a catalog read elsewhere (of a server) that the statements change.
    """

    def __init__(self, start: Catalog | None = None) -> None:
        self.state = SchemaState()
        self._types: dict[tuple[tuple[str, ...], bool, tuple[str, ...]], str] = {}
        self.composites: dict[str, tuple[Column, ...]] = {}
        self.functions: dict[str, dict[tuple[str, ...], FunctionInfo]] = {}
        self.extensions: set[str] = set()
        self.home: tuple[str, ...] = ("public",)
        self.handlers: dict[str, Callable[[Node, DdlText], None]] = {
            "CreateStmt": self.create_table,
            "CreateForeignTableStmt": self.create_foreign_table,
            "CreateTableAsStmt": self.create_table_as,
            "SelectStmt": self.select,
            "ViewStmt": self.create_view,
            "IndexStmt": self.create_index,
            "AlterTableStmt": self.alter_table,
            "RenameStmt": self.rename,
            "AlterObjectSchemaStmt": self.set_schema,
            "DropStmt": self.drop,
            "CreateFunctionStmt": self.create_function,
            "AlterFunctionStmt": self.alter_function,
            "CreateExtensionStmt": self.create_extension,
            "CreateDomainStmt": self.create_domain,
            "CompositeTypeStmt": self.create_composite,
            "CreateSchemaStmt": self.create_schema,
            "VariableSetStmt": self.set_variable,
            "AlterDatabaseSetStmt": self.set_home,
            "AlterRoleSetStmt": self.set_home,
        }
        if start is not None:
            self.home = self.state.path = start.search_path or ("public",)
            self.extensions |= start.extensions
            self.functions |= {name: {(): info} for name, info in start.functions.items()}
            for key, relation in start.relations.items():
                self.state.relations[key] = relation
                self.state.indexes |= {(key[0], index.name): key for index in relation.indexes}

    def apply(self, kind: str, node: Node, sql: str) -> None:
        handler = self.handlers.get(kind)
        if handler is not None:
            handler(node, DdlText(sql))

    def catalog(self) -> Catalog:
        return Catalog(
            relations=self.state.relations,
            search_path=self.home,
            extensions=frozenset(self.extensions),
            functions={
                name: _merged(list(overloads.values()))
                for name, overloads in self.functions.items()
                if overloads
            },
        )

    # Names

    def find(self, node: Node) -> Key | None:
        """The known relation that a RangeVar means."""
        return self.state.find(node.get("schemaname"), str(node.get("relname", "")))

    def find_index(self, node: Node) -> Key | None:
        """The known index that a RangeVar means."""
        return self.state.find_index(node.get("schemaname"), str(node.get("relname", "")))

    def new(self, node: Node) -> Key:
        """Where a RangeVar's relation is created."""
        return str(node.get("schemaname") or self.schema), str(node.get("relname", ""))

    @property
    def schema(self) -> str:
        return next(iter(self.state.path), "public")

    def type_text(self, node: Node) -> str:
        """A TypeName as format_type() prints it without modifier."""
        written = tuple(n["String"]["sval"] for n in node.get("names", ()) if "String" in n)
        known = self._types.get((written, "arrayBounds" in node, self.home))
        if known is None:
            known = self._type_text(node)
            self._types[written, "arrayBounds" in node, self.home] = known
        return known

    def _type_text(self, node: Node) -> str:
        parts = names(node.get("names"))
        schema, name = (parts[-2] if len(parts) > 1 else None), parts[-1] if parts else ""
        if schema == "pg_catalog":
            return type_name(node)
        array = "[]" * bool(node.get("arrayBounds"))
        if schema and schema not in self.home and schema != "public":
            return qualified(schema, name) + array
        if name == "char":
            return '"char"' + array  # the one-byte type; CHARACTER comes as pg_catalog.bpchar
        known = type_name(node)
        return known if known != name + array else identifier(name) + array

    # CREATE TABLE and its relatives

    def create_table(self, node: Node, text: DdlText, kind: RelationKind = "table") -> None:
        key = self.new(node.get("relation", {}))
        parents = [self.find(p.get("RangeVar", {})) for p in node.get("inhRelations", ())]
        if key in self.state.relations or None in parents:
            return
        columns: dict[str, Column] = {}
        deferred: list[tuple[Node, str | None]] = []
        copied: list[Index] = []
        checks: list[str] = []
        for parent in (self.state.relations[p] for p in parents if p):
            for column in parent.columns:
                if "partbound" not in node:
                    column = replace(column, identity=False)
                columns.setdefault(column.name, column)
            checks += [c for c in parent.checks if c not in checks]
        if "ofTypename" in node:
            composite = self.composites.get(self.type_text(node["ofTypename"]))
            if composite is None:
                return
            columns |= {c.name: c for c in composite}
        for wrapped in node.get("tableElts", ()):
            what, element = unwrap(wrapped)
            if what == "ColumnDef":
                name = str(element.get("colname", ""))
                columns[name] = self.column(key, element, text, deferred, columns.get(name))
            elif what == "Constraint":
                deferred.append((element, None))
            elif what == "TableLikeClause":
                source = self.find(element.get("relation", {}))
                if source is None:
                    return
                self._copy(source, int(element.get("options", 0)), columns, checks, copied)
        partition_key = tuple(
            str(e["PartitionElem"]["name"])
            for e in node.get("partspec", {}).get("partParams", ())
            if e.get("PartitionElem", {}).get("name")
        )
        self.state.relations[key] = Relation(
            *key,
            kind="partitioned" if "partspec" in node else kind,
            columns=tuple(columns.values()),
            checks=tuple(checks),
            partition_key=partition_key,
            temporary=node.get("relation", {}).get("relpersistence") == "t",
        )
        # PostgreSQL creates the primary key before the other constraints, whatever their order.
        deferred.sort(key=lambda item: item[0].get("contype") != "CONSTR_PRIMARY")
        for constraint, name_ in deferred:
            self.add_constraint(key, constraint, text, name_)
        for index in copied:
            self.state.add_index(key, index, named=False)
        for parent_key in parents:
            if parent_key:
                self.state.children.setdefault(parent_key, []).append(key)
                if "partbound" in node:
                    self.state.adopt_partition(parent_key, key)

    def column(
        self,
        key: Key,
        node: Node,
        text: DdlText,
        deferred: list[tuple[Node, str | None]],
        inherited: Column | None = None,
    ) -> Column:
        """A ColumnDef as a column; its keys, checks and references go to ``deferred``."""
        name = str(node.get("colname", ""))
        known = inherited or _NOTHING
        type_, base_type, collation = known.type, known.base_type, known.collation
        default, not_null = known.default, known.not_null
        generated, identity = known.generated, known.identity
        if "typeName" in node:
            type_ = self.type_text(node["typeName"])
            if type_ in _SERIALS:
                sequence = qualified(
                    None if key[0] in self.home else key[0],
                    object_name(key[1], name, "seq", lambda n: (key[0], n) in self.state.relations),
                )
                not_null, default = True, f"nextval('{sequence}'::regclass)"
                type_ = _SERIALS[type_]
            base_type = self.state.domains.get(type_)
        if "collClause" in node:
            collation = names(node["collClause"].get("collname"))[-1]
        constraints = [c.get("Constraint", {}) for c in node.get("constraints", ())]
        for i, constraint in enumerate(constraints):
            what = constraint.get("contype")
            if what == "CONSTR_NOTNULL":
                not_null = True
                self.state.constraints.setdefault(key, {})[
                    constraint.get("conname") or object_name(key[1], name, "not_null", _free)
                ] = ("not null", name)
            elif what == "CONSTR_DEFAULT":
                following = (c.get("location", -1) for c in constraints[i + 1 :])
                stop = next((at for at in following if at >= 0), None)
                default = None
                raw, at = constraint.get("raw_expr", {}), constraint.get("location", 0)
                if constant(raw) is not None:
                    default = text.plain_default(at, raw) or text.default(at, stop)
            elif what == "CONSTR_GENERATED":
                generated = True
            elif what == "CONSTR_IDENTITY":
                identity = not_null = True
            elif what in ("CONSTR_PRIMARY", "CONSTR_UNIQUE", "CONSTR_FOREIGN", "CONSTR_CHECK"):
                deferred.append((constraint, name))
        return Column(
            name, type_, not_null, default, collation, generated, identity, known.stats,
            base_type,
        )  # fmt: skip

    def _copy(
        self,
        source: Key,
        options: int,
        columns: dict[str, Column],
        checks: list[str],
        indexes: list[Index],
    ) -> None:
        """What CREATE TABLE (LIKE source …) takes over."""
        relation = self.state.relations[source]
        for column in relation.columns:
            keep_default = options & _LIKE_DEFAULTS
            columns[column.name] = replace(
                column,
                default=column.default if keep_default else None,
                generated=column.generated and bool(options & _LIKE_GENERATED),
                identity=column.identity and bool(options & _LIKE_IDENTITY),
            )
        if options & _LIKE_CONSTRAINTS:
            checks += [c for c in relation.checks if c not in checks]
        if options & _LIKE_INDEXES:
            indexes += (replace(i, valid=True) for i in relation.indexes)

    def create_foreign_table(self, node: Node, text: DdlText) -> None:
        self.create_table(node.get("base", {}), text, "foreign")

    def create_table_as(self, node: Node, text: DdlText) -> None:
        kind, query = unwrap(node.get("query", {}))
        into = node.get("into", {})
        if kind == "SelectStmt":
            materialized = node.get("objtype") == "OBJECT_MATVIEW"
            given = names(into.get("colNames"))
            if materialized:
                self._derive(into.get("rel", {}), query, given, "matview", text.query)
            else:
                self._derive(into.get("rel", {}), query, given, "table", None)

    def select(self, node: Node, text: DdlText) -> None:
        """SELECT INTO, and the set_config('search_path', …) that pg_dump writes."""
        if "intoClause" in node:
            self._derive(node["intoClause"].get("rel", {}), node, (), "table", None)
        for target in node.get("targetList", ()) if "fromClause" not in node else ():
            kind, call = unwrap(target.get("ResTarget", {}).get("val", {}))
            if kind == "FuncCall" and function_name(call) == "set_config":
                values = [constant(a) for a in call.get("args", ())]
                if len(values) > 1 and values[0] == "search_path" and isinstance(values[1], str):
                    self._set_path([_bare(part) for part in values[1].split(",")])

    def create_view(self, node: Node, text: DdlText) -> None:
        kind, query = unwrap(node.get("query", {}))
        if kind != "SelectStmt":
            return
        view = node.get("view", {})
        if node.get("replace"):
            self.state.relations.pop(self.new(view), None)
        self._derive(view, query, names(node.get("aliases")), "view", text.query)

    def _derive(
        self,
        target: Node,
        query: Node,
        given: tuple[str, ...],
        kind: RelationKind,
        definition: Callable[[], str] | None,
    ) -> None:
        """Add a relation whose columns come from a query, unless they cannot be told."""
        # Reading queries takes the resolver, which schemas without views have no use for.
        from sqladvisor.catalog.ddl_query import query_columns

        key = self.new(target)
        known = Catalog(self.state.relations, (*self.state.path, "public"))
        columns = query_columns(query, given, known)
        if columns is None or key in self.state.relations:
            return
        self.state.relations[key] = Relation(
            *key,
            kind=kind,
            columns=columns,
            definition=definition() if definition else None,
            temporary=target.get("relpersistence") == "t",
        )
        if definition:
            read = (self.find(n) for what, n in walk("SelectStmt", query) if what == "RangeVar")
            self.state.sources[key] = {k for k in read if k and k != key}

    # Indexes and constraints

    def create_index(self, node: Node, text: DdlText) -> None:
        key = self.find(node.get("relation", {}))
        elements = [_plain(e.get("IndexElem", {})) for e in node.get("indexParams", ())]
        name = str(node.get("idxname", ""))
        if key is None or (name and (key[0], name) in self.state.indexes):
            return
        recurse = bool(node["relation"].get("inh"))
        index = self.index_from(node, text)
        if not recurse and self.state.children.get(key):
            index = replace(index, valid=False)
        if not name:
            middle = key_names([*map(key_name, elements), *index.include])
            index = replace(index, name=self.state.free_name(key, middle, "idx"))
        self.state.add_index(key, index, recurse=recurse)

    @staticmethod
    def index_from(node: Node, text: DdlText) -> Index:
        """The index that a CREATE INDEX describes; without a name where it gives none."""
        elements = [_plain(e.get("IndexElem", {})) for e in node.get("indexParams", ())]
        return CatalogBuilder._index(
            str(node.get("idxname", "")),
            elements,
            text.index_keys(elements) if any("expr" in e for e in elements) else [],
            unique=bool(node.get("unique")),
            include=tuple(
                str(e.get("IndexElem", {}).get("name", ""))
                for e in node.get("indexIncludingParams", ())
            ),
            method=str(node.get("accessMethod", "btree")),
            predicate=text.predicate() if "whereClause" in node else None,
            definition=text.sql.strip(),
        )

    @staticmethod
    def _index(
        name: str, elements: list[Node], expressions: list[str | None], **more: object
    ) -> Index:
        opclasses = tuple((names(e.get("opclass")) or ("",))[-1] for e in elements)
        return Index(
            name,
            tuple(e.get("name") for e in elements),
            expressions=tuple(e for e in expressions if e),
            opclasses=tuple(
                None if not o or _DEFAULT_OPCLASS.fullmatch(o) else o for o in opclasses
            ),
            **more,  # type: ignore[arg-type]
        )

    def add_constraint(
        self,
        key: Key,
        node: Node,
        text: DdlText,
        column: str | None = None,
        recurse: bool = True,
    ) -> None:
        """Apply a constraint written at a table, or at one of its columns (``column``)."""
        what = str(node.get("contype", ""))
        name = str(node.get("conname", ""))
        if what in ("CONSTR_PRIMARY", "CONSTR_UNIQUE"):
            self._add_key(key, node, name, what == "CONSTR_PRIMARY", column, recurse)
        elif what == "CONSTR_FOREIGN":
            self._add_reference(key, node, name, column, recurse)
        elif what == "CONSTR_EXCLUSION":
            pairs = [e.get("List", {}).get("items", ()) for e in node.get("exclusions", ())]
            elements = [_plain(p[0].get("IndexElem", {})) for p in pairs if p]
            location = int(node.get("location", 0))
            where = text.exclusion_predicate(location) if "where_clause" in node else None
            index = self._index(
                name or self.state.free_name(key, key_names(map(key_name, elements)), "excl"),
                elements,
                text.index_keys(elements, location),
                method=str(node.get("access_method", "gist")),
                predicate=where,
                constraint=True,
            )
            self.state.add_index(key, index, recurse=recurse)
        elif what == "CONSTR_CHECK":
            self._add_check(key, node, name, text.check(int(node.get("location", 0))), recurse)
        elif what == "CONSTR_NOTNULL" and not node.get("skip_validation"):
            for column_ in names(node.get("keys")):
                named = name or object_name(key[1], column_, "not_null", _free)
                self.state.constraints.setdefault(key, {})[named] = ("not null", column_)
                self.state.not_null(key, [column_], True, recurse)

    def _add_key(
        self, key: Key, node: Node, name: str, primary: bool, column: str | None, recurse: bool
    ) -> None:
        existing = str(node.get("indexname", ""))
        if existing:
            self.state.adopt_index(key, existing, name or existing, primary)
            return
        keys = (column,) if column else names(node.get("keys"))
        include = names(node.get("including"))
        if primary and any(i.primary for i in self.state.relations[key].indexes):
            return
        middle = "" if primary else key_names([*keys, *include])
        index = Index(
            name or self.state.free_name(key, middle, "pkey" if primary else "key"),
            keys,
            unique=True,
            primary=primary,
            include=include,
            opclasses=(None,) * len(keys),
            valid=recurse or not self.state.children.get(key),
            constraint=True,
        )
        self.state.add_index(key, index, recurse=recurse)

    def _add_reference(
        self, key: Key, node: Node, name: str, column: str | None, recurse: bool
    ) -> None:
        columns = (column,) if column else names(node.get("fk_attrs"))
        target_node = node.get("pktable", {})
        target = self.find(target_node) or self.new(target_node)
        known = self.state.relations.get(target)
        relation = self.state.relations[key]
        used = {f.name for f in relation.foreign_keys}
        reference = ForeignKey(
            name or object_name(key[1], "_".join(columns), "fkey", used.__contains__),
            columns,
            *target,
            names(node.get("pk_attrs")) or (known.primary_key if known else ()),
            validated=not node.get("skip_validation"),
        )
        members = self.state.family(key, recurse and relation.kind == "partitioned")
        for member in members:
            changed = self.state.relations[member]
            self.state.relations[member] = replace(
                changed, foreign_keys=(*changed.foreign_keys, reference)
            )

    def _add_check(self, key: Key, node: Node, name: str, check: str, recurse: bool) -> None:
        if not name:
            raw = node.get("raw_expr", {})
            used = {names(n.get("fields"))[-1] for k, n in walk(*unwrap(raw)) if k == "ColumnRef"}
            middle = used.pop() if len(used) == 1 else ""
            name = object_name(
                key[1], middle, "check", self.state.constraints.get(key, {}).__contains__
            )
        for member in self.state.family(key, recurse and not node.get("is_no_inherit")):
            relation = self.state.relations[member]
            self.state.relations[member] = replace(relation, checks=(*relation.checks, check))
            self.state.constraints.setdefault(member, {})[name] = ("check", check)

    # ALTER

    def alter_table(self, node: Node, text: DdlText) -> None:
        relation = node.get("relation", {})
        commands = [c.get("AlterTableCmd", {}) for c in node.get("cmds", ())]
        if node.get("objtype") == "OBJECT_INDEX":
            for command in commands:
                if command.get("subtype") == "AT_AttachPartition":
                    child = unwrap(command.get("def", {}))[1].get("name", {})
                    pair = self.find_index(relation), self.find_index(child)
                    if pair[0] and pair[1]:
                        self.state.attach_index(pair[0], pair[1])
            return
        key = self.find(relation)
        if key is None:
            return
        for command in commands:
            if key in self.state.relations:
                self._alter(key, command, text, bool(relation.get("inh")))

    def _alter(self, key: Key, command: Node, text: DdlText, recurse: bool) -> None:
        what, name = command.get("subtype"), str(command.get("name", ""))
        kind, definition = unwrap(command.get("def", {}))
        if what == "AT_AddColumn":
            self._add_column(key, definition, text, recurse)
        elif what == "AT_DropColumn":
            for member in self.state.family(key, recurse):
                self.state.drop_column(member, name)
        elif what == "AT_AlterColumnType":
            type_ = self.type_text(definition.get("typeName", {}))
            collation = names(definition.get("collClause", {}).get("collname"))[-1:]
            for member in self.state.family(key, recurse):
                self.state.change(
                    member,
                    name,
                    type=type_,
                    base_type=self.state.domains.get(type_),
                    collation=collation[0] if collation else None,
                )
        elif what == "AT_SetNotNull":
            named = object_name(key[1], name, "not_null", _free)
            self.state.constraints.setdefault(key, {})[named] = ("not null", name)
            self.state.not_null(key, [name], True, recurse)
        elif what == "AT_DropNotNull":
            self.state.not_null(key, [name], False, recurse)
        elif what == "AT_ColumnDefault":
            none = not definition or constant(command["def"]) is None
            default = None if none else text.default_of(kind, definition)
            for member in self.state.family(key, recurse):
                self.state.change(member, name, default=default)
        elif what in ("AT_AddIdentity", "AT_DropIdentity"):
            on = what == "AT_AddIdentity"
            partitioned = self.state.relations[key].kind == "partitioned"
            for member in self.state.family(key, partitioned):
                self.state.change(member, name, identity=on, **({"not_null": True} if on else {}))
        elif what == "AT_DropExpression":
            for member in self.state.family(key, recurse):
                self.state.change(member, name, generated=False)
        elif what == "AT_AddConstraint":
            self.add_constraint(key, definition, text, None, recurse)
        elif what == "AT_DropConstraint":
            self.state.drop_constraint(key, name, recurse)
        elif what == "AT_ValidateConstraint":
            self.state.validate(key, name)
        elif what in ("AT_AttachPartition", "AT_AddInherit"):
            child = self.find(definition if kind == "RangeVar" else definition.get("name", {}))
            if child and child != key and what == "AT_AddInherit":
                self.state.children.setdefault(child, []).append(key)
            elif child and key not in self.state.family(child):
                self.state.children.setdefault(key, []).append(child)
                self.state.adopt_partition(key, child)
        elif what in ("AT_DetachPartition", "AT_DropInherit"):
            child = self.find(definition if kind == "RangeVar" else definition.get("name", {}))
            parent, heir = (child, key) if what == "AT_DropInherit" else (key, child)
            if parent and heir and heir in self.state.children.get(parent, ()):
                self.state.release(parent, heir)

    def _add_column(self, key: Key, node: Node, text: DdlText, recurse: bool) -> None:
        deferred: list[tuple[Node, str | None]] = []
        column = self.column(key, node, text, deferred)
        if self.state.relations[key].column(column.name):
            return
        for member in self.state.family(key, recurse):
            relation = self.state.relations[member]
            if not relation.column(column.name):
                self.state.relations[member] = replace(
                    relation, columns=(*relation.columns, column)
                )
        for constraint, name in deferred:
            self.add_constraint(key, constraint, text, name, recurse)

    def rename(self, node: Node, text: DdlText) -> None:
        what, new = node.get("renameType"), str(node.get("newname", ""))
        old = str(node.get("subname", ""))
        relation = node.get("relation", {})
        if what == "OBJECT_SCHEMA":
            for inside in [k for k in self.state.relations if k[0] == old]:
                self.state.move(inside, (new, inside[1]))
            self.home = tuple(new if s == old else s for s in self.home)
        elif what == "OBJECT_COLUMN":
            key = self.find(relation)
            for member in list(self.state.family(key)) if key else ():
                self.state.rename_column(member, old, new)
        elif what == "OBJECT_TABCONSTRAINT":
            key = self.find(relation)
            if key:
                self.state.rename_constraint(key, old, new)
        elif what in _TABLE_OBJECTS:
            key = self.find(relation)
            if key:
                self.state.move(key, (key[0], new))
            elif index := self.find_index(relation):
                self.state.rename_index(index, new)
        elif what in ("OBJECT_TYPE", "OBJECT_DOMAIN"):
            parts = names(node.get("object", {}).get("List", {}).get("items"))
            if parts:
                self.state.rename_type(parts[-1], new)
        elif what == "OBJECT_FUNCTION":
            called = node.get("object", {}).get("ObjectWithArgs", {})
            overloads = self.functions.pop((names(called.get("objname")) or ("",))[-1], {})
            self.functions.setdefault(new, {}).update(
                {args: replace(info, name=new) for args, info in overloads.items()}
            )

    def set_schema(self, node: Node, text: DdlText) -> None:
        if node.get("objectType") in _TABLE_OBJECTS and (
            key := self.find(node.get("relation", {}))
        ):
            self.state.move(key, (str(node.get("newschema", "")), key[1]))

    # DROP

    def drop(self, node: Node, text: DdlText) -> None:
        what = node.get("removeType")
        for wrapped in node.get("objects", ()):
            kind, item = unwrap(wrapped)
            if kind == "String":
                name = str(item.get("sval", ""))
                if what == "OBJECT_SCHEMA":
                    for key in [k for k in self.state.relations if k[0] == name]:
                        self.state.drop_relation(key)
                elif what == "OBJECT_EXTENSION":
                    self.extensions.discard(name)
                continue
            if kind == "ObjectWithArgs":
                self.functions.pop((names(item.get("objname")) or ("",))[-1], None)
                continue
            parts = names(item.get("items", item.get("names")))
            schema, name = (parts[-2] if len(parts) > 1 else None), (parts or ("",))[-1]
            if what == "OBJECT_INDEX":
                if index_key := self.state.find_index(schema, name):
                    self.state.drop_index(index_key)
            elif what in _TABLE_OBJECTS:
                if found := self.state.find(schema, name):
                    self.state.drop_relation(found)
            elif what == "OBJECT_DOMAIN":
                self.state.domains.pop(identifier(name), None)

    # Everything that is not a relation

    def create_function(self, node: Node, text: DdlText) -> None:
        if node.get("is_procedure"):
            return
        name = (names(node.get("funcname")) or ("",))[-1]
        parameters = [p.get("FunctionParameter", {}) for p in node.get("parameters", ())]
        args = tuple(
            type_name(p.get("argType", {}))
            for p in parameters
            if p.get("mode") not in ("FUNC_PARAM_OUT", "FUNC_PARAM_TABLE")
        )
        info = FunctionInfo(name, returns_set=bool(node.get("returnType", {}).get("setof")))
        options = [o.get("DefElem", {}) for o in node.get("options", ())]
        info = _with_options(info, options)
        if info.volatility == "volatile" and inlined_not_volatile(node):
            info = replace(info, volatility="stable")
        self.functions.setdefault(name, {})[args] = info

    def alter_function(self, node: Node, text: DdlText) -> None:
        overloads = self.functions.get(
            (names(node.get("func", {}).get("objname")) or ("",))[-1], {}
        )
        options = [o.get("DefElem", {}) for o in node.get("actions", ())]
        called = tuple(
            type_name(a.get("TypeName", {})) for a in node.get("func", {}).get("objargs", ())
        )
        for args, info in overloads.items():
            if args == called or len(overloads) == 1:
                overloads[args] = _with_options(info, options)

    def create_extension(self, node: Node, text: DdlText) -> None:
        self.extensions.add(str(node.get("extname", "")))

    def create_domain(self, node: Node, text: DdlText) -> None:
        parts = {"names": node.get("domainname", [])}
        base = self.type_text(node.get("typeName", {}))
        self.state.domains[self.type_text(parts)] = self.state.domains.get(base, base)

    def create_composite(self, node: Node, text: DdlText) -> None:
        key = self.new(node.get("typevar", {}))
        columns = [c.get("ColumnDef", {}) for c in node.get("coldeflist", ())]
        self.composites[identifier(key[1])] = tuple(self.column(key, c, text, []) for c in columns)

    def create_schema(self, node: Node, text: DdlText) -> None:
        outside = self.state.path
        self.state.path = (str(node.get("schemaname") or self.schema), *outside)
        for wrapped in node.get("schemaElts", ()):
            self.apply(*unwrap(wrapped), text.sql)
        self.state.path = outside

    def set_variable(self, node: Node, text: DdlText) -> None:
        if node.get("name") == "search_path":
            if node.get("kind") == "VAR_SET_VALUE":
                self._set_path([str(constant(a)) for a in node.get("args", ())])
            else:
                self.state.path = self.home

    def set_home(self, node: Node, text: DdlText) -> None:
        """ALTER DATABASE/ROLE … SET search_path: what later sessions see, not this one."""
        inside, path = node.get("setstmt", {}), self.state.path
        self.set_variable(inside, text)
        self.state.path = path

    def _set_path(self, schemas: list[str]) -> None:
        self.state.path = tuple(
            s for s in schemas if s and s not in ("$user", "pg_catalog", "pg_temp")
        )
        if self.state.path:
            self.home = self.state.path


def _free(_: str) -> bool:
    return False


def _plain(element: Node) -> Node:
    """An index key; ``(column)`` is the column itself, as in ComputeIndexAttrs (indexcmds.c)."""
    kind, node = unwrap(element.get("expr", {}))
    while kind == "CollateClause":
        kind, node = unwrap(node.get("arg", {}))
    if kind != "ColumnRef":
        return element
    return {**{k: v for k, v in element.items() if k != "expr"}, "name": column_name(node)[1]}


def _bare(part: str) -> str:
    part = part.strip()
    return part[1:-1].replace('""', '"') if part.startswith('"') else part.lower()


def _with_options(info: FunctionInfo, options: list[Node]) -> FunctionInfo:
    for option in options:
        value = option.get("arg", {}).get("String", {}).get("sval")
        if option.get("defname") == "volatility" and value in ("immutable", "stable", "volatile"):
            info = replace(info, volatility=value)
        elif option.get("defname") == "parallel":
            info = replace(info, parallel_safe=value == "safe")
    return info


def _merged(overloads: list[FunctionInfo]) -> FunctionInfo:
    """One answer for all functions of a name: the most careful one."""
    order = ("immutable", "stable", "volatile")
    return FunctionInfo(
        overloads[0].name,
        max((f.volatility for f in overloads), key=order.index),
        any(f.returns_set for f in overloads),
        all(f.parallel_safe for f in overloads),
    )
