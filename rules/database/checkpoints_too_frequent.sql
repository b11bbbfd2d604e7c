-- Checkpoints come because WAL fills up, not because it is time.
--
-- Why: each checkpoint writes all changed pages at once, and the first change of each page after it
--     writes the whole page to WAL: more checkpoints mean more WAL, which means more checkpoints.
-- Fix: a larger max_wal_size.
-- Silent when: most checkpoints are timed, or there were less than ten.
-- Source: PostgreSQL manual, 28.5 "WAL Configuration".
--
-- severity: warning
-- versions: 13-16
-- needs: nothing
-- threshold: min_share = 0.5 (requested ones of all)
-- threshold: min_requested = 10 (fewer may have been made by hand or by backups)
SELECT 'warning' AS severity, 'checkpoints' AS object,
       format('%s of %s checkpoints came because WAL filled up (max_wal_size = %s), one every %s', checkpoints_req,
              checkpoints_req + checkpoints_timed, current_setting('max_wal_size'),
              date_trunc('second', (now() - stats_reset) / (checkpoints_req + checkpoints_timed))) AS message,
       jsonb_build_object('requested', checkpoints_req, 'timed', checkpoints_timed,
                          'max_wal_size_bytes', pg_size_bytes(current_setting('max_wal_size')),
                          'since', stats_reset) AS figures,
       format(E'ALTER SYSTEM SET max_wal_size = %L;\nSELECT pg_reload_conf();',
              pg_size_bytes(current_setting('max_wal_size')) / 1048576 * 4 || 'MB') AS fix,
       'let more WAL pass between checkpoints (it takes that much disk space)' AS fix_description,
       NULL::text[] AS notes
FROM pg_stat_bgwriter
WHERE checkpoints_req >= :min_requested AND checkpoints_req >= :min_share * (checkpoints_req + checkpoints_timed);
-- versions: 17-
SELECT 'warning' AS severity, 'checkpoints' AS object,
       format('%s of %s checkpoints came because WAL filled up (max_wal_size = %s), one every %s', num_requested,
              num_requested + num_timed, current_setting('max_wal_size'),
              date_trunc('second', (now() - stats_reset) / (num_requested + num_timed))) AS message,
       jsonb_build_object('requested', num_requested, 'timed', num_timed,
                          'max_wal_size_bytes', pg_size_bytes(current_setting('max_wal_size')),
                          'since', stats_reset) AS figures,
       format(E'ALTER SYSTEM SET max_wal_size = %L;\nSELECT pg_reload_conf();',
              pg_size_bytes(current_setting('max_wal_size')) / 1048576 * 4 || 'MB') AS fix,
       'let more WAL pass between checkpoints (it takes that much disk space)' AS fix_description,
       NULL::text[] AS notes
FROM pg_stat_checkpointer
WHERE num_requested >= :min_requested AND num_requested >= :min_share * (num_requested + num_timed);
