"""Whether an expression may give another value each time it is computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import function_name, walk

if TYPE_CHECKING:
    from sqladvisor.catalog.model import Catalog

# Built-in functions, and those of common extensions, that are VOLATILE in pg_proc.
_VOLATILE = frozenset(
    ("random", "random_normal", "setseed", "clock_timestamp", "timeofday", "nextval", "setval",
     "currval", "lastval", "gen_random_uuid", "uuidv4", "uuidv7", "uuid_generate_v1",
     "uuid_generate_v1mc", "uuid_generate_v4", "pg_sleep", "pg_sleep_for", "pg_sleep_until",
     "set_config", "pg_notify", "gen_random_bytes", "gen_salt", "pg_terminate_backend",
     "pg_cancel_backend", "dblink", "dblink_exec")
)  # fmt: skip
_PREFIXES = ("pg_advisory_", "pg_try_advisory_", "lo_")


def volatile(kind: str, node: Node, catalog: Catalog) -> bool:
    """Whether an expression or query calls a function known to be volatile.

    A user's function counts where the catalog has it as volatile; of others nothing is known.
    """
    for below_kind, below in walk(kind, node):
        if below_kind != "FuncCall":
            continue
        name = function_name(below)
        if name in _VOLATILE or name.startswith(_PREFIXES):
            return True
        known = catalog.functions.get(name)
        if known is not None and known.volatility == "volatile":
            return True
    return False
