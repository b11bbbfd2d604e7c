-- Autovacuum settings that are too slow for this database.
--
-- Why: a fifth of a table of 50 million rows is 10 million dead rows before autovacuum comes; a long
--     naptime or a heavy cost delay lets tables run ahead of it.
-- Fix: a smaller scale factor for large tables; the default naptime and cost delay.
-- Silent when: no table has more than 10 million rows, or it has settings of its own.
-- Source: PostgreSQL manual, 19.10 "Automatic Vacuuming".
--
-- severity: info
-- versions: 13-
-- needs: nothing
-- threshold: min_rows = 10000000 (a table in which the default scale factor waits for 2 million dead rows)
(SELECT 'info' AS severity, c.oid::regclass::text AS object,
        format('autovacuum waits for %s dead rows in %s', to_char(
            current_setting('autovacuum_vacuum_scale_factor')::numeric * c.reltuples::numeric, 'FM999,999,999,990'), c.oid::regclass) AS message,
        jsonb_build_object('table', c.oid::regclass::text, 'rows', c.reltuples::bigint) AS figures,
        format('ALTER TABLE %s SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_analyze_scale_factor = 0.005);', c.oid::regclass) AS fix,
        'let it come more often, for less each time' AS fix_description, NULL::text[] AS notes
 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r' AND c.reltuples >= :min_rows AND n.nspname NOT IN ('pg_catalog', 'information_schema')
   AND NOT coalesce(c.reloptions::text ~ 'autovacuum_vacuum_(scale_factor|threshold)', false)
   AND current_setting('autovacuum_vacuum_scale_factor')::numeric >= 0.1
   -- 18 has a bound of its own (100 million rows by default): only where that is no help.
   AND current_setting('autovacuum_vacuum_scale_factor')::numeric * c.reltuples::numeric
       < coalesce(nullif(current_setting('autovacuum_vacuum_max_threshold', true), '-1')::numeric, 1e18)
 ORDER BY c.reltuples DESC LIMIT 10)
UNION ALL
SELECT 'warning', s.name, format('%s is %s%s: autovacuum is slower than by default', s.name, s.setting, coalesce(' ' || s.unit, '')),
       jsonb_build_object('setting', s.name, 'value', s.setting, 'default', s.boot_val),
       format(E'ALTER SYSTEM RESET %s;\nSELECT pg_reload_conf();', s.name), 'back to the default', NULL
FROM pg_settings s
WHERE s.name = 'autovacuum_naptime' AND s.setting::numeric > 60
   OR s.name = 'autovacuum_vacuum_cost_delay' AND s.setting::numeric > 2
   OR s.name = 'autovacuum_max_workers' AND s.setting::int < 3
   OR s.name = 'autovacuum_vacuum_scale_factor' AND s.setting::numeric > 0.2
ORDER BY 1 DESC, 2;
