-- Sessions wait for a lock that another session holds.
--
-- Why: they do nothing until it ends its transaction; behind one that waits for an exclusive lock
--     everybody else queues, readers too.
-- Fix: find out why the holder does not end; lock_timeout for DDL, so that it does not queue others.
-- Silent when: nobody has waited for longer than a second.
-- Source: PostgreSQL manual, 9.26 "System Information Functions" (pg_blocking_pids).
--
-- severity: warning
-- versions: 14-
-- needs: pg_monitor
-- unseen: what sessions of other roles do
-- threshold: min_seconds = 1 (deadlock_timeout's default: shorter waits are normal)
WITH waiting AS (
    SELECT l.pid, min(l.waitstart) AS since, min(l.mode) AS mode,
           min(l.relation) FILTER (WHERE l.database = (SELECT oid FROM pg_database WHERE datname = current_database())) AS relation,
           pg_blocking_pids(l.pid) AS blockers
    FROM pg_locks l WHERE NOT l.granted GROUP BY l.pid
), chains AS (
    SELECT b.pid AS blocker, count(DISTINCT w.pid) AS waiters, min(w.since) AS since,
           min(w.relation) AS relation, min(w.mode) AS mode
    FROM waiting w, unnest(w.blockers) b(pid)
    WHERE b.pid <> 0 AND b.pid NOT IN (SELECT pid FROM waiting)
    GROUP BY b.pid
)
SELECT CASE WHEN now() - c.since > interval '1 minute' THEN 'error' ELSE 'warning' END AS severity,
       format('pid %s', c.blocker) AS object,
       format('session %s (%s%s) blocks %s sessions directly, the longest for %s%s', c.blocker,
              coalesce(a.usename, 'unknown'), coalesce(', ' || a.state, ''), c.waiters,
              coalesce(date_trunc('second', clock_timestamp() - c.since)::text, 'a moment'),
              coalesce(format(', on %s', c.relation::regclass), '')) AS message,
       jsonb_build_object('pid', c.blocker, 'blocked_sessions', c.waiters, 'mode', c.mode,
                          'waiting_s', round(extract(epoch FROM clock_timestamp() - c.since)),
                          'state', a.state, 'query', left(a.query, 500),
                          'relation', c.relation::regclass::text) AS figures,
       format('SELECT pg_terminate_backend(%s);', c.blocker) AS fix,
       'end the session that blocks, if it is not wanted' AS fix_description,
       NULL::text[] AS notes
FROM chains c
LEFT JOIN pg_stat_activity a ON a.pid = c.blocker
WHERE coalesce(clock_timestamp() - c.since, interval '0') >= interval '1 second' * :min_seconds
ORDER BY c.since;
-- versions: 13-13
WITH waiting AS (
    SELECT l.pid, min(l.mode) AS mode, pg_blocking_pids(l.pid) AS blockers,
           min(l.relation) FILTER (WHERE l.database = (SELECT oid FROM pg_database WHERE datname = current_database())) AS relation
    FROM pg_locks l WHERE NOT l.granted GROUP BY l.pid
), chains AS (
    SELECT b.pid AS blocker, count(DISTINCT w.pid) AS waiters, min(w.relation) AS relation, min(w.mode) AS mode,
           min(s.state_change) AS since
    FROM waiting w LEFT JOIN pg_stat_activity s ON s.pid = w.pid, unnest(w.blockers) b(pid)
    WHERE b.pid <> 0 AND b.pid NOT IN (SELECT pid FROM waiting)
    GROUP BY b.pid
)
SELECT CASE WHEN now() - c.since > interval '1 minute' THEN 'error' ELSE 'warning' END AS severity,
       format('pid %s', c.blocker) AS object,
       format('session %s (%s%s) blocks %s sessions directly, the longest for at most %s%s', c.blocker,
              coalesce(a.usename, 'unknown'), coalesce(', ' || a.state, ''), c.waiters,
              coalesce(date_trunc('second', clock_timestamp() - c.since)::text, 'a time unknown'),
              coalesce(format(', on %s', c.relation::regclass), '')) AS message,
       jsonb_build_object('pid', c.blocker, 'blocked_sessions', c.waiters, 'mode', c.mode,
                          'waiting_s', round(extract(epoch FROM clock_timestamp() - c.since)),
                          'state', a.state, 'query', left(a.query, 500),
                          'relation', c.relation::regclass::text) AS figures,
       format('SELECT pg_terminate_backend(%s);', c.blocker) AS fix,
       'end the session that blocks, if it is not wanted' AS fix_description,
       NULL::text[] AS notes
FROM chains c
LEFT JOIN pg_stat_activity a ON a.pid = c.blocker
WHERE coalesce(clock_timestamp() - c.since, interval '1 day') >= interval '1 second' * :min_seconds
ORDER BY c.since;
