-- Queries write temporary files: what they sort or hash does not fit into work_mem.
--
-- Why: rows are written to disk and read again, often several times.
-- Fix: an index that gives the order; fewer or narrower rows; more work_mem for the role or statement
--     that needs it. pg_stat_statements names them (temp_blks_written).
-- Silent when: less than 1 GB a day, or 100 MB in all, was written in this database.
-- Source: PostgreSQL manual, 19.4.1 "Memory" (work_mem) and 27.2.17 "pg_stat_database".
--
-- severity: warning
-- versions: 13-
-- needs: nothing
-- threshold: min_mb_per_day = 1024 (less is not felt)
-- threshold: min_mb = 100 (in all)
SELECT 'warning' AS severity, quote_ident(datname) AS object,
       format('%s temporary files with %s were written in %s days: sorts and hashes exceed work_mem (%s)',
              to_char(temp_files, 'FM999,999,999,990'), pg_size_pretty(temp_bytes), round(days::numeric, 1),
              current_setting('work_mem')) AS message,
       jsonb_build_object('temp_files', temp_files, 'temp_bytes', temp_bytes, 'days', round(days::numeric, 2),
                          'mean_bytes', temp_bytes / greatest(temp_files, 1),
                          'work_mem_bytes', pg_size_bytes(current_setting('work_mem'))) AS figures,
       format(E'ALTER SYSTEM SET log_temp_files = ''10MB'';\nALTER SYSTEM SET work_mem = ''%sMB'';\nSELECT pg_reload_conf();',
              least(256, greatest(16, 4 * pg_size_bytes(current_setting('work_mem')) / 1048576))) AS fix,
       'log them, and give more memory (each sort or hash of each session may take it)' AS fix_description,
       NULL::text[] AS notes
FROM pg_stat_database,
LATERAL (SELECT greatest(extract(epoch FROM now() - coalesce(stats_reset, pg_postmaster_start_time())) / 86400, 0.0001) AS days) age
WHERE datname = current_database() AND temp_bytes >= :min_mb * 1048576
  AND temp_bytes / greatest(days, 1) >= :min_mb_per_day * 1048576;
