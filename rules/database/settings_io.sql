-- The server reads without asynchronous I/O.
--
-- Why: from PostgreSQL 18 on scans and VACUUM read ahead through workers or io_uring; with io_method =
--     sync, or effective_io_concurrency = 0, they wait for each read.
-- Fix: io_method = worker (the default), or io_uring where the kernel and the build have it.
-- Silent when: it is older than 18, or the method is not sync.
-- Source: PostgreSQL manual, 19.4.4 "I/O" (io_method, effective_io_concurrency).
--
-- severity: info
-- versions: 18-
-- needs: nothing
SELECT 'info' AS severity, s.name AS object,
       format('%s is %s: reads wait for one another', s.name, s.setting) AS message,
       jsonb_build_object('setting', s.name, 'value', s.setting, 'allowed', s.enumvals) AS figures,
       CASE s.name WHEN 'io_method' THEN 'ALTER SYSTEM SET io_method = ''worker'';'
            ELSE E'ALTER SYSTEM SET effective_io_concurrency = 16;\nSELECT pg_reload_conf();' END AS fix,
       CASE s.name WHEN 'io_method' THEN 'read ahead (needs a restart)' ELSE 'read ahead' END AS fix_description,
       NULL::text[] AS notes
FROM pg_settings s
WHERE s.name = 'io_method' AND s.setting = 'sync' OR s.name = 'effective_io_concurrency' AND s.setting = '0'
ORDER BY 2;
