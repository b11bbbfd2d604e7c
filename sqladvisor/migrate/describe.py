"""A schema as sorted definitions, to say in which objects two databases differ.

As pg_dump would write it, but a few ms instead of a process: every object by name, with what makes
it what it is. The order of columns does not count (a column that is dropped and added again comes
last), nor do owners, nor the names of NOT NULL constraints.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psycopg

Description = dict[str, str]
"""Definition by object (``column public.users.email``)."""

# Versions 13 to 18. With an empty search path the functions that print definitions qualify names.
_QUERY = r"""
WITH ours AS (
    SELECT n.oid, n.nspname FROM pg_namespace n
    WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'sqladvisor_trace')
), rel AS (
    SELECT c.*, format('%I.%I', o.nspname, c.relname) AS name
    FROM pg_class c JOIN ours o ON o.oid = c.relnamespace WHERE c.relpersistence <> 't'
), member AS (
    SELECT classid, objid FROM pg_depend WHERE deptype = 'e'
)
SELECT 'schema ' || quote_ident(nspname), '' FROM ours
UNION ALL
SELECT 'extension ' || quote_ident(extname), '' FROM pg_extension
UNION ALL
SELECT CASE relkind WHEN 'v' THEN 'view ' WHEN 'm' THEN 'materialized view ' WHEN 'S' THEN 'sequence '
            WHEN 'f' THEN 'foreign table ' WHEN 'c' THEN 'type ' ELSE 'table ' END || name,
       concat_ws(' ', relkind, relpersistence, reloptions::text, relrowsecurity, relforcerowsecurity,
                 pg_get_partkeydef(r.oid), pg_get_expr(relpartbound, r.oid), relreplident,
                 CASE WHEN relkind IN ('v', 'm') THEN pg_get_viewdef(r.oid) END, relacl::text,
                 (SELECT string_agg(i.inhparent::regclass::text, ',' ORDER BY i.inhseqno)
                  FROM pg_inherits i WHERE i.inhrelid = r.oid),
                 (SELECT concat_ws(' ', s.seqtypid::regtype, s.seqstart, s.seqincrement, s.seqmax,
                                   s.seqmin, s.seqcache, s.seqcycle)
                  FROM pg_sequence s WHERE s.seqrelid = r.oid))
FROM rel r
WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'c')
  AND NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_class'::regclass AND m.objid = r.oid)
UNION ALL
SELECT format('column %s.%I', r.name, a.attname),
       concat_ws(' ', format_type(a.atttypid, a.atttypmod), CASE WHEN a.attnotnull THEN 'NOT NULL' END,
                 pg_get_expr(d.adbin, d.adrelid), nullif(a.attidentity, ''), nullif(a.attgenerated, ''),
                 CASE WHEN a.attcollation <> t.typcollation THEN a.attcollation::regcollation::text END,
                 nullif(a.attstorage, t.typstorage), nullif(a.attstattarget, -1),
                 a.attoptions::text, a.attacl::text)
FROM rel r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_attrdef d ON d.adrelid = r.oid AND d.adnum = a.attnum
WHERE r.relkind IN ('r', 'p', 'f', 'c')
UNION ALL
SELECT format('constraint %I on %s', con.conname, coalesce(r.name, con.contypid::regtype::text)),
       pg_get_constraintdef(con.oid)
FROM pg_constraint con LEFT JOIN rel r ON r.oid = con.conrelid JOIN ours o ON o.oid = con.connamespace
WHERE con.contype IN ('c', 'f', 'p', 'u', 'x')
UNION ALL
SELECT 'index ' || r.name, concat_ws(' ', pg_get_indexdef(i.indexrelid), CASE WHEN NOT i.indisvalid
            THEN 'INVALID' END, CASE WHEN i.indisclustered THEN 'CLUSTERED' END,
            CASE WHEN i.indisreplident THEN 'REPLICA IDENTITY' END)
FROM pg_index i JOIN rel r ON r.oid = i.indexrelid
UNION ALL
SELECT format('%s %s', CASE p.prokind WHEN 'p' THEN 'procedure' WHEN 'a' THEN 'aggregate' ELSE 'function' END,
              p.oid::regprocedure),
       concat_ws(' ', CASE WHEN p.prokind <> 'a' THEN pg_get_functiondef(p.oid) END, p.proacl::text)
FROM pg_proc p JOIN ours o ON o.oid = p.pronamespace
-- Those that stand in for an extension say so at their end.
WHERE right(p.prosrc, 16) <> '/* sqladvisor */' AND NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_proc'::regclass AND m.objid = p.oid)
UNION ALL
SELECT format('trigger %I on %s', t.tgname, r.name), concat_ws(' ', pg_get_triggerdef(t.oid), t.tgenabled)
FROM pg_trigger t JOIN rel r ON r.oid = t.tgrelid WHERE NOT t.tgisinternal
UNION ALL
SELECT format('policy %I on %s', p.polname, r.name),
       concat_ws(' ', p.polcmd, p.polpermissive, pg_get_expr(p.polqual, p.polrelid),
                 pg_get_expr(p.polwithcheck, p.polrelid),
                 (SELECT string_agg(x.rolname, ',' ORDER BY x.rolname) FROM pg_roles x WHERE x.oid = ANY (p.polroles)))
FROM pg_policy p JOIN rel r ON r.oid = p.polrelid
UNION ALL
SELECT format('rule %I on %s', w.rulename, r.name), pg_get_ruledef(w.oid)
FROM pg_rewrite w JOIN rel r ON r.oid = w.ev_class WHERE w.rulename <> '_RETURN'
UNION ALL
SELECT format('type %I.%I', o.nspname, t.typname),
       concat_ws(' ', t.typtype, CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, t.typtypmod) END,
                 CASE WHEN t.typnotnull THEN 'NOT NULL' END, t.typdefault,
                 (SELECT string_agg(quote_literal(e.enumlabel), ', ' ORDER BY e.enumsortorder)
                  FROM pg_enum e WHERE e.enumtypid = t.oid))
FROM pg_type t JOIN ours o ON o.oid = t.typnamespace
WHERE t.typtype IN ('e', 'd', 'r')
  AND NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_type'::regclass AND m.objid = t.oid)
UNION ALL
SELECT format('statistics %I.%I', o.nspname, s.stxname), pg_get_statisticsobjdef(s.oid)
FROM pg_statistic_ext s JOIN ours o ON o.oid = s.stxnamespace
UNION ALL
SELECT format('comment on %s', (pg_identify_object(d.classoid, d.objoid, d.objsubid)).identity), d.description
FROM pg_description d
WHERE d.objoid >= 16384 AND NOT EXISTS (SELECT FROM member m WHERE m.classid = d.classoid AND m.objid = d.objoid)
  AND d.classoid <> 'pg_extension'::regclass AND d.classoid <> 'pg_proc'::regclass
"""


@dataclass(frozen=True, slots=True)
class Difference:
    """An object that is ``missing`` from the second of two schemas, ``extra`` in it, or ``changed``."""

    kind: str
    name: str
    before: str = ""
    after: str = ""

    def __str__(self) -> str:
        if self.kind != "changed":
            return f"{self.name} is {'missing' if self.kind == 'missing' else 'left behind'}"
        old, new = _short(self.before), _short(self.after)
        if old == new or self.before.count("\n") > 1:
            return f"{self.name} has another definition"
        return f"{self.name} is {new or 'without any'}, was {old or 'without any'}"


def describe(connection: psycopg.Connection) -> Description:
    """The schema of a database, but for the system's own. As a superuser; changes no setting."""
    with connection.transaction():
        connection.execute("SET LOCAL search_path = ''")
        rows = connection.execute(_QUERY.encode()).fetchall()
    return {name: definition or "" for name, definition in rows}


def differences(before: Description, after: Description) -> list[Difference]:
    """What differs, with parts of a missing or extra table left out: the table says it."""
    found = []
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if new is None:
            found.append(Difference("missing", name, old or ""))
        elif old is None:
            found.append(Difference("extra", name, "", new))
        elif old != new:
            found.append(Difference("changed", name, old, new))
    tables = [
        d.name.partition(" ")[2]
        for d in found
        if d.kind != "changed" and d.name.startswith(("table ", "foreign table ", "materialized "))
    ]
    return [d for d in found if not any(_part_of(d.name, table) for table in tables)]


# Their names begin with their table's: by the dot, or by PostgreSQL's own choice of names.
_PARTS = (("column", "."), ("comment on", "."), ("sequence", "_"), ("index", "_"))


def _part_of(name: str, table: str) -> bool:
    return (
        name.startswith(tuple(f"{what} {table}{mark}" for what, mark in _PARTS))
        or name == f"comment on {table}"
        or name.endswith(f" on {table}")
    )


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 80 else flat[:79] + "…"
