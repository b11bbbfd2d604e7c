-- A b-tree index whose file is mostly empty space.
--
-- Why: it is read, cached and backed up, empty or not. Pages that deletions emptied halfway are not
--     joined again, whatever VACUUM does.
-- Fix: REINDEX INDEX CONCURRENTLY, which does not block writes.
-- Silent when: it is less than twice the size that it would have if it were built again, or less than
--     10 MB would be won. That size is computed from the planner's statistics and rounded up: duplicates
--     are counted as if each had its own entry. Random insertion fills pages to 69 % by nature, which is
--     no bloat.
-- Source: PostgreSQL manual, 66.1.4 "B-Tree Indexes, Implementation"; 24.2 "Routine Reindexing"; A. Yao,
--     "On Random 2-3 Trees" (1978), for the 69 %.
--
-- severity: warning
-- versions: 13-
-- needs: select
-- unseen: indexes of tables that the role may not SELECT from
-- threshold: min_share = 0.5 (of the file)
-- threshold: min_waste_mb = 10 (below it nobody notices)
WITH indexes AS (
    SELECT i.indexrelid, i.indrelid, i.indkey, n.nspname, t.relname AS table_name, x.relname AS index_name,
           CASE WHEN i.indpred IS NULL THEN greatest(x.reltuples, t.reltuples) ELSE x.reltuples END::numeric AS rows,
           x.relpages::numeric * 8192 AS bytes,
           coalesce((SELECT option_value::numeric FROM pg_options_to_table(x.reloptions)
                     WHERE option_name = 'fillfactor'), 90) AS fillfactor
    FROM pg_index i
    JOIN pg_class x ON x.oid = i.indexrelid AND x.relkind = 'i'
    JOIN pg_am m ON m.oid = x.relam AND m.amname = 'btree'
    JOIN pg_class t ON t.oid = i.indrelid
    JOIN pg_namespace n ON n.oid = t.relnamespace
    WHERE i.indisvalid AND x.relpersistence <> 't' AND x.reltuples >= 0 AND t.reltuples >= 0
      AND x.relpages::bigint * 8192 >= :min_waste_mb * 1048576
      AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
), widths AS (
    SELECT i.indexrelid, i.indrelid, i.rows, i.bytes, i.fillfactor,
           bool_or(s.attname IS NULL) AS unknown, bool_or(s.null_frac > 0) AS nulls,
           sum((1 - s.null_frac::numeric) * s.avg_width + CASE
               WHEN a.attlen < 0 AND s.avg_width < 100 OR a.attnum = 1 THEN 0
               WHEN a.attalign = 'd' THEN 7 WHEN a.attalign = 'i' THEN 3 WHEN a.attalign = 's' THEN 1 ELSE 0 END) AS data
    FROM indexes i
    JOIN pg_attribute a ON a.attrelid = i.indexrelid
    LEFT JOIN pg_attribute c ON c.attrelid = i.indrelid AND c.attnum = i.indkey[a.attnum - 1]
    LEFT JOIN pg_stats s ON s.schemaname = i.nspname AND NOT s.inherited
         AND s.tablename = CASE WHEN i.indkey[a.attnum - 1] = 0 THEN i.index_name ELSE i.table_name END
         AND s.attname = coalesce(c.attname, a.attname)
         -- pg_stats checks privileges before it compares, unless it is a plain list of names.
         AND s.tablename = ANY (ARRAY(SELECT table_name FROM indexes UNION SELECT index_name FROM indexes))
    GROUP BY i.indexrelid, i.indrelid, i.rows, i.bytes, i.fillfactor
), sized AS (
    SELECT indexrelid, indrelid, rows, bytes,
           -- Leaf pages: 24 bytes of header, 16 of special space; 8 (16 with a null bitmap) for each
           -- tuple's header and 4 for its line pointer. Upper levels: a hundredth, and the metapage.
           (2 + ceil(1.01 * rows / greatest(1, floor((8152 * fillfactor / 100) / (
               4 + 8 * ceil((CASE WHEN nulls THEN 16 ELSE 8 END + data) / 8)))))) * 8192 AS expected
    FROM widths WHERE NOT unknown
)
SELECT 'warning' AS severity, indexrelid::regclass::text AS object,
       format('%s on %s takes %s, of which at least %s (%s %%) is empty space', indexrelid::regclass,
              indrelid::regclass, pg_size_pretty(bytes), pg_size_pretty(bytes - expected),
              round(100 * (bytes - expected) / bytes)) AS message,
       jsonb_build_object('index', indexrelid::regclass::text, 'table', indrelid::regclass::text,
                          'file_bytes', bytes, 'expected_bytes', expected, 'waste_bytes', bytes - expected,
                          'waste_share', round((bytes - expected) / bytes, 3), 'rows', rows) AS figures,
       format('REINDEX INDEX CONCURRENTLY %s;', indexrelid::regclass) AS fix,
       'build it again without blocking writes' AS fix_description,
       NULL::text[] AS notes
FROM sized
WHERE bytes - expected >= :min_waste_mb * 1048576 AND bytes - expected >= :min_share * bytes
ORDER BY bytes - expected DESC, 2;
