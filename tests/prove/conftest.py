"""A ground with a small shop's schema, shared by the module that asks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count

import pytest

from sqladvisor.catalog.live import read_catalog
from sqladvisor.context import Context
from sqladvisor.prove.ground import Ground
from sqladvisor.prove.prover import Proof, prove
from sqladvisor.server.embedded import Cluster
from sqladvisor.server.sandbox import Loaded, Sandbox
from sqladvisor.sql.source import read_source, statements

_numbers = count(1)
Prove = Callable[[str, str], Proof]


@pytest.fixture(scope="module")
def make_prover(cluster: Cluster) -> Iterator[Callable[[str], Prove]]:
    """Makes functions that try a statement and its rewrite under a schema."""
    with ExitStack() as stack:

        def make(schema: str) -> Prove:
            sandbox = Sandbox(cluster, f"ground_{next(_numbers)}")
            stack.callback(cluster.drop_database, sandbox.name)
            loaded = Loaded()
            source = read_source("schema.sql", schema.encode())
            sandbox.load_ddl([source], lambda _: None, loaded)
            assert [p.message for p in loaded.problems] == []
            ground = Ground(stack.enter_context(sandbox.connect()))
            catalog = read_catalog(ground.connection)

            def tried(original: str, rewritten: str) -> Proof:
                found, problems = statements(read_source("q.sql", original.encode()))
                assert not problems
                return prove(ground, Context(found[0], catalog), rewritten)

            return tried

        yield make
