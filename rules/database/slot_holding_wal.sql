-- A replication slot makes the server keep much WAL.
--
-- Why: the server keeps every WAL file that a slot's reader has not confirmed, until the disk is full
--     and the server stops.
-- Fix: find out why the reader lags or is gone; drop a slot that nobody reads; max_slot_wal_keep_size
--     as a bound.
-- Silent when: less than 1 GB is kept for it.
-- Source: PostgreSQL manual, 26.2.6 "Replication Slots" and 52.19 "pg_replication_slots".
--
-- severity: warning
-- versions: 13-
-- needs: nothing
-- threshold: min_mb = 1024 (a busy server writes that much in minutes: a reader lags then)
SELECT CASE WHEN wal_status IN ('unreserved', 'lost') OR kept > 20 * :min_mb * 1048576 THEN 'error' ELSE 'warning' END AS severity,
       format('slot %I', slot_name) AS object,
       CASE WHEN wal_status = 'lost' THEN format('the slot %I has lost WAL that its reader needs: the reader must be made anew', slot_name)
            ELSE format('the slot %I (%s, %s) keeps %s of WAL', slot_name, slot_type,
                        CASE WHEN active THEN 'in use' ELSE 'nobody reads it' END, pg_size_pretty(kept)) END AS message,
       jsonb_build_object('slot', slot_name, 'type', slot_type, 'active', active, 'kept_bytes', kept,
                          'wal_status', wal_status) AS figures,
       CASE WHEN NOT active OR wal_status = 'lost' THEN format('SELECT pg_drop_replication_slot(%L);', slot_name)
            ELSE E'ALTER SYSTEM SET max_slot_wal_keep_size = ''64GB'';\nSELECT pg_reload_conf();' END AS fix,
       CASE WHEN NOT active OR wal_status = 'lost' THEN 'drop it, if its reader does not come back'
            ELSE 'bound what a slot may keep (below the free disk space)' END AS fix_description,
       NULL::text[] AS notes
FROM (SELECT s.*, coalesce(pg_wal_lsn_diff(
          CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END,
          s.restart_lsn), 0) AS kept
      FROM pg_replication_slots s) slots
WHERE kept >= :min_mb * 1048576 OR wal_status = 'lost'
ORDER BY kept DESC, 2;
