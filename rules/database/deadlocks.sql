-- Transactions deadlock.
--
-- Why: the server ends one of them after deadlock_timeout; the application must repeat it, or loses it.
-- Fix: lock rows in the same order everywhere (ORDER BY the key in SELECT … FOR UPDATE, sorted batches);
--     shorter transactions.
-- Silent when: there is less than one a day.
-- Source: PostgreSQL manual, 13.3.4 "Deadlocks".
--
-- severity: warning
-- versions: 13-
-- needs: nothing
-- threshold: min_per_day = 1 (deadlocks)
SELECT 'warning' AS severity, quote_ident(datname) AS object,
       format('%s deadlocks in %s days in database %I', deadlocks, round(days::numeric, 1), datname) AS message,
       jsonb_build_object('deadlocks', deadlocks, 'days', round(days::numeric, 2)) AS figures,
       E'ALTER SYSTEM SET log_lock_waits = on;\nSELECT pg_reload_conf();' AS fix,
       'log who waits for whom; then lock in one order' AS fix_description,
       NULL::text[] AS notes
FROM pg_stat_database,
LATERAL (SELECT greatest(extract(epoch FROM now() - coalesce(stats_reset, pg_postmaster_start_time())) / 86400, 0.0001) AS days) age
WHERE datname = current_database() AND deadlocks > 0 AND deadlocks / greatest(days, 1) >= :min_per_day;
