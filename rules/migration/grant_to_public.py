"""A privilege is granted to PUBLIC: to every role there is, and every one to come.

Why: PUBLIC takes in roles that are made later, for a report or a supplier. It cannot be withheld from a
    single role.
Fix: grant to a role that stands for those who need it, and make them members.
Silent when: it is what PUBLIC has anyway (EXECUTE on functions, USAGE on types and languages, USAGE on schema
    public); REVOKE.
Source: PostgreSQL manual, 5.8 "Privileges" (the default privileges of PUBLIC); GRANT.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext
from sqladvisor.rule import rule
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import names, unwrap

BAD = [
    "GRANT SELECT ON users TO PUBLIC;",
    "GRANT ALL ON ALL TABLES IN SCHEMA app TO reader, PUBLIC;",
    "GRANT CREATE ON SCHEMA public TO public;",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT SELECT ON TABLES TO PUBLIC;",
    "GRANT app_owner TO PUBLIC;",
]
GOOD = [
    "GRANT SELECT ON users TO reader;",
    "REVOKE ALL ON users FROM PUBLIC;",
    "GRANT EXECUTE ON FUNCTION f() TO PUBLIC;",
    "GRANT USAGE ON SCHEMA public TO PUBLIC;",
    "GRANT USAGE ON TYPE mood TO PUBLIC;",
    'GRANT SELECT ON users TO "PUBLIC";',
]
_ANYWAY = {
    "OBJECT_FUNCTION": "execute",
    "OBJECT_PROCEDURE": "execute",
    "OBJECT_ROUTINE": "execute",
    "OBJECT_TYPE": "usage",
    "OBJECT_DOMAIN": "usage",
    "OBJECT_LANGUAGE": "usage",
}


@rule("GrantStmt", "GrantRoleStmt", "AlterDefaultPrivilegesStmt", severity="warning")
def check(node: Node, ctx: MigrationContext) -> Iterator[Finding]:
    grant = node.get("action", node)
    roles = (*grant.get("grantees", ()), *grant.get("grantee_roles", ()))
    if not grant.get("is_grant") or not any(_public(r) for r in roles):
        return
    given = (*grant.get("privileges", ()), *grant.get("granted_roles", ()))
    privileges = [str(unwrap(p)[1].get("priv_name", "")) for p in given]
    kind = str(grant.get("objtype", ""))
    if privileges and set(privileges) == {_ANYWAY.get(kind)}:
        return
    objects = [_shown(o) for o in grant.get("objects", ())]
    if kind == "OBJECT_SCHEMA" and privileges == ["usage"] and objects == ["public"]:
        return
    what = ", ".join(privileges).upper() if "privileges" in grant else ", ".join(privileges)
    on = f" on {', '.join(objects)}" if objects else ""
    yield ctx.finding(
        None,
        f"grants {what or 'all privileges'}{on} to PUBLIC: to every role, and every one to come",
    )


def _public(role: Node) -> bool:
    return bool(unwrap(role)[1].get("roletype") == "ROLESPEC_PUBLIC")


def _shown(wrapped: Node) -> str:
    kind, node = unwrap(wrapped)
    if kind == "RangeVar":
        return ".".join(filter(None, (node.get("schemaname"), node.get("relname"))))
    if kind == "String":
        return str(node.get("sval", ""))
    return ".".join(names(node.get("objname", node.get("items"))))
