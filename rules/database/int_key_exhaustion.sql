-- A key that is running out of numbers.
--
-- Why: when the sequence or the integer type is at its end, every INSERT fails: an outage, and the way
--     out (a wider column) rewrites the table and its indexes.
-- Fix: bigint for column and sequence, before it is full; on a large table by way of a new column kept
--     in step by a trigger.
-- Silent when: less than half of the range is used; the sequence may cycle, or its value cannot be read.
-- Source: PostgreSQL manual, 8.1.1 "Integer Types" and CREATE SEQUENCE.
--
-- severity: warning
-- versions: 13-
-- needs: select
-- unseen: sequences and columns that the role may not read
-- threshold: min_share = 0.5 (of the range; from 0.85 on it is an error)
WITH used AS (
    -- last_value is NULL both where the sequence was never used and where it may not be read.
    SELECT s.seqrelid, t.oid AS relid, a.attname, a.attnum, a.atttypid,
           q.last_value::numeric AS reached,
           least(s.seqmax, CASE a.atttypid WHEN 'int2'::regtype THEN 32767 WHEN 'int4'::regtype THEN 2147483647
                           ELSE 9223372036854775807 END)::numeric AS ends,
           s.seqtypid <> 'int8'::regtype OR s.seqmax < 9223372036854775807 AS bounded
    FROM pg_sequence s
    JOIN pg_class c ON c.oid = s.seqrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_sequences q ON q.schemaname = n.nspname AND q.sequencename = c.relname
    LEFT JOIN LATERAL (
        SELECT d.refobjid AS oid, d.refobjsubid AS attnum FROM pg_depend d
        WHERE d.classid = 'pg_class'::regclass AND d.objid = s.seqrelid
          AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
        UNION ALL
        SELECT ad.adrelid, ad.adnum FROM pg_depend d
        JOIN pg_attrdef ad ON ad.oid = d.objid
        WHERE d.classid = 'pg_attrdef'::regclass AND d.refclassid = 'pg_class'::regclass
          AND d.refobjid = s.seqrelid
        LIMIT 1) t ON true
    LEFT JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = t.attnum
    WHERE NOT s.seqcycle AND s.seqincrement > 0
    UNION ALL
    -- Keys that the application numbers itself: the largest value that ANALYZE saw.
    SELECT NULL, c.oid, a.attname, a.attnum, a.atttypid,
           (p.histogram_bounds::text::bigint[])[array_upper(p.histogram_bounds::text::bigint[], 1)]::numeric,
           CASE a.atttypid WHEN 'int2'::regtype THEN 32767 ELSE 2147483647 END, true
    FROM pg_index i
    JOIN pg_class c ON c.oid = i.indrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
         AND a.atttypid IN ('int2'::regtype, 'int4'::regtype)
    JOIN pg_stats p ON p.schemaname = n.nspname AND p.tablename = c.relname AND p.attname = a.attname
         AND NOT p.inherited AND p.histogram_bounds IS NOT NULL
         -- pg_stats checks privileges before it compares, unless it is a plain list of names.
         AND p.tablename = ANY (ARRAY(SELECT k.relname FROM pg_class k JOIN pg_index x ON x.indrelid = k.oid
                                      WHERE x.indisprimary AND x.indnkeyatts = 1 AND k.oid >= 16384))
    WHERE i.indisprimary AND i.indnkeyatts = 1 AND n.nspname NOT IN ('pg_catalog', 'information_schema')
), judged AS (
    SELECT DISTINCT ON (coalesce(relid, seqrelid), attnum) *, reached / ends AS share
    FROM used WHERE reached IS NOT NULL AND (seqrelid IS NOT NULL OR bounded)
    ORDER BY coalesce(relid, seqrelid), attnum, reached / ends DESC
)
SELECT CASE WHEN share >= 0.85 THEN 'error' ELSE 'warning' END AS severity,
       coalesce(format('%s.%I', relid::regclass, attname), seqrelid::regclass::text) AS object,
       format('%s has used %s %% of its numbers: %s of %s',
              coalesce(format('%s.%I (%s)', relid::regclass, attname, format_type(atttypid, NULL)),
                       format('the sequence %s', seqrelid::regclass)),
              trunc(share * 100, 1), to_char(reached, 'FM999,999,999,999,999,999,990'),
              to_char(ends, 'FM9,999,999,999,999,999,990')) AS message,
       jsonb_build_object('table', relid::regclass::text, 'column', attname,
                          'sequence', seqrelid::regclass::text, 'reached', reached, 'ends', ends,
                          'used_share', round(share, 4)) AS figures,
       concat_ws(E'\n',
           CASE WHEN atttypid IN ('int2'::regtype, 'int4'::regtype)
                THEN format('ALTER TABLE %s ALTER COLUMN %I TYPE bigint;', relid::regclass, attname) END,
           CASE WHEN seqrelid IS NOT NULL
                THEN format('ALTER SEQUENCE %s AS bigint NO MAXVALUE;', seqrelid::regclass) END) AS fix,
       'widen it before it is full' AS fix_description,
       CASE WHEN atttypid IN ('int2'::regtype, 'int4'::regtype) THEN ARRAY[
           'changing the type rewrites the table and its indexes under an exclusive lock: a large one goes '
           'by way of a new bigint column that a trigger keeps in step; columns that refer to it need the same'] END AS notes
FROM judged
WHERE share >= :min_share
ORDER BY share DESC, 2;
