-- Many pages are read from outside the buffer cache.
--
-- Why: such a page costs a system call at least, a disk read at worst: tens to thousands of times what
--     a cached one costs.
-- Fix: for a table that is scanned whole, an index (see the index advice); for hot tables and indexes
--     that do not fit, a larger shared_buffers; less bloat.
-- Silent when: nine in ten pages are found in the cache, or too few were asked for to tell.
-- Source: PostgreSQL manual, 27.2.17 "pg_stat_database", 27.2.20 "pg_statio_all_tables".
--
-- severity: warning
-- versions: 13-
-- needs: nothing
-- threshold: min_hit_share = 0.9 (of the pages asked for)
-- threshold: min_read_pages = 100000 (pages of 8 kB read since the counters began)
WITH whole AS (
    SELECT datname, blks_read AS read, blks_hit AS hit FROM pg_stat_database WHERE datname = current_database()
)
SELECT 'warning' AS severity, quote_ident(datname) AS object,
       format('%s %% of the pages asked for in database %I were in the cache; %s were read', round(100.0 * hit / (hit + read), 1),
              datname, pg_size_pretty(read * 8192)) AS message,
       jsonb_build_object('hit_share', round(hit::numeric / (hit + read), 4), 'read_bytes', read * 8192,
                          'database_bytes', CASE WHEN has_database_privilege(datname, 'CONNECT') THEN pg_database_size(datname) END,
                          'shared_buffers_bytes', pg_size_bytes(current_setting('shared_buffers'))) AS figures,
       format('ALTER SYSTEM SET shared_buffers = %L;', pg_size_bytes(current_setting('shared_buffers')) / 1048576 * 2 || 'MB') AS fix,
       'after the indexes that are missing: more cache, up to a quarter or two fifths of the memory (needs a restart)' AS fix_description,
       NULL::text[] AS notes
FROM whole WHERE read >= :min_read_pages AND hit < :min_hit_share * (hit + read)
UNION ALL
(SELECT 'info', relid::regclass::text,
       format('table %s: %s %% of its pages were in the cache; %s were read, %s %% of all', relid::regclass,
              round(100.0 * heap_blks_hit / (heap_blks_hit + heap_blks_read), 1),
              pg_size_pretty(heap_blks_read * 8192), round(100.0 * heap_blks_read / greatest(whole.read, 1))),
       jsonb_build_object('table', relid::regclass::text, 'read_bytes', heap_blks_read * 8192,
                          'hit_share', round(heap_blks_hit::numeric / (heap_blks_hit + heap_blks_read), 4)),
       NULL, 'see which queries read it: whole scans need an index, hot rows more cache', NULL
 FROM pg_statio_user_tables, whole
 WHERE heap_blks_read >= :min_read_pages AND heap_blks_hit < :min_hit_share * (heap_blks_hit + heap_blks_read)
 ORDER BY heap_blks_read DESC LIMIT 5)
UNION ALL
(SELECT 'info', indexrelid::regclass::text,
       format('index %s: %s %% of its pages were in the cache; %s were read, %s %% of all', indexrelid::regclass,
              round(100.0 * idx_blks_hit / (idx_blks_hit + idx_blks_read), 1),
              pg_size_pretty(idx_blks_read * 8192), round(100.0 * idx_blks_read / greatest(whole.read, 1))),
       jsonb_build_object('index', indexrelid::regclass::text, 'read_bytes', idx_blks_read * 8192,
                          'hit_share', round(idx_blks_hit::numeric / (idx_blks_hit + idx_blks_read), 4)),
       NULL, 'a smaller index (fewer columns, partial, rebuilt), or more cache', NULL
 FROM pg_statio_user_indexes, whole
 WHERE idx_blks_read >= :min_read_pages AND idx_blks_hit < :min_hit_share * (idx_blks_hit + idx_blks_read)
 ORDER BY idx_blks_read DESC LIMIT 5);
