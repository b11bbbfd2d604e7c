-- Nearly all connections are taken.
--
-- Why: at max_connections the next client is refused; and each connection takes memory, and time to
--     look at in every snapshot.
-- Fix: a connection pool in front (PgBouncer, or the application's own), rather than more connections.
-- Silent when: less than 80 % are taken.
-- Source: PostgreSQL manual, 19.3.1 "Connection Settings"; wiki.postgresql.org "Number Of Database
--     Connections".
--
-- severity: warning
-- versions: 13-
-- needs: nothing
-- threshold: min_share = 0.8 (from 0.95 on it is an error)
SELECT CASE WHEN used >= 0.95 * allowed THEN 'error' ELSE 'warning' END AS severity, 'connections' AS object,
       format('%s of %s connections are taken (max_connections less those reserved)', used, allowed) AS message,
       jsonb_build_object('connections', used, 'allowed', allowed,
                          'max_connections', current_setting('max_connections')::int) AS figures,
       E'ALTER SYSTEM SET idle_session_timeout = ''10min'';\nSELECT pg_reload_conf();' AS fix,
       'put a pool in front (see the pool advice); until then let idle sessions end (from PostgreSQL 14 on)' AS fix_description,
       NULL::text[] AS notes
FROM (SELECT sum(numbackends)::int AS used,
             current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
             - coalesce(current_setting('reserved_connections', true)::int, 0) AS allowed
      FROM pg_stat_database WHERE datid > 0) now
WHERE used >= :min_share * allowed;
