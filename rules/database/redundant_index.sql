-- An index whose columns another index begins with.
--
-- Why: the longer index answers every query that the shorter one answers; the shorter one is written
--     all the same.
-- Fix: drop the shorter one, unless it is so much smaller that reading it is what counts.
-- Silent when: the shorter one is unique or backs a constraint; columns differ in direction, operator
--     class or collation; predicates or methods differ; either has expressions or is invalid; the
--     longer one is more than three times as large.
-- Source: PostgreSQL manual, 11.3 "Multicolumn Indexes".
--
-- severity: info
-- versions: 13-
-- needs: nothing
-- threshold: max_ratio = 3 (a longer index of more times the size is slower to read)
-- threshold: min_size_mb = 1 (below it there is nothing to win)
WITH every AS (
    SELECT i.*, x.relpages::bigint * 8192 AS bytes, coalesce(pg_stat_get_numscans(i.indexrelid), 0) AS scans,
           pg_get_expr(i.indpred, i.indrelid) AS predicate
    FROM pg_index i
    JOIN pg_class x ON x.oid = i.indexrelid
    JOIN pg_am m ON m.oid = x.relam AND m.amname = 'btree'
    JOIN pg_namespace n ON n.oid = x.relnamespace
    WHERE x.relkind = 'i' AND i.indisvalid AND NOT x.relispartition AND x.relpersistence <> 't'
      AND i.indexprs IS NULL
      AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
), pairs AS (
    SELECT DISTINCT ON (a.indexrelid) a.indexrelid, a.indrelid, a.bytes, a.scans, b.indexrelid AS longer,
           b.bytes AS longer_bytes
    FROM every a
    JOIN every b ON b.indrelid = a.indrelid AND b.indexrelid <> a.indexrelid
     AND a.indnatts = a.indnkeyatts AND a.indnkeyatts <= b.indnkeyatts AND a.indnatts < b.indnatts
     AND (b.indkey::int2[])[0:a.indnkeyatts - 1] = (a.indkey::int2[])[0:a.indnkeyatts - 1]
     AND (b.indclass::oid[])[0:a.indnkeyatts - 1] = (a.indclass::oid[])[0:a.indnkeyatts - 1]
     AND (b.indcollation::oid[])[0:a.indnkeyatts - 1] = (a.indcollation::oid[])[0:a.indnkeyatts - 1]
     AND (b.indoption::int2[])[0:a.indnkeyatts - 1] = (a.indoption::int2[])[0:a.indnkeyatts - 1]
     AND b.predicate IS NOT DISTINCT FROM a.predicate
    WHERE NOT a.indisunique AND NOT a.indisreplident
      AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = a.indexrelid)
      AND b.bytes <= a.bytes * :max_ratio
    ORDER BY a.indexrelid, b.bytes, b.indexrelid
)
SELECT 'info' AS severity,
       p.indexrelid::regclass::text AS object,
       format('%s on %s is covered by %s, which begins with its columns; it takes %s',
              p.indexrelid::regclass, p.indrelid::regclass, p.longer::regclass,
              pg_size_pretty(p.bytes)) AS message,
       jsonb_build_object('index', p.indexrelid::regclass::text, 'covered_by', p.longer::regclass::text,
                          'table', p.indrelid::regclass::text, 'file_bytes', p.bytes,
                          'covered_by_file_bytes', p.longer_bytes, 'scans', p.scans) AS figures,
       format('DROP INDEX CONCURRENTLY %s;', p.indexrelid::regclass) AS fix,
       'drop it without blocking anybody' AS fix_description,
       NULL::text[] AS notes
FROM pairs p
WHERE p.bytes >= :min_size_mb * 1048576
ORDER BY p.bytes DESC, 2;
