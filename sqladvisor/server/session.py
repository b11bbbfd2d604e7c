"""A guarded session that comes back: when it is lost, one more is opened, and that is said."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

import psycopg

from sqladvisor.errors import ServerError
from sqladvisor.server.connect import connect_target, one_line, redact_dsn

T = TypeVar("T")
MARK = "/* sqladvisor */"
"""Ends our statements. At their start pg_stat_statements would leave it out."""
MAX_RECONNECTS = 3
"""A server that ends our sessions more often than this does not want us."""


def unrecorded(connection: psycopg.Connection) -> None:
    """Have pg_stat_statements leave our statements out, where this role may say so: they would take
    the room of others."""
    with contextlib.suppress(psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedObject):
        connection.execute("SET pg_stat_statements.track = 'none'")


class LiveSession:
    """A read-only, time-limited session on the user's server, as a context manager.

    Names that we write without a schema are PostgreSQL's own: search_path is ``pg_catalog``, so that
    nothing in the database can stand in for them. ``as_user`` gives the user's own settings back.
    """

    def __init__(
        self, dsn: str, *, statement_timeout_ms: int, lock_timeout_ms: int = 1_000
    ) -> None:
        self._dsn = dsn
        self._statement_timeout_ms = statement_timeout_ms
        self._lock_timeout_ms = lock_timeout_ms
        self._reconnects = 0
        self._as_user = False
        self.notes: list[str] = []
        self.connection = self._open()

    def __enter__(self) -> LiveSession:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.connection.close()

    def _open(self) -> psycopg.Connection:
        connection = connect_target(
            self._dsn,
            statement_timeout_ms=self._statement_timeout_ms,
            lock_timeout_ms=self._lock_timeout_ms,
        )
        try:
            if not self._as_user:
                connection.execute(f"SET search_path = pg_catalog {MARK}".encode())
                # Compiling a query over the catalogs takes longer than running it.
                connection.execute(f"SET jit = off {MARK}".encode())
            unrecorded(connection)
        except psycopg.Error as error:
            connection.close()
            raise ServerError(f"{redact_dsn(self._dsn)}: {one_line(error, self._dsn)}") from None
        return connection

    def as_user(self) -> None:
        """From now on resolve names and plan as the user's own sessions do.

        One session for all costs the server less than two: each fills caches of its own.
        """
        self._as_user = True
        self.connection.execute(f"RESET search_path {MARK}".encode())
        self.connection.execute(f"RESET jit {MARK}".encode())

    def run(self, job: Callable[[psycopg.Connection], T]) -> T:
        """What ``job`` returns; it is done again on a new session when this one is lost.

        Raises ServerError when there is no new one to be had.
        """
        cause = "by the server"
        while True:
            try:
                if self.connection.closed:
                    self.connection = self._open()
                    self.notes.append(
                        f"the connection was lost ({cause}): connected again and went on"
                    )
                return job(self.connection)
            except (psycopg.Error, ServerError) as error:
                if not self.connection.closed:
                    raise
                cause = one_line(error, self._dsn)
            self._reconnects += 1
            if self._reconnects > MAX_RECONNECTS:
                raise ServerError(
                    f"{redact_dsn(self._dsn)}: the connection was lost again: {cause}"
                )
            with contextlib.suppress(psycopg.Error):
                self.connection.close()
