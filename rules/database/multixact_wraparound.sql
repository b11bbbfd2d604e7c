-- Multixact ids are near the point at which the server stops to prevent their wrapping around.
--
-- Why: rows that several transactions lock at once (foreign keys do, SELECT FOR SHARE does) use up
--     multixact ids; at 2 billion every write that needs one fails until VACUUM has cleaned up.
-- Fix: VACUUM (FREEZE) of the oldest tables.
-- Silent when: autovacuum's own limit (autovacuum_multixact_freeze_max_age) is kept, give or take a quarter, and
--     the age is below 1.2 billion, whatever that limit.
-- Source: PostgreSQL manual, 24.1.5.1 "Multixacts and Wraparound".
--
-- severity: warning
-- versions: 13-
-- needs: nothing
-- threshold: max_times = 1.25 (times autovacuum_multixact_freeze_max_age)
-- threshold: error_age = 1200000000 (multixacts; the server stops at about 2,144 million)
WITH setting AS (SELECT current_setting('autovacuum_multixact_freeze_max_age')::bigint AS limit_age),
tables AS (
    -- The oldest are all to be frozen, catalogs too; the large ones take the time.
    SELECT c.oid, row_number() OVER (ORDER BY c.relpages DESC, c.oid) AS place, count(*) OVER () AS n
    FROM pg_class c, setting WHERE c.relkind IN ('r', 'm', 't') AND c.relminmxid <> '0'
      AND mxid_age(c.relminmxid) >= least(:max_times * limit_age, :error_age)
)
SELECT CASE WHEN mxid_age(d.datminmxid) >= :error_age THEN 'error' ELSE 'warning' END AS severity,
       quote_ident(d.datname) AS object,
       format('the oldest multixact of database %I is %s old; autovacuum should have frozen it at %s', d.datname,
              to_char(mxid_age(d.datminmxid), 'FM9,999,999,990'), to_char(limit_age, 'FM9,999,999,990')) AS message,
       jsonb_build_object('database', d.datname, 'age_multixacts', mxid_age(d.datminmxid),
                          'limit_multixacts', limit_age) AS figures,
       CASE WHEN d.datname = current_database() THEN
           (SELECT string_agg(format('VACUUM (FREEZE, VERBOSE) %s;', t.oid::regclass), E'\n' ORDER BY t.place)
                   || CASE WHEN max(t.n) > 3 THEN format(E'\nVACUUM (FREEZE);  -- and the other %s', max(t.n) - 3) ELSE '' END
            FROM tables t WHERE t.place <= 3) END AS fix,
       'freeze the oldest tables, the largest first' AS fix_description,
       NULL::text[] AS notes
FROM pg_database d, setting
WHERE mxid_age(d.datminmxid) >= least(:max_times * limit_age, :error_age)
ORDER BY mxid_age(d.datminmxid) DESC, 2;
