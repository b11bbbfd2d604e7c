-- A foreign key whose columns have another type than the columns they refer to.
--
-- Why: a narrower referring column runs out of numbers before the key it refers to does; and types
--     that no common operator family compares make every check and join cast one side, past its index.
-- Fix: give the referring column the type of the key (which rewrites the table under an exclusive
--     lock, unless the types are binary-coercible).
-- Silent when: the types differ in modifiers only, or are text, varchar and their domains.
-- Source: PostgreSQL manual, 36.16.7 "System Dependencies on Operator Classes" (cross-type families).
--
-- severity: warning
-- versions: 13-
-- needs: nothing
SELECT CASE WHEN narrower OR NOT compared THEN 'warning' ELSE 'info' END AS severity,
       format('%s.%s', f.conrelid::regclass, f.conname) AS object,
       format('%s.%I is %s, but refers to %s.%I, which is %s%s', f.conrelid::regclass, a.attname,
              format_type(a.atttypid, a.atttypmod), f.confrelid::regclass, b.attname,
              format_type(b.atttypid, b.atttypmod),
              CASE WHEN narrower THEN ': keys beyond its range cannot be referred to'
                   WHEN NOT compared THEN ': each comparison casts one side' ELSE '' END) AS message,
       jsonb_build_object('constraint', f.conname, 'table', f.conrelid::regclass::text,
                          'column', a.attname, 'type', format_type(a.atttypid, a.atttypmod),
                          'references', f.confrelid::regclass::text,
                          'referenced_type', format_type(b.atttypid, b.atttypmod)) AS figures,
       format('ALTER TABLE %s ALTER COLUMN %I TYPE %s;', f.conrelid::regclass, a.attname,
              format_type(b.atttypid, b.atttypmod)) AS fix,
       'give it the type of the key (rewrites the table under an exclusive lock: in a quiet hour)' AS fix_description,
       NULL::text[] AS notes
FROM pg_constraint f
CROSS JOIN LATERAL unnest(f.conkey, f.confkey) k(own, other)
JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.own
JOIN pg_attribute b ON b.attrelid = f.confrelid AND b.attnum = k.other
JOIN pg_type ta ON ta.oid = a.atttypid
JOIN pg_type tb ON tb.oid = b.atttypid
CROSS JOIN LATERAL (
    SELECT CASE WHEN ta.typtype = 'd' THEN ta.typbasetype ELSE ta.oid END AS own_type,
           CASE WHEN tb.typtype = 'd' THEN tb.typbasetype ELSE tb.oid END AS other_type) base
CROSS JOIN LATERAL (
    SELECT own_type IN ('int2'::regtype, 'int4'::regtype) AND other_type IN ('int4'::regtype, 'int8'::regtype)
               AND ta.typlen < tb.typlen AS narrower,
           EXISTS (SELECT FROM pg_amop o JOIN pg_am m ON m.oid = o.amopmethod AND m.amname = 'btree'
                   WHERE o.amopstrategy = 3 AND o.amoplefttype = own_type
                     AND o.amoprighttype = other_type) AS compared) judged
WHERE f.contype = 'f' AND f.conparentid = 0 AND own_type <> other_type
  AND NOT (own_type IN ('text'::regtype, 'varchar'::regtype) AND other_type IN ('text'::regtype, 'varchar'::regtype))
ORDER BY 1 DESC, 2;
