"""Settings as remedies that can be tried: work_mem for what went to disk, and others.

The sizes are bounds for choosing a setting to measure, never shown as a promise: whether it pays is
what the sandbox measures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqladvisor.finding import Experiment, Fix

if TYPE_CHECKING:
    from sqladvisor.context import Context

_MB = 1048576
MAX_WORK_MEM_MB = 1024
"""MB. Each sort and hash of each session may take this much: beyond it memory is no remedy."""
SORT_EXPANSION = 3
"""A sort's tuples in memory to the same on tape: headers, pointers and palloc rounding
(tuplesort.c; 2 to 2.7 measured on rows of 20 to 200 bytes)."""


def more_memory(ctx: Context, needed_bytes: float) -> tuple[tuple[Fix, ...], Experiment | None]:
    """The fix that gives this statement so many bytes of work_mem, and the experiment that tries it.

    Nothing where it would take more than 1 GB; no experiment where the statement has parameters.
    """
    megabytes = 8
    while megabytes * _MB < needed_bytes:
        megabytes *= 2
    if megabytes > MAX_WORK_MEM_MB:
        return (), None
    return with_setting(
        ctx,
        "work_mem",
        f"'{megabytes}MB'",
        f"give this statement {megabytes} MB of work_mem, for its transaction only "
        "(each of its sorts and hashes may take as much)",
    )


def with_setting(
    ctx: Context, name: str, value: str, description: str, *, diagnose: bool = False
) -> tuple[tuple[Fix, ...], Experiment | None]:
    """A setting for this statement's transaction as the fix, and the experiment that tries it.

    ``value`` is SQL text. ``diagnose``: the setting only shows what another plan would take, and is
    no fix. No experiment where the statement has parameters.
    """
    setting = f"SET LOCAL {name} = {value}"
    text = ctx.statement.text
    # A saved plan may come without its query: then the setting alone, to be put before it.
    command = f"BEGIN;\n{setting};\n{text};\nCOMMIT" if text else setting
    fix = Fix(description, command, "advice")
    fixes = () if diagnose else (fix,)
    if "ParamRef" in ctx.tree.by_kind or not ctx.statement.sql:
        return fixes, None
    sql = ctx.statement.sql
    shown = value.strip("'")
    return fixes, Experiment(
        "setting", (sql,), (setting, sql), "as it is", f"with {name} = {shown}"
    )
