-- A standby or subscriber is behind.
--
-- Why: readers there see old rows; after a fail-over what it lacks is lost; with synchronous
--     replication commits here wait for it.
-- Fix: look at its disks and at queries there that hold replay up (max_standby_streaming_delay).
-- Silent when: it is less than a minute and less than 256 MB behind.
-- Source: PostgreSQL manual, 27.2.4 "pg_stat_replication".
--
-- severity: warning
-- versions: 13-
-- needs: pg_monitor
-- unseen: where standbys are
-- threshold: min_seconds = 60 (replay_lag)
-- threshold: min_mb = 256 (sent, but not replayed)
SELECT 'warning' AS severity, format('standby %s', coalesce(nullif(application_name, ''), pid::text)) AS object,
       format('%s is %s of WAL behind%s', coalesce(nullif(application_name, ''), 'a standby'), pg_size_pretty(behind),
              coalesce(format(' (%s)', date_trunc('second', replay_lag)), '')) AS message,
       jsonb_build_object('application', application_name, 'behind_bytes', behind,
                          'lag_s', round(extract(epoch FROM replay_lag)), 'state', state) AS figures,
       NULL AS fix, 'look at its disks, and at queries there that hold replay up' AS fix_description, NULL::text[] AS notes
FROM (SELECT r.*, CASE WHEN NOT pg_is_in_recovery() THEN pg_wal_lsn_diff(pg_current_wal_lsn(), r.replay_lsn) END AS behind
      FROM pg_stat_replication r) standbys
WHERE behind >= :min_mb * 1048576 OR replay_lag > interval '1 second' * :min_seconds
ORDER BY behind DESC NULLS LAST, 2;
