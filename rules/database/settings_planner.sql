-- Planner settings that make it choose badly for every query.
--
-- Why: enable_… = off is meant for one statement under study, not for a server; random_page_cost = 4 is
--     the price of a rotating disk; few statistics mean bad estimates.
-- Fix: the default; 1.1 for SSDs and cloud volumes.
-- Silent when: the settings are at their defaults, but for random_page_cost (info: only you know the disks).
-- Source: PostgreSQL manual, 19.7 "Query Planning".
--
-- severity: warning
-- versions: 13-
-- needs: nothing
SELECT CASE WHEN s.name = 'random_page_cost' THEN 'info' ELSE 'warning' END AS severity, s.name AS object,
       format('%s is %s%s', s.name, s.setting, CASE
           WHEN s.name = 'random_page_cost' THEN ', as for rotating disks: on SSDs index scans are taken for dearer than they are'
           WHEN s.name = 'default_statistics_target' THEN ': the planner knows less about each column than by default'
           WHEN s.name = 'plan_cache_mode' THEN ': every prepared statement is planned that way'
           ELSE ' for everybody: the planner cannot use it even where nothing else is any good' END) AS message,
       jsonb_build_object('setting', s.name, 'value', s.setting, 'default', s.boot_val, 'source', s.source) AS figures,
       CASE WHEN s.name = 'random_page_cost' THEN E'ALTER SYSTEM SET random_page_cost = 1.1;\nSELECT pg_reload_conf();'
            WHEN s.source IN ('database', 'user', 'database user') THEN format('ALTER DATABASE %I RESET %s;', current_database(), s.name)
            ELSE format(E'ALTER SYSTEM RESET %s;\nSELECT pg_reload_conf();', s.name) END AS fix,
       CASE WHEN s.name = 'random_page_cost' THEN 'if the disks are SSDs or network volumes' ELSE 'back to the default' END AS fix_description,
       NULL::text[] AS notes
FROM pg_settings s
WHERE s.name LIKE 'enable\_%' AND s.boot_val = 'on' AND s.reset_val = 'off'
   OR s.name = 'default_statistics_target' AND s.reset_val::int < 100
   OR s.name = 'plan_cache_mode' AND s.reset_val <> 'auto'
   OR s.name = 'random_page_cost' AND s.reset_val::numeric >= 4
ORDER BY 1 DESC, 2;
