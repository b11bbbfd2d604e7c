"""What-if indexes: plans with indexes that do not exist.

On a shadow they are created for real but empty, given the size and height they would have, and
marked invalid; a plan sees those made valid in its own transaction, which is rolled back.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import psycopg

from sqladvisor.errors import ServerError
from sqladvisor.plan.node import Plan
from sqladvisor.plan.read import read_json
from sqladvisor.server.connect import one_line
from sqladvisor.server.explain import GENERIC_PLAN_VERSION, generic_document
from sqladvisor.server.hypothetical import Heap, Sampler, Wanted, heaps, make, recount
from sqladvisor.server.masked import restored, translated
from sqladvisor.server.restore import TOOLS
from sqladvisor.server.shadow import Shadow


class WhatIfError(ServerError):
    """An index that cannot exist, or a statement that does not plan."""


@dataclass(frozen=True, slots=True)
class HypotheticalIndex:
    """An index as DDL would say it: ``table`` and ``keys`` are SQL text, quoted where needed."""

    table: str
    keys: tuple[str, ...]
    include: tuple[str, ...] = ()
    predicate: str | None = None
    method: str = "btree"
    unique: bool = False

    def ddl(self, name: str | None = None, concurrently: bool = False) -> str:
        """CREATE INDEX; without a name PostgreSQL chooses one."""
        text = "CREATE UNIQUE INDEX" if self.unique else "CREATE INDEX"
        text += " CONCURRENTLY" if concurrently else ""
        text += f" {name}" if name else ""
        text += f" ON {self.table}"
        text += f" USING {self.method}" if self.method != "btree" else ""
        text += f" ({', '.join(self.keys)})"
        text += f" INCLUDE ({', '.join(self.include)})" if self.include else ""
        return text + (f" WHERE {self.predicate}" if self.predicate else "")


@dataclass(frozen=True, slots=True)
class Handle:
    """A hypothetical index known to a WhatIf: its estimated size in bytes, and its name in plans."""

    index: HypotheticalIndex
    name: str
    oid: int
    size_bytes: int


class WhatIf(Protocol):
    """Prices statements under sets of hypothetical indexes. ``calls`` counts the plans made."""

    calls: int

    def add(self, indexes: Sequence[HypotheticalIndex]) -> list[Handle]:
        """Make indexes known, each once. Raises WhatIfError naming one that cannot exist."""

    def cost(
        self,
        sql: str,
        visible: Collection[Handle],
        *,
        hidden_existing: Collection[str] = (),
        generic: bool = False,
    ) -> Plan:
        """The plan of one statement with exactly these hypothetical indexes. Raises WhatIfError."""


class ShadowWhatIf:
    """What-if on a shadow database."""

    def __init__(self, shadow: Shadow, sampler: Sampler | None = None) -> None:
        """``sampler`` gives statistics of expressions where the source's rows are at hand."""
        self._shadow = shadow
        self._sampler = sampler
        self._parts: dict[int, tuple[int, ...]] = {}
        self._names: dict[str, str] = {}
        self._connection = shadow.connect()
        self._connection.execute("SET client_min_messages = error")
        self._known: dict[HypotheticalIndex, Handle] = {}
        self._refused: dict[HypotheticalIndex, str] = {}
        self.calls = 0

    def close(self) -> None:
        """End the session; the shadow goes with its cluster."""
        self._connection.close()

    def add(self, indexes: Sequence[HypotheticalIndex]) -> list[Handle]:
        """Make indexes known, each once. Raises WhatIfError naming one that cannot exist."""
        return [self._known.get(index) or self._create(index) for index in indexes]

    def cost(
        self,
        sql: str,
        visible: Collection[Handle],
        *,
        hidden_existing: Collection[str] = (),
        generic: bool = False,
    ) -> Plan:
        """The plan of one statement with exactly these hypothetical indexes. Raises WhatIfError.

        ``hidden_existing`` names existing indexes to plan without.
        """
        self.calls += 1
        connection = self._connection
        try:
            with connection.transaction(force_rollback=True):
                shown = sorted(oid for h in visible for oid in self._parts[h.oid])
                if shown:
                    _set_valid(connection, shown, True)
                if hidden_existing:
                    rows = connection.execute(
                        "SELECT name::regclass::oid::int8 FROM unnest(%s::text[]) AS name ORDER BY 1",
                        [list(hidden_existing)],
                    ).fetchall()
                    _set_valid(connection, [r[0] for r in rows], False)
                document = self._explained(sql, generic)
        except psycopg.Error as error:
            if connection.closed:
                raise ServerError(f"the shadow planner is gone: {one_line(error)}") from error
            raise WhatIfError(one_line(error)) from error
        return read_json(document)

    def _explained(self, sql: str, generic: bool) -> Any:
        text, back = translated(self._connection, sql)
        if generic and self._connection.info.server_version < GENERIC_PLAN_VERSION:
            document = generic_document(self._connection, text)
        else:
            options = "FORMAT JSON, GENERIC_PLAN" if generic else "FORMAT JSON"
            row = self._connection.execute(f"EXPLAIN ({options}) {text}".encode()).fetchone()
            document = row[0] if row else None
        if not document:
            raise WhatIfError("the statement has no plan")
        return self._renamed(restored(document, back))

    def _renamed(self, node: Any) -> Any:
        """A plan in which the parts of a partitioned table's index have its name."""
        if isinstance(node, list):
            for item in node:
                self._renamed(item)
        elif isinstance(node, dict):
            name = node.get("Index Name")
            if name in self._names:
                node["Index Name"] = self._names[name]
            for value in node.values():
                self._renamed(value)
        return node

    def _create(self, index: HypotheticalIndex) -> Handle:
        if index in self._refused:
            raise WhatIfError(self._refused[index])
        connection = self._connection
        name = f"sqladvisor_{len(self._known) + len(self._refused) + 1}"
        tables: dict[int, Heap] = {}
        try:
            tables = heaps(connection, self._shadow, index.table)
            with connection.transaction():
                wanted = Wanted(
                    index.table, index.ddl(name=name), index.method, len(index.keys),
                    index.predicate, index.unique,
                )  # fmt: skip
                made = make(connection, self._shadow, wanted, tables, name, self._sampler)
        except psycopg.Error as error:
            if connection.closed:
                raise ServerError(f"the shadow planner is gone: {one_line(error)}") from error
            recount(connection, tables.values())
            self._refused[index] = f"{index.ddl()}: {one_line(error)}"
            raise WhatIfError(self._refused[index]) from error
        handle = Handle(index, name, made.oid, made.size_bytes)
        self._parts[made.oid] = made.oids
        self._names |= dict.fromkeys(made.names, name)
        self._known[index] = handle
        return handle


def _set_valid(connection: psycopg.Connection, oids: Sequence[int], valid: bool) -> None:
    connection.execute(f"SELECT {TOOLS}.show(%s::oid[], %s)".encode(), [list(oids), valid])
