-- An extension is installed in an older version than the server has.
--
-- Why: an upgrade of the server or a package does not change what is installed in a database: fixes and
--     new views (of pg_stat_statements, for one) are missing until ALTER EXTENSION.
-- Fix: ALTER EXTENSION … UPDATE, after its release notes.
-- Silent when: versions are the same.
-- Source: PostgreSQL manual, ALTER EXTENSION.
--
-- severity: info
-- versions: 13-
-- needs: nothing
SELECT 'info' AS severity, quote_ident(e.extname) AS object,
       format('extension %I is at version %s; the server has %s', e.extname, e.extversion, a.default_version) AS message,
       jsonb_build_object('extension', e.extname, 'installed', e.extversion, 'available', a.default_version) AS figures,
       format('ALTER EXTENSION %I UPDATE;', e.extname) AS fix,
       'bring it up to date' AS fix_description,
       NULL::text[] AS notes
FROM pg_extension e
JOIN pg_available_extensions a ON a.name = e.extname
WHERE a.default_version <> e.extversion
ORDER BY 2;
