-- A table with many dead rows that VACUUM has not taken away.
--
-- Why: scans step over them, indexes still lead to them, and new rows go to new pages instead.
-- Fix: VACUUM; where a transaction, a prepared transaction or a slot holds old rows, that first.
-- Silent when: dead rows are less than a fifth of the live ones, or less than 10,000; they are being
--     vacuumed just now.
-- Source: PostgreSQL manual, 24.1.2 "Recovering Disk Space" and 27.2.18 "pg_stat_all_tables".
--
-- severity: warning
-- versions: 13-
-- needs: nothing
-- threshold: min_share = 0.2 (of the live rows: what autovacuum waits for by default)
-- threshold: min_rows = 10000 (dead rows)
SELECT 'warning' AS severity, s.relid::regclass::text AS object,
       format('%s has %s dead rows for %s live ones; last vacuumed: %s', s.relid::regclass,
              to_char(n_dead_tup, 'FM999,999,999,990'), to_char(n_live_tup, 'FM999,999,999,990'),
              coalesce(to_char(greatest(last_vacuum, last_autovacuum), 'YYYY-MM-DD HH24:MI'), 'never')) AS message,
       jsonb_build_object('table', s.relid::regclass::text, 'dead_rows', n_dead_tup, 'live_rows', n_live_tup,
                          'last_vacuum', greatest(last_vacuum, last_autovacuum),
                          'vacuum_runs', vacuum_count + autovacuum_count) AS figures,
       format('VACUUM (ANALYZE) %s;', s.relid::regclass) AS fix,
       'clean it up' AS fix_description,
       CASE WHEN greatest(last_vacuum, last_autovacuum) > now() - interval '1 hour' THEN ARRAY[
           'it was vacuumed within the last hour: something old may keep the rows (see database/long-transaction, idle-in-transaction, prepared-transactions, slot-holding-wal)'] END AS notes
FROM pg_stat_user_tables s
WHERE n_dead_tup >= :min_rows AND n_dead_tup >= :min_share * n_live_tup
  AND s.relid NOT IN (SELECT p.relid FROM pg_stat_progress_vacuum p
                      WHERE p.datname = current_database() AND p.relid IS NOT NULL)
ORDER BY n_dead_tup DESC, 2
LIMIT 20;
