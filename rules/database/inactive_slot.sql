-- A replication slot that nobody reads.
--
-- Why: the server keeps WAL for it without end, and (a logical one) old catalog rows, until the disk is full.
-- Fix: drop it, unless its reader comes back soon.
-- Silent when: it is temporary, is kept in step with a primary (synced), or has lost its WAL already.
-- Source: PostgreSQL manual, 26.2.6 "Replication Slots".
--
-- severity: warning
-- versions: 13-16
-- needs: nothing
SELECT 'warning' AS severity, format('slot %I', s.slot_name) AS object,
       format('nobody reads the slot %I (%s): WAL is kept for it without end, %s by now', s.slot_name, s.slot_type,
              pg_size_pretty(coalesce(pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
                  ELSE pg_current_wal_lsn() END, s.restart_lsn), 0))) AS message,
       jsonb_build_object('slot', s.slot_name, 'type', s.slot_type, 'database', s.database,
                          'wal_status', s.wal_status) AS figures,
       format('SELECT pg_drop_replication_slot(%L);', s.slot_name) AS fix,
       'drop it, if its reader does not come back' AS fix_description,
       NULL::text[] AS notes
FROM pg_replication_slots s
WHERE NOT s.active AND NOT s.temporary AND s.wal_status IS DISTINCT FROM 'lost' AND s.restart_lsn IS NOT NULL
ORDER BY 2;
-- versions: 17-
SELECT 'warning' AS severity, format('slot %I', s.slot_name) AS object,
       format('nobody has read the slot %I (%s)%s: WAL is kept for it without end, %s by now', s.slot_name, s.slot_type,
              coalesce(format(' for %s', date_trunc('second', now() - s.inactive_since)), ''),
              pg_size_pretty(coalesce(pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
                  ELSE pg_current_wal_lsn() END, s.restart_lsn), 0))) AS message,
       jsonb_build_object('slot', s.slot_name, 'type', s.slot_type, 'database', s.database,
                          'wal_status', s.wal_status,
                          'inactive_s', round(extract(epoch FROM now() - s.inactive_since))) AS figures,
       format('SELECT pg_drop_replication_slot(%L);', s.slot_name) AS fix,
       'drop it, if its reader does not come back' AS fix_description,
       NULL::text[] AS notes
FROM pg_replication_slots s
WHERE NOT s.active AND NOT s.temporary AND NOT s.synced AND s.wal_status IS DISTINCT FROM 'lost'
  AND s.restart_lsn IS NOT NULL
ORDER BY 2;
