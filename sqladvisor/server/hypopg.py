"""What-if indexes on a target that has HypoPG: planned there, in a session of our own.

HypoPG keeps its indexes in the memory of the session that made them: nothing is written, no lock
is taken, and no other session sees them. Version 1.3, which is what distributions ship, makes
b-tree, hash and BRIN indexes; it refuses GIN and GiST, gives expressions no statistics, hides no
existing index and takes a b-tree's size without deduplication. What it cannot price is refused
here with the reason, so that nothing is advised on a guess.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import psycopg
from psycopg import sql as composing

from sqladvisor.errors import ServerError
from sqladvisor.plan.node import Plan, PlanNode
from sqladvisor.server.connect import one_line
from sqladvisor.server.explain import ExplainError, explain
from sqladvisor.server.whatif import Handle, HypotheticalIndex, WhatIfError

METHODS = frozenset(("btree", "hash", "brin"))
"""Access methods that HypoPG 1.3 makes and costs (hypo_index_store_parsetree())."""
HIDING = (1, 4)
"""The first version with hypopg_hide_index()."""
_NEEDED = ("hypopg_create_index", "hypopg_drop_index", "hypopg_relation_size", "hypopg_reset")


def has_hypopg(connection: psycopg.Connection) -> bool:
    """Whether HypoPG is installed in the session's database."""
    return _installed(connection) is not None


def _installed(connection: psycopg.Connection) -> tuple[str, str] | None:
    """The schema and the version of the extension."""
    row = connection.execute(
        "SELECT n.nspname, e.extversion FROM pg_extension e "
        "JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'hypopg'"
    ).fetchone()
    return (str(row[0]), str(row[1])) if row else None


class HypoPGWhatIf:
    """What-if in one session of a target. Only this object may use the session while it lives."""

    def __init__(self, connection: psycopg.Connection) -> None:
        found = _installed(connection)
        if found is None:
            raise ServerError("the extension hypopg is not installed in this database")
        schema, self.version = found
        self._connection = connection
        self._call = {
            name: composing.SQL("{}.{}").format(
                composing.Identifier(schema), composing.Identifier(name)
            )
            for name in (*_NEEDED, "hypopg_hide_index", "hypopg_unhide_all_indexes")
        }
        self._known: dict[HypotheticalIndex, Handle] = {}
        self._refused: dict[HypotheticalIndex, str] = {}
        self._shown: dict[int, tuple[int, str]] = {}
        self._hidden: frozenset[str] = frozenset()
        self.hides_existing = tuple(map(int, self.version.split(".")[:2])) >= HIDING
        self.calls = 0
        self._reset()

    def close(self) -> None:
        """Forget the hypothetical indexes. The session stays its owner's."""
        if not self._connection.closed:
            self._reset()

    def add(self, indexes: Sequence[HypotheticalIndex]) -> list[Handle]:
        """Make indexes known, each once. Raises WhatIfError naming one that cannot be priced."""
        return [self._known.get(index) or self._measure(index) for index in indexes]

    def cost(
        self,
        sql: str,
        visible: Collection[Handle],
        *,
        hidden_existing: Collection[str] = (),
        generic: bool = False,
    ) -> Plan:
        """The plan of one statement with exactly these hypothetical indexes. Raises WhatIfError."""
        self._hide(frozenset(hidden_existing))
        self._show(visible)
        self.calls += 1
        try:
            plan = explain(self._connection, sql, generic=generic, writes=False)
        except ExplainError as error:
            raise WhatIfError(str(error)) from error
        own = {self._shown[handle.oid][1]: handle.name for handle in visible}
        return replace(plan, root=_renamed(plan.root, own)) if own else plan

    def _measure(self, index: HypotheticalIndex) -> Handle:
        if index in self._refused:
            raise WhatIfError(self._refused[index])
        try:
            if index.method not in METHODS:
                raise WhatIfError(f"HypoPG {self.version} makes no {index.method} index")
            if any(key.startswith("(") for key in index.keys):
                raise WhatIfError(f"HypoPG {self.version} has no statistics for an expression")
            oid, _ = self._create([index])[0]
            row = self._connection.execute(
                composing.SQL("SELECT {}(%s::oid)").format(self._call["hypopg_relation_size"]),
                [oid],
            ).fetchone()
            self._drop([oid])
        except (psycopg.Error, WhatIfError) as error:
            if self._connection.closed:
                raise ServerError(
                    f"lost the connection to the server: {one_line(error)}"
                ) from error
            self._refused[index] = f"{index.ddl()}: {one_line(error)}"
            raise WhatIfError(self._refused[index]) from error
        number = len(self._known) + 1
        handle = Handle(index, f"sqladvisor_{number}", number, int(row[0]) if row else 0)
        self._known[index] = handle
        return handle

    def _show(self, visible: Collection[Handle]) -> None:
        """Have exactly these: what is there already stays, as making one costs a parse."""
        wanted = {h.oid: h for h in visible}
        gone = [n for n in self._shown if n not in wanted]
        if gone:
            self._drop([self._shown.pop(n)[0] for n in gone])
        new = [h for n, h in sorted(wanted.items()) if n not in self._shown]
        for handle, made in zip(new, self._create([h.index for h in new]), strict=True):
            self._shown[handle.oid] = made

    def _create(self, indexes: Sequence[HypotheticalIndex]) -> list[tuple[int, str]]:
        if not indexes:
            return []
        rows = self._connection.execute(
            composing.SQL(
                "SELECT h.indexrelid::int8, h.indexname FROM unnest(%s::text[]) WITH ORDINALITY "
                "AS d (ddl, n) CROSS JOIN LATERAL {}(d.ddl) AS h ORDER BY n"
            ).format(self._call["hypopg_create_index"]),
            [[index.ddl() for index in indexes]],
        ).fetchall()
        return [(int(oid), str(name)) for oid, name in rows]

    def _drop(self, oids: Sequence[int]) -> None:
        self._connection.execute(
            composing.SQL("SELECT {}(o::oid) FROM unnest(%s::int8[]) AS o").format(
                self._call["hypopg_drop_index"]
            ),
            [list(oids)],
        )

    def _hide(self, names: frozenset[str]) -> None:
        if names == self._hidden:
            return
        if not self.hides_existing:
            raise WhatIfError(f"HypoPG {self.version} cannot plan without an existing index")
        self._connection.execute(
            composing.SQL("SELECT {}()").format(self._call["hypopg_unhide_all_indexes"])
        )
        for name in sorted(names):
            self._connection.execute(
                composing.SQL("SELECT {}(%s::regclass)").format(self._call["hypopg_hide_index"]),
                [name],
            )
        self._hidden = names

    def _reset(self) -> None:
        self._shown.clear()
        self._connection.execute(composing.SQL("SELECT {}()").format(self._call["hypopg_reset"]))


def _renamed(node: PlanNode, names: dict[str, str]) -> PlanNode:
    """The plan with HypoPG's names, which change each time an index is shown, replaced by ours."""
    children = tuple(_renamed(child, names) for child in node.children)
    if node.index in names:
        own = names[node.index]
        raw = {**node.raw, "Index Name": own}
        return replace(node, children=children, index=own, raw=raw)
    return replace(node, children=children)
