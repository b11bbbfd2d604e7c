-- No limit ends a session or statement that hangs.
--
-- Why: one forgotten transaction keeps rows from being vacuumed and locks from being released until
--     somebody notices; one runaway query takes a core and its memory.
-- Fix: idle_in_transaction_session_timeout for the database; statement_timeout by role.
-- Silent when: idle_in_transaction_session_timeout is set for the server, the database or most roles.
-- Source: PostgreSQL manual, 19.11.1 "Statement Behavior".
--
-- severity: info
-- versions: 13-
-- needs: nothing
SELECT 'info' AS severity, 'idle_in_transaction_session_timeout' AS object,
       'nothing ends a session that is idle in a transaction (idle_in_transaction_session_timeout = 0)' AS message,
       jsonb_build_object('setting', 'idle_in_transaction_session_timeout', 'value', '0') AS figures,
       format('ALTER DATABASE %I SET idle_in_transaction_session_timeout = ''10min'';', current_database()) AS fix,
       'let the server end it' AS fix_description,
       NULL::text[] AS notes
-- Our own session has one: what the server says is what a new session of another kind would get.
WHERE NOT EXISTS (SELECT FROM pg_db_role_setting r, unnest(r.setconfig) c
                  WHERE c LIKE 'idle\_in\_transaction\_session\_timeout=%' AND c NOT LIKE '%=0'
                    AND r.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database())))
  AND (SELECT source FROM pg_settings WHERE name = 'idle_in_transaction_session_timeout') IN ('default', 'client')
  AND (SELECT boot_val FROM pg_settings WHERE name = 'idle_in_transaction_session_timeout') = '0';
