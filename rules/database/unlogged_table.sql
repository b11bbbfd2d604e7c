-- A table that is emptied after a crash.
--
-- Why: an unlogged table writes no WAL: a crash empties it, and standbys and backups that rest on WAL
--     have nothing of it.
-- Fix: SET LOGGED, which writes the whole table to WAL under an exclusive lock; nothing where its rows
--     may go.
-- Silent when: it has no rows.
-- Source: PostgreSQL manual, CREATE TABLE ("UNLOGGED").
--
-- severity: info
-- versions: 13-
-- needs: nothing
SELECT 'info' AS severity, c.oid::regclass::text AS object,
       format('%s is unlogged: its %s rows are gone after a crash, and on standbys there are none', c.oid::regclass,
              to_char(n, 'FM999,999,999,999,990')) AS message,
       jsonb_build_object('table', c.oid::regclass::text,
                          'rows', n) AS figures,
       format('ALTER TABLE %s SET LOGGED;', c.oid::regclass) AS fix,
       'make it durable, if its rows may not be lost (writes it whole, under an exclusive lock)' AS fix_description,
       NULL::text[] AS notes
FROM pg_class c
JOIN pg_namespace s ON s.oid = c.relnamespace
CROSS JOIN LATERAL (
    SELECT CASE WHEN c.reltuples > 0 THEN c.reltuples ELSE pg_stat_get_live_tuples(c.oid) END::bigint AS n) rows
WHERE c.relpersistence = 'u' AND c.relkind = 'r' AND s.nspname !~ '^pg_'
  AND n > 0
ORDER BY 2;
