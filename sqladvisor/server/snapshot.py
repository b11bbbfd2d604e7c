"""Takes a snapshot of a database: as an ordinary role, reading, in ACCESS SHARE locks at most."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import psycopg
from psycopg import sql

from sqladvisor.catalog.live import DATABASE
from sqladvisor.catalog.model import Catalog, Writes
from sqladvisor.catalog.snapshot import IndexUse, Snapshot, TableUse, WorkloadQuery
from sqladvisor.catalog.snapshot_mask import masked, without_values
from sqladvisor.errors import ServerError
from sqladvisor.server.binaries import Binaries
from sqladvisor.server.connect import connect_target, one_line, redact_dsn, scrub
from sqladvisor.server.dump import dump_schema, unreadable
from sqladvisor.server.statistics import read_statistics
from sqladvisor.sql.libpg import ParseProblem, normalize, parse, scan
from sqladvisor.sql.source import read_source, script
from sqladvisor.sql.statement import Statement

MAX_QUERIES = 5_000
"""Of pg_stat_statements, by total time: its own default limit (pg_stat_statements.max)."""
_TABLES = """
SELECT schemaname, relname, n_tup_ins, n_tup_upd, n_tup_hot_upd, n_tup_del
FROM pg_stat_user_tables ORDER BY 1, 2"""
_INDEXES = "SELECT schemaname, indexrelname, idx_scan FROM pg_stat_user_indexes ORDER BY 1, 2"
_EXTENSION = """
SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname = 'pg_stat_statements'"""
_QUERIES = """
SELECT query, calls, total_exec_time, rows FROM {}.pg_stat_statements
WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
ORDER BY total_exec_time DESC LIMIT {}"""
_KINDS = ("SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt")
_CONSTANTS = ("SCONST", "USCONST", "BCONST", "XCONST", "FCONST")
_HIDDEN = "<insufficient privilege>"
# pg_dump writes them with a new random key each time (CVE-2025-8714).
_RESTRICT = re.compile(r"(?m)^\\(un)?restrict .*\n")
_OPTION = re.compile(
    r"\b(password|passfile|passcode|sslpassword|sslkey|secret\w*|\w*token|\w*_key)(\s+)'(?:[^']|'')*'",
    re.I,
)
_FOREIGN = re.compile(r"(?i)\bFOREIGN\s+(?:TABLE|DATA)\b|\bSERVER\b|\bMAPPING\b")
_CONNECTION = re.compile(r"(?i)\b(?:host|hostaddr|dbname)\s*=")
_PASSWORD = re.compile(r"(?i)\b(password\s*=\s*)(''[^']*''|[^\s']+)")


def take_snapshot(
    dsn: str,
    binaries: Binaries,
    *,
    values: str = "masked",
    workload: bool = True,
    timeout_ms: int = 30_000,
    say: Callable[[str], None] = lambda _: None,
) -> Snapshot:
    """The snapshot of the database at ``dsn``. ``values``: masked, none or full.

    Raises ServerError, in one line and without secrets.
    """
    say(f"connecting to {redact_dsn(dsn)}")
    with connect_target(dsn, statement_timeout_ms=timeout_ms) as connection:
        try:
            connection.execute("SET client_encoding = 'UTF8'")
            say("reading the schema")
            hidden = unreadable(connection)
            schema = without_secrets(dump_schema(binaries, dsn, os.environ, hidden))
            say("reading statistics")
            statistics = read_statistics(connection)
            if hidden:
                said = (
                    "tables and schemas left out, as the role may not read them or they are "
                    f"locked: {len(hidden)}"
                )
                statistics = replace(statistics, missing=(said, *statistics.missing))
            queries, missing = read_workload(connection) if workload else ([], [])
            row = connection.execute(DATABASE.encode()).fetchone()
            assert row is not None
            snapshot = Snapshot(
                "full",
                schema,
                statistics,
                tuple(queries),
                tuple(TableUse(*r) for r in connection.execute(_TABLES).fetchall()),
                tuple(IndexUse(*r) for r in connection.execute(_INDEXES).fetchall()),
                round(row[2], 2),
                row[3],
                tuple(missing),
                taken=datetime.now(UTC).isoformat(timespec="seconds"),
            )
            if values == "none":
                return without_values(snapshot)
            if values == "masked":
                say("masking values")
                return masked(snapshot, _salt(connection), lambda v: _sorted(connection, v))
        except psycopg.Error as error:
            raise ServerError(f"{redact_dsn(dsn)}: {one_line(error, dsn)}") from error
    return snapshot


def _salt(connection: psycopg.Connection) -> bytes:
    """The same for each snapshot of a database, so that they can be compared."""
    row = connection.execute(
        "SELECT oid::text, datname FROM pg_database WHERE datname = current_database()"
    ).fetchone()
    assert row is not None
    return hashlib.sha256(f"sqladvisor snapshot {row[0]} {row[1]}".encode()).digest()[:16]


def _sorted(connection: psycopg.Connection, values: list[str]) -> list[str]:
    row = connection.execute(
        "SELECT array_agg(v ORDER BY v) FROM unnest(%s::text[]) v", [values]
    ).fetchone()
    return list(row[0] or ()) if row else []


def without_secrets(schema: str) -> str:
    """pg_dump's text without user mappings, passwords in options, and what is random in it."""
    schema = _RESTRICT.sub("", schema)
    parts, at = [], 0
    source = read_source("schema", schema.encode())
    for item in script(source) if _FOREIGN.search(schema) else ():
        if not isinstance(item, Statement):
            continue
        start, end = item.start, item.start + len(item.text)
        if item.kind in ("CreateUserMappingStmt", "AlterUserMappingStmt"):
            parts.append(schema[at:start])
            parts.append("-- a user mapping was left out")
            at = end + 1 if schema[end : end + 1] == ";" else end
        elif item.kind in ("CreateForeignServerStmt", "CreateForeignTableStmt", "CreateFdwStmt"):
            parts.append(schema[at:start])
            parts.append(_OPTION.sub(r"\1\2'***'", item.text))
            at = end
    parts.append(schema[at:])
    lines = "".join(parts).split("\n")
    return "\n".join(
        scrub(_PASSWORD.sub(r"\1***", line)) if _CONNECTION.search(line) or "://" in line else line
        for line in lines
    )


def read_workload(connection: psycopg.Connection) -> tuple[list[WorkloadQuery], list[str]]:
    """The statements of pg_stat_statements without a constant or comment, and what is missing.

    Raises psycopg.Error only when the connection fails.
    """
    row = connection.execute(_EXTENSION).fetchone()
    if row is None:
        return [], ["no workload: pg_stat_statements is not installed in this database"]
    query = sql.SQL(_QUERIES).format(sql.Identifier(row[0]), sql.Literal(MAX_QUERIES))
    try:
        rows = connection.execute(query).fetchall()
    except psycopg.Error as error:
        if connection.closed:
            raise
        return [], [f"no workload: {one_line(error)}"]
    found: dict[str, WorkloadQuery] = {}
    hidden = unread = 0
    for text, calls, total, count in rows:
        if text is None or text == _HIDDEN:
            hidden += 1
            continue
        plain = plain_query(text)
        if plain is None:
            unread += not _is_other(text)
            continue
        before = found.get(plain, WorkloadQuery(plain, 0, 0.0, 0))
        found[plain] = WorkloadQuery(
            plain, before.calls + calls, round(before.total_ms + total, 3), before.rows + count
        )
    missing = []
    if hidden:
        missing.append(f"{hidden} statements of other roles are hidden (grant pg_read_all_stats)")
    if unread:
        missing.append(f"{unread} statements of pg_stat_statements cannot be parsed")
    return sorted(found.values(), key=lambda q: q.text), missing


def plain_query(text: str) -> str | None:
    """A statement with every constant replaced by ``$n`` and no comments; None for other commands.

    pg_stat_statements does most of it, but keeps comments, and constants where it was full.
    """
    try:
        parsed = parse(text)
        if len(parsed) != 1 or parsed[0].kind not in _KINDS:
            return None
        normal = normalize(text)
        parts, at = [], 0
        for token in scan(normal):
            if token.name in _CONSTANTS:
                return None
            if token.name in ("SQL_COMMENT", "C_COMMENT"):
                parts.append(normal[at : token.start])
                at = token.end + 1
        return ("".join(parts) + normal[at:]).strip().rstrip(";")
    except ParseProblem:
        return None


def _is_other(text: str) -> bool:
    """Whether a text is a command that no plan is made for."""
    try:
        return all(p.kind not in _KINDS for p in parse(text))
    except ParseProblem:
        return False


def with_counters(catalog: Catalog, snapshot: Snapshot) -> Catalog:
    """A shadow's catalog with the counters of writes and scans that the snapshot has."""
    writes = {
        (t.schema, t.name): Writes(t.inserted, t.updated, t.hot_updated, t.deleted)
        for t in snapshot.tables
    }
    scans = {(i.schema, i.name): i.scans for i in snapshot.indexes}
    relations = {
        key: replace(
            relation,
            writes=writes.get(key),
            columns=tuple(
                replace(c, stats=replace(c.stats, stand_ins=snapshot.stand_ins)) if c.stats else c
                for c in relation.columns
            ),
            indexes=tuple(
                replace(index, scans=scans.get((relation.schema, index.name)))
                for index in relation.indexes
            ),
        )
        for key, relation in catalog.relations.items()
    }
    return replace(
        catalog,
        relations=relations,
        search_path=snapshot.statistics.search_path or catalog.search_path,
        server_version=snapshot.statistics.version,
        collation_is_c=snapshot.statistics.sorts_by_bytes,
        counted_days=snapshot.counted_days,
        standby=snapshot.standby,
    )
