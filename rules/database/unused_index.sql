-- An index that no query has used since the server began to count.
--
-- Why: it is still written with every row, keeps updates of its columns from being heap-only, and is
--     vacuumed, backed up and replicated.
-- Fix: DROP INDEX CONCURRENTLY, after a look at the standbys (each counts its own scans) and at what
--     runs once a year.
-- Silent when: the counters are younger than a month, or the server is a standby; the index
--     guarantees uniqueness, backs a constraint or the replica identity, is part of a partitioned
--     index, or is the only one that finds the rows of a foreign key; it is under 1 MB, or its table
--     is never written.
-- Source: PostgreSQL manual, 27.2.19 "pg_stat_all_indexes" (idx_scan).
--
-- severity: warning
-- versions: 13-
-- needs: nothing
-- threshold: min_days = 30 (what runs each month has then run)
-- threshold: min_size_mb = 1 (below it there is nothing to win)
WITH counted AS (
    SELECT extract(epoch FROM now() - coalesce(
               pg_stat_get_db_stat_reset_time(d.oid), pg_postmaster_start_time())) / 86400 AS days
    FROM pg_database d WHERE d.datname = current_database()),
standbys AS (SELECT count(*) AS n FROM pg_stat_replication),
unused AS (
    SELECT i.indexrelid, i.indrelid, x.relpages::bigint * 8192 AS bytes,
           pg_stat_get_tuples_inserted(i.indrelid) + pg_stat_get_tuples_updated(i.indrelid) AS written
    FROM pg_index i
    JOIN pg_class x ON x.oid = i.indexrelid
    JOIN pg_namespace n ON n.oid = x.relnamespace
    WHERE pg_stat_get_numscans(i.indexrelid) = 0
      AND x.relkind = 'i' AND x.relpersistence <> 't' AND NOT x.relispartition
      AND i.indisvalid AND NOT i.indisunique AND NOT i.indisreplident
      AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
      AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid)
      AND NOT EXISTS (
          SELECT FROM pg_constraint f
          WHERE f.contype = 'f' AND f.conrelid = i.indrelid AND i.indkey[0] = ANY (f.conkey)
            AND NOT EXISTS (SELECT FROM pg_index o WHERE o.indrelid = i.indrelid AND o.indisvalid
                            AND o.indexrelid <> i.indexrelid AND o.indkey[0] = ANY (f.conkey)))
)
SELECT 'warning' AS severity,
       u.indexrelid::regclass::text AS object,
       format('%s on %s was never scanned in %s days, while %s rows were written to the table; it takes %s',
              u.indexrelid::regclass, u.indrelid::regclass, round(days::numeric),
              to_char(u.written, 'FM999,999,999,999,990'), pg_size_pretty(u.bytes)) AS message,
       jsonb_build_object('index', u.indexrelid::regclass::text, 'table', u.indrelid::regclass::text,
                          'file_bytes', u.bytes, 'counted_days', round(days::numeric, 1),
                          'rows_written', u.written) AS figures,
       format('DROP INDEX CONCURRENTLY %s;', u.indexrelid::regclass) AS fix,
       'drop it without blocking anybody' AS fix_description,
       CASE WHEN standbys.n > 0 THEN ARRAY[format(
           '%s standby servers are connected, and count their own scans: look there before dropping it',
           standbys.n)] END AS notes
FROM unused u, counted, standbys
WHERE days >= :min_days AND u.bytes >= :min_size_mb * 1048576 AND u.written > 0
  AND NOT pg_is_in_recovery()
UNION ALL
SELECT 'note', current_database()::text,
       format('%s indexes were not scanned yet, but the counters began only %s hours ago: nothing is said of them',
              count(*), round((days * 24)::numeric, 1)),
       NULL, NULL, NULL, NULL
FROM unused, counted
WHERE days < :min_days AND bytes >= :min_size_mb * 1048576 AND written > 0 AND NOT pg_is_in_recovery()
GROUP BY days
ORDER BY 1 DESC, 2;
