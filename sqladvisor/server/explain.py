"""Asks PostgreSQL for plans. One statement per message, and nothing that runs is ever kept."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from psycopg.pq import ExecStatus, TransactionStatus

from sqladvisor.errors import InputError, ServerError
from sqladvisor.plan.node import Plan
from sqladvisor.plan.read import read_json
from sqladvisor.server.connect import one_line
from sqladvisor.server.masked import restored, translated

GENERIC_PLAN_VERSION = 160000
"""server_version_num of the first PostgreSQL with EXPLAIN (GENERIC_PLAN)."""

# https://www.postgresql.org/docs/current/sql-explain.html#SQL-EXPLAIN-STATEMENT, as libpg_query
# names them. EXECUTE is left out: what it executes was prepared in another session.
_EXPLAINABLE = frozenset(
    ("SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt", "DeclareCursorStmt",
     "CreateTableAsStmt")
)  # fmt: skip

_PREPARED = "sqladvisor_generic"
_OPTIONS = "SETTINGS, SUMMARY, FORMAT JSON"

# SQLSTATEs (appendix A of the manual). Class 57P: the server ends the session.
_QUERY_CANCELED = "57014"
_SESSION_ENDED = ("57P01", "57P02", "57P03", "57P04", "57P05")
_PARAMETERS_MISSING = "08P01"


class ExplainError(ServerError):
    """A statement that cannot be explained. ``sqlstate`` is PostgreSQL's, None when we refused."""

    def __init__(self, message: str, sqlstate: str | None = None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class ExplainTimeout(ExplainError):
    """The statement was stopped by statement_timeout, or by another session."""


def explainable(kind: str) -> bool:
    """Whether EXPLAIN takes a statement of this libpg_query node type."""
    return kind in _EXPLAINABLE


def explain(
    connection: psycopg.Connection[Any],
    sql: str,
    *,
    analyze: bool = False,
    generic: bool = False,
    parameters: Sequence[Any] | None = None,
    settings: Mapping[str, str] | None = None,
    timeout_ms: int | None = None,
    writes: bool = True,
    allow_writes: bool = False,
) -> Plan:
    """The plan of one statement; with ``analyze`` as executed.

    ``generic``: plan a statement with ``$n`` parameters for any values.
    ``parameters``: values for ``$1`` …, best as text, whose types the server then infers.
    ``settings``: planner settings for this statement only.
    ``timeout_ms``: statement_timeout for this statement instead of the session's; 0 is none.
    ``writes``: what ``sql.effects.writes`` says of the statement; only ``analyze`` cares.

    A statement is executed in a read-only transaction; one that writes is executed only with
    ``allow_writes``. Either way it is rolled back, which does not undo sequences, advisory locks,
    or what functions do outside the database. In an open transaction it is a savepoint.

    Raises ExplainError with one clean line when the statement is refused, ExplainTimeout when it
    was stopped, ServerError when the connection is lost.
    """
    if analyze and writes and not allow_writes:
        raise ExplainError(
            "not executed: the statement writes (--allow-writes runs it, rolled back)"
        )
    local = {k: str(v) for k, v in (settings or {}).items()}
    if timeout_ms is not None:
        local["statement_timeout"] = str(timeout_ms)
    try:
        planned, back = translated(connection, sql)
        if generic and not analyze and connection.info.server_version < GENERIC_PLAN_VERSION:
            with connection.transaction(force_rollback=True):
                for name, value in local.items():
                    connection.execute("SELECT set_config(%s, %s, true)", (name, value))
                return _read(generic_document(connection, planned, _OPTIONS), back)
        command = _command(connection, planned, analyze, generic)
        idle = connection.info.transaction_status == TransactionStatus.IDLE
        if not (analyze or local) and idle and connection.autocommit:
            return _run(connection, command, generic, parameters, back)
        with connection.transaction(force_rollback=True):
            if analyze:
                mode = b"WRITE" if writes else b"ONLY"
                connection.execute(b"SET TRANSACTION READ " + mode)
            for name, value in local.items():
                connection.execute("SELECT set_config(%s, %s, true)", (name, value))
            return _run(connection, command, generic, parameters, back)
    except psycopg.Error as error:
        raise refusal(connection, error) from error


def _command(connection: psycopg.Connection[Any], sql: str, analyze: bool, generic: bool) -> bytes:
    options = [_OPTIONS]
    if analyze and generic:
        raise ExplainError("a generic plan cannot be executed: give values for the parameters")
    if analyze:
        options = ["ANALYZE", "BUFFERS", "WAL", *options]
    if generic:
        options.append("GENERIC_PLAN")
    return _encoded(connection, f"EXPLAIN ({', '.join(options)}) {sql}")


def _encoded(connection: psycopg.Connection[Any], sql: str) -> bytes:
    if "\0" in sql:
        raise ExplainError("the statement contains a NUL character")
    encoding = _encoding(connection)
    try:
        return sql.encode(encoding)
    except UnicodeEncodeError:
        raise ExplainError(
            f"the statement has characters that the session's client_encoding ({encoding}) lacks"
        ) from None


def _run(
    connection: psycopg.Connection[Any],
    command: bytes,
    generic: bool,
    parameters: Sequence[Any] | None,
    back: dict[str, str],
) -> Plan:
    # A RawCursor leaves % and $1 alone; asking for binary results makes psycopg use the extended
    # protocol, whose messages hold one statement: a second one is an error, not run.
    # GENERIC_PLAN is only to be had through the simple protocol, as the extended one insists on
    # values and plans for them (transformExplainStmt). So the server first says, by parsing the
    # same text for the extended protocol, that it holds one statement.
    if generic:
        _parse_only(connection, command)
        parameters = None
    with psycopg.RawCursor(connection) as cursor:
        cursor.execute(command, parameters or None, prepare=False, binary=not generic)
        text = _answer(connection, cursor)
        return _read(json.loads(text) if back else text, back)


def _answer(connection: psycopg.Connection[Any], cursor: psycopg.Cursor[Any]) -> str:
    # Not by psycopg's JSON loader: it takes the session's encoding for UTF-8.
    result = cursor.pgresult
    data = result.get_value(0, 0) if result is not None and result.ntuples else None
    return (data or b"[]").decode(_encoding(connection), "replace")


def _read(document: Any, back: dict[str, str]) -> Plan:
    try:
        return read_json(restored(document, back) if back else document)
    except InputError:
        raise ExplainError(
            "PostgreSQL shows no plan for it: a rule rewrites it to nothing, or it is a command"
        ) from None


def generic_document(
    connection: psycopg.Connection[Any], sql: str, options: str = "FORMAT JSON"
) -> Any:
    """The plan for any parameter values as JSON, before PostgreSQL 16: of a prepared statement.

    With force_generic_plan the values given are not looked at (plancache.c), so NULLs do. An empty
    list where there is no plan. Raises psycopg.Error, ExplainError.
    """
    prepared = False
    try:
        with connection.transaction(force_rollback=True), psycopg.RawCursor(connection) as cursor:
            cursor.execute("SET LOCAL plan_cache_mode = force_generic_plan")
            # One statement a message, as in _run().
            text = _encoded(connection, f"PREPARE {_PREPARED} AS {sql}")
            cursor.execute(text, prepare=False, binary=True)
            prepared = True
            cursor.execute(
                "SELECT cardinality(parameter_types) FROM pg_prepared_statements "
                f"WHERE name = '{_PREPARED}'"
            )
            row = cursor.fetchone()
            count = int(row[0]) if row else 0
            values = f"({', '.join(['NULL'] * count)})" if count else ""
            cursor.execute(f"EXPLAIN ({options}) EXECUTE {_PREPARED}{values}".encode())
            document = json.loads(_answer(connection, cursor))
    finally:
        if prepared and not connection.closed:
            connection.execute(f"DEALLOCATE {_PREPARED}")  # no rollback does
    for item in document:
        item.get("Settings", {}).pop("plan_cache_mode", None)
    return document


def _parse_only(connection: psycopg.Connection[Any], command: bytes) -> None:
    result = connection.pgconn.prepare(b"", command)
    if result.status != ExecStatus.COMMAND_OK:
        raise psycopg.errors.error_from_result(result, _encoding(connection))


def _encoding(connection: psycopg.Connection[Any]) -> str:
    """Python's name of the client_encoding; SQL_ASCII passes any bytes, so it gets UTF-8."""
    encoding = connection.info.encoding
    return "utf-8" if encoding == "ascii" else encoding


def refusal(connection: psycopg.Connection[Any], error: psycopg.Error) -> ServerError:
    """The error to raise: ExplainError where the statement is at fault, else a lost connection."""
    sqlstate = error.sqlstate
    cut_off = sqlstate is None and isinstance(error, psycopg.OperationalError)
    if connection.closed or cut_off or sqlstate in _SESSION_ENDED:
        return ServerError(f"lost the connection to the server: {one_line(error)}")
    if sqlstate == _QUERY_CANCELED:
        return ExplainTimeout(one_line(error), sqlstate)
    if sqlstate == _PARAMETERS_MISSING:
        return ExplainError("the statement has parameters and no values for them", sqlstate)
    return ExplainError(one_line(error), sqlstate)
