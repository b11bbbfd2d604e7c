"""sqladvisor: a query optimization advisor for PostgreSQL that proves what it says.

As a library: ``from sqladvisor import audit, Options`` gives the same results as the command.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqladvisor.auditor import Options as Options
    from sqladvisor.auditor import audit as audit
    from sqladvisor.finding import Finding as Finding
    from sqladvisor.indexer import advise as advise
    from sqladvisor.migrate.gate import GateOptions as GateOptions
    from sqladvisor.migrate.gate import gate as gate
    from sqladvisor.report.model import Report as Report

__version__ = "0.1.0"
__all__ = [
    "Finding",
    "GateOptions",
    "Options",
    "Report",
    "__version__",
    "advise",
    "audit",
    "gate",
]

_HOMES = {
    "advise": "sqladvisor.indexer",
    "audit": "sqladvisor.auditor",
    "Options": "sqladvisor.auditor",
    "Finding": "sqladvisor.finding",
    "GateOptions": "sqladvisor.migrate.gate",
    "Report": "sqladvisor.report.model",
    "gate": "sqladvisor.migrate.gate",
}


def __getattr__(name: str) -> object:
    # Imported when asked for: the command's start-up must not pay for the library's names.
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
