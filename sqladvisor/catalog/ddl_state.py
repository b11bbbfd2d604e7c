"""The schema that a run of DDL has built so far, and what each change to it entails.

Relations, their indexes and constraints, and who depends on whom: a renamed column is renamed in
its indexes, a dropped table takes its partitions along. Knows no syntax trees but names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from sqladvisor.catalog.ddl_names import expression_name, key_names, object_name
from sqladvisor.catalog.ddl_text import mentions, rename_column
from sqladvisor.catalog.model import ForeignKey, Index, Relation
from sqladvisor.sql.quote import identifier, qualified

Key = tuple[str, str]
"""Schema and name of a relation or an index."""


class SchemaState:
    """Mutable while a script runs; its relations are the catalog's."""

    def __init__(self) -> None:
        self.relations: dict[Key, Relation] = {}
        self.path: tuple[str, ...] = ("public",)
        """The script's own search path at this point."""
        self.indexes: dict[Key, Key] = {}
        """Index → its relation."""
        self.index_parents: dict[Key, Key] = {}
        """Index of a partition → the partitioned index it belongs to."""
        self.children: dict[Key, list[Key]] = {}
        """Relation → its partitions, or the tables that inherit from it."""
        self.sources: dict[Key, set[Key]] = {}
        """View → the relations it reads."""
        self.constraints: dict[Key, dict[str, tuple[str, str]]] = {}
        """Relation → names of its CHECKs ("check", text) and NOT NULLs ("not null", column)."""
        self.domains: dict[str, str] = {}
        """Domain → the type beneath it."""

        self.defining = True
        """Whether indexes without a CREATE INDEX get one as their definition."""

    def find(self, schema: str | None, name: str) -> Key | None:
        """The known relation of that name, looked up along the search path without a schema."""
        for each in (schema,) if schema else (*self.path, "public"):
            if (each, name) in self.relations:
                return each, name
        return None

    def find_index(self, schema: str | None, name: str) -> Key | None:
        """The known index of that name, likewise."""
        for each in (schema,) if schema else (*self.path, "public"):
            if (each, name) in self.indexes:
                return each, name
        return None

    def family(self, key: Key, recurse: bool = True) -> Iterator[Key]:
        """The relation and, where ``recurse``, all its partitions or heirs."""
        yield key
        for child in self.children.get(key, ()) if recurse else ():
            yield from self.family(child)

    def free_name(self, key: Key, middle: str, label: str) -> str:
        def taken(name: str) -> bool:
            return (key[0], name) in self.indexes or (key[0], name) in self.relations

        return object_name(key[1], middle, label, taken)

    def add_index(self, key: Key, index: Index, *, recurse: bool = True, named: bool = True) -> Key:
        """Add an index, and its like on each partition; ``named=False`` chooses a new name."""
        relation = self.relations[key]
        if not named:
            middle = key_names([*self.names_of(index), *index.include])
            label = "idx"
            if index.constraint:
                label = "pkey" if index.primary else "key" if index.unique else "excl"
            name = self.free_name(key, "" if index.primary else middle, label)
            index = replace(index, name=name, definition="")
        if not index.definition and self.defining:
            index = replace(index, definition=_definition(relation, index))
        index_key = (key[0], index.name)
        self.indexes[index_key] = key
        self.relations[key] = replace(relation, indexes=(*relation.indexes, index))
        if index.primary:
            self.not_null(key, [k for k in index.keys if k], True)
        if relation.kind == "partitioned" and recurse:
            for child in self.children.get(key, ()):
                self.index_parents[self.add_index(child, index, named=False)] = index_key
        return index_key

    @staticmethod
    def names_of(index: Index) -> Iterator[str]:
        expressions = iter(index.expressions)
        for key in index.keys:
            yield key if key is not None else expression_name(next(expressions, ""))

    def not_null(self, key: Key, columns: Iterable[str], value: bool, recurse: bool = True) -> None:
        for name in columns:
            for member in self.family(key, recurse):
                self.change(member, name, not_null=value)

    def change(self, key: Key, column: str, **changes: object) -> None:
        relation = self.relations[key]
        self.relations[key] = replace(
            relation,
            columns=tuple(
                replace(c, **changes) if c.name == column else c  # type: ignore[arg-type]
                for c in relation.columns
            ),
        )

    def adopt_index(self, key: Key, old: str, new: str, primary: bool) -> None:
        relation = self.relations[key]
        found = next((i for i in relation.indexes if i.name == old), None)
        if found is None:
            return
        adopted = replace(found, name=new, primary=primary, constraint=True, unique=True)
        self.replace_index(key, found, adopted)
        if primary:
            self.not_null(key, [k for k in found.keys if k], True)

    def replace_index(self, key: Key, old: Index, new: Index | None) -> None:
        relation = self.relations[key]
        kept = [new if i is old else i for i in relation.indexes]
        self.relations[key] = replace(relation, indexes=tuple(i for i in kept if i))
        before, after = (key[0], old.name), (key[0], new.name) if new else None
        self.indexes.pop(before, None)
        if after:
            self.indexes[after] = key
        if before != after:
            parent = self.index_parents.pop(before, None)
            if after and parent:
                self.index_parents[after] = parent
            for child in [c for c, p in self.index_parents.items() if p == before]:
                if after:
                    self.index_parents[child] = after
                else:
                    self.drop_index(child)

    def drop_index(self, index_key: Key) -> None:
        key = self.indexes.get(index_key)
        relation = self.relations.get(key) if key else None
        if key and relation:
            for index in relation.indexes:
                if index.name == index_key[1]:
                    self.replace_index(key, index, None)

    def adopt_partition(self, parent: Key, child: Key) -> None:
        """Give a partition the identity, indexes and foreign keys of its parent that it lacks.

        Identity since PostgreSQL 17; before, only the parent's column had it.
        """
        for column in self.relations[parent].columns:
            self.change(child, column.name, identity=column.identity)
        above, below = self.relations[parent], self.relations[child]
        missing = [f for f in above.foreign_keys if not _has_reference(below, f)]
        self.relations[child] = replace(below, foreign_keys=(*below.foreign_keys, *missing))
        for index in above.indexes:
            parent_key = (parent[0], index.name)
            own = next(
                (
                    i
                    for i in self.relations[child].indexes
                    if (child[0], i.name) not in self.index_parents and alike(i, index)
                ),
                None,
            )
            found = (child[0], own.name) if own else self.add_index(child, index, named=False)
            self.index_parents[found] = parent_key

    def release(self, parent: Key, child: Key) -> None:
        """Undo what makes a relation a partition, or an heir, of another."""
        self.children[parent].remove(child)
        for index in self.relations[child].indexes:
            self.index_parents.pop((child[0], index.name), None)
        if self.relations[parent].kind == "partitioned":
            for column in self.relations[child].columns:
                for member in self.family(child):
                    self.change(member, column.name, identity=False)

    def drop_column(self, key: Key, column: str) -> None:
        relation = self.relations[key]
        for index in relation.indexes:
            texts = (*index.expressions, index.predicate or "")
            if column in (*index.keys, *index.include) or any(mentions(t, column) for t in texts):
                self.drop_index((key[0], index.name))
        relation = self.relations[key]
        self.relations[key] = replace(
            relation,
            columns=tuple(c for c in relation.columns if c.name != column),
            checks=tuple(c for c in relation.checks if not mentions(c, column)),
            foreign_keys=tuple(f for f in relation.foreign_keys if column not in f.columns),
        )
        self.drop_references(key, column)

    def drop_references(self, key: Key, column: str | None = None) -> None:
        """Drop the foreign keys of all relations that refer to a relation (or one column of it)."""
        for other, relation in self.relations.items():
            kept = tuple(
                f
                for f in relation.foreign_keys
                if (f.target_schema, f.target) != key
                or (column is not None and column not in f.target_columns)
            )
            if len(kept) < len(relation.foreign_keys):
                self.relations[other] = replace(relation, foreign_keys=kept)

    def drop_constraint(self, key: Key, name: str, recurse: bool) -> None:
        relation = self.relations[key]
        if any(i.name == name and i.constraint for i in relation.indexes):
            self.drop_index((key[0], name))
            return
        for member in self.family(key, recurse):
            relation = self.relations[member]
            what, value = self.constraints.get(member, {}).pop(name, ("", ""))
            references = tuple(f for f in relation.foreign_keys if f.name != name)
            checks = list(relation.checks)
            if what == "check" and value in checks:
                checks.remove(value)
            self.relations[member] = replace(
                relation, foreign_keys=references, checks=tuple(checks)
            )
            if what == "not null":
                self.not_null(member, [value], False, recurse=False)

    def validate(self, key: Key, name: str) -> None:
        relation = self.relations[key]
        self.relations[key] = replace(
            relation,
            foreign_keys=tuple(
                replace(f, validated=True) if f.name == name else f for f in relation.foreign_keys
            ),
        )

    def attach_index(self, parent: Key, child: Key) -> None:
        """Make ``child`` a part of ``parent``, valid once every partition has its own."""
        self.index_parents[child] = parent
        key = self.indexes[parent]
        attached = sum(1 for p in self.index_parents.values() if p == parent)
        if attached >= len(self.children.get(key, ())):
            for index in self.relations[key].indexes:
                if index.name == parent[1] and not index.valid:
                    self.replace_index(key, index, replace(index, valid=True))

    def rename_index(self, index_key: Key, new: str) -> None:
        key = self.indexes[index_key]
        for index in self.relations[key].indexes:
            if index.name == index_key[1]:
                self.replace_index(key, index, replace(index, name=new))

    def rename_constraint(self, key: Key, old: str, new: str) -> None:
        relation = self.relations[key]
        for index in relation.indexes:
            if index.name == old and index.constraint:
                self.replace_index(key, index, replace(index, name=new))
                return
        self.relations[key] = replace(
            relation,
            foreign_keys=tuple(
                replace(f, name=new) if f.name == old else f for f in relation.foreign_keys
            ),
        )
        known = self.constraints.get(key, {})
        if old in known:
            known[new] = known.pop(old)

    def rename_type(self, old: str, new: str) -> None:
        before, after = identifier(old), identifier(new)
        for key, relation in self.relations.items():
            if any(c.type in (before, before + "[]") for c in relation.columns):
                columns = tuple(
                    replace(c, type=after + c.type[len(before) :])
                    if c.type in (before, before + "[]")
                    else c
                    for c in relation.columns
                )
                self.relations[key] = replace(relation, columns=columns)
        if before in self.domains:
            self.domains[after] = self.domains.pop(before)

    def rename_column(self, key: Key, old: str, new: str) -> None:
        relation = self.relations[key]
        self.relations[key] = replace(
            relation,
            columns=tuple(replace(c, name=new) if c.name == old else c for c in relation.columns),
            indexes=tuple(_with_column(i, old, new) for i in relation.indexes),
            foreign_keys=tuple(
                replace(f, columns=_swap(f.columns, old, new)) for f in relation.foreign_keys
            ),
            checks=tuple(rename_column(c, old, new) for c in relation.checks),
            partition_key=_swap(relation.partition_key, old, new),
        )
        known = self.constraints.get(key, {})
        for name, (what, value) in known.items():
            renamed = rename_column(value, old, new) if what == "check" else value
            known[name] = (what, new if what == "not null" and value == old else renamed)
        self.retarget(key, key, {old: new})

    def retarget(self, old: Key, new: Key, columns: dict[str, str]) -> None:
        """Point foreign keys at a relation's new name, or at its renamed columns."""
        for other, relation in self.relations.items():
            if any((f.target_schema, f.target) == old for f in relation.foreign_keys):
                references = tuple(
                    replace(
                        f,
                        target_schema=new[0],
                        target=new[1],
                        target_columns=tuple(columns.get(c, c) for c in f.target_columns),
                    )
                    if (f.target_schema, f.target) == old
                    else f
                    for f in relation.foreign_keys
                )
                self.relations[other] = replace(relation, foreign_keys=references)

    def move(self, old: Key, new: Key) -> None:
        """Give a relation another name or schema; its indexes follow it into the schema."""
        if old == new or new in self.relations:
            return
        relation = self.relations.pop(old)
        self.relations[new] = replace(relation, schema=new[0], name=new[1])
        for index in relation.indexes:
            before, after = (old[0], index.name), (new[0], index.name)
            self.indexes.pop(before, None)
            self.indexes[after] = new
            if before in self.index_parents:
                self.index_parents[after] = self.index_parents.pop(before)
            for child, parent in self.index_parents.items():
                if parent == before:
                    self.index_parents[child] = after
        if old in self.children:
            self.children[new] = self.children.pop(old)
        if old in self.sources:
            self.sources[new] = self.sources.pop(old)
        if old in self.constraints:
            self.constraints[new] = self.constraints.pop(old)
        for heirs in self.children.values():
            heirs[:] = [new if h == old else h for h in heirs]
        for view, read in self.sources.items():
            self.sources[view] = {new if k == old else k for k in read}
        self.retarget(old, new, {})

    def drop_relation(self, key: Key) -> None:
        """Drop a relation with all that hangs on it.

        Without CASCADE PostgreSQL would refuse where something other than partitions depends on
        it: a script that runs means that nothing did.
        """
        relation = self.relations.pop(key, None)
        if relation is None:
            return
        for index in relation.indexes:
            self.indexes.pop((key[0], index.name), None)
            self.index_parents.pop((key[0], index.name), None)
        self.constraints.pop(key, None)
        self.sources.pop(key, None)
        for heirs in self.children.values():
            if key in heirs:
                heirs.remove(key)
        for dependent in self.children.pop(key, []):
            self.drop_relation(dependent)
        for view in [v for v, read in self.sources.items() if key in read]:
            self.drop_relation(view)
        self.drop_references(key)


def _swap(columns: tuple[str, ...], old: str, new: str) -> tuple[str, ...]:
    return tuple(new if c == old else c for c in columns)


def _with_column(index: Index, old: str, new: str) -> Index:
    return replace(
        index,
        keys=tuple(new if k == old else k for k in index.keys),
        include=_swap(index.include, old, new),
        expressions=tuple(rename_column(e, old, new) for e in index.expressions),
        predicate=rename_column(index.predicate, old, new) if index.predicate else None,
    )


def alike(one: Index, other: Index) -> bool:
    """Whether a partition's index can stand for its parent's (CompareIndexInfo, index.c)."""
    return (
        one.keys == other.keys
        and one.include == other.include
        and one.unique == other.unique
        and (one.constraint or not other.constraint)
        and one.method == other.method
        and one.opclasses == other.opclasses
        and one.expressions == other.expressions
        and one.predicate == other.predicate
    )


def _has_reference(relation: Relation, reference: ForeignKey) -> bool:
    return any(
        f.columns == reference.columns
        and (f.target_schema, f.target) == (reference.target_schema, reference.target)
        for f in relation.foreign_keys
    )


def _definition(relation: Relation, index: Index) -> str:
    """CREATE INDEX for an index that no CREATE INDEX made: a constraint's, or a partition's."""
    expressions = iter(index.expressions)
    keys = []
    for key, opclass in zip(index.keys, index.opclasses, strict=False):
        key_text = identifier(key) if key is not None else f"({next(expressions, '')})"
        keys.append(f"{key_text} {opclass}" if opclass else key_text)
    text = (
        f"CREATE {'UNIQUE ' if index.unique else ''}INDEX {identifier(index.name)} ON "
        f"{qualified(relation.schema, relation.name)} USING {index.method} ({', '.join(keys)})"
    )
    if index.include:
        text += f" INCLUDE ({', '.join(map(identifier, index.include))})"
    return f"{text} WHERE {index.predicate}" if index.predicate else text
