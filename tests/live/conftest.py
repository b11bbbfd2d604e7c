"""Fixtures: the server with ten known problems."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from known_problems import problems
from needs import postgres

from sqladvisor.server.embedded import Cluster


@pytest.fixture(scope="session", params=[None, "system"], ids=["embedded", "system"])
def problem_server(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A server brought into the state of fixtures/live/problems.py; with PostgreSQL 18, and 15."""
    with problems.problem_server(postgres(request.param), scale=0.05) as cluster:
        yield cluster
