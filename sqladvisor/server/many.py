"""Many small queries in few messages: what a round trip costs is not paid for each of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import psycopg

_T = TypeVar("_T")
TOGETHER = 50
"""Queries of one message: their locks are held until the last of them is done."""


def batches(items: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    """The items, at most ``size`` at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def first_rows(
    connection: psycopg.Connection, queries: Sequence[str]
) -> list[tuple[Any, ...] | None]:
    """The first row of each query, None where it gave none or was refused.

    The session is in autocommit. Where a query of a message is refused, its message is repeated
    query by query; statement_timeout is each one's own (PostgreSQL 13 on).
    """
    found: list[tuple[Any, ...] | None] = []
    for together in batches(queries, TOGETHER):
        try:
            cursor = connection.execute(";\n".join(together).encode())
        except psycopg.Error:
            if connection.closed:
                raise
            found += [_first_row(connection, query) for query in together]
        else:
            found += [_row(cursor) for _ in _results(cursor)]
    return found


def _results(cursor: psycopg.Cursor[Any]) -> Iterator[None]:
    yield
    while cursor.nextset():
        yield


def _row(cursor: psycopg.Cursor[Any]) -> tuple[Any, ...] | None:
    row: tuple[Any, ...] | None = cursor.fetchone()
    return row


def _first_row(connection: psycopg.Connection, query: str) -> tuple[Any, ...] | None:
    try:
        return _row(connection.execute(query.encode()))
    except psycopg.Error:
        if connection.closed:
            raise
        return None
