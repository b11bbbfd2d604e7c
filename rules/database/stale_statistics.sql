-- A table that changed much since the planner's statistics were made, or that has none.
--
-- Why: the planner takes the table for what it was; row estimates are off, and with them the plans.
-- Fix: ANALYZE, which reads a sample; a lower autovacuum_analyze_scale_factor for large tables.
-- Silent when: less than a fifth of the rows changed, or less than 1,000; a load was analyzed in the
--     session that made it.
-- Source: PostgreSQL manual, 24.1.3 "Updating Planner Statistics".
--
-- severity: warning
-- versions: 13-
-- needs: nothing
-- threshold: min_share = 0.2 (of the rows: twice what autovacuum waits for by default)
-- threshold: min_rows = 1000 (changed rows)
SELECT 'warning' AS severity, s.relid::regclass::text AS object,
       CASE WHEN greatest(last_analyze, last_autoanalyze) IS NULL AND c.reltuples <= 0
            THEN format('%s (about %s rows) was never analyzed: the planner guesses', s.relid::regclass,
                        to_char(n_live_tup, 'FM999,999,999,990'))
            ELSE format('%s rows of %s changed since its statistics were made (%s), of about %s',
                        to_char(n_mod_since_analyze, 'FM999,999,999,990'), s.relid::regclass,
                        coalesce(to_char(greatest(last_analyze, last_autoanalyze), 'YYYY-MM-DD HH24:MI'), 'before the counters began'),
                        to_char(n_live_tup, 'FM999,999,999,990')) END AS message,
       jsonb_build_object('table', s.relid::regclass::text, 'changed_rows', n_mod_since_analyze,
                          'live_rows', n_live_tup, 'last_analyze', greatest(last_analyze, last_autoanalyze)) AS figures,
       format('ANALYZE %s;', s.relid::regclass) AS fix,
       'make new statistics' AS fix_description,
       NULL::text[] AS notes
FROM pg_stat_user_tables s
JOIN pg_class c ON c.oid = s.relid
WHERE n_mod_since_analyze >= :min_rows + :min_share * n_live_tup
  -- What a session loads and analyzes at once is counted as changed only after its ANALYZE.
  AND NOT (coalesce(greatest(last_analyze, last_autoanalyze) > now() - interval '1 hour', false)
           AND n_tup_upd + n_tup_del < :min_rows AND n_tup_ins <= 1.1 * n_mod_since_analyze
           AND c.reltuples >= 0.9 * n_mod_since_analyze)
   OR greatest(last_analyze, last_autoanalyze) IS NULL AND c.reltuples <= 0 AND n_live_tup >= :min_rows
ORDER BY n_mod_since_analyze DESC, 2
LIMIT 20;
