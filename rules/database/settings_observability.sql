-- The server does not record what one needs to find out why it is slow.
--
-- Why: without track_io_timing nobody knows whether time goes into reading; lock waits, temporary files
--     and slow statements that are not logged are gone when somebody asks.
-- Fix: switch them on: each costs little (pg_test_timing tells for track_io_timing).
-- Silent when: they are on.
-- Source: PostgreSQL manual, 19.9.1 and 19.8.2-3 "When to Log", "What to Log".
--
-- severity: info
-- versions: 13-
-- needs: nothing
SELECT 'info' AS severity, 'logging' AS object,
       format('not recorded: %s', string_agg(s.name, ', ' ORDER BY s.name)) AS message,
       jsonb_build_object('settings', jsonb_object_agg(s.name, s.setting)) AS figures,
       string_agg(format('ALTER SYSTEM SET %s = %s;', s.name, w.wanted), E'\n' ORDER BY s.name)
           || E'\nSELECT pg_reload_conf();' AS fix,
       'switch them on' AS fix_description,
       NULL::text[] AS notes
FROM pg_settings s
JOIN (VALUES ('track_io_timing', 'off', 'on'), ('log_lock_waits', 'off', 'on'),
             ('log_min_duration_statement', '-1', '''1s'''), ('log_temp_files', '-1', '''10MB'''),
             ('log_autovacuum_min_duration', '-1', '''10s''')) w(name, off, wanted) ON w.name = s.name AND w.off = s.setting
HAVING count(*) > 0;
