-- A transaction that was prepared (two-phase commit) and not ended.
--
-- Why: it holds its locks and keeps VACUUM from cleaning up, across sessions and restarts, until
--     somebody names it.
-- Fix: COMMIT PREPARED or ROLLBACK PREPARED in its database; only its transaction manager knows which.
-- Silent when: it is younger than five minutes.
-- Source: PostgreSQL manual, PREPARE TRANSACTION ("Caution").
--
-- severity: error
-- versions: 13-
-- needs: nothing
-- threshold: min_minutes = 5 (two phases of a commit lie milliseconds apart)
SELECT 'error' AS severity, format('prepared transaction %L', p.gid) AS object,
       format('the prepared transaction %L of %s in database %s has been waiting for its end for %s', p.gid, p.owner,
              p.database, date_trunc('second', now() - p.prepared)) AS message,
       jsonb_build_object('gid', p.gid, 'owner', p.owner, 'database', p.database,
                          'waiting_s', round(extract(epoch FROM now() - p.prepared)),
                          'age_transactions', age(p.transaction)) AS figures,
       format('ROLLBACK PREPARED %L;', p.gid) AS fix,
       format('end it, connected to %s as %s (or COMMIT PREPARED: its transaction manager knows)', p.database, p.owner) AS fix_description,
       NULL::text[] AS notes
FROM pg_prepared_xacts p
WHERE now() - p.prepared > interval '1 minute' * :min_minutes
ORDER BY p.prepared;
