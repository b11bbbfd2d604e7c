-- An index that a failed CREATE INDEX or REINDEX CONCURRENTLY has left behind.
--
-- Why: no query uses it, but every write maintains it, and it still keeps updates from being
--     heap-only.
-- Fix: REINDEX INDEX CONCURRENTLY makes it valid; what REINDEX itself left (_ccnew, _ccold) is dropped.
-- Silent when: a session builds it just now (it shows progress, or holds the lock for it); the index
--     is of a partitioned table.
-- Source: PostgreSQL manual, CREATE INDEX, "Building Indexes Concurrently".
--
-- severity: warning
-- versions: 13-
-- needs: nothing
SELECT 'warning' AS severity,
       i.indexrelid::regclass::text AS object,
       format('%s on %s is invalid: %s', i.indexrelid::regclass, i.indrelid::regclass,
              CASE WHEN left_over THEN 'REINDEX CONCURRENTLY left it behind'
                   ELSE 'a CREATE INDEX CONCURRENTLY failed, and queries do not use it' END) AS message,
       jsonb_build_object('index', i.indexrelid::regclass::text, 'table', i.indrelid::regclass::text,
                          'unique', i.indisunique, 'maintained', i.indisready,
                          'file_bytes', x.relpages::bigint * 8192) AS figures,
       CASE WHEN left_over THEN format('DROP INDEX CONCURRENTLY %s;', i.indexrelid::regclass)
            ELSE format('REINDEX INDEX CONCURRENTLY %s;', i.indexrelid::regclass) END AS fix,
       CASE WHEN left_over THEN 'drop it' ELSE 'build it again, or drop it if nobody misses it' END AS fix_description,
       CASE WHEN i.indisunique AND NOT left_over THEN ARRAY[
           'it is unique: if duplicate rows made it fail, they must go first'] END AS notes
FROM pg_index i
JOIN pg_class x ON x.oid = i.indexrelid AND x.relkind = 'i'
JOIN pg_namespace n ON n.oid = x.relnamespace,
LATERAL (SELECT x.relname ~ '_cc(new|old)\d*$' AS left_over) name
WHERE NOT i.indisvalid
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_temp'
  AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p
                  WHERE p.index_relid = i.indexrelid AND p.datname = current_database())
  AND NOT EXISTS (SELECT FROM pg_locks l
                  WHERE l.relation = i.indrelid AND l.granted AND l.mode = 'ShareUpdateExclusiveLock'
                    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))
ORDER BY 2;
