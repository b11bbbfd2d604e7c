"""Fixtures: clusters that keep pg_stat_statements, of each version that is at hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from needs import major
from watching import MAX_ENTRIES, make

from sqladvisor.monitor.store import Store
from sqladvisor.server.binaries import find_binaries
from sqladvisor.server.embedded import Cluster


def _with_statements(cluster: Cluster) -> Cluster:
    with cluster.connect() as admin:
        admin.execute("ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'")
        admin.execute("ALTER SYSTEM SET track_io_timing = on")
    cluster.restart()
    with cluster.connect() as admin:
        admin.execute(f"ALTER SYSTEM SET pg_stat_statements.max = {MAX_ENTRIES}")
    cluster.restart()
    return cluster


@pytest.fixture(scope="session")
def watched() -> Iterator[Cluster]:
    """The embedded server."""
    with Cluster(find_binaries(None)) as running:
        yield _with_statements(running)


@pytest.fixture(scope="session", params=[18, 15])
def any_version(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """The embedded server and Debian's; what differs between versions runs on every one of them."""
    if request.param == 18:
        yield request.getfixturevalue("watched")
        return
    with Cluster(major(request.param)) as running:
        yield _with_statements(running)


@pytest.fixture
def database(watched: Cluster) -> Iterator[str]:
    """A DSN of a fresh database with the extension."""
    yield from make(watched)


@pytest.fixture
def any_database(any_version: Cluster) -> Iterator[str]:
    """The same, on any version."""
    yield from make(any_version)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(str(tmp_path / "store.sqlite"), write=True) as opened:
        yield opened
