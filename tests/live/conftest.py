"""Fixtures: the server with ten known problems."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest
from needs import postgres

import sqladvisor
from sqladvisor.server.embedded import Cluster

ROOT = Path(sqladvisor.__file__).parents[1]


def load_fixture() -> ModuleType:
    loader = SourceFileLoader("problems", str(ROOT / "fixtures" / "live" / "problems.py"))
    spec = spec_from_loader("problems", loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


problems = load_fixture()


@pytest.fixture(scope="session", params=[None, "system"], ids=["embedded", "system"])
def problem_server(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A server brought into the state of fixtures/live/problems.py; with PostgreSQL 18, and 15."""
    with problems.problem_server(postgres(request.param), scale=0.05) as cluster:
        yield cluster
