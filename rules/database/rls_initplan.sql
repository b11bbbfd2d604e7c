-- A row security policy calls a function of the session for every row.
--
-- Why: auth.uid() or current_setting() gives the same for all rows of a query, but in a policy it is
--     called for each; as a subquery it is called once.
-- Fix: (SELECT auth.uid()) instead of auth.uid().
-- Silent when: the call stands in a subquery already, or row security is off for the table.
-- Source: PostgreSQL manual, 5.8 "Row Security Policies"; Supabase splinter 0003 (auth_rls_initplan).
--
-- severity: warning
-- versions: 13-
-- needs: nothing
WITH texts AS (
    SELECT p.polrelid, p.polname, pg_get_expr(p.polqual, p.polrelid) AS qual,
           pg_get_expr(p.polwithcheck, p.polrelid) AS checked
    FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid AND c.relrowsecurity
), calls AS (
    SELECT *, '\m((auth\.(uid|jwt|role|email)\(\))|(current_setting\([^()]*(\([^()]*\)[^()]*)*\)))' AS call,
           '\(\s*SELECT\s+\(*((auth\.\w+\(\))|(current_setting\())' AS wrapped
    FROM texts
)
SELECT 'warning' AS severity, format('%s on %s', quote_ident(polname), polrelid::regclass) AS object,
       format('the policy %I on %s calls %s for every row', polname, polrelid::regclass,
              (regexp_match(coalesce(qual, '') || ' ' || coalesce(checked, ''), call))[1]) AS message,
       jsonb_build_object('policy', polname, 'table', polrelid::regclass::text, 'using', qual,
                          'with_check', checked) AS figures,
       format('ALTER POLICY %I ON %s%s%s;', polname, polrelid::regclass,
              ' USING (' || regexp_replace(qual, call, '(SELECT \1)', 'gi') || ')',
              ' WITH CHECK (' || regexp_replace(checked, call, '(SELECT \1)', 'gi') || ')') AS fix,
       'call it once for the query, in a subquery' AS fix_description,
       NULL::text[] AS notes
FROM calls
WHERE (qual ~* call AND qual !~* wrapped) OR (checked ~* call AND checked !~* wrapped)
ORDER BY 2;
