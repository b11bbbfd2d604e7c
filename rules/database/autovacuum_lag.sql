-- Autovacuum is off, or does not keep up.
--
-- Why: without it dead rows stay, statistics age, and in the end the server stops to prevent
--     transaction ids from wrapping around.
-- Fix: switch it on; give it more workers or a higher cost limit.
-- Silent when: no table is far beyond the number of dead rows at which autovacuum should have come
--     (its own settings counted).
-- Source: PostgreSQL manual, 24.1.6 "The Autovacuum Daemon" (the vacuum threshold).
--
-- severity: warning
-- versions: 13-
-- needs: nothing
-- threshold: max_times = 3 (times the table's own vacuum threshold)
-- threshold: min_rows = 10000 (dead rows)
WITH setting AS (
    SELECT current_setting('autovacuum')::bool AND current_setting('track_counts')::bool AS works,
           current_setting('autovacuum_vacuum_threshold')::numeric AS base,
           current_setting('autovacuum_vacuum_scale_factor')::numeric AS scale
), tables AS (
    SELECT s.*, c.reloptions, works,
           coalesce((SELECT option_value::numeric FROM pg_options_to_table(c.reloptions)
                     WHERE option_name = 'autovacuum_vacuum_threshold'), base)
           + coalesce((SELECT option_value::numeric FROM pg_options_to_table(c.reloptions)
                       WHERE option_name = 'autovacuum_vacuum_scale_factor'), scale) * greatest(c.reltuples, 0) AS due,
           coalesce((SELECT option_value::bool FROM pg_options_to_table(c.reloptions)
                     WHERE option_name = 'autovacuum_enabled'), true) AS enabled
    FROM pg_stat_user_tables s JOIN pg_class c ON c.oid = s.relid, setting
)
SELECT 'error' AS severity, 'autovacuum' AS object,
       'autovacuum is switched off for the whole server' AS message,
       jsonb_build_object('autovacuum', current_setting('autovacuum'), 'track_counts', current_setting('track_counts')) AS figures,
       E'ALTER SYSTEM SET autovacuum = on;\nALTER SYSTEM SET track_counts = on;\nSELECT pg_reload_conf();' AS fix,
       'switch it on' AS fix_description, NULL::text[] AS notes
FROM setting WHERE NOT works
UNION ALL
SELECT 'warning', relid::regclass::text,
       format('autovacuum is switched off for %s, which has %s dead rows', relid::regclass, to_char(n_dead_tup, 'FM999,999,999,990')),
       jsonb_build_object('table', relid::regclass::text, 'dead_rows', n_dead_tup),
       format('ALTER TABLE %s RESET (autovacuum_enabled);', relid::regclass), 'switch it on', NULL
FROM tables WHERE NOT enabled
UNION ALL
SELECT 'warning', relid::regclass::text,
       format('%s has %s dead rows, and autovacuum should have come at %s: it does not keep up', relid::regclass,
              to_char(n_dead_tup, 'FM999,999,999,990'), to_char(due, 'FM999,999,999,990')),
       jsonb_build_object('table', relid::regclass::text, 'dead_rows', n_dead_tup, 'threshold_rows', round(due),
                          'last_autovacuum', last_autovacuum),
       format(E'ALTER SYSTEM SET autovacuum_vacuum_cost_limit = %s;\nSELECT pg_reload_conf();',
              5 * greatest(200, abs(current_setting('vacuum_cost_limit')::int))),
       'let it work faster', NULL
FROM tables WHERE works AND enabled AND n_dead_tup >= :min_rows AND n_dead_tup >= :max_times * due
ORDER BY 1, 2
LIMIT 20;
