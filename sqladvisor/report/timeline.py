"""The lock timeline of traced migrations as a table: what each statement held, and did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqladvisor.report.escape import printable

MAX_STATEMENT = 44
"""Characters of a statement."""


def render(steps: Sequence[Mapping[str, Any]]) -> list[str]:
    """The lines of the table, from the data that ``migrate.trace_gate.timeline`` makes."""
    from tabulate import tabulate

    rows = [
        (
            f"{printable(step['path'])}:{step['line']}",
            _short(printable(step["statement"])),
            step["transaction"] or "none",
            f"{step['duration_ms']:.1f}",
            printable(locks(step)),
            printable(did(step)),
        )
        for step in steps
    ]
    headers = ["line", "statement", "transaction", "ms (empty)", "locks taken", "did"]
    return tabulate(rows, headers=headers, tablefmt="simple", disable_numparse=True).splitlines()


def locks(step: Mapping[str, Any]) -> str:
    """The locks that a statement took, and those still held from before, a line each; not escaped."""
    shown = [
        f"{k['mode']} {k['relation']}"
        for k in step["locks"]
        if k["kind"] != "index" and k["mode"] != "ACCESS SHARE"
    ]
    shown += [f"(holds {k['mode']} {k['relation']})" for k in step["held"]]
    return "\n".join(shown)


def did(step: Mapping[str, Any]) -> str:
    """What a statement did to tables and indexes, a line each; not escaped."""
    if step["not_traced"]:
        return f"not traced: {step['not_traced']}"
    parts = [f"rewrote {name}" for name in step["rewritten"]]
    parts += [f"read {name}" for name in step["scanned"]]
    parts += [f"built {b['index']}" for b in step["indexes_built"]]
    parts += [f"dropped {name}" for name in step["cascaded"]]
    return "\n".join(parts)


def _short(text: str) -> str:
    return text if len(text) <= MAX_STATEMENT else text[: MAX_STATEMENT - 1] + "…"
