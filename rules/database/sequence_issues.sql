-- A sequence that will hand out values it should not.
--
-- Why: one that stands behind its column's values makes INSERTs fail with duplicate keys (what a load
--     with explicit keys leaves behind); one that cycles does so later; one that no column owns stays
--     when the table goes, and is forgotten when the table is copied.
-- Fix: setval() beyond the largest value; NO CYCLE; OWNED BY.
-- Silent when: the column is no key; the sequence counts downwards, or it or the column cannot be read.
-- Source: PostgreSQL manual, CREATE SEQUENCE and 9.17 "Sequence Manipulation Functions".
--
-- severity: warning
-- versions: 13-
-- needs: select
-- unseen: sequences and columns that the role may not read
WITH tied AS (
    SELECT s.seqrelid, s.seqcycle, ad.adrelid AS relid, ad.adnum AS attnum, true AS by_default
    FROM pg_sequence s
    JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.refclassid = 'pg_class'::regclass
         AND d.refobjid = s.seqrelid
    JOIN pg_attrdef ad ON ad.oid = d.objid
    WHERE s.seqincrement > 0
    UNION
    SELECT s.seqrelid, s.seqcycle, d.refobjid, d.refobjsubid, false
    FROM pg_sequence s
    JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = s.seqrelid AND d.deptype = 'i'
         AND d.refclassid = 'pg_class'::regclass
    WHERE s.seqincrement > 0
), known AS (
    SELECT t.*, c.relname, a.attname, q.last_value, q.start_value,
           EXISTS (SELECT FROM pg_index i WHERE i.indrelid = t.relid AND i.indisunique
                   AND i.indnkeyatts = 1 AND i.indkey[0] = t.attnum AND i.indpred IS NULL) AS is_key,
           EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = t.seqrelid
                   AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')) AS owned,
           CASE WHEN a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) THEN
               (p.histogram_bounds::text::bigint[])[array_upper(p.histogram_bounds::text::bigint[], 1)] END AS largest
    FROM tied t
    JOIN pg_class c ON c.oid = t.relid AND NOT c.relispartition
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = t.relid AND a.attnum = t.attnum
    JOIN pg_class sc ON sc.oid = t.seqrelid
    JOIN pg_namespace sn ON sn.oid = sc.relnamespace
    JOIN pg_sequences q ON q.schemaname = sn.nspname AND q.sequencename = sc.relname
    LEFT JOIN pg_stats p ON p.schemaname = n.nspname AND p.tablename = c.relname
         AND p.attname = a.attname AND NOT p.inherited
)
SELECT 'error' AS severity, format('%s.%I', relid::regclass, attname) AS object,
       format('the sequence of %s.%I is at %s, but the column holds values up to %s: INSERTs will fail with duplicate keys',
              relid::regclass, attname, coalesce(last_value, start_value),
              to_char(largest, 'FM999,999,999,999,999,990')) AS message,
       jsonb_build_object('sequence', seqrelid::regclass::text, 'last_value', last_value,
                          'column_reaches', largest) AS figures,
       format('SELECT setval(%L, (SELECT max(%I) FROM %s));', seqrelid::regclass, attname, relid::regclass) AS fix,
       'bring the sequence forward' AS fix_description,
       ARRAY['the column''s value is what ANALYZE saw'] AS notes
FROM known
-- Where last_value is NULL the sequence was never used, or may not be read.
WHERE is_key AND largest > coalesce(last_value, start_value)
  AND (last_value IS NOT NULL OR has_sequence_privilege(seqrelid, 'USAGE, SELECT'))
UNION ALL
SELECT 'warning', format('%s.%I', relid::regclass, attname),
       format('the sequence of the key %s.%I starts again when it is at its end (CYCLE): with keys that are taken',
              relid::regclass, attname),
       jsonb_build_object('sequence', seqrelid::regclass::text),
       format('ALTER SEQUENCE %s NO CYCLE;', seqrelid::regclass), 'let it end instead', NULL
FROM known WHERE is_key AND seqcycle
UNION ALL
SELECT 'info', format('%s.%I', relid::regclass, attname),
       format('%s.%I takes its values from %s, which it does not own', relid::regclass, attname, seqrelid::regclass),
       jsonb_build_object('sequence', seqrelid::regclass::text),
       format('ALTER SEQUENCE %s OWNED BY %s.%I;', seqrelid::regclass, relid::regclass, attname),
       'make the sequence part of the column',
       ARRAY['a sequence that is shared by several tables on purpose is fine as it is']
FROM known k WHERE by_default AND NOT owned
  AND (SELECT count(*) FROM tied t WHERE t.seqrelid = k.seqrelid) = 1
ORDER BY 1, 2;
