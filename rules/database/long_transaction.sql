-- A transaction that has been running for a long time.
--
-- Why: VACUUM cannot take away any row that died since it began, in any table; its locks are held
--     until it ends.
-- Fix: shorter transactions; statement_timeout; reports on a standby. To end it: pg_cancel_backend().
-- Silent when: it is younger than ten minutes; it is a backup or replication; it is idle (see
--     database/idle-in-transaction).
-- Source: PostgreSQL manual, 24.1.2 "Recovering Disk Space".
--
-- severity: warning
-- versions: 13-
-- needs: pg_monitor
-- unseen: transactions of other roles
-- threshold: min_minutes = 10 (longer than what an application's transaction should take)
SELECT CASE WHEN now() - a.xact_start > interval '1 hour' * 6 THEN 'error' ELSE 'warning' END AS severity,
       format('pid %s', a.pid) AS object,
       format('a transaction of %s on %s has been running for %s: %s', a.usename, coalesce(a.datname, 'no database'),
              date_trunc('second', now() - a.xact_start), left(regexp_replace(a.query, '\s+', ' ', 'g'), 80)) AS message,
       jsonb_build_object('pid', a.pid, 'user', a.usename, 'database', a.datname, 'application', a.application_name,
                          'transaction_s', round(extract(epoch FROM now() - a.xact_start)),
                          'query', left(a.query, 500), 'wait_event', a.wait_event) AS figures,
       format('SELECT pg_cancel_backend(%s);', a.pid) AS fix,
       'cancel its statement, if it is not wanted' AS fix_description,
       NULL::text[] AS notes
FROM pg_stat_activity a
WHERE a.pid <> pg_backend_pid() AND a.backend_type = 'client backend'
  AND a.state IN ('active', 'fastpath function call') AND a.query !~* '^\s*(base_backup|start_replication|copy )'
  AND now() - a.xact_start > interval '1 minute' * :min_minutes
ORDER BY a.xact_start;
