-- Most of many connections do nothing.
--
-- Why: each is a process with memory of its own (its caches grow with every table it has seen), and
--     leaves fewer connections for others.
-- Fix: a smaller pool; a lifetime or idle timeout in it; idle_session_timeout as a net.
-- Silent when: there are fewer than 30 idle ones, or more than a fifth is at work.
-- Source: PostgreSQL manual, 19.11.1 "Statement Behavior" (idle_session_timeout).
--
-- severity: info
-- versions: 14-
-- needs: pg_monitor
-- unseen: sessions of other roles
-- threshold: min_idle = 30 (sessions)
-- threshold: min_share = 0.8 (of all)
SELECT 'info' AS severity, 'connections' AS object,
       format('%s of %s client connections are idle, %s of them for more than ten minutes; most from %s', idle, every,
              long_idle, coalesce(application, 'one application')) AS message,
       jsonb_build_object('idle', idle, 'connections', every, 'idle_over_10_min', long_idle) AS figures,
       E'ALTER SYSTEM SET idle_session_timeout = ''1h'';\nSELECT pg_reload_conf();' AS fix,
       'let idle sessions end (not where a pool keeps them on purpose: there make the pool smaller)' AS fix_description,
       NULL::text[] AS notes
FROM (SELECT count(*) FILTER (WHERE state = 'idle') AS idle, count(*) AS every,
             count(*) FILTER (WHERE state = 'idle' AND now() - state_change > interval '10 minutes') AS long_idle,
             mode() WITHIN GROUP (ORDER BY nullif(application_name, '')) FILTER (WHERE state = 'idle') AS application
      FROM pg_stat_activity WHERE backend_type = 'client backend') now
WHERE idle >= :min_idle AND idle >= :min_share * every;
-- versions: 13-13
SELECT 'info' AS severity, 'connections' AS object,
       format('%s of %s client connections are idle, %s of them for more than ten minutes', idle, every, long_idle) AS message,
       jsonb_build_object('idle', idle, 'connections', every, 'idle_over_10_min', long_idle) AS figures,
       NULL AS fix, 'make the pool smaller' AS fix_description, NULL::text[] AS notes
FROM (SELECT count(*) FILTER (WHERE state = 'idle') AS idle, count(*) AS every,
             count(*) FILTER (WHERE state = 'idle' AND now() - state_change > interval '10 minutes') AS long_idle
      FROM pg_stat_activity WHERE backend_type = 'client backend') now
WHERE idle >= :min_idle AND idle >= :min_share * every;
