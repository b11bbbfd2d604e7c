"""Which lock a statement takes on which table, and what that lock makes wait. Tables, no state.

Sources: PostgreSQL manual, 13.3.1 "Table-Level Locks"; ALTER TABLE's reference page; and what both
sum up, AlterTableGetLockLevel() in src/backend/commands/tablecmds.c.
"""

from __future__ import annotations

from typing import Literal, Protocol

from sqladvisor.record import record
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import names, unwrap

Mode = Literal[
    "ACCESS SHARE",
    "ROW SHARE",
    "ROW EXCLUSIVE",
    "SHARE UPDATE EXCLUSIVE",
    "SHARE",
    "SHARE ROW EXCLUSIVE",
    "EXCLUSIVE",
    "ACCESS EXCLUSIVE",
]
Work = Literal["", "scan", "rewrite", "build"]
"""What is done to the whole table while the lock is held: nothing, a scan that validates, a rewrite

of the table and its indexes, an index build."""

MODES: tuple[Mode, ...] = (
    "ACCESS SHARE", "ROW SHARE", "ROW EXCLUSIVE", "SHARE UPDATE EXCLUSIVE", "SHARE",
    "SHARE ROW EXCLUSIVE", "EXCLUSIVE", "ACCESS EXCLUSIVE",
)  # fmt: skip
"""Weakest first, in the order of the manual's table 13.2."""
STRENGTH: dict[str, int] = {mode: i for i, mode in enumerate(MODES)}
CONFLICTS: dict[Mode, tuple[Mode, ...]] = {
    "ACCESS SHARE": MODES[7:],
    "ROW SHARE": MODES[6:],
    "ROW EXCLUSIVE": MODES[4:],
    "SHARE UPDATE EXCLUSIVE": MODES[3:],
    "SHARE": ("ROW EXCLUSIVE", "SHARE UPDATE EXCLUSIVE", *MODES[5:]),
    "SHARE ROW EXCLUSIVE": MODES[2:],
    "EXCLUSIVE": MODES[1:],
    "ACCESS EXCLUSIVE": MODES,
}
BLOCKS: dict[str, str] = {
    "ACCESS SHARE": "nothing but DROP and ALTER",
    "ROW SHARE": "nothing but strong locks",
    "ROW EXCLUSIVE": "index builds and schema changes",
    "SHARE UPDATE EXCLUSIVE": "vacuum and schema changes, not reads or writes",
    "SHARE": "writes",
    "SHARE ROW EXCLUSIVE": "writes",
    "EXCLUSIVE": "writes and SELECT FOR UPDATE",
    "ACCESS EXCLUSIVE": "reads and writes",
}
"""What waits for a lock of this mode, in the words of a message."""

WAITED_FOR = STRENGTH["SHARE"]
"""From this strength on, a table's writes queue behind a lock, and behind one that is waited for."""


@record(frozen=True, slots=True)
class Lock:
    """A lock of a statement on a table as named in it; ``work`` is done while it is held."""

    schema: str | None
    name: str
    mode: Mode
    work: Work = ""

    @property
    def strong(self) -> bool:
        """Whether application writes wait for it."""
        return STRENGTH[self.mode] >= WAITED_FOR


class _Add(Protocol):
    def __call__(self, relation: Node, mode: Mode, work: Work = "") -> None: ...


# Subcommands of ALTER TABLE that take less than ACCESS EXCLUSIVE.
_ALTER: dict[str, Mode] = {
    "AT_SetStatistics": "SHARE UPDATE EXCLUSIVE",
    "AT_SetOptions": "SHARE UPDATE EXCLUSIVE",
    "AT_ResetOptions": "SHARE UPDATE EXCLUSIVE",
    "AT_ClusterOn": "SHARE UPDATE EXCLUSIVE",
    "AT_DropCluster": "SHARE UPDATE EXCLUSIVE",
    "AT_ValidateConstraint": "SHARE UPDATE EXCLUSIVE",
    "AT_AttachPartition": "SHARE UPDATE EXCLUSIVE",
    "AT_DetachPartitionFinalize": "SHARE UPDATE EXCLUSIVE",
    "AT_EnableTrig": "SHARE ROW EXCLUSIVE",
    "AT_EnableAlwaysTrig": "SHARE ROW EXCLUSIVE",
    "AT_EnableReplicaTrig": "SHARE ROW EXCLUSIVE",
    "AT_EnableTrigAll": "SHARE ROW EXCLUSIVE",
    "AT_EnableTrigUser": "SHARE ROW EXCLUSIVE",
    "AT_DisableTrig": "SHARE ROW EXCLUSIVE",
    "AT_DisableTrigAll": "SHARE ROW EXCLUSIVE",
    "AT_DisableTrigUser": "SHARE ROW EXCLUSIVE",
}
# Storage parameters that ALTER TABLE … SET changes under SHARE UPDATE EXCLUSIVE (reloptions.c).
_LIGHT_OPTIONS = ("fillfactor", "toast_tuple_target", "parallel_workers", "vacuum_", "autovacuum_",
                  "log_autovacuum_", "user_catalog_table")  # fmt: skip


def alter_mode(command: Node) -> Mode:
    """The lock that one subcommand of ALTER TABLE (an AlterTableCmd) takes on the table."""
    what = str(command.get("subtype", ""))
    if what == "AT_AddConstraint":
        constraint = unwrap(command.get("def", {}))[1]
        foreign = constraint.get("contype") == "CONSTR_FOREIGN"
        return "SHARE ROW EXCLUSIVE" if foreign else "ACCESS EXCLUSIVE"
    if what == "AT_DetachPartition":
        concurrent = unwrap(command.get("def", {}))[1].get("concurrent")
        return "SHARE UPDATE EXCLUSIVE" if concurrent else "ACCESS EXCLUSIVE"
    if what in ("AT_SetRelOptions", "AT_ResetRelOptions"):
        items = unwrap(command.get("def", {}))[1].get("items", ())
        set_ = [str(unwrap(i)[1].get("defname", "")) for i in items]
        light = all(name.startswith(_LIGHT_OPTIONS) for name in set_)
        return "SHARE UPDATE EXCLUSIVE" if light else "ACCESS EXCLUSIVE"
    return _ALTER.get(what, "ACCESS EXCLUSIVE")


LOCKING = frozenset(
    ("AlterTableStmt", "IndexStmt", "DropStmt", "RenameStmt", "AlterObjectSchemaStmt", "TruncateStmt",
     "CreateTrigStmt", "RuleStmt", "CreatePolicyStmt", "AlterPolicyStmt", "LockStmt", "ClusterStmt",
     "VacuumStmt", "RefreshMatViewStmt", "ReindexStmt", "CreateStmt")
)  # fmt: skip
"""The statements that ``statement_locks`` knows."""


def statement_locks(kind: str, node: Node) -> list[Lock]:
    """The locks that a statement takes on the tables it names, strongest per table.

    What the statement does to a table of any state; whether there is work for it depends on the
    state and is left to the rules. Locks weaker than SHARE UPDATE EXCLUSIVE are left out.
    """
    found: dict[tuple[str | None, str], Lock] = {}

    def add(relation: Node, mode: Mode, work: Work = "") -> None:
        name = relation.get("relname")
        if not name or relation.get("relpersistence") == "t":
            return
        key = (relation.get("schemaname"), str(name))
        known = found.get(key)
        if known is None or STRENGTH[known.mode] < STRENGTH[mode]:
            found[key] = Lock(*key, mode, work)

    if kind == "AlterTableStmt":
        if node.get("objtype") == "OBJECT_TABLE":
            _alter_locks(node, add)
    elif kind == "IndexStmt":
        concurrent = node.get("concurrent")
        add(node.get("relation", {}), "SHARE UPDATE EXCLUSIVE" if concurrent else "SHARE", "build")
    elif kind == "DropStmt":
        if node.get("removeType") in ("OBJECT_TABLE", "OBJECT_MATVIEW"):
            for item in node.get("objects", ()):
                add(_range(item), "ACCESS EXCLUSIVE")
        elif node.get("removeType") in ("OBJECT_TRIGGER", "OBJECT_POLICY", "OBJECT_RULE"):
            for item in node.get("objects", ()):
                add(_range(item, drop_last=True), "ACCESS EXCLUSIVE")
    elif kind == "RenameStmt":
        if node.get("renameType") in ("OBJECT_TABLE", "OBJECT_COLUMN", "OBJECT_TABCONSTRAINT"):
            add(node.get("relation", {}), "ACCESS EXCLUSIVE")
    elif kind == "AlterObjectSchemaStmt":
        if node.get("objectType") == "OBJECT_TABLE":
            add(node.get("relation", {}), "ACCESS EXCLUSIVE")
    elif kind == "TruncateStmt":
        for item in node.get("relations", ()):
            add(unwrap(item)[1], "ACCESS EXCLUSIVE")
    elif kind == "CreateTrigStmt":
        add(node.get("relation", {}), "SHARE ROW EXCLUSIVE")
        add(node.get("constrrel", {}), "SHARE ROW EXCLUSIVE")
    elif kind in ("RuleStmt",):
        add(node.get("relation", {}), "ACCESS EXCLUSIVE")
    elif kind in ("CreatePolicyStmt", "AlterPolicyStmt"):
        add(node.get("table", {}), "ACCESS EXCLUSIVE")
    elif kind == "LockStmt":
        mode = MODES[int(node.get("mode", 8)) - 1]
        for item in node.get("relations", ()):
            add(unwrap(item)[1], mode)
    elif kind == "ClusterStmt":
        add(node.get("relation", {}), "ACCESS EXCLUSIVE", "rewrite")
    elif kind == "VacuumStmt":
        if node.get("is_vacuumcmd"):
            full = any(_on(o, "full") for o in node.get("options", ()))
            for item in node.get("rels", ()):
                relation = unwrap(item)[1].get("relation", {})
                if full:
                    add(relation, "ACCESS EXCLUSIVE", "rewrite")
                else:
                    add(relation, "SHARE UPDATE EXCLUSIVE")
    elif kind == "RefreshMatViewStmt":
        if node.get("concurrent"):
            add(node.get("relation", {}), "EXCLUSIVE")
        else:
            add(node.get("relation", {}), "ACCESS EXCLUSIVE", "rewrite")
    elif kind == "ReindexStmt":
        if node.get("kind") == "REINDEX_OBJECT_TABLE":
            concurrent = any(_on(p, "concurrently") for p in node.get("params", ()))
            mode = "SHARE UPDATE EXCLUSIVE" if concurrent else "SHARE"
            add(node.get("relation", {}), mode, "build")
    elif kind == "CreateStmt":
        if "partbound" in node:
            for parent in node.get("inhRelations", ()):
                add(unwrap(parent)[1], "ACCESS EXCLUSIVE")
        for element in node.get("tableElts", ()):
            what, item = unwrap(element)
            for constraint in (
                (item,)
                if what == "Constraint"
                else (unwrap(c)[1] for c in item.get("constraints", ()))
            ):
                if constraint.get("contype") == "CONSTR_FOREIGN":
                    add(constraint.get("pktable", {}), "SHARE ROW EXCLUSIVE")
    return list(found.values())


def _alter_locks(node: Node, add: _Add) -> None:
    relation = node.get("relation", {})
    for item in node.get("cmds", ()):
        command = unwrap(item)[1]
        add(relation, alter_mode(command))
        definition = unwrap(command.get("def", {}))[1]
        if command.get("subtype") == "AT_AddConstraint":
            if definition.get("contype") == "CONSTR_FOREIGN":
                add(definition.get("pktable", {}), "SHARE ROW EXCLUSIVE")
        elif command.get("subtype") == "AT_AddColumn":
            for constraint in (unwrap(c)[1] for c in definition.get("constraints", ())):
                if constraint.get("contype") == "CONSTR_FOREIGN":
                    add(constraint.get("pktable", {}), "SHARE ROW EXCLUSIVE")
        elif command.get("subtype") in ("AT_AttachPartition", "AT_DetachPartition"):
            add(definition.get("name", {}), "ACCESS EXCLUSIVE")


def _range(item: Node, *, drop_last: bool = False) -> Node:
    """The RangeVar that a DROP's object name means."""
    parts = names(unwrap(item)[1].get("items"))
    if drop_last:
        parts = parts[:-1]
    if not parts:
        return {}
    return {"relname": parts[-1], "schemaname": parts[-2] if len(parts) > 1 else None}


def _on(option: Node, name: str) -> bool:
    """Whether a boolean option (``FULL``, ``CONCURRENTLY true``) is set."""
    node = unwrap(option)[1]
    if node.get("defname") != name:
        return False
    kind, value = unwrap(node.get("arg", {}))
    if kind == "Boolean":
        return bool(value.get("boolval", False))
    if kind == "Integer":
        return bool(value.get("ival", 0))
    return str(value.get("sval", "true")).lower() in ("true", "on", "1", "yes")
