-- A table whose file is mostly empty space.
--
-- Why: scans read it, memory caches it and backups copy it, empty or not. Rows that were updated or
--     deleted faster than VACUUM could follow leave it behind; VACUUM makes it reusable, not smaller.
-- Fix: pg_repack or VACUUM FULL (which locks the table while it rewrites it), and an autovacuum that
--     comes more often, so that it does not grow again.
-- Silent when: less than half of the file is empty, or less than 20 MB; free space that fillfactor
--     asks for counts as used. The expected size is computed from the planner's statistics and always
--     rounded up: alignment as bad as it can be, pages filled as insertion fills them. Tables without
--     statistics, that were never analyzed, or that have dropped columns of variable width, are left out.
-- Source: PostgreSQL manual, 66.6 "Database Page Layout"; 24.1.2 "Recovering Disk Space".
--
-- severity: warning
-- versions: 13-
-- needs: select
-- unseen: tables that the role may not SELECT from
-- threshold: min_share = 0.5 (of the file: less fills up again by itself)
-- threshold: min_waste_mb = 20 (below it nobody notices)
WITH tables AS (
    SELECT c.oid, n.nspname, c.relname,
           -- Both are of the last VACUUM or ANALYZE: they fit one another, whatever came after.
           c.reltuples::numeric AS rows, c.relpages::numeric * 8192 AS bytes,
           coalesce((SELECT option_value::numeric FROM pg_options_to_table(c.reloptions)
                     WHERE option_name = 'fillfactor'), 100) AS fillfactor
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_am m ON m.oid = c.relam AND m.amname = 'heap'
    WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND c.reltuples >= 0
      AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
      AND c.relpages::bigint * 8192 >= :min_waste_mb * 1048576
), widths AS (
    SELECT t.oid, t.rows, t.bytes, t.fillfactor, count(*) AS columns,
           bool_or(a.attisdropped AND a.attlen < 0 OR NOT a.attisdropped AND s.attname IS NULL) AS unknown,
           bool_or(coalesce(s.null_frac, 1) > 0) AS nulls,
           -- A value, and before it the most that alignment can cost. Short values of variable width
           -- have a one-byte header and no alignment; avg_width counts the header.
           sum(CASE WHEN a.attisdropped THEN a.attlen
                    ELSE (1 - s.null_frac::numeric) * (s.avg_width + CASE
                         WHEN a.attlen < 0 AND s.avg_width < 100 THEN 0
                         WHEN a.attalign = 'd' THEN 7 WHEN a.attalign = 'i' THEN 3
                         WHEN a.attalign = 's' THEN 1 ELSE 0 END
                         * CASE WHEN a.attlen > 0 AND coalesce(before.attlen > 0 AND before.attalign = a.attalign, a.attnum = 1)
                                THEN 0 ELSE 1 END) END) AS data
    FROM tables t
    JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0
    LEFT JOIN pg_attribute before ON before.attrelid = t.oid AND before.attnum = a.attnum - 1
    LEFT JOIN pg_stats s ON s.schemaname = t.nspname AND s.tablename = t.relname
         AND s.attname = a.attname AND NOT s.inherited
         -- pg_stats checks privileges before it compares, unless it is a plain list of names.
         AND s.tablename = ANY (ARRAY(SELECT relname FROM tables))
    GROUP BY t.oid, t.rows, t.bytes, t.fillfactor
), sized AS (
    SELECT oid, rows, fillfactor, bytes,
           -- Tuple header and null bitmap, data, both MAXALIGNed; a page has 24 bytes of header, and 4
           -- for each tuple's line pointer. What is left of a page holds no further tuple.
           ceil(rows / greatest(1, floor((8168 * fillfactor / 100) / (4 + least(
               8160, 8 * ceil((23 + CASE WHEN nulls THEN (columns + 7) / 8 ELSE 0 END) / 8.0)
                     + 8 * ceil(data / 8)))))) * 8192 AS expected
    FROM widths WHERE NOT unknown
)
SELECT 'warning' AS severity, oid::regclass::text AS object,
       format('%s takes %s, of which at least %s (%s %%) is empty space', oid::regclass,
              pg_size_pretty(bytes), pg_size_pretty(bytes - expected),
              round(100 * (bytes - expected) / bytes)) AS message,
       jsonb_build_object('table', oid::regclass::text, 'file_bytes', bytes, 'expected_bytes', expected,
                          'waste_bytes', bytes - expected, 'waste_share', round((bytes - expected) / bytes, 3),
                          'rows', rows, 'dead_rows', pg_stat_get_dead_tuples(oid)) AS figures,
       CASE WHEN pg_stat_get_dead_tuples(oid) > 0.1 * rows
            THEN format(E'VACUUM (ANALYZE) %1$s;\nVACUUM (FULL, ANALYZE) %1$s;', oid::regclass)
            ELSE format('VACUUM (FULL, ANALYZE) %s;', oid::regclass) END AS fix,
       'give the space back: VACUUM FULL locks the table while it runs; pg_repack does the same without' AS fix_description,
       ARRAY['estimated from the planner''s statistics; CREATE EXTENSION pgstattuple and pgstattuple_approx() count it'] AS notes
FROM sized
WHERE bytes - expected >= :min_waste_mb * 1048576 AND bytes - expected >= :min_share * bytes
ORDER BY bytes - expected DESC, 2;
