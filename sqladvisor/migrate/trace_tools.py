"""The SQL that the tracing session looks with: functions and event triggers of a superuser's, and queries.

They read and change nothing of the user's, have a search path of their own, and go when the session ends.
"""

from __future__ import annotations

SCHEMA = "sqladvisor_trace"
FIRST_USER_OID = 16384
"""FirstNormalObjectId (src/include/access/transam.h): what is below came with initdb."""

TOOLS = f"""
CREATE SCHEMA {SCHEMA};
GRANT USAGE ON SCHEMA {SCHEMA} TO PUBLIC;
CREATE FUNCTION {SCHEMA}.note() RETURNS event_trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE found jsonb;
BEGIN
    IF tg_event = 'sql_drop' THEN
        SELECT jsonb_agg(jsonb_build_array('drop', object_type, object_identity, original, normal))
        INTO found FROM pg_event_trigger_dropped_objects() WHERE NOT is_temporary;
    ELSE
        SELECT jsonb_agg(jsonb_build_array('ddl', command_tag, object_type, object_identity))
        INTO found FROM pg_event_trigger_ddl_commands()
        WHERE schema_name IS DISTINCT FROM 'pg_temp' AND NOT in_extension;
    END IF;
    IF found IS NOT NULL THEN
        -- A setting and no table: it is rolled back with the statement, and takes no lock.
        PERFORM set_config('sqladvisor.events', (coalesce(nullif(current_setting(
            'sqladvisor.events', true), ''), '[]')::jsonb || found)::text, false);
    END IF;
END $$;
CREATE FUNCTION {SCHEMA}.locks(backend integer) RETURNS jsonb
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS $$
    SELECT coalesce(jsonb_agg(jsonb_build_array(
        l.relation::int8, l.mode, n.nspname, c.relname, c.relkind, c.relfilenode::int8,
        pg_stat_get_xact_numscans(c.oid), i.indrelid::int8)), '[]')
    FROM pg_locks l
    LEFT JOIN pg_class c ON c.oid = l.relation
    LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_index i ON i.indexrelid = c.oid
    WHERE l.pid = backend AND l.locktype = 'relation' AND l.relation >= {FIRST_USER_OID}
      AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
      AND c.relpersistence IS DISTINCT FROM 't'
$$;
CREATE FUNCTION {SCHEMA}.look() RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE result jsonb;
BEGIN
    result := jsonb_build_array({SCHEMA}.locks(pg_backend_pid()),
        coalesce(nullif(current_setting('sqladvisor.events', true), ''), '[]')::jsonb);
    PERFORM set_config('sqladvisor.events', '', false);
    /* flush */
    RETURN result;
END $$;
CREATE EVENT TRIGGER sqladvisor_end ON ddl_command_end EXECUTE FUNCTION {SCHEMA}.note();
CREATE EVENT TRIGGER sqladvisor_drop ON sql_drop EXECUTE FUNCTION {SCHEMA}.note();
"""
NO_TOOLS = f"""
DROP EVENT TRIGGER IF EXISTS sqladvisor_end;
DROP EVENT TRIGGER IF EXISTS sqladvisor_drop;
DROP SCHEMA IF EXISTS {SCHEMA} CASCADE;
"""
LOOK = f"SELECT {SCHEMA}.look()".encode()
RELATIONS = f"""
SELECT c.oid::int8, n.nspname, c.relname, c.relkind::text, c.relfilenode::int8, i.indrelid::int8,
       (SELECT min(h.inhparent::int8) FROM pg_catalog.pg_inherits h WHERE h.inhrelid = c.oid)
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid
WHERE c.oid >= {FIRST_USER_OID} AND c.relpersistence <> 't' AND c.relkind IN ('r', 'p', 'v', 'm', 'i', 'I', 'S', 'f')
  AND n.nspname NOT IN ('pg_toast', 'pg_catalog', 'information_schema', '{SCHEMA}')"""
TABLE_OF = """
SELECT n.nspname, t.relname, t.relkind::text
FROM pg_catalog.pg_class c
LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid
JOIN pg_catalog.pg_class t ON t.oid = coalesce(i.indrelid, c.oid)
JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
WHERE c.oid = pg_catalog.to_regclass(%s) AND t.relkind IN ('r', 'p', 'm')"""
