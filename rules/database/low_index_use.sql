-- A large table that is mostly read whole.
--
-- Why: each such scan reads every page, throws most rows away and pushes other tables out of the cache.
-- Fix: an index for the queries that do it: the index advice names them.
-- Silent when: the table has less than 100,000 rows, was read whole less than a hundred times, or nine
--     in ten scans used an index.
-- Source: PostgreSQL manual, 27.2.18 "pg_stat_all_tables" (seq_scan, seq_tup_read).
--
-- severity: warning
-- versions: 13-
-- needs: nothing
-- threshold: min_rows = 100000 (a smaller table is read in some ten milliseconds)
-- threshold: min_scans = 100 (fewer may be backups and reports)
-- threshold: min_share = 0.1 (of all scans)
SELECT 'warning' AS severity, s.relid::regclass::text AS object,
       format('%s (about %s rows) was read whole %s times, %s rows each time on average; by index %s times', s.relid::regclass,
              to_char(n_live_tup, 'FM999,999,999,990'), to_char(seq_scan, 'FM999,999,999,990'),
              to_char(seq_tup_read / seq_scan, 'FM999,999,999,990'),
              to_char(coalesce(idx_scan, 0), 'FM999,999,999,990')) AS message,
       jsonb_build_object('table', s.relid::regclass::text, 'rows', n_live_tup, 'whole_scans', seq_scan,
                          'index_scans', coalesce(idx_scan, 0), 'rows_read', seq_tup_read) AS figures,
       NULL AS fix, 'see the index advice, and which of its queries cost most' AS fix_description,
       NULL::text[] AS notes
FROM pg_stat_user_tables s
-- Scans that an EXISTS or LIMIT cuts short, and the parts of parallel ones, read little each.
WHERE n_live_tup >= :min_rows AND seq_scan >= :min_scans AND seq_tup_read / seq_scan >= 0.1 * n_live_tup
  AND seq_scan >= :min_share * (seq_scan + coalesce(idx_scan, 0))
ORDER BY seq_tup_read DESC, 2
LIMIT 20;
