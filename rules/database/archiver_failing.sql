-- WAL archiving fails.
--
-- Why: the server keeps every WAL file until it is archived, until the disk is full; and backups made
--     since cannot be restored.
-- Fix: see the log for what archive_command says.
-- Silent when: the last attempt succeeded, or archiving is off.
-- Source: PostgreSQL manual, 25.3.1 "Setting Up WAL Archiving".
--
-- severity: error
-- versions: 13-
-- needs: nothing
SELECT 'error' AS severity, 'archiver' AS object,
       format('archiving of %s failed at %s; the last success was %s', last_failed_wal,
              to_char(last_failed_time, 'YYYY-MM-DD HH24:MI'),
              coalesce(to_char(last_archived_time, 'YYYY-MM-DD HH24:MI'), 'never')) AS message,
       jsonb_build_object('failures', failed_count, 'last_failed', last_failed_time,
                          'last_archived', last_archived_time) AS figures,
       NULL AS fix, 'see the server''s log for what archive_command says' AS fix_description, NULL::text[] AS notes
FROM pg_stat_archiver
WHERE current_setting('archive_mode') <> 'off' AND last_failed_time > coalesce(last_archived_time, '-infinity');
