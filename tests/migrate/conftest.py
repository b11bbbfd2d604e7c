"""A sandbox of the session's cluster for each test, with a starting schema."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import pytest

from sqladvisor.server.embedded import Cluster
from sqladvisor.server.sandbox import Loaded, Sandbox
from sqladvisor.sql.source import read_source

_numbers = count(1)


@pytest.fixture
def make_sandbox(cluster: Cluster) -> Iterator[Callable[..., Sandbox]]:
    made: list[str] = []

    def make(schema: str = "") -> Sandbox:
        name = f"migrate_{next(_numbers)}"
        sandbox = Sandbox(cluster, name)
        made.append(name)
        loaded = Loaded()
        sandbox.load_ddl([read_source("schema.sql", schema.encode())], lambda _: None, loaded)
        assert not loaded.problems, loaded.problems
        return sandbox

    yield make
    for name in made:
        cluster.drop_database(name)
