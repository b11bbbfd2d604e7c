-- A foreign key without an index that finds the rows which refer to a key.
--
-- Why: each DELETE of a referenced row, and each UPDATE of its key, reads the whole referring table to
--     see whether a row refers to it, and holds its locks for as long. Joins along the key suffer too.
-- Fix: an index that begins with the referring columns.
-- Silent when: an index begins with one of the columns; the table has less than 10,000 rows; it is a
--     partition, whose key and index are those of the partitioned table.
-- Source: PostgreSQL manual, 5.5.5 "Foreign Keys" (on indexing the referencing columns).
--
-- severity: warning
-- versions: 13-
-- needs: nothing
-- threshold: min_rows = 10000 (a smaller table is read in about a millisecond)
WITH keys AS (
    SELECT f.conname, f.conrelid, f.confrelid, f.conkey, c.relkind,
           CASE WHEN c.reltuples > 0 THEN c.reltuples ELSE pg_stat_get_live_tuples(c.oid) END::bigint AS rows,
           coalesce(pg_stat_get_tuples_deleted(f.confrelid), 0) AS deletes,
           (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY k.ordinality)
            FROM unnest(f.conkey) WITH ORDINALITY k(attnum, ordinality)
            JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.attnum) AS columns
    FROM pg_constraint f
    JOIN pg_class c ON c.oid = f.conrelid AND c.relkind IN ('r', 'p') AND NOT c.relispartition
    WHERE f.contype = 'f' AND f.conparentid = 0
      AND NOT EXISTS (
          SELECT FROM pg_index i
          JOIN pg_class x ON x.oid = i.indexrelid
          JOIN pg_am m ON m.oid = x.relam AND m.amname IN ('btree', 'hash', 'gist')
          WHERE i.indrelid = f.conrelid AND i.indisvalid AND i.indkey[0] = ANY (f.conkey)
            AND (i.indpred IS NULL OR pg_get_expr(i.indpred, i.indrelid) ~ '^\([^()]+ IS NOT NULL\)$'))
)
SELECT CASE WHEN deletes > 0 THEN 'warning' ELSE 'info' END AS severity,
       format('%s.%s', conrelid::regclass, conname) AS object,
       format('%s (%s), about %s rows, refers to %s without an index: %s', conrelid::regclass, columns,
              to_char(rows, 'FM999,999,999,999,990'), confrelid::regclass,
              CASE WHEN deletes > 0
                   THEN format('each of the %s rows deleted there read it whole', to_char(deletes, 'FM999,999,999,990'))
                   ELSE 'each row deleted there reads it whole' END) AS message,
       jsonb_build_object('constraint', conname, 'table', conrelid::regclass::text, 'columns', columns,
                          'references', confrelid::regclass::text, 'rows', rows,
                          'deleted_there_rows', deletes) AS figures,
       format('CREATE INDEX%s ON %s (%s);', CASE relkind WHEN 'p' THEN '' ELSE ' CONCURRENTLY' END,
              conrelid::regclass, columns) AS fix,
       'index the referring columns' AS fix_description,
       NULL::text[] AS notes
FROM keys
WHERE rows >= :min_rows
ORDER BY deletes DESC, rows DESC, 2;
