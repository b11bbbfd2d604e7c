-- A setting under which a crash or a bad disk damages the database.
--
-- Why: without fsync or full_page_writes a crash of the machine leaves pages that are half old and half
--     new; with zero_damaged_pages or ignore_checksum_failure on, damaged data is lost without a word.
-- Fix: the default.
-- Silent when: the settings are what they should be; synchronous_commit = off is info only: it loses
--     the last transactions, but damages nothing.
-- Source: PostgreSQL manual, 28.1 "Reliability" and 19.5.1 "WAL Settings".
--
-- severity: error
-- versions: 13-
-- needs: nothing
SELECT CASE s.name WHEN 'synchronous_commit' THEN 'info' ELSE 'error' END AS severity, s.name AS object,
       format('%s is %s: %s', s.name, s.setting, CASE s.name
           WHEN 'fsync' THEN 'a crash of the machine destroys the database'
           WHEN 'full_page_writes' THEN 'a crash of the machine may leave torn pages'
           WHEN 'zero_damaged_pages' THEN 'damaged pages are emptied without a word'
           WHEN 'ignore_checksum_failure' THEN 'damaged pages are read as if they were not'
           ELSE 'a crash loses the transactions of the last moments that were reported as committed' END) AS message,
       jsonb_build_object('setting', s.name, 'value', s.setting) AS figures,
       format(E'ALTER SYSTEM SET %s = %s;\nSELECT pg_reload_conf();', s.name, wanted) AS fix,
       'set it back' AS fix_description,
       NULL::text[] AS notes
FROM pg_settings s
JOIN (VALUES ('fsync', 'on'), ('full_page_writes', 'on'), ('zero_damaged_pages', 'off'),
             ('ignore_checksum_failure', 'off'), ('synchronous_commit', 'on')) w(name, wanted) ON w.name = s.name
WHERE s.setting IS DISTINCT FROM wanted AND (s.name <> 'synchronous_commit' OR s.setting = 'off')
ORDER BY 1, 2;
