-- The database holds many large objects.
--
-- Why: no foreign key and no trigger of the system removes a large object with the row that names it:
--     orphans stay. pg_upgrade and pg_dump take each of them by itself.
-- Fix: vacuumlo removes those that no oid or lo column names; bytea for new data.
-- Silent when: there are less than a thousand.
-- Source: PostgreSQL manual, chapter 33 "Large Objects" and vacuumlo.
--
-- severity: info
-- versions: 13-
-- needs: nothing
-- threshold: min_objects = 1000 (fewer are no trouble)
SELECT 'info' AS severity, 'large objects' AS object,
       format('about %s large objects, %s', to_char(n, 'FM999,999,999,990'), pg_size_pretty(bytes)) AS message,
       jsonb_build_object('objects', n, 'file_bytes', bytes) AS figures,
       NULL AS fix, format('run: vacuumlo --dry-run %s', current_database()) AS fix_description,
       CASE WHEN NOT EXISTS (
           SELECT FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid AND c.relkind = 'r'
           JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
           WHERE a.atttypid = 'oid'::regtype AND a.attnum > 0 AND NOT a.attisdropped)
       THEN ARRAY['no table has a column of type oid: nothing names them (text columns might)'] END AS notes
FROM (SELECT (SELECT count(*) FROM (SELECT FROM pg_largeobject_metadata LIMIT 1000000) few) AS n,
             pg_relation_size('pg_largeobject') AS bytes) held
WHERE n >= :min_objects;
