"""The queries of the monitor, by the versions they fit (13 to 18), and the families they fill.

All of them read statistics views and catalogs: no user's row. Sizes open their relation with
ACCESS SHARE, which is why relations held or awaited in ACCESS EXCLUSIVE are left out of them.
Columns that an older server lacks are left out of its variant.
"""

from __future__ import annotations

from sqladvisor.monitor.family import Family

SLOW_S = 60.0
"""Seconds between readings of what has a row per table or index."""
SIZE_S = 300.0
"""Seconds between readings of sizes: one stat() for each file of each relation."""

_SECONDS = "greatest(0, extract(epoch FROM pg_catalog.clock_timestamp() - {}))::float8"


def _age(expression: str) -> str:
    return _SECONDS.format(expression)


SETTINGS = (
    # Nothing in a database can stand in for PostgreSQL's own functions and operators.
    "SET search_path = pg_catalog",
    # Compiling a query over statistics takes longer than running it.
    "SET jit = off",
)

IDENTITY = """
SELECT pg_catalog.current_setting('server_version_num')::int,
       extract(epoch FROM pg_catalog.pg_postmaster_start_time())::text,
       pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE')
           OR (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user),
       (SELECT pg_catalog.quote_ident(n.nspname) || ' ' || e.extversion
        FROM pg_catalog.pg_extension e
        JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
        WHERE e.extname = 'pg_stat_statements'),
       pg_catalog.current_database()
"""

_CLIENTS = "(SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE backend_type = 'client backend')::float8"
_WAL_POSITION = """
    pg_catalog.pg_wal_lsn_diff(CASE WHEN pg_catalog.pg_is_in_recovery()
        THEN coalesce(pg_catalog.pg_last_wal_replay_lsn(), '0/0')
        ELSE pg_catalog.pg_current_wal_insert_lsn() END, '0/0')::float8"""

SERVER = Family(
    name="server",
    keys=(),
    counters=("wal_position_bytes",),
    gauges=(
        "clients",
        "max_clients",
        "xid_age",
        "multixact_age",
        "in_recovery",
        "replay_delay_s",
        "uptime_s",
    ),
    variants={
        130000: f"""
SELECT {_WAL_POSITION} AS wal_position_bytes, {_CLIENTS} AS clients,
       pg_catalog.current_setting('max_connections')::float8
       - pg_catalog.current_setting('superuser_reserved_connections')::float8 AS max_clients,
       (SELECT max(pg_catalog.age(datfrozenxid)) FROM pg_catalog.pg_database)::float8 AS xid_age,
       (SELECT max(pg_catalog.mxid_age(datminmxid)) FROM pg_catalog.pg_database)::float8
           AS multixact_age,
       pg_catalog.pg_is_in_recovery()::int::float8 AS in_recovery,
       CASE WHEN pg_catalog.pg_is_in_recovery() THEN CASE
           WHEN pg_catalog.pg_last_wal_receive_lsn() = pg_catalog.pg_last_wal_replay_lsn() THEN 0
           ELSE {_age("pg_catalog.pg_last_xact_replay_timestamp()")} END END AS replay_delay_s,
       {_age("pg_catalog.pg_postmaster_start_time()")} AS uptime_s""",
    },
)

_DATABASE = """
SELECT coalesce(stats_reset::text, '') AS epoch, xact_commit, xact_rollback,
       blks_hit, blks_read, blk_read_time AS blk_read_ms, blk_write_time AS blk_write_ms,
       tup_returned, tup_fetched, tup_inserted, tup_updated, tup_deleted,
       conflicts, deadlocks, temp_files, temp_bytes, numbackends AS backends{more}
FROM pg_catalog.pg_stat_database WHERE datname = pg_catalog.current_database()"""

DATABASE = Family(
    name="database",
    keys=(),
    counters=(
        "xact_commit", "xact_rollback", "blks_hit", "blks_read", "blk_read_ms", "blk_write_ms",
        "tup_returned", "tup_fetched", "tup_inserted", "tup_updated", "tup_deleted", "conflicts",
        "deadlocks", "temp_files", "temp_bytes", "sessions", "sessions_abandoned", "sessions_fatal",
        "sessions_killed", "active_ms", "idle_in_transaction_ms",
    ),
    gauges=("backends",),
    variants={
        130000: _DATABASE.format(more=""),
        140000: _DATABASE.format(
            more=", sessions, sessions_abandoned, sessions_fatal, sessions_killed,"
            " active_time AS active_ms, idle_in_transaction_time AS idle_in_transaction_ms"
        ),
    },
)  # fmt: skip

# stddev is over all calls since the entry was made; calls * (stddev² + mean²) is the sum of squares,
# which is a counter, so that its difference gives the deviation within an interval.
_STATEMENT = """
SELECT s.queryid::text AS queryid, s.userid::text AS userid, {toplevel} AS toplevel,
       {epoch} AS epoch, s.calls, s.total_exec_time AS exec_ms,
       s.calls * (s.stddev_exec_time ^ 2 + s.mean_exec_time ^ 2) AS exec_ms_squared,
       s.plans, s.total_plan_time AS plan_ms, s.rows,
       s.shared_blks_hit, s.shared_blks_read, s.shared_blks_dirtied, s.shared_blks_written,
       s.temp_blks_read, s.temp_blks_written, {read} AS blk_read_ms, {write} AS blk_write_ms,
       s.wal_bytes::float8 AS wal_bytes
FROM {{schema}}.pg_stat_statements(false) s
WHERE s.dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
  AND s.queryid IS NOT NULL"""
_INFO = "coalesce((SELECT i.stats_reset::text FROM {schema}.pg_stat_statements_info i), '')"
_OLD_TIMES = {"read": "s.blk_read_time", "write": "s.blk_write_time"}

STATEMENT = Family(
    name="statement",
    keys=("queryid",),
    identity=("userid", "toplevel"),
    counters=(
        "calls", "exec_ms", "exec_ms_squared", "plans", "plan_ms", "rows", "shared_blks_hit",
        "shared_blks_read", "shared_blks_dirtied", "shared_blks_written", "temp_blks_read",
        "temp_blks_written", "blk_read_ms", "blk_write_ms", "wal_bytes",
    ),
    gauges=(),
    smooth=frozenset(("exec_ms_squared",)),
    extension="pg_stat_statements",
    variants={
        # 1.8 came with 13, 1.9 with 14, 1.11 with 17.
        108: _STATEMENT.format(toplevel="''", epoch="''", **_OLD_TIMES),
        109: _STATEMENT.format(toplevel="s.toplevel::text", epoch=_INFO, **_OLD_TIMES),
        111: _STATEMENT.format(
            toplevel="s.toplevel::text",
            epoch="s.stats_since::text",
            read="s.shared_blk_read_time",
            write="s.shared_blk_write_time",
        ),
    },
)  # fmt: skip

STATEMENT_INFO = Family(
    name="statement_info",
    keys=(),
    counters=("evictions",),
    gauges=(),
    extension="pg_stat_statements",
    variants={
        109: "SELECT stats_reset::text AS epoch, dealloc AS evictions "
        "FROM {schema}.pg_stat_statements_info"
    },
)

STATEMENT_TEXTS = """
SELECT s.queryid::text, min(s.query)
FROM {schema}.pg_stat_statements(true) s
WHERE s.dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
  AND s.queryid::text = ANY(%s) GROUP BY 1"""
"""Reads the file of query texts, whole: asked only when there are new statements worth a name."""

ACTIVITY = Family(
    name="activity",
    keys=("backend_type", "state", "wait_event_type", "wait_event"),
    counters=(),
    gauges=("sessions", "oldest_transaction_s", "oldest_state_s"),
    variants={
        130000: f"""
SELECT coalesce(backend_type, 'hidden') AS backend_type, coalesce(state, 'hidden') AS state,
       coalesce(wait_event_type, '') AS wait_event_type, coalesce(wait_event, '') AS wait_event,
       count(*) AS sessions, max({_age("xact_start")}) AS oldest_transaction_s,
       max({_age("state_change")}) AS oldest_state_s
FROM pg_catalog.pg_stat_activity
WHERE datname = pg_catalog.current_database() AND pid <> pg_catalog.pg_backend_pid()
GROUP BY 1, 2, 3, 4"""
    },
)

LOCK = Family(
    name="lock",
    keys=("mode", "granted"),
    counters=(),
    gauges=("locks",),
    variants={
        130000: """
SELECT mode, CASE WHEN granted THEN 'granted' ELSE 'waiting' END AS granted, count(*) AS locks
FROM pg_catalog.pg_locks
WHERE pid <> pg_catalog.pg_backend_pid() AND (database IS NULL OR database = 0 OR database =
      (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))
GROUP BY 1, 2"""
    },
)

_TABLE = """
SELECT schemaname AS schema, relname AS relation, seq_scan, seq_tup_read, idx_scan, idx_tup_fetch,
       n_tup_ins AS tup_inserted, n_tup_upd AS tup_updated, n_tup_del AS tup_deleted,
       n_tup_hot_upd AS tup_hot_updated, vacuum_count + autovacuum_count AS vacuums,
       analyze_count + autoanalyze_count AS analyzes, io.heap_blks_hit, io.heap_blks_read,
       io.idx_blks_hit, io.idx_blks_read, n_live_tup AS live_rows, n_dead_tup AS dead_rows,
       n_mod_since_analyze AS modified_rows
FROM pg_catalog.pg_stat_user_tables t
JOIN pg_catalog.pg_statio_user_tables io USING (relid, schemaname, relname)"""

TABLE = Family(
    name="table",
    keys=("schema", "relation"),
    counters=(
        "seq_scan", "seq_tup_read", "idx_scan", "idx_tup_fetch", "tup_inserted", "tup_updated",
        "tup_deleted", "tup_hot_updated", "vacuums", "analyzes", "heap_blks_hit", "heap_blks_read",
        "idx_blks_hit", "idx_blks_read",
    ),
    gauges=("live_rows", "dead_rows", "modified_rows"),
    every_s=SLOW_S,
    variants={130000: _TABLE},
)  # fmt: skip

INDEX = Family(
    name="index",
    keys=("schema", "relation", "index"),
    counters=("idx_scan", "idx_tup_read", "idx_tup_fetch", "idx_blks_hit", "idx_blks_read"),
    gauges=(),
    every_s=SLOW_S,
    variants={
        130000: """
SELECT schemaname AS schema, relname AS relation, indexrelname AS index, i.idx_scan,
       i.idx_tup_read, i.idx_tup_fetch, io.idx_blks_hit, io.idx_blks_read
FROM pg_catalog.pg_stat_user_indexes i
JOIN pg_catalog.pg_statio_user_indexes io
     USING (relid, indexrelid, schemaname, relname, indexrelname)"""
    },
)

SIZE = Family(
    name="size",
    keys=("kind", "schema", "relation", "index"),
    counters=(),
    gauges=("bytes",),
    every_s=SIZE_S,
    variants={
        130000: """
WITH held AS (
    SELECT relation FROM pg_catalog.pg_locks
    WHERE locktype = 'relation' AND mode = 'AccessExclusiveLock'
      AND pid <> pg_catalog.pg_backend_pid())
SELECT CASE c.relkind WHEN 'i' THEN 'index' ELSE 'table' END AS kind, n.nspname AS schema,
       coalesce(t.relname, c.relname) AS relation,
       CASE c.relkind WHEN 'i' THEN c.relname::text ELSE '' END AS index,
       CASE c.relkind WHEN 'i' THEN pg_catalog.pg_relation_size(c.oid)
            ELSE pg_catalog.pg_table_size(c.oid) END AS bytes
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid
LEFT JOIN pg_catalog.pg_class t ON t.oid = i.indrelid
WHERE c.relkind IN ('r', 'm', 'i') AND n.nspname NOT LIKE 'pg\\_%'
  AND n.nspname <> 'information_schema' AND c.relpersistence <> 't'
  AND NOT EXISTS (SELECT FROM held WHERE relation IN (c.oid, t.oid))
  AND NOT EXISTS (SELECT FROM held WHERE relation = c.reltoastrelid)"""
    },
)

_CHECKPOINTER_OLD = """
SELECT coalesce(stats_reset::text, '') AS epoch, checkpoints_timed AS timed,
       checkpoints_req AS requested, checkpoint_write_time AS write_ms,
       checkpoint_sync_time AS sync_ms, buffers_checkpoint AS buffers_written
FROM pg_catalog.pg_stat_bgwriter"""
CHECKPOINTER = Family(
    name="checkpointer",
    keys=(),
    counters=("timed", "requested", "write_ms", "sync_ms", "buffers_written"),
    gauges=(),
    variants={
        130000: _CHECKPOINTER_OLD,
        170000: """
SELECT coalesce(stats_reset::text, '') AS epoch, num_timed AS timed, num_requested AS requested,
       write_time AS write_ms, sync_time AS sync_ms, buffers_written
FROM pg_catalog.pg_stat_checkpointer""",
    },
)

BGWRITER = Family(
    name="bgwriter",
    keys=(),
    counters=("buffers_clean", "maxwritten_clean", "buffers_alloc", "buffers_backend"),
    gauges=(),
    variants={
        130000: """
SELECT coalesce(stats_reset::text, '') AS epoch, buffers_clean, maxwritten_clean, buffers_alloc,
       buffers_backend
FROM pg_catalog.pg_stat_bgwriter""",
        # 17 counts what backends write in pg_stat_io alone.
        170000: """
SELECT coalesce(stats_reset::text, '') AS epoch, buffers_clean, maxwritten_clean, buffers_alloc
FROM pg_catalog.pg_stat_bgwriter""",
    },
)

WAL = Family(
    name="wal",
    keys=(),
    counters=("records", "full_page_images", "bytes", "buffers_full"),
    gauges=(),
    variants={
        140000: """
SELECT coalesce(stats_reset::text, '') AS epoch, wal_records AS records,
       wal_fpi AS full_page_images, wal_bytes::float8 AS bytes, wal_buffers_full AS buffers_full
FROM pg_catalog.pg_stat_wal"""
    },
)

_IO = """
SELECT coalesce(stats_reset::text, '') AS epoch, backend_type, object, context, reads, writes,
       extends, hits, evictions, fsyncs, read_time AS read_ms, write_time AS write_ms, {bytes}
FROM pg_catalog.pg_stat_io
WHERE coalesce(reads, 0) + coalesce(writes, 0) + coalesce(extends, 0) + coalesce(hits, 0)
      + coalesce(fsyncs, 0) > 0"""
IO = Family(
    name="io",
    keys=("backend_type", "object", "context"),
    counters=(
        "reads", "writes", "extends", "hits", "evictions", "fsyncs", "read_ms", "write_ms",
        "read_bytes", "write_bytes",
    ),
    gauges=(),
    variants={
        160000: _IO.format(bytes="reads * op_bytes AS read_bytes, writes * op_bytes AS write_bytes"),
        180000: _IO.format(
            bytes="read_bytes::float8 AS read_bytes, write_bytes::float8 AS write_bytes"
        ),
    },
)  # fmt: skip

REPLICATION = Family(
    name="replication",
    keys=("standby", "address", "state"),
    counters=(),
    gauges=("lag_bytes", "replay_lag_s", "senders"),
    variants={
        130000: f"""
SELECT coalesce(application_name, '') AS standby, coalesce(host(client_addr), 'local') AS address,
       coalesce(state, 'hidden') AS state, count(*) AS senders,
       max({_WAL_POSITION} - pg_catalog.pg_wal_lsn_diff(replay_lsn, '0/0'))::float8 AS lag_bytes,
       max(extract(epoch FROM replay_lag))::float8 AS replay_lag_s
FROM pg_catalog.pg_stat_replication GROUP BY 1, 2, 3"""
    },
)

SLOT = Family(
    name="slot",
    keys=("slot", "kind"),
    counters=(),
    gauges=("active", "retained_bytes"),
    variants={
        130000: f"""
SELECT slot_name AS slot, slot_type AS kind, active::int AS active,
       ({_WAL_POSITION} - pg_catalog.pg_wal_lsn_diff(restart_lsn, '0/0'))::float8 AS retained_bytes
FROM pg_catalog.pg_replication_slots WHERE restart_lsn IS NOT NULL"""
    },
)

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        SERVER, DATABASE, STATEMENT, STATEMENT_INFO, ACTIVITY, LOCK, TABLE, INDEX, SIZE, CHECKPOINTER, BGWRITER,
        WAL, IO, REPLICATION, SLOT,
    )
}  # fmt: skip
