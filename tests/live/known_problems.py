"""fixtures/live/problems.py, the server with ten known problems, as a module."""

from __future__ import annotations

from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import sqladvisor

ROOT = Path(sqladvisor.__file__).parents[1]


def load_fixture() -> ModuleType:
    loader = SourceFileLoader("problems", str(ROOT / "fixtures" / "live" / "problems.py"))
    spec = spec_from_loader("problems", loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


problems = load_fixture()
