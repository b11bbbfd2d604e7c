"""Python files that are no part of a package, as modules: rules, and the generators of fixtures."""

from __future__ import annotations

import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from types import ModuleType


def load_module(path: str, name: str) -> ModuleType:
    """Run a file as the module of that name. Raises what it raises; then there is no such module."""
    loader = SourceFileLoader(name, path)
    spec = spec_from_loader(name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    sys.modules[name] = module  # before it runs: its data classes look their module up
    try:
        loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
