-- The server has read pages whose checksum is wrong.
--
-- Why: the disk, its controller or the memory returned other bytes than were written: data is damaged.
-- Fix: find the pages in the log; restore from a backup or a standby, on other hardware.
-- Silent when: there were none, or checksums are off.
-- Source: PostgreSQL manual, 28.2 "Data Checksums".
--
-- severity: error
-- versions: 13-
-- needs: nothing
SELECT 'error' AS severity, coalesce(quote_ident(datname), 'shared objects') AS object,
       format('%s pages of %s had a wrong checksum, the last at %s', checksum_failures,
              coalesce(format('database %I', datname), 'the shared catalogs'),
              to_char(checksum_last_failure, 'YYYY-MM-DD HH24:MI')) AS message,
       jsonb_build_object('failures', checksum_failures, 'last', checksum_last_failure) AS figures,
       NULL AS fix, 'find the pages in the server''s log, and restore them from a backup or a standby' AS fix_description,
       NULL::text[] AS notes
FROM pg_stat_database WHERE checksum_failures > 0
ORDER BY checksum_failures DESC, 2;
