-- Memory settings that do not fit the database.
--
-- Why: shared_buffers' default is meant to start anywhere, not to serve gigabytes;
--     effective_cache_size tells the planner how much of an index it will find in memory;
--     maintenance_work_mem bounds how fast indexes are built and tables vacuumed; work_mem times
--     sessions may exceed what the machine has.
-- Fix: shared_buffers a quarter of the memory, effective_cache_size three quarters of it.
-- Silent when: the database is small, or the settings were changed to something plausible.
-- Source: PostgreSQL manual, 19.4.1 "Memory" and 19.7.2 "Planner Cost Constants".
--
-- severity: warning
-- versions: 13-
-- needs: nothing
-- threshold: min_database_mb = 1024 (of pages: below it the defaults do)
WITH s AS (
    SELECT pg_size_bytes(current_setting('shared_buffers')) AS shared,
           pg_size_bytes(current_setting('effective_cache_size')) AS cache,
           pg_size_bytes(current_setting('work_mem')) AS work,
           pg_size_bytes(current_setting('maintenance_work_mem')) AS maintenance,
           current_setting('max_connections')::bigint AS connections,
           (SELECT sum(relpages)::bigint * 8192 FROM pg_class WHERE relkind IN ('r', 'i', 'm', 't')) AS held,
           (SELECT max(relpages)::bigint * 8192 FROM pg_class WHERE relkind IN ('r', 'm')) AS largest
)
SELECT 'warning' AS severity, 'shared_buffers' AS object,
       format('shared_buffers is %s, for a database of %s', pg_size_pretty(shared), pg_size_pretty(held)) AS message,
       jsonb_build_object('shared_buffers_bytes', shared, 'database_bytes', held) AS figures,
       format('ALTER SYSTEM SET shared_buffers = %L;', least(8192, greatest(512, held / 4 / 1048576)) || 'MB') AS fix,
       'a quarter of the machine''s memory is a good start (needs a restart)' AS fix_description, NULL::text[] AS notes
FROM s WHERE held >= :min_database_mb * 1048576 AND shared <= 134217728
UNION ALL
SELECT 'info', 'effective_cache_size',
       format('effective_cache_size (%s) is less than twice shared_buffers (%s): the planner takes index scans for dearer than they are',
              pg_size_pretty(cache), pg_size_pretty(shared)),
       jsonb_build_object('effective_cache_size_bytes', cache, 'shared_buffers_bytes', shared),
       format(E'ALTER SYSTEM SET effective_cache_size = %L;\nSELECT pg_reload_conf();', shared / 1048576 * 3 || 'MB'),
       'about three quarters of the machine''s memory', NULL
FROM s WHERE cache < 2 * shared AND held >= :min_database_mb * 1048576
UNION ALL
SELECT 'info', 'maintenance_work_mem',
       format('maintenance_work_mem is %s, and the largest table %s', pg_size_pretty(maintenance), pg_size_pretty(largest)),
       jsonb_build_object('maintenance_work_mem_bytes', maintenance, 'largest_table_bytes', largest),
       E'ALTER SYSTEM SET maintenance_work_mem = ''512MB'';\nSELECT pg_reload_conf();', 'build indexes and vacuum faster', NULL
FROM s WHERE maintenance <= 67108864 AND largest >= 4 * :min_database_mb * 1048576
UNION ALL
SELECT 'info', 'work_mem',
       format('work_mem (%s) times max_connections (%s) is %s: more than any machine can count on', pg_size_pretty(work),
              connections, pg_size_pretty(work * connections)),
       jsonb_build_object('work_mem_bytes', work, 'max_connections', connections),
       E'ALTER SYSTEM SET work_mem = ''16MB'';\nSELECT pg_reload_conf();', 'less by default, more for the roles that need it (ALTER ROLE … SET work_mem)', NULL
FROM s WHERE work >= 67108864 AND work * connections > 64 * 1073741824::bigint
ORDER BY 1 DESC, 2;
