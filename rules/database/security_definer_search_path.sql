-- A SECURITY DEFINER function looks up names along its caller's search path.
--
-- Why: the caller can put a table or function of his own in front of what the function means, and have
--     it run with the owner's rights.
-- Fix: SET search_path on the function, with pg_temp last.
-- Silent when: the function sets search_path, or belongs to an extension.
-- Source: PostgreSQL manual, CREATE FUNCTION, "Writing SECURITY DEFINER Functions Safely".
--
-- severity: warning
-- versions: 13-
-- needs: nothing
SELECT CASE WHEN r.rolsuper THEN 'error' ELSE 'warning' END AS severity,
       format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) AS object,
       format('%I.%I(%s) runs with the rights of %I%s, along its caller''s search path', n.nspname, p.proname,
              pg_get_function_identity_arguments(p.oid), r.rolname,
              CASE WHEN r.rolsuper THEN ' (a superuser)' ELSE '' END) AS message,
       jsonb_build_object('function', p.proname, 'schema', n.nspname, 'owner', r.rolname,
                          'owner_is_superuser', r.rolsuper) AS figures,
       format('ALTER %s %I.%I(%s) SET search_path = pg_catalog, %I, pg_temp;',
              CASE p.prokind WHEN 'p' THEN 'PROCEDURE' ELSE 'FUNCTION' END, n.nspname, p.proname,
              pg_get_function_identity_arguments(p.oid), n.nspname) AS fix,
       'fix its search path (add the schemas that it uses)' AS fix_description,
       NULL::text[] AS notes
FROM pg_proc p
JOIN pg_namespace n ON n.oid = p.pronamespace
JOIN pg_roles r ON r.oid = p.proowner
WHERE p.prosecdef AND p.prokind IN ('f', 'p', 'w') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
  AND NOT coalesce(p.proconfig::text ~* '[{,"]search_path=', false)
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
ORDER BY 1, 2;
