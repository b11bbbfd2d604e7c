-- A changed setting waits for a restart.
--
-- Why: the server runs with the old value; the next restart, planned or not, brings the new one.
-- Fix: restart in a quiet hour, or take the change back.
-- Silent when: there is none.
-- Source: PostgreSQL manual, 52.24 "pg_settings" (pending_restart).
--
-- severity: info
-- versions: 13-
-- needs: nothing
SELECT 'info' AS severity, s.name AS object,
       format('%s was changed, but is %s until the next restart', s.name, s.setting) AS message,
       jsonb_build_object('setting', s.name, 'value', s.setting) AS figures,
       NULL AS fix, 'restart the server, or take it back' AS fix_description, NULL::text[] AS notes
FROM pg_settings s WHERE s.pending_restart
ORDER BY 2;
