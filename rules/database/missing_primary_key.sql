-- A table without a primary key.
--
-- Why: nothing keeps the same row from being stored twice, and nothing names one row: logical
--     replication refuses its updates and deletes, and tools that repair or repack tables need a key.
-- Fix: make an existing unique index of columns that are never NULL the primary key (no rewrite); else
--     add an identity column, which rewrites the table under an exclusive lock.
-- Silent when: the table is a partition, temporary, foreign, or belongs to an extension.
-- Source: PostgreSQL manual, 5.5.4 "Primary Keys" and 29.1 "Publication" (replica identity).
--
-- severity: info
-- versions: 13-
-- needs: nothing
SELECT CASE WHEN replicated AND c.relreplident = 'd' THEN 'error' ELSE 'info' END AS severity,
       c.oid::regclass::text AS object,
       format('%s (about %s rows) has no primary key%s', c.oid::regclass,
              to_char(greatest(c.reltuples, 0), 'FM999,999,999,999,990'),
              CASE WHEN replicated AND c.relreplident = 'd'
                   THEN ', but is published: its UPDATEs and DELETEs fail' ELSE '' END) AS message,
       jsonb_build_object('table', c.oid::regclass::text, 'rows', greatest(c.reltuples, 0)::bigint,
                          'published', replicated) AS figures,
       coalesce(
           (SELECT format('ALTER TABLE %s ADD PRIMARY KEY USING INDEX %I;', c.oid::regclass, x.relname)
            FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
            WHERE i.indrelid = c.oid AND c.relkind = 'r' AND i.indisunique AND i.indisvalid
              AND i.indpred IS NULL AND i.indexprs IS NULL
              AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid)
              AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid
                              AND a.attnum = ANY (i.indkey) AND NOT a.attnotnull)
            ORDER BY i.indnkeyatts, x.oid LIMIT 1),
           format('ALTER TABLE %s ADD COLUMN %I bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY;',
                  c.oid::regclass,
                  CASE WHEN EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid
                                    AND a.attname = 'id' AND NOT a.attisdropped)
                       THEN c.relname || '_key' ELSE 'id' END)) AS fix,
       'give it one (an added column rewrites the table: in a quiet hour)' AS fix_description,
       NULL::text[] AS notes
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace,
LATERAL (SELECT EXISTS (SELECT FROM pg_publication p
                        LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = c.oid
                        WHERE (p.puballtables OR r.prrelid IS NOT NULL)
                          AND (p.pubupdate OR p.pubdelete)) AS replicated) published
WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND NOT c.relispartition
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
  AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                  AND d.deptype = 'e')
ORDER BY c.reltuples DESC, 2;
