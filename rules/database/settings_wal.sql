-- WAL settings that cost more than they should.
--
-- Why: checkpoints in a burst stall other writers; wal_compression makes full pages smaller for little
--     CPU; a small wal_buffers makes every session write WAL itself.
-- Fix: the defaults of today's versions; lz4 where it is built in.
-- Silent when: little WAL is written (under 10 GB since the counters began), but for the first.
-- Source: PostgreSQL manual, 19.5 "Write Ahead Log".
--
-- severity: info
-- versions: 14-
-- needs: nothing
-- threshold: min_wal_gb = 10 (written since the counters began)
SELECT 'info' AS severity, s.name AS object,
       CASE s.name WHEN 'checkpoint_completion_target' THEN format('%s is %s: checkpoints write in a burst', s.name, s.setting)
                   WHEN 'wal_compression' THEN format('wal_compression is off; %s of WAL were written, %s full pages among it',
                        pg_size_pretty(w.wal_bytes), to_char(w.wal_fpi, 'FM999,999,999,990'))
                   ELSE format('WAL did not fit into wal_buffers %s times', to_char(w.wal_buffers_full, 'FM999,999,999,990')) END AS message,
       jsonb_build_object('setting', s.name, 'value', s.setting, 'wal_bytes', w.wal_bytes,
                          'full_pages', w.wal_fpi, 'buffers_full', w.wal_buffers_full) AS figures,
       CASE s.name WHEN 'checkpoint_completion_target' THEN E'ALTER SYSTEM SET checkpoint_completion_target = 0.9;\nSELECT pg_reload_conf();'
                   WHEN 'wal_compression' THEN E'ALTER SYSTEM SET wal_compression = on;\nSELECT pg_reload_conf();'
                   ELSE 'ALTER SYSTEM SET wal_buffers = ''64MB'';' END AS fix,
       CASE s.name WHEN 'wal_buffers' THEN 'more room (needs a restart)' ELSE 'change it' END AS fix_description,
       NULL::text[] AS notes
FROM pg_settings s, pg_stat_wal w
WHERE s.name = 'checkpoint_completion_target' AND s.setting::numeric < 0.8
   OR s.name = 'wal_compression' AND s.setting = 'off' AND w.wal_bytes >= :min_wal_gb * 1073741824 AND w.wal_fpi * 4096 > w.wal_bytes / 2
   OR s.name = 'wal_buffers' AND w.wal_bytes >= :min_wal_gb * 1073741824 AND w.wal_buffers_full > w.wal_bytes / 104857600
ORDER BY 2;
-- versions: 13-13
SELECT 'info' AS severity, s.name AS object, format('%s is %s: checkpoints write in a burst', s.name, s.setting) AS message,
       jsonb_build_object('setting', s.name, 'value', s.setting) AS figures,
       E'ALTER SYSTEM SET checkpoint_completion_target = 0.9;\nSELECT pg_reload_conf();' AS fix,
       'spread them' AS fix_description, NULL::text[] AS notes
FROM pg_settings s WHERE s.name = 'checkpoint_completion_target' AND s.setting::numeric < 0.8;
