"""What a schema asks for and this server lacks, made as something like it, and said.

Roles, collations of ICU, tablespaces, table access methods, types and a few functions of extensions:
without them a table would be missing whole, with its plans. What cannot be stood in for is refused
as PostgreSQL refuses it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from sqladvisor.sql.quote import identifier
from sqladvisor.sql.statement import Node, Statement
from sqladvisor.sql.tree import names, unwrap

MAX_TRIES = 50
"""Changes for the sake of one statement."""
_NO_ROLE = re.compile(r'role "(.+)" does not exist')
_NO_COLLATION = re.compile(r'collation "(.+)" for encoding ".+" does not exist')
_NO_TYPE = re.compile(r'type "(.+)" does not exist')
_NO_SPACE = re.compile(r'tablespace "(.+)" does not exist')
_NO_METHOD = re.compile(r'access method "(.+)" does not exist')
_NO_EXTENSION = re.compile(r'extension "(.+)" is not available')
_NAME = r'(?:"(?:[^"]|"")+"|\w+)'
_TYPE_NAME = re.compile(rf"{_NAME}(?:\s*\.\s*{_NAME})*(?:\s*\([^()]*\))?")
_TABLESPACE = re.compile(rf"\s*\bTABLESPACE\s+{_NAME}", re.I)
_USING = re.compile(rf"\s*\bUSING\s+{_NAME}", re.I)
STAND_IN_TYPE = "text"
"""For a type of a missing extension: of any length, and nothing is known of its values."""
# Signatures: https://www.postgresql.org/docs/current/uuid-ossp.html and pgcrypto.html. They are
# there to be defaults of columns and to be planned, not to be secure.
_FUNCTIONS = {
    "uuid-ossp": (
        "uuid_generate_v1() RETURNS uuid LANGUAGE sql VOLATILE AS 'SELECT gen_random_uuid()'",
        "uuid_generate_v1mc() RETURNS uuid LANGUAGE sql VOLATILE AS 'SELECT gen_random_uuid()'",
        "uuid_generate_v4() RETURNS uuid LANGUAGE sql VOLATILE AS 'SELECT gen_random_uuid()'",
        "uuid_generate_v3(uuid, text) RETURNS uuid LANGUAGE sql IMMUTABLE STRICT AS 'SELECT md5($1::text || $2)::uuid'",
        "uuid_generate_v5(uuid, text) RETURNS uuid LANGUAGE sql IMMUTABLE STRICT AS 'SELECT md5($2 || $1::text)::uuid'",
        "uuid_nil() RETURNS uuid LANGUAGE sql IMMUTABLE AS 'SELECT ''00000000-0000-0000-0000-000000000000''::uuid'",
    ),
    "pgcrypto": (
        "gen_random_bytes(integer) RETURNS bytea LANGUAGE sql VOLATILE STRICT AS "
        "'SELECT substr(decode(repeat(md5(random()::text), 64), ''hex''), 1, $1)'",
        "gen_salt(text) RETURNS text LANGUAGE sql VOLATILE STRICT AS 'SELECT $1 || md5(random()::text)'",
        "crypt(text, text) RETURNS text LANGUAGE sql IMMUTABLE STRICT AS 'SELECT md5($1 || $2)'",
        "digest(text, text) RETURNS bytea LANGUAGE sql IMMUTABLE STRICT AS 'SELECT decode(md5($1 || $2), ''hex'')'",
        "digest(bytea, text) RETURNS bytea LANGUAGE sql IMMUTABLE STRICT AS 'SELECT decode(md5($1), ''hex'')'",
        "gen_random_uuid() RETURNS uuid LANGUAGE sql VOLATILE AS 'SELECT pg_catalog.gen_random_uuid()'",
        "gen_salt(text, integer) RETURNS text LANGUAGE sql VOLATILE STRICT AS 'SELECT $1 || md5(random()::text)'",
        "hmac(bytea, bytea, text) RETURNS bytea LANGUAGE sql IMMUTABLE STRICT AS 'SELECT sha256($1 || $2)'",
        "encrypt(bytea, bytea, text) RETURNS bytea LANGUAGE sql IMMUTABLE STRICT AS 'SELECT $1'",
        "decrypt(bytea, bytea, text) RETURNS bytea LANGUAGE sql IMMUTABLE STRICT AS 'SELECT $1'",
        "pgp_sym_encrypt(text, text) RETURNS bytea LANGUAGE sql VOLATILE STRICT AS "
        "'SELECT convert_to($1 || random()::text, ''UTF8'')'",
        "pgp_sym_decrypt(bytea, text) RETURNS text LANGUAGE sql IMMUTABLE STRICT AS 'SELECT convert_from($1, ''UTF8'')'",
        "hmac(text, text, text) RETURNS bytea LANGUAGE sql IMMUTABLE STRICT AS 'SELECT decode(md5($1 || $2), ''hex'')'",
    ),
}  # fmt: skip

OURS = "/* sqladvisor */"
"""Ends the body of each: who compares schemas passes over them."""


def stands_in_for(extension: str) -> bool:
    """Whether functions of that name can stand in for an extension's."""
    return extension in _FUNCTIONS


def about_stand_in(kind: str, node: Node) -> bool:
    """Whether a statement drops, changes or comments on an extension that is only stood in for."""
    if kind == "CommentStmt" and node.get("objtype") == "OBJECT_EXTENSION":
        return stands_in_for(str(node.get("object", {}).get("String", {}).get("sval", "")))
    if kind in ("AlterExtensionStmt", "AlterExtensionContentsStmt"):
        return stands_in_for(str(node.get("extname", "")))
    if kind == "DropStmt" and node.get("removeType") == "OBJECT_EXTENSION":
        found = [str(unwrap(o)[1].get("sval", "")) for o in node.get("objects", ())]
        return bool(found) and all(map(stands_in_for, found))
    return False


@dataclass(slots=True)
class Substitutes:
    """What has been stood in for while a schema was loaded."""

    said: list[str] = field(default_factory=list)
    """For the report, each once."""
    missing: list[str] = field(default_factory=list)
    """Extensions that the server lacks: what they would have made is missing, too."""

    def say(self, what: str) -> None:
        if what not in self.said:
            self.said.append(what)


@dataclass(frozen=True, slots=True)
class Lack:
    """What a statement, as ``text``, was refused for: there is nothing of that ``name``."""

    name: str
    text: str
    error: psycopg.Error
    item: Statement
    admin: psycopg.Connection
    substitutes: Substitutes


def execute(
    connection: psycopg.Connection,
    item: Statement,
    admin: psycopg.Connection,
    owner: psycopg.Connection,
    substitutes: Substitutes,
) -> psycopg.Cursor:
    """Run a statement of a schema; what it lacks is made or left out, as long as that helps.

    ``admin`` makes roles and collations, ``owner`` (the plain role) functions. Raises psycopg.Error.
    """
    text = item.sql
    for _ in range(MAX_TRIES):
        try:
            return connection.execute(text.encode())
        except psycopg.Error as error:
            if connection.closed:
                raise
            changed = mended(error, text, item, admin, owner, substitutes)
            if changed is None:
                raise
            text = changed
    return connection.execute(text.encode())


def mended(
    error: psycopg.Error,
    text: str,
    item: Statement,
    admin: psycopg.Connection,
    owner: psycopg.Connection,
    substitutes: Substitutes,
) -> str | None:
    """The statement to run instead, after what could be made for it has been; None for none."""
    refusals = (psycopg.errors.UndefinedObject, psycopg.errors.InsufficientPrivilege)
    if item.kind == "CreateSchemaStmt" and isinstance(error, refusals):
        return _own_schema(text, item)
    if make_role(error, admin):
        return text
    said = error.diag.message_primary or ""
    if isinstance(error, psycopg.errors.FeatureNotSupported):
        if item.kind == "CreateExtensionStmt" and (found := _NO_EXTENSION.fullmatch(said)):
            return _without_extension(found[1], item, owner, substitutes)
        if item.tree.get("kind") == "OBJECT_COLLATION":
            parts = names(item.tree.get("defnames"))
            _say_collation(".".join(parts), substitutes)
            return f'CREATE COLLATION {".".join(map(identifier, parts))} FROM pg_catalog."C"'
    if not isinstance(error, psycopg.errors.UndefinedObject):
        return None
    for pattern, mend in _MENDS:
        if found := pattern.fullmatch(said):
            return mend(Lack(found[1], text, error, item, admin, substitutes))
    return None


def make_role(error: psycopg.Error, admin: psycopg.Connection) -> bool:
    """Make the role that a statement was refused for; False where that was not the reason."""
    missing = _NO_ROLE.fullmatch(error.diag.message_primary or "")
    if missing is None or not isinstance(error, psycopg.errors.UndefinedObject):
        return False
    with suppress(psycopg.errors.DuplicateObject):
        admin.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(missing[1])))
    return True


def _own_schema(text: str, item: Statement) -> str | None:
    """CREATE SCHEMA … AUTHORIZATION, as the plain role's own."""
    role = item.tree.get("authrole", {}).get("rolename")
    if role is None:
        return None
    found = re.search(rf"\bAUTHORIZATION\s+{_NAME}", text, re.I)
    if found is None:
        return None
    name = "" if item.tree.get("schemaname") else f"{identifier(role)} "
    return f"{text[: found.start()]}{name}{text[found.end() :]}"


def _without_extension(
    name: str, item: Statement, owner: psycopg.Connection, substitutes: Substitutes
) -> str:
    substitutes.missing.append(name)
    schema = next(
        (
            option["arg"]["String"]["sval"]
            for option in (unwrap(o)[1] for o in item.tree.get("options", ()))
            if option.get("defname") == "schema"
        ),
        None,
    )
    prefix = f"{identifier(schema)}." if schema else ""
    made = _FUNCTIONS.get(name, ())
    for function in made:
        with suppress(psycopg.Error):
            owner.execute(f"CREATE FUNCTION {prefix}{function[:-1]} {OURS}'".encode())
    what = "its functions are stood in for" if made else "what needs its functions is left out"
    substitutes.say(f'extension "{name}" is not available here: {what}')
    return "SELECT"


def _collation(lack: Lack) -> str:
    schema, _, bare = lack.name.rpartition(".")
    made = sql.Identifier(schema or "pg_catalog", bare)
    lack.admin.execute(sql.SQL('CREATE COLLATION {} FROM pg_catalog."C"').format(made))
    _say_collation(bare, lack.substitutes)
    return lack.text


def _say_collation(name: str, substitutes: Substitutes) -> None:
    substitutes.say(
        f"collation {name} is ICU's, which this PostgreSQL lacks: planned as if it sorted by bytes"
    )


def _type(lack: Lack) -> str | None:
    """The statement with text for a type that a missing extension would have; a typo stays one."""
    position, missing = lack.error.diag.statement_position, lack.substitutes.missing
    found = _TYPE_NAME.match(lack.text, int(position or 0) - 1)
    if not missing or not position or found is None:
        return None
    if lack.item.kind not in ("CreateStmt", "AlterTableStmt", "CreateForeignTableStmt"):
        return None
    lack.substitutes.say(
        f"type {lack.name} is unknown here ({', '.join(missing)} missing): its columns are "
        f"planned as {STAND_IN_TYPE}"
    )
    return f"{lack.text[: found.start()]}{STAND_IN_TYPE}{lack.text[found.end() :]}"


def _space(lack: Lack) -> str | None:
    changed = _TABLESPACE.sub("", lack.text)
    return changed if changed != lack.text else None


def _method(lack: Lack) -> str | None:
    if lack.item.kind not in ("CreateStmt", "CreateTableAsStmt"):
        return None
    lack.substitutes.say(f"table access method {lack.name} is unknown here: planned as heap")
    return _USING.sub("", lack.text, count=1)


_MENDS: tuple[tuple[re.Pattern[str], Callable[[Lack], str | None]], ...] = (
    (_NO_COLLATION, _collation),
    (_NO_TYPE, _type),
    (_NO_SPACE, _space),
    (_NO_METHOD, _method),
)


def let_use_wrappers(admin: psycopg.Connection, role: str) -> None:
    """Let the plain role make foreign servers and tables with an extension's wrappers."""
    for (name,) in admin.execute("SELECT fdwname FROM pg_foreign_data_wrapper").fetchall():
        admin.execute(
            sql.SQL("GRANT USAGE ON FOREIGN DATA WRAPPER {} TO {}").format(
                sql.Identifier(name), sql.Identifier(role)
            )
        )


def keep_local(admin: psycopg.Connection) -> None:
    """Have no foreign table's planning ask its server: it is another's, and not in reach."""
    rows = admin.execute(
        """SELECT 'SERVER ' || quote_ident(srvname) FROM pg_foreign_server, unnest(srvoptions) o
        WHERE o LIKE 'use_remote_estimate=%'
        UNION ALL
        SELECT 'FOREIGN TABLE ' || ftrelid::regclass::text FROM pg_foreign_table, unnest(ftoptions) o
        WHERE o LIKE 'use_remote_estimate=%'"""
    ).fetchall()
    for (what,) in rows:
        admin.execute(f"ALTER {what} OPTIONS (SET use_remote_estimate 'false')".encode())
