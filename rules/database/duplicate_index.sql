-- Two indexes of one table that are the same in everything but their name.
--
-- Why: both are written, vacuumed, backed up and held in memory; the planner uses one of them.
-- Fix: drop the one that backs no constraint, else the one that is scanned less.
-- Silent when: they differ in columns, order, operator classes, collations, predicate, expressions or
--     method, or in what they include; one is invalid, or belongs to a partitioned index.
-- Source: PostgreSQL manual, 51.26 "pg_index"; pganalyze and Supabase's splinter check the same.
--
-- severity: warning
-- versions: 13-
-- needs: nothing
WITH every AS (
    SELECT i.indexrelid, i.indrelid, x.relpages::bigint * 8192 AS bytes,
           coalesce(pg_stat_get_numscans(i.indexrelid), 0) AS scans, i.indisunique,
           EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid) OR i.indisreplident AS bound,
           concat_ws('|', i.indrelid, x.relam, i.indnkeyatts, i.indkey, i.indclass, i.indcollation,
                     i.indoption, pg_get_expr(i.indexprs, i.indrelid), '|',
                     pg_get_expr(i.indpred, i.indrelid)) AS shape
    FROM pg_index i
    JOIN pg_class x ON x.oid = i.indexrelid
    JOIN pg_namespace n ON n.oid = x.relnamespace
    WHERE x.relkind = 'i' AND i.indisvalid AND NOT x.relispartition AND x.relpersistence <> 't'
      AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
), ranked AS (
    SELECT *, first_value(indexrelid) OVER w AS kept, row_number() OVER w AS place
    FROM every
    WINDOW w AS (PARTITION BY shape ORDER BY indisunique DESC, bound DESC, scans DESC, indexrelid)
)
SELECT 'warning' AS severity,
       r.indexrelid::regclass::text AS object,
       format('%s on %s is the same as %s; it takes %s', r.indexrelid::regclass, r.indrelid::regclass,
              r.kept::regclass, pg_size_pretty(r.bytes)) AS message,
       jsonb_build_object('index', r.indexrelid::regclass::text, 'same_as', r.kept::regclass::text,
                          'table', r.indrelid::regclass::text, 'file_bytes', r.bytes,
                          'scans', r.scans) AS figures,
       CASE WHEN NOT r.bound THEN format('DROP INDEX CONCURRENTLY %s;', r.indexrelid::regclass) ELSE
           (SELECT format('ALTER TABLE %s DROP CONSTRAINT %I;', r.indrelid::regclass, c.conname)
            FROM pg_constraint c WHERE c.conindid = r.indexrelid AND c.conrelid = r.indrelid LIMIT 1)
       END AS fix,
       CASE WHEN r.bound THEN 'drop the constraint that says the same again'
            ELSE 'drop it without blocking anybody' END AS fix_description,
       NULL::text[] AS notes
FROM ranked r
WHERE r.place > 1
  -- A foreign key may rest on either of two constraints: then nobody but their owner can choose.
  AND NOT (r.bound AND EXISTS (SELECT FROM pg_constraint f
                               WHERE f.contype = 'f' AND f.conindid = r.indexrelid))
ORDER BY r.bytes DESC, 2;
