"""Shared fixtures: one real embedded cluster for the session, a fresh database for each test."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count

import psycopg
import pytest
from hypothesis import HealthCheck, settings

from sqladvisor.server.binaries import find_binaries
from sqladvisor.server.embedded import Cluster

# How long an example takes says more of what else the machine does than of the code. CI judges a
# change by the same examples each time; elsewhere new ones are tried.
settings.register_profile(
    "untimed",
    deadline=None,
    derandomize=bool(os.environ.get("SQLADVISOR_TEST_ALL")),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("untimed")

_numbers = count(1)


@dataclass(frozen=True)
class Database:
    """A database of the session's cluster, dropped after its test."""

    cluster: Cluster
    name: str

    @property
    def dsn(self) -> str:
        return self.cluster.dsn(self.name)

    def connect(self, user: str = "postgres") -> psycopg.Connection:
        return self.cluster.connect(self.name, user=user)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with Cluster(find_binaries(None)) as running:
        yield running


@pytest.fixture
def make_database(cluster: Cluster) -> Iterator[Callable[..., Database]]:
    """Makes databases, each with the given SQL run in it."""
    made: list[str] = []

    def make(sql: str = "") -> Database:
        name = f"test_{next(_numbers)}"
        cluster.create_database(name)
        made.append(name)
        database = Database(cluster, name)
        if sql:
            from sqladvisor.sql.source import read_source, statements

            found, problems = statements(read_source("setup.sql", sql.encode()))
            assert not problems, problems
            with database.connect() as connection:
                for statement in found:
                    connection.execute(statement.sql.encode())
        return database

    yield make
    for name in made:
        cluster.drop_database(name)
