"""An extension that only a superuser can create, or that lets SQL run programs and read files.

Why: since PostgreSQL 13 whoever may create objects in a database can create its trusted extensions. All
    others, and all of them before 13, need a superuser: the migration fails under the role that it has in
    production. Untrusted languages (plpython3u, plperlu) run anything as the server's user.
Fix: have it created once by who may (the provider's console, a superuser), outside migrations; CREATE
    EXTENSION IF NOT EXISTS then passes without the right.
Silent when: the extension is a trusted one of PostgreSQL's own; it is not known (ask its control file);
    IF NOT EXISTS where the starting schema has it.
Source: PostgreSQL manual, CREATE EXTENSION; 36.17 "trusted"; the control files of contrib 18.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext
from sqladvisor.rule import rule
from sqladvisor.sql.statement import Node

SCHEMA = "CREATE EXTENSION dblink;"
BAD = [
    "CREATE EXTENSION plpython3u;",
    "CREATE EXTENSION IF NOT EXISTS pg_stat_statements;",
    "-- pg_version: 12\nCREATE EXTENSION pg_trgm;",
]
GOOD = [
    "CREATE EXTENSION pg_trgm;",
    'CREATE EXTENSION IF NOT EXISTS "uuid-ossp";',
    "CREATE EXTENSION our_own;",
    "DROP EXTENSION pg_stat_statements;",
    "CREATE EXTENSION IF NOT EXISTS dblink;",
]
TRUSTED_SINCE = 13
_TRUSTED = frozenset(
    ("bool_plperl", "btree_gin", "btree_gist", "citext", "cube", "dict_int", "fuzzystrmatch", "hstore",
     "hstore_plperl", "intarray", "isn", "jsonb_plperl", "lo", "ltree", "pg_trgm", "pgcrypto", "plperl",
     "plpgsql", "pltcl", "seg", "tablefunc", "tcn", "tsm_system_rows", "tsm_system_time", "unaccent",
     "uuid-ossp")
)  # fmt: skip
_SUPERUSER = frozenset(
    ("adminpack", "amcheck", "autoinc", "bloom", "dict_xsyn", "earthdistance", "insert_username", "intagg",
     "moddatetime", "old_snapshot", "pageinspect", "pg_buffercache", "pg_freespacemap", "pg_prewarm",
     "pg_stat_statements", "pg_surgery", "pg_visibility", "pg_walinspect", "pgrowlocks", "pgstattuple",
     "postgres_fdw", "refint", "sslinfo", "xml2")
)  # fmt: skip
_DANGEROUS = {
    "plpython3u": "its functions run any program as the server's user",
    "plpythonu": "its functions run any program as the server's user",
    "plperlu": "its functions run any program as the server's user",
    "pltclu": "its functions run any program as the server's user",
    "plsh": "its functions run any program as the server's user",
    "file_fdw": "its tables read files of the server and run programs",
    "dblink": "its functions connect to other servers from within a query",
}


@rule("CreateExtensionStmt", severity="info")
def check(node: Node, ctx: MigrationContext) -> Iterator[Finding]:
    name = str(node.get("extname", ""))
    if node.get("if_not_exists") and name in ctx.state.builder.extensions:
        return
    danger = _DANGEROUS.get(name)
    old = ctx.pg_version < TRUSTED_SINCE and name in _TRUSTED and name != "plpgsql"
    if danger:
        message = f"extension {name} needs a superuser, and {danger}"
        yield ctx.finding(None, message, severity="warning")
    elif name in _SUPERUSER or old:
        yield ctx.finding(
            None,
            f"extension {name} needs a superuser{' before 13' * old}: under an ordinary role this migration "
            "fails",
        )
