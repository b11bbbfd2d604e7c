"""Guarded sessions on a server that is not ours, and errors as one clean line without secrets."""

from __future__ import annotations

import logging
import os
import re
from typing import Any
from urllib.parse import unquote

import psycopg
from psycopg import conninfo, pq

from sqladvisor.errors import InputError, ServerError

APPLICATION = "sqladvisor"
CONNECT_TIMEOUT_S = 10
IDLE_TIMEOUT_MS = 60_000
OLDEST = 130000
"""server_version_num of the oldest supported server."""
_LIBPQ = ("PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGUSER", "PGSERVICE")
_SECRET = re.compile(
    r"(password|passfile|sslpassword|sslkey|scram_\w+)\s*=\s*('(?:[^'\\]|\\.)*'|\S+)", re.I
)
_URL_SECRET = re.compile(r"(\w+://[^\s:/@]*):[^\s/@]*@")
_URL_PARAMETER = re.compile(r"([?&](?:password|sslpassword|passfile)=)[^&\s]*", re.I)
# Control characters, Unicode line separators, and bidirectional overrides (CVE-2021-42574).
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
# psycopg warns through logging of rollbacks that an interrupt kept it from; nobody asked for that.
logging.getLogger("psycopg").addHandler(logging.NullHandler())
_MALFORMED = "the DSN is malformed: expected postgresql://user@host:port/db or host=… dbname=…"


def resolve_dsn(argument: str | None) -> str:
    """The DSN to use: the argument, SQLADVISOR_DSN, or libpq's own variables ("" then).

    Raises InputError when none of them says where to connect.
    """
    if argument:
        return argument
    if from_environment := os.environ.get("SQLADVISOR_DSN"):
        return from_environment
    if any(os.environ.get(name) for name in _LIBPQ):
        return ""
    raise InputError(
        "no server named: give a DSN (postgresql://user@host/db), or set SQLADVISOR_DSN or PGSERVICE"
    )


def check_dsn(dsn: str) -> None:
    """Raises ServerError, which repeats nothing of it, for a DSN that is malformed."""
    _parse(dsn)


def redact_dsn(dsn: str) -> str:
    """What may be shown of a DSN: user, host, port, database. Never a secret, even when malformed."""
    try:
        parts = _parse(dsn)
    except ServerError:
        return "the DSN"
    user = parts.get("user") or os.environ.get("PGUSER")
    host = parts.get("host") or parts.get("hostaddr") or os.environ.get("PGHOST") or "local socket"
    port = parts.get("port") or os.environ.get("PGPORT")
    name = parts.get("dbname") or os.environ.get("PGDATABASE")
    service = parts.get("service") or os.environ.get("PGSERVICE")
    shown = f"{user}@{host}" if user else host
    shown += f":{port}" if port else ""
    shown += f"/{name}" if name else ""
    return _printable(f"service {service}" if service and not name else shown)


def connect_target(
    dsn: str, *, statement_timeout_ms: int = 30_000, lock_timeout_ms: int = 1_000
) -> psycopg.Connection:
    """A read-only, time-limited session in autocommit on the user's server.

    The guards are start-up options, and checked: a transaction pooler that drops them would hand a
    SET on to the sessions of others, so such a connection is refused. Raises ServerError, in one
    line and without secrets.
    """
    guards = _guards(statement_timeout_ms, lock_timeout_ms)
    parts = _guarded(dsn, guards)
    try:
        connection = psycopg.connect(**parts, autocommit=True)
    except (psycopg.Error, ValueError) as error:
        raise _no_connection(dsn, error) from None
    try:
        _check_version(connection, dsn)
        _check_guards(connection.execute(_asked(guards)).fetchone(), guards, dsn)
    except psycopg.Error as error:
        connection.close()
        raise ServerError(f"{redact_dsn(dsn)}: {one_line(error, dsn)}") from None
    except BaseException:
        connection.close()
        raise
    return connection


def connect_staging(dsn: str, *, statement_timeout_ms: int = 600_000) -> psycopg.Connection:
    """A session in autocommit that may write: for a copy that the user named to build indexes on.

    Raises ServerError, in one line and without secrets.
    """
    parts = _parse(dsn)
    parts.setdefault("connect_timeout", CONNECT_TIMEOUT_S)
    parts["application_name"] = APPLICATION
    where = redact_dsn(dsn)
    try:
        connection = psycopg.connect(**parts, autocommit=True)
    except (psycopg.Error, ValueError) as error:
        raise ServerError(f"{where}: cannot connect: {one_line(error, dsn)}") from None
    try:
        connection.execute(f"SET statement_timeout = {int(statement_timeout_ms)}".encode())
        connection.execute(b"SET lock_timeout = '10s'")
    except psycopg.Error as error:
        connection.close()
        raise ServerError(f"{where}: {one_line(error, dsn)}") from None
    return connection


async def connect_target_async(
    dsn: str, *, statement_timeout_ms: int = 30_000, lock_timeout_ms: int = 1_000
) -> psycopg.AsyncConnection:
    """The same session with the same guards, for an event loop. Raises ServerError alike."""
    guards = _guards(statement_timeout_ms, lock_timeout_ms)
    parts = _guarded(dsn, guards)
    try:
        connection = await psycopg.AsyncConnection.connect(**parts, autocommit=True)
    except (psycopg.Error, ValueError, OSError) as error:
        raise _no_connection(dsn, error) from None
    try:
        _check_version(connection, dsn)
        row = await (await connection.execute(_asked(guards))).fetchone()
        _check_guards(row, guards, dsn)
    except psycopg.Error as error:
        await connection.close()
        raise ServerError(f"{redact_dsn(dsn)}: {one_line(error, dsn)}") from None
    except BaseException:
        await connection.close()
        raise
    return connection


def _asked(guards: dict[str, str]) -> bytes:
    """The query for the guards as they are. The view pg_settings would print all 400 settings."""
    shown = (f"pg_catalog.current_setting('{name}')" for name in guards)
    return f"SELECT {', '.join(shown)}".encode()


def _guards(statement_timeout_ms: int, lock_timeout_ms: int) -> dict[str, str]:
    return {
        "default_transaction_read_only": "on",
        "statement_timeout": str(statement_timeout_ms),
        "lock_timeout": str(lock_timeout_ms),
        "idle_in_transaction_session_timeout": str(IDLE_TIMEOUT_MS),
    }


def _guarded(dsn: str, guards: dict[str, str]) -> dict[str, Any]:
    """The parameters to connect with: the DSN's own, and the guards as start-up options."""
    parts = _parse(dsn)
    given = libpq_defaults(parts.get("service")) | parts
    own = given.get("options", "")
    parts["options"] = " ".join([own, *(f"-c {k}={v}" for k, v in guards.items())]).strip()
    parts["connect_timeout"] = given.get("connect_timeout", CONNECT_TIMEOUT_S)
    parts["application_name"] = APPLICATION
    return parts


def _no_connection(dsn: str, error: BaseException) -> ServerError:
    return ServerError(f"{redact_dsn(dsn)}: cannot connect: {one_line(error, dsn)}")


def _check_version(connection: psycopg.Connection | psycopg.AsyncConnection, dsn: str) -> None:
    version = connection.info.server_version
    if version < OLDEST:
        raise ServerError(
            f"{redact_dsn(dsn)}: PostgreSQL {version // 10000} is not supported (13 or newer is)"
        )


_UNITS = (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000), ("ms", 1))


def _as_shown(value: str) -> str:
    """Milliseconds as PostgreSQL shows them: in the largest unit that leaves no remainder."""
    if not value.isdigit() or not int(value):
        return value
    unit, size = next(u for u in _UNITS if int(value) % u[1] == 0)
    return f"{int(value) // size}{unit}"


def _check_guards(found: tuple[Any, ...] | None, guards: dict[str, str], dsn: str) -> None:
    if found != tuple(map(_as_shown, guards.values())):
        raise ServerError(
            f"{redact_dsn(dsn)}: the session's safety settings did not take effect (a connection "
            "pooler drops them?): connect to PostgreSQL itself"
        )


def _parse(dsn: str) -> dict[str, Any]:
    """The DSN's parameters. Raises ServerError, which repeats nothing of a malformed DSN."""
    try:
        parts = {k: str(v) for k, v in conninfo.conninfo_to_dict(dsn).items() if v is not None}
    except (psycopg.Error, ValueError):
        raise ServerError(_MALFORMED) from None
    if url := re.match(r"postgres(?:ql)?://([^?]*)", dsn):
        authority, _, rest = url[1].partition("/")
        if authority.count("@") > 1 or "@" in rest:
            # libpq would take a piece of the password for the host and say it in its message.
            raise ServerError(f"{_MALFORMED} (write @ : / in a password as %40 %3A %2F)")
    return parts


def libpq_defaults(service: str | None) -> dict[str, str]:
    """What libpq fills in itself where the DSN is silent: the service file, then the environment."""
    before = os.environ.get("PGSERVICE")
    if service:
        os.environ["PGSERVICE"] = service  # PQconndefaults has no other way to be told
    try:
        return {
            option.keyword.decode(): option.val.decode(errors="replace")
            for option in pq.Conninfo.get_defaults()
            if option.val is not None
        }
    finally:
        if before is not None:
            os.environ["PGSERVICE"] = before
        elif service:
            del os.environ["PGSERVICE"]


def one_line(error: BaseException, dsn: str = "") -> str:
    """An error's message as a single line: no control characters, no secrets, no DETAIL lines."""
    diag = getattr(error, "diag", None)
    text = getattr(diag, "message_primary", None) or _first_line(str(error))
    return _printable(scrub(text or type(error).__name__, dsn))


def _first_line(text: str) -> str:
    """The first line, without what psycopg puts before libpq's own words."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return re.sub(r"^connection (?:failed|is bad): (?=\S)", "", line)


def _printable(text: str) -> str:
    return _UNPRINTABLE.sub(
        lambda m: f"\\x{ord(m[0]):02x}" if ord(m[0]) < 256 else f"\\u{ord(m[0]):04x}", text
    )


def scrub(text: str, dsn: str = "") -> str:
    """The text with every password of the DSN, of PGPASSWORD and of embedded conninfos removed."""
    for secret in _secrets(dsn):
        text = text.replace(secret, "***")
    text = _URL_SECRET.sub(r"\1:***@", text)
    text = _URL_PARAMETER.sub(r"\1***", text)
    return _SECRET.sub(r"\1=***", text)


def _secrets(dsn: str) -> list[str]:
    found = {os.environ.get("PGPASSWORD", "")}
    try:
        parts = _parse(dsn)
        found |= {parts.get("password", ""), parts.get("sslpassword", "")}
    except ServerError:
        if match := re.search(r"://[^:/@\s]*:(\S*)@", dsn):
            found |= {match[1], unquote(match[1])}
    # Shorter ones would take letters out of every word of the message.
    return sorted((s for s in found if len(s) > 2), key=len, reverse=True)
