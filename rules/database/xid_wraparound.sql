-- Transaction ids are near the point at which the server stops to prevent their wrapping around.
--
-- Why: at 2 billion transactions since the oldest unfrozen row every write fails until VACUUM has
--     frozen the rows: hours of outage on large tables.
-- Fix: VACUUM (FREEZE) of the oldest tables; end what holds old rows: transactions, prepared
--     transactions, slots.
-- Silent when: autovacuum's own limit (autovacuum_freeze_max_age) is kept, give or take a quarter, and the age is
--     below 1.2 billion, whatever that limit.
-- Source: PostgreSQL manual, 24.1.5 "Preventing Transaction ID Wraparound Failures".
--
-- severity: warning
-- versions: 13-
-- needs: nothing
-- threshold: max_times = 1.25 (times autovacuum_freeze_max_age: autovacuum does not keep up then)
-- threshold: error_age = 1200000000 (transactions; the server stops at about 2,144 million)
WITH setting AS (SELECT current_setting('autovacuum_freeze_max_age')::bigint AS limit_age),
databases AS (
    SELECT d.datname, age(d.datfrozenxid)::bigint AS age, limit_age FROM pg_database d, setting
), tables AS (
    -- The oldest are all to be frozen, catalogs too; the large ones take the time.
    SELECT c.oid, row_number() OVER (ORDER BY c.relpages DESC, c.oid) AS place, count(*) OVER () AS n
    FROM pg_class c, setting
    WHERE c.relkind IN ('r', 'm', 't') AND c.relfrozenxid <> '0'
      AND age(c.relfrozenxid) >= least(:max_times * limit_age, :error_age)
)
SELECT CASE WHEN age >= :error_age THEN 'error' ELSE 'warning' END AS severity,
       quote_ident(datname) AS object,
       format('the oldest row of database %I is %s transactions old; autovacuum should have frozen it at %s, and the server stops at 2,144,483,648',
              datname, to_char(age, 'FM9,999,999,990'), to_char(limit_age, 'FM9,999,999,990')) AS message,
       jsonb_build_object('database', datname, 'age_transactions', age, 'limit_transactions', limit_age) AS figures,
       CASE WHEN datname = current_database() THEN
           (SELECT string_agg(format('VACUUM (FREEZE, VERBOSE) %s;', t.oid::regclass), E'\n' ORDER BY t.place)
                   || CASE WHEN max(t.n) > 3 THEN format(E'\nVACUUM (FREEZE);  -- and the other %s', max(t.n) - 3) ELSE '' END
            FROM tables t WHERE t.place <= 3) END AS fix,
       'freeze the oldest tables, the largest first' AS fix_description,
       CASE WHEN datname <> current_database() THEN ARRAY[format('connect to %I to see its tables', datname)] END AS notes
FROM databases
WHERE age >= least(:max_times * limit_age, :error_age)
ORDER BY age DESC, 2;
