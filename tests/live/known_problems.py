"""fixtures/live/problems.py, the server with ten known problems, as a module."""

from __future__ import annotations

from pathlib import Path

import sqladvisor
from sqladvisor.modules import load_module

ROOT = Path(sqladvisor.__file__).parents[1]


problems = load_module(str(ROOT / "fixtures" / "live" / "problems.py"), "problems")
