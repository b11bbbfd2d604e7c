-- A store as the first version (schema 1) wrote it, dumped by sqlite3's iterdump().
PRAGMA application_id = 1396786253;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE alert (
    target TEXT NOT NULL, rule TEXT NOT NULL, label TEXT NOT NULL, state TEXT NOT NULL,
    severity TEXT NOT NULL, since REAL NOT NULL, at REAL NOT NULL, value REAL,
    message TEXT NOT NULL, PRIMARY KEY (target, rule, label)) WITHOUT ROWID;
CREATE TABLE alert_event (
    id INTEGER PRIMARY KEY, at REAL NOT NULL, target TEXT NOT NULL, rule TEXT NOT NULL,
    label TEXT NOT NULL, event TEXT NOT NULL, severity TEXT NOT NULL, value REAL,
    message TEXT NOT NULL);
CREATE TABLE finding (
    target_id INTEGER NOT NULL, at REAL NOT NULL, rule TEXT NOT NULL, severity TEXT NOT NULL,
    message TEXT NOT NULL, fix TEXT NOT NULL);
CREATE TABLE object (
    id INTEGER PRIMARY KEY, target_id INTEGER NOT NULL REFERENCES target, family TEXT NOT NULL,
    key TEXT NOT NULL, text TEXT, UNIQUE (target_id, family, key));
INSERT INTO "object" VALUES(1,1,'statement','["1"]',NULL);
INSERT INTO "object" VALUES(2,1,'statement','["2"]',NULL);
INSERT INTO "object" VALUES(3,1,'size','["table", "public", "orders", ""]',NULL);
CREATE TABLE plan (
    target_id INTEGER NOT NULL, queryid TEXT NOT NULL, fingerprint TEXT NOT NULL,
    first_at REAL NOT NULL, last_at REAL NOT NULL, cost REAL NOT NULL, tree TEXT NOT NULL,
    PRIMARY KEY (target_id, queryid, first_at)) WITHOUT ROWID;
CREATE TABLE sample_activity (tick_id INTEGER NOT NULL, object_id INTEGER NOT NULL, sessions REAL, oldest_transaction_s REAL, oldest_state_s REAL, PRIMARY KEY (tick_id, object_id)) WITHOUT ROWID;
CREATE TABLE sample_bgwriter (tick_id INTEGER NOT NULL, object_id INTEGER NOT NULL, buffers_clean REAL, maxwritten_clean REAL, buffers_alloc REAL, buffers_backend REAL, PRIMARY KEY (tick_id, object_id)) WITHOUT ROWID;
CREATE TABLE sample_checkpointer (tick_id INTEGER NOT NULL, object_id INTEGER NOT NULL, timed REAL, requested REAL, write_ms REAL, sync_ms REAL, buffers_written REAL, PRIMARY KEY (tick_id, object_id)) WITHOUT ROWID;
CREATE TABLE sample_database (tick_id INTEGER NOT NULL, object_id INTEGER NOT NULL, xact_commit REAL, xact_rollback REAL, blks_hit REAL, blks_read REAL, blk_read_ms REAL, blk_write_ms REAL, tup_returned REAL, tup_fetched REAL, tup_inserted REAL, tup_updated REAL, tup_deleted REAL, conflicts REAL, deadlocks REAL, temp_files REAL, temp_bytes REAL, sessions REAL, sessions_abandoned REAL, sessions_fatal REAL, sessions_killed REAL, active_ms REAL, idle_in_transaction_ms REAL, backends REAL, PRIMARY KEY (tick_id, object_id)) WITHOUT ROWID;
CREATE TABLE sample_index (tick_id INTEGER NOT NULL, object_id INTEGER NOT NULL, idx_scan REAL, idx_tup_read REAL, idx_tup_fetch REAL, idx_blks_hit REAL, idx_blks_read REAL, PRIMARY KEY (tick_id, object_id)) WITHOUT ROWID;
CREATE TABLE sample_io (tick_id INTEGER NOT NULL, object_id INTEGER NOT NULL, reads REAL, writes REAL, extends REAL, hits REAL, evictions REAL, fsyncs REAL, read_ms REAL, write_ms REAL, read_bytes REAL, write_bytes REAL, PRIMARY KEY (tick_id, object_id)) WITHOUT ROWID;
CREATE TABLE sample_lock (tick_id INTEGER NOT NULL, object_id INTEGER NOT NULL, locks REAL, PRIMARY KEY (tick_id, object_id)) WITHOUT ROWID;
CREATE TABLE sample_replication (tick_id INTEGER NOT NULL, object_id INTEGER NOT NULL, lag_bytes REAL, replay_lag_s REAL, senders REAL, PRIMARY KEY (tick_id, object_id)) WITHOUT ROWID;
CREATE TABLE sample_server (tick_id INTEGER NOT NULL, object_id INTEGER NOT NULL, wal_position_bytes REAL, clients REAL, max_clients REAL, xid_age REAL, multixact_age REAL, in_recovery REAL, replay_delay_s REAL, uptime_s REAL, PRIMARY KEY (tick_id, object_id)) WITHOUT ROWID;
CREATE TABLE sample_size (tick_id INTEGER NOT NULL, object_id INTEGER NOT NULL, bytes REAL, PRIMARY KEY (tick_id, object_id)) WITHOUT ROWID;
INSERT INTO "sample_size" VALUES(2,3,8192.0);
CREATE TABLE sample_slot (tick_id INTEGER NOT NULL, object_id INTEGER NOT NULL, active REAL, retained_bytes REAL, PRIMARY KEY (tick_id, object_id)) WITHOUT ROWID;
CREATE TABLE sample_statement (tick_id INTEGER NOT NULL, object_id INTEGER NOT NULL, calls REAL, exec_ms REAL, exec_ms_squared REAL, plans REAL, plan_ms REAL, rows REAL, shared_blks_hit REAL, shared_blks_read REAL, shared_blks_dirtied REAL, shared_blks_written REAL, temp_blks_read REAL, temp_blks_written REAL, blk_read_ms REAL, blk_write_ms REAL, wal_bytes REAL, PRIMARY KEY (tick_id, object_id)) WITHOUT ROWID;
INSERT INTO "sample_statement" VALUES(1,1,5.0,10.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0);
INSERT INTO "sample_statement" VALUES(1,2,6.0,12.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0);
CREATE TABLE sample_statement_info (tick_id INTEGER NOT NULL, object_id INTEGER NOT NULL, evictions REAL, PRIMARY KEY (tick_id, object_id)) WITHOUT ROWID;
CREATE TABLE sample_table (tick_id INTEGER NOT NULL, object_id INTEGER NOT NULL, seq_scan REAL, seq_tup_read REAL, idx_scan REAL, idx_tup_fetch REAL, tup_inserted REAL, tup_updated REAL, tup_deleted REAL, tup_hot_updated REAL, vacuums REAL, analyzes REAL, heap_blks_hit REAL, heap_blks_read REAL, idx_blks_hit REAL, idx_blks_read REAL, live_rows REAL, dead_rows REAL, modified_rows REAL, PRIMARY KEY (tick_id, object_id)) WITHOUT ROWID;
CREATE TABLE sample_wal (tick_id INTEGER NOT NULL, object_id INTEGER NOT NULL, records REAL, full_page_images REAL, bytes REAL, buffers_full REAL, PRIMARY KEY (tick_id, object_id)) WITHOUT ROWID;
CREATE TABLE sampled (
    tick_id INTEGER NOT NULL, family TEXT NOT NULL, elapsed_s REAL, resets INTEGER NOT NULL,
    PRIMARY KEY (tick_id, family)) WITHOUT ROWID;
INSERT INTO "sampled" VALUES(1,'statement',10.0,0);
INSERT INTO "sampled" VALUES(2,'size',300.0,0);
CREATE TABLE target (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, version INTEGER NOT NULL DEFAULT 0,
    first_at REAL NOT NULL, last_at REAL NOT NULL, reachable INTEGER NOT NULL DEFAULT 1,
    error TEXT NOT NULL DEFAULT '', since REAL NOT NULL, memory BLOB, memory_at REAL);
INSERT INTO "target" VALUES(1,'db',180000,100.0,110.0,1,'',100.0,NULL,NULL);
CREATE TABLE tick (
    id INTEGER PRIMARY KEY, target_id INTEGER NOT NULL REFERENCES target, at REAL NOT NULL,
    reachable INTEGER NOT NULL, restarted INTEGER NOT NULL DEFAULT 0, error TEXT NOT NULL DEFAULT '');
INSERT INTO "tick" VALUES(1,1,100.0,1,0,'');
INSERT INTO "tick" VALUES(2,1,110.0,1,0,'');
CREATE INDEX tick_by_target ON tick (target_id, at);
CREATE INDEX sample_table_by_object ON sample_table (object_id, tick_id);
CREATE INDEX sample_index_by_object ON sample_index (object_id, tick_id);
CREATE INDEX sample_size_by_object ON sample_size (object_id, tick_id);
COMMIT;
