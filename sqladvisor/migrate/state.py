"""The schema as a migration set has made it so far: what rules ask before each statement.

The relations, columns, keys and indexes are ``catalog.ddl``'s; added here is what only a gate wants
to know: what the set itself has created (empty, nobody uses it), which constraints are validated,
length limits of types, and settings of the session.
"""

from __future__ import annotations

import re
from dataclasses import replace

from sqladvisor.catalog.ddl import CatalogBuilder
from sqladvisor.catalog.ddl_state import Key
from sqladvisor.catalog.model import Catalog, Relation
from sqladvisor.migrate.start_details import Details
from sqladvisor.record import record
from sqladvisor.sql import libpg
from sqladvisor.sql.datatypes import modifiers
from sqladvisor.sql.statement import Node, Statement
from sqladvisor.sql.tree import column_name, conjuncts, constant, function_name, names, unwrap

_KINDS = {
    "CONSTR_CHECK": "check",
    "CONSTR_FOREIGN": "foreign key",
    "CONSTR_UNIQUE": "unique",
    "CONSTR_PRIMARY": "primary key",
    "CONSTR_EXCLUSION": "exclusion",
    "CONSTR_NOTNULL": "not null",
}


@record(frozen=True, slots=True)
class Constraint:
    """A table constraint. ``not_null``: columns that a CHECK proves to be without nulls."""

    name: str
    kind: str
    columns: tuple[str, ...] = ()
    not_null: tuple[str, ...] = ()
    validated: bool = True
    enforced: bool = True
    deferrable: bool = False
    migration: int = -1
    """Ordinal of the migration that added it, -1: it was there before the set."""
    target: Key | None = None


class SetState:
    """Mutable while the gate reads a set; ``apply`` each statement after it was judged."""

    def __init__(self, start: Catalog | None = None, details: Details | None = None) -> None:
        self.builder = CatalogBuilder(start)
        self._state = self.builder.state
        self._state.defining = False
        self._catalog = Catalog(self._state.relations)
        self._path: tuple[str, ...] = ()
        self.version = 0
        """Counts the statements applied: what was known before the last one may be old."""
        self._sql = ""
        self._local: set[str] = set()
        self.created: dict[Key, int] = {}
        """Relations that the judged part of the set has created → ordinal of the migration."""
        self.objects: dict[tuple[str, str], int] = {}
        """The same for ("type", name), ("function", …), ("index", …), ("view", …), ("schema", …)…"""
        self.constraints: dict[Key, dict[str, Constraint]] = {}
        self.modifiers: dict[tuple[Key, str], tuple[int, ...]] = {}
        """(relation, column) → type modifiers as written: ``(40,)`` of varchar(40), () for none.
        Absent where nobody knows."""
        self.enum_values: dict[str, int] = {}
        """Enum types that got a value in the transaction that runs (ALTER TYPE … ADD VALUE)."""
        self.default_partitions: dict[Key, Key] = {}
        """Partitioned table → its DEFAULT partition."""
        self.constrained_domains: set[str] = set()
        """Domains with a CHECK or NOT NULL: a column of one is checked row by row."""
        self.settings: dict[str, str] = {}
        """Session settings of the migration so far, lower-case names (``lock_timeout``)."""
        self.complete = False
        """Whether a starting schema was given: a table that is not in it does not exist."""
        if start is not None:
            self._take(start, details or Details())

    # -- questions ------------------------------------------------------------------------------

    @property
    def catalog(self) -> Catalog:
        """The catalog at this point; its relations change with the next ``apply``."""
        if self.builder.home != self._path:
            self._path = self.builder.home
            self._catalog = replace(self._catalog, search_path=self._path)
        return self._catalog

    def key(self, relation: Node) -> Key:
        """Schema and name of what a RangeVar means; a guess for relations nobody has declared."""
        found = self.builder.find(relation)
        if found is not None:
            return found
        name = str(relation.get("relname", ""))
        schema = relation.get("schemaname")
        if schema is None:
            for path in (*self._state.path, "public"):
                if (path, name) in self.created:
                    return path, name
        return str(schema or self.builder.schema), name

    def relation(self, relation: Node) -> Relation | None:
        """The relation a RangeVar means, None when nobody has declared it."""
        return self._state.relations.get(self.key(relation))

    def index_table(self, schema: str | None, name: str) -> Key | None:
        """The table of a known index."""
        found = self._state.find_index(schema, name)
        return self._state.indexes[found] if found else None

    def constraint(self, key: Key, name: str) -> Constraint | None:
        return self.constraints.get(key, {}).get(name)

    def proves_not_null(self, key: Key, column: str) -> Constraint | None:
        """A validated, enforced CHECK that spares SET NOT NULL its scan (since PostgreSQL 12)."""
        for found in self.constraints.get(key, {}).values():
            if found.validated and found.enforced and column in found.not_null:
                return found
        return None

    def written_modifiers(self, type_: Node) -> tuple[int, ...]:
        """The modifiers that a TypeName gives a column."""
        return modifiers(type_)

    # -- changes --------------------------------------------------------------------------------

    def begin_migration(self) -> None:
        """A migration starts: maybe in a session of its own."""
        self.settings.clear()
        self._local.clear()
        self.enum_values.clear()

    def apply(self, statement: Statement, migration: int, *, judged: bool = True) -> None:
        """Take over what a statement does to the schema."""
        kind, node = statement.kind, statement.tree
        self._sql = statement.sql
        self.version += 1
        handler = _HANDLERS.get(kind)
        before = handler(self, node, migration, judged) if handler else None
        self.builder.apply(kind, node, statement.sql)
        if before is not None:
            # What a table is created with is valid from the start, NOT VALID or not.
            fresh = kind in ("CreateStmt", "CreateForeignTableStmt")
            for key, constraint, column in before:
                self._note(key, constraint, column, migration, validated=fresh)

    def _create(self, node: Node, migration: int, judged: bool) -> _Pending:
        relation = node.get("relation") or node.get("view") or node.get("into", {}).get("rel")
        if relation is None:
            relation = node.get("base", {}).get("relation") or node.get("intoClause", {}).get("rel")
        if not relation:
            return None
        key = self.builder.new(relation)
        exists = node.get("if_not_exists") and key in self._state.relations
        if exists or (node.get("replace") and key in self._state.relations):
            return None
        if judged:
            self.created[key] = migration
        if node.get("partbound", {}).get("is_default"):
            self.default_partitions[self.key(unwrap(node["inhRelations"][0])[1])] = key
        pending: list[tuple[Key, Node, str | None]] = []
        for wrapped in node.get("tableElts", ()):
            what, element = unwrap(wrapped)
            if what == "ColumnDef":
                self._column(key, element, pending)
            elif what == "Constraint":
                pending.append((key, element, None))
        return pending

    def _column(self, key: Key, element: Node, pending: list[tuple[Key, Node, str | None]]) -> None:
        name = str(element.get("colname", ""))
        self.modifiers[key, name] = modifiers(element.get("typeName", {}))
        for wrapped in element.get("constraints", ()):
            constraint = unwrap(wrapped)[1]
            if constraint.get("contype") in _KINDS:
                pending.append((key, constraint, name))

    def _alter(self, node: Node, migration: int, judged: bool) -> _Pending:
        if node.get("objtype") not in ("OBJECT_TABLE", "OBJECT_FOREIGN_TABLE", None):
            return None
        key = self.key(node.get("relation", {}))
        pending: list[tuple[Key, Node, str | None]] = []
        for wrapped in node.get("cmds", ()):
            command = unwrap(wrapped)[1]
            what, name = command.get("subtype"), str(command.get("name", ""))
            definition = unwrap(command.get("def", {}))[1]
            if what == "AT_AddColumn":
                self._column(key, definition, pending)
            elif what == "AT_AlterColumnType":
                self.modifiers[key, name] = modifiers(definition.get("typeName", {}))
            elif what == "AT_AddConstraint":
                pending.append((key, definition, None))
            elif what == "AT_AttachPartition":
                if definition.get("bound", {}).get("is_default"):
                    self.default_partitions[key] = self.key(definition.get("name", {}))
            elif what == "AT_DetachPartition":
                if self.default_partitions.get(key) == self.key(definition.get("name", {})):
                    del self.default_partitions[key]
            elif what == "AT_DropConstraint":
                self.constraints.get(key, {}).pop(name, None)
            elif what == "AT_ValidateConstraint":
                known = self.constraints.get(key, {})
                if name in known:
                    known[name] = replace(known[name], validated=True)
            elif what == "AT_DropColumn":
                if command.get("behavior") == "DROP_CASCADE":
                    self._drop_readers(key, name)
                self.modifiers.pop((key, name), None)
                known = self.constraints.get(key, {})
                for gone in [c.name for c in known.values() if name in (*c.columns, *c.not_null)]:
                    del known[gone]
        return pending

    def _drop_readers(self, key: Key, column: str) -> None:
        """Drop the views that CASCADE takes along with a column."""
        relations = self._state.relations
        if not any(r.definition for r in relations.values()):
            return
        from sqladvisor.migrate.reads import readers

        for view in readers(list(relations.values()), self.catalog, key, column):
            before = set(relations)
            self._state.drop_relation((view.schema, view.name))
            for gone in before - set(relations):
                self.created.pop(gone, None)
                self.constraints.pop(gone, None)

    def _note(
        self, key: Key, node: Node, column: str | None, migration: int, *, validated: bool
    ) -> None:
        """Remember a constraint that was just added."""
        kind = _KINDS.get(str(node.get("contype", "")))
        if kind is None:
            return
        columns = names(node.get("fk_attrs")) or names(node.get("keys"))
        if column and not columns:
            columns = (column,)
        raw = node.get("raw_expr", {})
        known = self.constraints.setdefault(key, {})
        name = str(node.get("conname", "")) or self._generated_name(key, kind, columns)
        known[name] = Constraint(
            name,
            kind,
            columns,
            not_null_columns(raw) if kind == "check" else columns if kind == "not null" else (),
            validated or not node.get("skip_validation"),
            bool(node.get("is_enforced")) or "enforced" not in self._sql.lower(),
            bool(node.get("deferrable")),
            migration,
            self.key(node["pktable"]) if kind == "foreign key" and "pktable" in node else None,
        )

    def _generated_name(self, key: Key, kind: str, columns: tuple[str, ...]) -> str:
        relation = self._state.relations.get(key)
        if relation is not None:
            if kind == "foreign key" and relation.foreign_keys:
                return relation.foreign_keys[-1].name
            if kind == "check" and self._state.constraints.get(key):
                return next(reversed(self._state.constraints[key]))
            for index in reversed(relation.indexes):
                if index.constraint and index.keys == columns:
                    return index.name
        suffix = {"foreign key": "fkey", "check": "check", "primary key": "pkey", "unique": "key"}
        middle = "" if kind == "primary key" else "_".join(columns)
        return "_".join(filter(None, (key[1], middle, suffix.get(kind, "excl"))))

    def _rename(self, node: Node, migration: int, judged: bool) -> _Pending:
        what, new = node.get("renameType"), str(node.get("newname", ""))
        key = self.key(node.get("relation", {}))
        if what == "OBJECT_COLUMN":
            old = str(node.get("subname", ""))
            if (key, old) in self.modifiers:
                self.modifiers[key, new] = self.modifiers.pop((key, old))
            for name, known in self.constraints.get(key, {}).items():
                self.constraints[key][name] = replace(
                    known,
                    columns=tuple(new if c == old else c for c in known.columns),
                    not_null=tuple(new if c == old else c for c in known.not_null),
                )
        elif what == "OBJECT_TABCONSTRAINT":
            known_ = self.constraints.get(key, {})
            if found := known_.pop(str(node.get("subname", "")), None):
                known_[new] = replace(found, name=new)
        elif what in ("OBJECT_TABLE", "OBJECT_VIEW", "OBJECT_MATVIEW", "OBJECT_FOREIGN_TABLE"):
            self._move(key, (key[0], new))
        return None

    def _set_schema(self, node: Node, migration: int, judged: bool) -> _Pending:
        if "relation" in node:
            key = self.key(node["relation"])
            self._move(key, (str(node.get("newschema", "")), key[1]))
        return None

    def _move(self, old: Key, new: Key) -> None:
        if old in self.created:
            self.created[new] = self.created.pop(old)
        if old in self.constraints:
            self.constraints[new] = self.constraints.pop(old)
        for place in [p for p in self.modifiers if p[0] == old]:
            self.modifiers[new, place[1]] = self.modifiers.pop(place)

    def _drop(self, node: Node, migration: int, judged: bool) -> _Pending:
        what = str(node.get("removeType", ""))
        for wrapped in node.get("objects", ()):
            kind, item = unwrap(wrapped)
            if kind == "ObjectWithArgs":
                self.objects.pop(("function", (names(item.get("objname")) or ("",))[-1]), None)
                continue
            parts = names(item.get("items", item.get("names")))
            name = parts[-1] if parts else str(item.get("sval", ""))
            self.objects.pop((what.removeprefix("OBJECT_").lower(), name), None)
            if parts and what in _RELATIONS:
                schema = parts[-2] if len(parts) > 1 else None
                key = self.key({"relname": name, "schemaname": schema})
                self.created.pop(key, None)
                self.constraints.pop(key, None)
                for parent in [p for p, d in self.default_partitions.items() if d == key]:
                    del self.default_partitions[parent]
        return None

    def _object(self, node: Node, migration: int, judged: bool) -> _Pending:
        if judged:
            if "idxname" in node:
                self.objects["index", str(node["idxname"])] = migration
            for kind, field in _NAMED:
                if field in node:
                    value = node[field]
                    if isinstance(value, dict):
                        value = value.get("relname", "")
                    name = names(value)[-1:] if isinstance(value, list) else (str(value),)
                    if name:
                        self.objects[kind, name[0]] = migration
        return None

    def _domain(self, node: Node, migration: int, judged: bool) -> _Pending:
        if "def" in node or node.get("constraints"):
            name = (names(node.get("domainname") or node.get("typeName")) or ("",))[-1]
            kinds = [unwrap(c)[1].get("contype") for c in node.get("constraints", ())]
            if "def" in node or {"CONSTR_CHECK", "CONSTR_NOTNULL"} & set(kinds):
                self.constrained_domains.add(name)
        return self._object(node, migration, judged) if "domainname" in node else None

    def _enum(self, node: Node, migration: int, judged: bool) -> _Pending:
        if node.get("newVal") and not node.get("oldVal"):
            type_ = (names(node.get("typeName")) or ("",))[-1]
            self.enum_values[str(node["newVal"])] = migration
            self.enum_values[type_] = migration
        return None

    def _select(self, node: Node, migration: int, judged: bool) -> _Pending:
        for target in node.get("targetList", ()) if "fromClause" not in node else ():
            kind, call = unwrap(unwrap(target)[1].get("val", {}))
            if kind == "FuncCall" and function_name(call) == "set_config":
                values = [constant(a) for a in call.get("args", ())]
                if len(values) > 1 and isinstance(values[0], str):
                    self.settings[values[0].lower()] = str(values[1])
                    if len(values) > 2 and values[2] is True:
                        self._local.add(values[0].lower())
        return self._create(node, migration, judged) if "intoClause" in node else None

    def _transaction(self, node: Node, migration: int, judged: bool) -> _Pending:
        if node.get("kind") in ("TRANS_STMT_COMMIT", "TRANS_STMT_ROLLBACK"):
            for name in self._local:
                self.settings.pop(name, None)
            self._local.clear()
        return None

    def _setting(self, node: Node, migration: int, judged: bool) -> _Pending:
        name = str(node.get("name", "")).lower()
        if node.get("kind", "VAR_SET_VALUE") == "VAR_SET_VALUE":
            values = [constant(a) for a in node.get("args", ())]
            self.settings[name] = ", ".join(str(v) for v in values)
            if node.get("is_local"):
                self._local.add(name)
        elif node.get("kind") == "VAR_RESET_ALL":
            self.settings.clear()
        else:
            self.settings.pop(name, None)
        return None

    def _take(self, start: Catalog, details: Details) -> None:
        """Know the constraints of a catalog read elsewhere."""
        self.complete = True
        self.modifiers.update(details.modifiers)
        self.default_partitions.update(details.default_partitions)
        self.constrained_domains |= details.constrained_domains
        for key, relation in start.relations.items():
            known = self.constraints.setdefault(key, {})
            for name, check in details.checks.get(key, {}).items():
                self._state.constraints.setdefault(key, {})[name] = "check", check.text
                known[name] = Constraint(
                    name, "check", check.columns, _not_null_of(check.text), check.validated,
                    check.enforced,
                )  # fmt: skip
            for fk in relation.foreign_keys:
                target = (fk.target_schema, fk.target)
                known[fk.name] = Constraint(
                    fk.name, "foreign key", fk.columns, (), fk.validated, target=target
                )
            for index in relation.indexes:
                if index.constraint or index.primary:
                    kind = "primary key" if index.primary else "unique"
                    columns = tuple(k for k in index.keys if k)
                    known[index.name] = Constraint(index.name, kind, columns)


_Pending = list[tuple[Key, Node, str | None]] | None
_RELATIONS = frozenset(
    ("OBJECT_TABLE", "OBJECT_VIEW", "OBJECT_MATVIEW", "OBJECT_FOREIGN_TABLE", "OBJECT_SEQUENCE")
)
_NAMED = (
    ("type", "typeName"),
    ("type", "typevar"),
    ("domain", "domainname"),
    ("function", "funcname"),
    ("schema", "schemaname"),
    ("trigger", "trigname"),
    ("extension", "extname"),
)
_HANDLERS = {
    "CreateStmt": SetState._create,
    "CreateForeignTableStmt": SetState._create,
    "CreateTableAsStmt": SetState._create,
    "SelectStmt": SetState._select,
    "TransactionStmt": SetState._transaction,
    "ViewStmt": SetState._create,
    "AlterTableStmt": SetState._alter,
    "RenameStmt": SetState._rename,
    "AlterObjectSchemaStmt": SetState._set_schema,
    "DropStmt": SetState._drop,
    "IndexStmt": SetState._object,
    "CreateEnumStmt": SetState._object,
    "CreateDomainStmt": SetState._domain,
    "AlterDomainStmt": SetState._domain,
    "CompositeTypeStmt": SetState._object,
    "CreateFunctionStmt": SetState._object,
    "CreateSchemaStmt": SetState._object,
    "CreateTrigStmt": SetState._object,
    "CreateExtensionStmt": SetState._object,
    "AlterEnumStmt": SetState._enum,
    "VariableSetStmt": SetState._setting,
}


def not_null_columns(raw: Node) -> tuple[str, ...]:
    """Columns that a condition shows to be without nulls: ``a IS NOT NULL AND …``."""
    found = []
    for part in conjuncts(raw):
        kind, node = unwrap(part)
        if kind == "NullTest" and node.get("nulltesttype") == "IS_NOT_NULL":
            what, column = unwrap(node.get("arg", {}))
            if what == "ColumnRef":
                found.append(column_name(column)[1])
    return tuple(found)


def _not_null_of(check: str) -> tuple[str, ...]:
    if "not null" not in check.lower():
        return ()
    try:
        parsed = libpg.parse(f"SELECT 1 WHERE {check}")
    except libpg.ParseProblem:
        return ()
    return not_null_columns(parsed[0].node.get("whereClause", {}))


def seconds(value: str) -> float | None:
    """A timeout setting (``5s``, ``2000``, ``1min``) in seconds; None when it cannot be read."""
    match = re.fullmatch(_TIMEOUT, value.strip().strip("'").lower())
    return float(match[1]) * _UNITS[match[2]] if match else None


_TIMEOUT = r"([0-9.]+)\s*(us|ms|s|min|h|d|)"
_UNITS = {"us": 1e-6, "ms": 1e-3, "": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
