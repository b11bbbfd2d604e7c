"""Whether running a statement leaves anything behind: read from the parse tree alone.

What a user's own function does cannot be seen here: a read-only transaction stops it.
"""

from __future__ import annotations

from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import function_name, unwrap, walk

_READERS = frozenset(("SelectStmt", "VariableShowStmt"))
_WRITERS = frozenset(
    ("InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt", "IntoClause", "LockingClause")
)

# Functions of PostgreSQL and its contrib modules that act beyond the rows they return, or run SQL
# given as text (manual: chapters 9.17, 9.28, 35.4; contrib dblink, adminpack, tablefunc).
_ACTING = frozenset(
    ("nextval", "setval", "set_config", "pg_notify", "lowrite", "pg_switch_wal", "pg_promote",
     "pg_reload_conf", "pg_rotate_logfile", "pg_terminate_backend", "pg_cancel_backend",
     "pg_create_restore_point", "pg_export_snapshot", "pg_logical_emit_message",
     "pg_start_backup", "pg_stop_backup", "pg_log_backend_memory_contexts",
     "pg_log_standby_snapshot", "pg_import_system_collations", "pg_sync_replication_slots",
     "pg_create_logical_replication_slot", "pg_create_physical_replication_slot",
     "pg_copy_logical_replication_slot", "pg_copy_physical_replication_slot",
     "pg_drop_replication_slot", "pg_logical_slot_get_changes",
     "pg_logical_slot_get_binary_changes", "pg_replication_slot_advance", "pg_stat_statements_reset",
     "pg_prewarm", "pg_truncate_visibility_map", "gin_clean_pending_list",
     "brin_summarize_new_values", "brin_summarize_range", "brin_desummarize_range",
     "query_to_xml", "query_to_xmlschema", "query_to_xml_and_xmlschema", "pg_clear_relation_stats",
     "pg_clear_attribute_stats", "pg_restore_relation_stats", "pg_restore_attribute_stats")
)  # fmt: skip
_ACTING_PREFIXES = (
    "pg_advisory_", "pg_try_advisory_", "pg_stat_reset", "pg_backup_", "pg_wal_replay_",
    "pg_replication_origin_", "pg_file_", "lo_", "dblink", "crosstab", "connectby",
)  # fmt: skip
_LO_READERS = frozenset(("lo_get", "lo_lseek", "lo_lseek64", "lo_tell", "lo_tell64"))


def writes(tree_kind: str, tree: Node) -> bool:
    """Whether a statement, when run, may change, lock or signal anything, as far as its text says.

    Data-modifying CTEs, SELECT INTO, row locks (FOR UPDATE …) and calls of functions known to act
    (sequences, advisory locks, signals, large objects, dblink) count; so does every command that
    is not known to only read. EXPLAIN counts as its statement with ANALYZE, as reading without.
    """
    if tree_kind == "ExplainStmt":
        return _analyzes(tree) and writes(*unwrap(tree.get("query", {})))
    if tree_kind == "DeclareCursorStmt":
        return writes(*unwrap(tree.get("query", {})))
    if tree_kind == "CopyStmt":
        # COPY … TO a file or program acts on the server's machine.
        if tree.get("is_from") or tree.get("filename"):
            return True
        return "query" in tree and writes(*unwrap(tree["query"]))
    if tree_kind not in _READERS:
        return True
    return any(
        kind in _WRITERS or (kind == "FuncCall" and _acts(function_name(node)))
        for kind, node in walk(tree_kind, tree)
    )


def _acts(function: str) -> bool:
    if function in _LO_READERS:
        return False
    return function in _ACTING or function.startswith(_ACTING_PREFIXES)


def _analyzes(explain: Node) -> bool:
    """Whether an EXPLAIN executes: its last ANALYZE option says, as in ExplainQuery."""
    on = False
    for option in explain.get("options", ()):
        element = option.get("DefElem", {})
        if element.get("defname") == "analyze":
            kind, value = unwrap(element.get("arg", {}))
            text = str(value.get("ival", 0)) if kind == "Integer" else str(value.get("sval", "on"))
            on = text.lower() not in ("off", "false", "0")
    return on
