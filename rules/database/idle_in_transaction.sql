-- A session that has begun a transaction and does nothing.
--
-- Why: it keeps its locks and its snapshot: VACUUM cannot take away rows that died since, and whoever
--     needs what it has locked waits. Mostly an application that waits for something else, or lost it.
-- Fix: COMMIT or ROLLBACK before waiting for anything else; idle_in_transaction_session_timeout.
-- Silent when: it has been idle for less than ten seconds; under a minute it is info.
-- Source: PostgreSQL manual, 19.11.1 "Statement Behavior" (idle_in_transaction_session_timeout).
--
-- severity: warning
-- versions: 13-
-- needs: pg_monitor
-- unseen: sessions of other roles
-- threshold: min_seconds = 10 (an application between two statements takes milliseconds)
SELECT CASE WHEN now() - a.state_change > interval '1 hour' THEN 'error'
            WHEN now() - a.state_change > interval '1 minute' OR blocked > 0 THEN 'warning' ELSE 'info' END AS severity,
       format('pid %s', a.pid) AS object,
       format('a session of %s on %s has been idle in a transaction for %s%s; last statement: %s', a.usename, a.datname,
              date_trunc('second', now() - a.state_change),
              CASE WHEN blocked > 0 THEN format(' and blocks %s others', blocked) ELSE '' END,
              left(regexp_replace(a.query, '\s+', ' ', 'g'), 80)) AS message,
       jsonb_build_object('pid', a.pid, 'user', a.usename, 'database', a.datname, 'application', a.application_name,
                          'idle_s', round(extract(epoch FROM now() - a.state_change)),
                          'transaction_s', round(extract(epoch FROM now() - a.xact_start)),
                          'blocked_sessions', blocked, 'query', left(a.query, 500),
                          'holds_snapshot', a.backend_xmin IS NOT NULL) AS figures,
       format(E'SELECT pg_terminate_backend(%s);\nALTER DATABASE %I SET idle_in_transaction_session_timeout = ''1min'';',
              a.pid, a.datname) AS fix,
       'end it, and let the server do so by itself from now on' AS fix_description,
       NULL::text[] AS notes
FROM pg_stat_activity a,
LATERAL (SELECT count(DISTINCT w.pid) AS blocked
         FROM pg_locks w WHERE NOT w.granted AND a.pid = ANY (pg_blocking_pids(w.pid))) waiting
WHERE a.state LIKE 'idle in transaction%' AND a.pid <> pg_backend_pid()
  AND now() - a.state_change > interval '1 second' * :min_seconds
ORDER BY a.state_change;
